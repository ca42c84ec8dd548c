//! Answers to uploads: a status that says what to do next, and why in one line of JSON.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::reason::Reason;
use crate::ingest::{Outcome, Published, Wait};
use crate::store::StoreError;
use crate::store::publication::Standing;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Answer {
    #[serde(skip)]
    pub status: StatusCode,
    /// One `CamelCase` word.
    pub reason: &'static str,
    /// A sentence. Never a token, never a value of another tenant.
    pub message: String,
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

impl Answer {
    pub(super) fn new(
        status: StatusCode,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
            retry_after: None,
        }
    }

    /// Come again in so many seconds.
    pub(super) fn later(seconds: u64, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(Duration::from_secs(seconds)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, message)
        }
    }

    /// Whether its sender need not come again.
    pub(super) fn is_final(&self) -> bool {
        self.retry_after.is_none()
            && !self.status.is_server_error()
            && ![StatusCode::REQUEST_TIMEOUT, StatusCode::BAD_REQUEST].contains(&self.status)
    }

    /// The token is none of a scan pod, or of one that is gone.
    pub(super) fn unknown_token(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthenticated", message)
    }

    /// The pod is no scan pod of ours.
    pub(super) fn no_scan_pod(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "NotAScanPod", message)
    }

    pub(super) fn stale() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "StaleAttempt",
            "The scan was cancelled, or has gone on without this attempt.",
        )
    }

    pub(super) fn kubernetes_unavailable() -> Self {
        Self::later(
            5,
            Reason::KubernetesUnavailable.as_str(),
            "The Kubernetes API does not answer.",
        )
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Published(Published {
                findings,
                quarantined,
                ..
            }) => Self::new(
                StatusCode::OK,
                Reason::Completed.as_str(),
                format!("{findings} findings are published, {quarantined} records were set aside."),
            ),
            Outcome::Closed(standing) => standing.into(),
            Outcome::Later(wait) => wait.into(),
        }
    }
}

impl From<Standing> for Answer {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Published => Self::new(
                StatusCode::OK,
                Reason::Completed.as_str(),
                "The findings of this attempt are published.",
            ),
            Standing::Refused { reason, message } => {
                let status = match reason {
                    Reason::OutputTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                    _ => StatusCode::UNPROCESSABLE_ENTITY,
                };
                Self::new(status, reason.as_str(), message)
            }
            Standing::ProviderDeleted => Self::new(
                StatusCode::GONE,
                Reason::ProviderDeleted.as_str(),
                Reason::ProviderDeleted.meaning(),
            ),
            Standing::NotItsJob => {
                Self::no_scan_pod("The pod's Job is not the one that runs this scan.")
            }
            // An open attempt is no answer; whoever asks twice gets the next one.
            Standing::Stale | Standing::Open(_) => Self::stale(),
        }
    }
}

impl From<Wait> for Answer {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Busy => Self::later(
                3,
                "PublicationRunning",
                "Findings of this account are just being published.",
            ),
            Wait::MonthMissing => Self::later(
                15,
                "MonthMissing",
                "The tables have no room for the scan's month yet.",
            ),
            Wait::Spool => Self::later(5, "SpoolUnavailable", "The spool could not be read."),
        }
    }
}

impl From<&StoreError> for Answer {
    fn from(error: &StoreError) -> Self {
        match error {
            // Another transaction was in the way; or a role, a schema that must be repaired first.
            StoreError::Unavailable(_)
            | StoreError::Conflict { .. }
            | StoreError::Refused(_)
            | StoreError::Schema(_) => Self::later(
                5,
                Reason::DatabaseUnavailable.as_str(),
                "The database cannot be used now.",
            ),
            StoreError::Inconsistent { .. } | StoreError::Database(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "The findings could not be stored; the server's log says why.",
            ),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, "application/json")],
            body,
        )
            .into_response();
        if let Some(after) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waiting_can_fix_says_when_to_come_again() {
        let waits = [
            Answer::from(Wait::Busy),
            Answer::from(Wait::MonthMissing),
            Answer::from(Wait::Spool),
            Answer::from(&StoreError::Unavailable(String::new())),
            Answer::kubernetes_unavailable(),
        ];
        for answer in waits {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(!answer.is_final());
            let response = answer.into_response();
            assert!(response.headers().contains_key(header::RETRY_AFTER));
        }
    }

    #[test]
    fn what_is_final_says_so() {
        for (standing, status) in [
            (Standing::Published, 200),
            (Standing::Stale, 409),
            (Standing::ProviderDeleted, 410),
            (Standing::NotItsJob, 403),
            (refused(Reason::WrongAccount), 422),
            (refused(Reason::OutputTooLarge), 413),
        ] {
            let answer = Answer::from(standing);
            assert_eq!(answer.status.as_u16(), status);
            assert_eq!(answer.retry_after, None);
            assert!(answer.is_final());
        }
    }

    fn refused(reason: Reason) -> Standing {
        Standing::Refused {
            reason,
            message: String::new(),
        }
    }
}
