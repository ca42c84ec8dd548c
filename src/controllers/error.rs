//! Why a pass did not converge, and what that calls for: one enum, one `match` per question.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::driver::Outcome;
use crate::domain::provider::Violation;
use crate::domain::reason::Reason;
use crate::domain::redact::redact;
use crate::store::StoreError;

/// Why a pass over an object did not converge.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user must edit something; trying again cannot help.
    #[error("{}", sentences(.0))]
    Invalid(Vec<Violation>),
    /// Something the user must change outside this object's fields, with a reason of its own.
    #[error("{message}")]
    Stalled {
        /// The condition's reason.
        reason: Reason,
        /// What to do.
        message: String,
    },
    /// The database did not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API server did not do what was asked. It quotes values that it refuses.
    #[error("the Kubernetes API: {}", redact(&.0.to_string()))]
    Kube(Box<kube::Error>),
    /// Somebody else changed the object first; the next pass sees it as it is now.
    #[error("the object changed meanwhile")]
    Outdated,
    /// A file or setting of the operator itself is not usable.
    #[error("{0}")]
    Operator(String),
    /// Something went wrong in one namespace of several; the pass went to its end for the others.
    #[error("namespace {name}: {error}")]
    Namespace {
        /// The namespace.
        name: String,
        /// What went wrong there.
        error: Box<Error>,
    },
}

/// What becomes of a pass that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Wait until the object or what it points at changes.
    OnChange,
    /// Try again, backing off.
    Backoff,
    /// Try again at once: nothing is wrong.
    Soon,
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.code == 409 => Self::Outdated,
            _ => Self::Kube(Box::new(error)),
        }
    }
}

impl Error {
    /// The condition's reason, the event's reason and the metric's label, all at once.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid(violations) => violations
                .first()
                .map_or(Reason::InvalidSpec, Violation::reason),
            Self::Stalled { reason, .. } => *reason,
            Self::Store(error) if error.is_transient() => Reason::DatabaseUnavailable,
            Self::Kube(_) => Reason::KubernetesUnavailable,
            Self::Namespace { error, .. } => error.reason(),
            Self::Store(_) | Self::Outdated | Self::Operator(_) => Reason::ProgressingWithRetry,
        }
    }

    /// What becomes of the pass.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Invalid(_) | Self::Stalled { .. } => Retry::OnChange,
            Self::Store(_) | Self::Kube(_) | Self::Operator(_) => Retry::Backoff,
            Self::Outdated => Retry::Soon,
            Self::Namespace { error, .. } => error.retry(),
        }
    }

    /// Says where it went wrong.
    #[must_use]
    pub fn in_namespace(self, name: &str) -> Self {
        Self::Namespace {
            name: name.to_owned(),
            error: Box::new(self),
        }
    }

    /// Whether the pass went to its end for all else, so that what it found may be shown.
    pub fn is_partial(&self) -> bool {
        matches!(self, Self::Namespace { .. })
    }
}

/// The pause before the next try: 1 s doubling to 5 min, spread by `jitter` (0 to 1) so that
/// objects which failed together do not return together.
pub fn backoff(attempt: u32, jitter: f64) -> Duration {
    let base = 2_f64
        .powi(i32::try_from(attempt.min(9)).unwrap_or(9))
        .min(300.0);
    Duration::from_secs_f64(base * (0.75 + 0.5 * jitter))
}

/// What waiting may cure is waited for; what only an edit can is said, and first.
pub(super) fn refused(violations: &[Violation]) -> Outcome {
    let mut all = violations.to_vec();
    all.sort_by_key(|violation| !violation.reason().is_stalled());
    let first = all
        .first()
        .map_or(Reason::DependencyNotReady, Violation::reason);
    if first.is_stalled() {
        return Outcome::stalled(first, sentences(&all));
    }
    Outcome::progressing(first, sentences(&all)).again_in(Duration::from_mins(1))
}

/// JSON of what is stored; `what` begins the sentence of an error that plain data never meets.
pub(super) fn encoded(what: &str, part: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(part)
        .map_err(|error| Error::Operator(format!("{what} cannot be encoded: {error}")))
}

/// All of them, one sentence each.
pub(super) fn sentences(violations: &[Violation]) -> String {
    violations
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_five_minutes() {
        let seconds: Vec<_> = (0..12).map(|n| backoff(n, 0.5).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }

    #[test]
    fn what_the_api_server_quotes_of_a_value_is_not_told_on() {
        let status = kube::core::Status::failure(
            "env[0].value: Invalid value: \"https://user:hunterTwo@proxy:3128\"",
            "Invalid",
        );
        let error = Error::from(kube::Error::Api(Box::new(status)));
        let told = error.to_string();
        assert!(
            told.contains("env[0].value") && !told.contains("hunterTwo"),
            "{told}"
        );
    }

    #[test]
    fn jitter_spreads_by_a_quarter_either_way() {
        assert_eq!(backoff(3, 0.0).as_secs(), 6);
        assert_eq!(backoff(3, 1.0).as_secs(), 10);
    }
}
