//! What a Provider's status says: of its credentials, of the connection, of its last scan, and of
//! what is wrong with its spec.

use k8s_controller::conditions::{self, ConditionStatus};

use super::life::forget_life;
use crate::api::Provider;
use crate::api::common::{Time, condition};
use crate::api::provider::{LastScan, ProviderStatus};
use crate::controllers::driver::Outcome;
use crate::controllers::error::refused;
use crate::controllers::scan_schedule::seconds;
use crate::controllers::status;
use crate::domain::provider::{ValidProvider, Violation};
use crate::domain::quantity;
use crate::domain::reason::Reason;
use crate::store::scans;

impl Provider {
    pub(super) fn show_credentials(&self, status: &mut ProviderStatus, valid: &ValidProvider) {
        let access = valid.access();
        let (state, reason, message) = match (&access.secret, &access.service_account) {
            (Some(secret), None) => (
                ConditionStatus::True,
                Reason::Succeeded,
                format!("Secret {secret} has the keys needed."),
            ),
            (None, Some(account)) => (
                ConditionStatus::True,
                Reason::Succeeded,
                format!("Scans run as ServiceAccount {account}."),
            ),
            (Some(secret), Some(account)) => (
                ConditionStatus::True,
                Reason::Succeeded,
                format!("Secret {secret}, as ServiceAccount {account}."),
            ),
            (None, None) if valid.can_be_scanned() => (
                ConditionStatus::True,
                Reason::Succeeded,
                "This type needs no credentials.".to_owned(),
            ),
            (None, None) => (
                ConditionStatus::False,
                Reason::CredentialsMissing,
                "No credentials are named; give spec.credentials before a scan.".to_owned(),
            ),
        };
        self.condition(
            status,
            condition::CREDENTIALS_RESOLVED,
            state,
            reason,
            &message,
        );
    }

    pub(super) fn condition(
        &self,
        status: &mut ProviderStatus,
        kind: &str,
        state: ConditionStatus,
        reason: Reason,
        message: &str,
    ) {
        let generation = self.metadata.generation;
        status::set(
            &mut status.conditions,
            generation,
            kind,
            state,
            reason,
            message,
        );
    }

    /// What waiting may cure is waited for; what only an edit can is said.
    pub(super) fn refuse(&self, violations: &[Violation], status: &mut ProviderStatus) -> Outcome {
        let about_credentials = violations
            .iter()
            .find(|violation| violation.field().starts_with("spec.credentials"));
        if let Some(violation) = about_credentials {
            let (reason, message) = (violation.reason(), violation.to_string());
            let kind = condition::CREDENTIALS_RESOLVED;
            self.condition(status, kind, ConditionStatus::False, reason, &message);
            if reason != Reason::CredentialsExpired {
                forget_life(status);
            }
        }
        refused(violations)
    }
}

/// Takes out what the status says of a tenant that does not have the account any more: it is
/// nothing to the next one.
pub(super) fn forget_tenant(status: &mut ProviderStatus) {
    (status.tenant, status.provider_id) = (None, None);
    (status.last_scan, status.deletion) = (None, None);
    forget_life(status);
    for kind in [condition::CONNECTED, condition::CREDENTIALS_RESOLVED] {
        conditions::remove(&mut status.conditions, kind);
    }
}

pub(super) fn shown(last: scans::LastScan) -> LastScan {
    LastScan {
        name: Some(last.name),
        id: Some(last.id.to_string()),
        state: Some(last.state),
        completed_at: last.completed_at.map(seconds).map(Time),
        fail: last.fail,
        total: last.total,
        memory: last.memory_bytes.map(quantity::shown),
    }
}
