//! Until when a Provider's credentials are good: shown with the days left, and told as the end
//! comes near.

use jiff::Timestamp;
use k8s_controller::conditions::{self, ConditionStatus};
use kube::runtime::events::EventType;

use crate::api::Provider;
use crate::api::common::{Time, condition};
use crate::api::provider::{CredentialsLife, ProviderStatus};
use crate::controllers::driver::News;
use crate::controllers::scan_schedule::seconds;
use crate::domain::credentials::{Expiry, Source, days_until};
use crate::domain::reason::Reason;

/// Days left from which on it is a condition.
const SOON: i64 = 30;
/// Days left at which it is told, each once.
const TOLD: [i64; 3] = [SOON, 7, 1];

impl Provider {
    /// Shows when the credentials of this Secret end, if anybody knows.
    pub(super) fn show_life(
        &self,
        status: &mut ProviderStatus,
        secret: Option<&str>,
        expiry: Option<&Expiry>,
        now: Timestamp,
    ) {
        let Some((secret, Expiry { at, of })) = secret.zip(expiry) else {
            return forget_life(status);
        };
        let at = seconds(*at);
        let days_left = days_until(at, now);
        status.credentials = Some(CredentialsLife {
            expires_at: Time(at),
            days_left,
        });
        if days_left > SOON {
            conditions::remove(&mut status.conditions, condition::CREDENTIALS_EXPIRING);
            return;
        }
        let message = match of {
            Source::Key(key) => format!("Secret {secret}: {key} is good until {at}; renew it."),
            Source::Annotation => {
                format!("Secret {secret}: {of} says that it is good until {at}; renew it.")
            }
        };
        self.condition(
            status,
            condition::CREDENTIALS_EXPIRING,
            ConditionStatus::True,
            Reason::CredentialsExpiring,
            &message,
        );
    }

    /// Whether what the status says of the end is still so.
    pub(super) fn shows_life(&self, now: Timestamp) -> bool {
        self.shown_life().is_none_or(|life| {
            let Time(end) = life.expires_at;
            now < end && life.days_left == days_until(end, now)
        })
    }

    fn shown_life(&self) -> Option<&CredentialsLife> {
        self.status.as_ref()?.credentials.as_ref()
    }

    /// Counts the days, and says so when few are left.
    pub(super) fn count_days(&self, status: &mut ProviderStatus, now: Timestamp) -> Option<News> {
        let life = status.credentials.as_mut()?;
        let Time(end) = life.expires_at;
        life.days_left = days_until(end, now);
        // Others than those of before: their days count from the start.
        let before = self
            .shown_life()
            .filter(|shown| shown.expires_at == life.expires_at);
        let before = before.map_or(i64::MAX, |shown| shown.days_left);
        let left = life.days_left;
        if !TOLD.iter().any(|days| left <= *days && *days < before) {
            return None;
        }
        let note = format!("The credentials are good until {end}, {left} days from now.");
        Some(News(EventType::Warning, Reason::CredentialsExpiring, note))
    }
}

/// Takes out what the status says of the end.
pub(super) fn forget_life(status: &mut ProviderStatus) {
    status.credentials = None;
    conditions::remove(&mut status.conditions, condition::CREDENTIALS_EXPIRING);
}
