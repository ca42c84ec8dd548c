//! Until when credentials are good.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::api::annotations;

/// When something of a Secret ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// From this moment on it is good for nothing.
    pub at: Timestamp,
    /// What says so.
    pub of: Source,
}

/// What says when something of a Secret ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The certificate or token in this key.
    Key(String),
    /// The annotation of the Secret's owner: many a cloud's key does not tell its end itself.
    Annotation,
}

impl Expiry {
    /// Of two that may be, the one that ends first.
    pub fn earlier(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        [one, other].into_iter().flatten().min_by_key(|e| e.at)
    }

    /// Whether what ends is known to be good for nothing at `now`. An annotation is only what
    /// somebody wrote, perhaps for the key before.
    pub fn is_over(&self, now: Timestamp) -> bool {
        matches!(self.of, Source::Key(_)) && self.at <= now
    }

    /// The end that an annotation gives: a day, which it begins with in UTC, or a time.
    pub(super) fn annotated(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let day = || {
            Some(
                text.parse::<Date>()
                    .ok()?
                    .to_zoned(TimeZone::UTC)
                    .ok()?
                    .timestamp(),
            )
        };
        let at = text.parse::<Timestamp>().ok().or_else(day).ok_or_else(|| {
            let name = annotations::EXPIRES;
            format!("the annotation {name} is neither a day such as 2027-01-31 nor a time such as 2027-01-31T12:00:00Z")
        })?;
        Ok(Self {
            at,
            of: Source::Annotation,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "{key}"),
            Self::Annotation => write!(f, "its annotation {}", annotations::EXPIRES),
        }
    }
}

/// Whole days from `now` to `end`, rounded down, never below 0.
pub fn days_until(end: Timestamp, now: Timestamp) -> i64 {
    (end.duration_since(now).as_secs() / 86_400).max(0)
}
