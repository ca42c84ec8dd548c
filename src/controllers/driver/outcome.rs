//! How a pass that did not fail ended, and how far undoing has come.

use std::time::Duration;

use k8s_controller::events::EventType;

use crate::controllers::status::Readiness;
use crate::domain::reason::Reason;

/// How a pass that did not fail ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the conditions say.
    pub readiness: Readiness,
    /// When to look again without a change; `None`: within an hour, as everything is.
    pub again_in: Option<Duration>,
}

impl Outcome {
    /// Everything is as the spec says.
    pub fn settled(message: impl Into<String>) -> Self {
        let readiness = Readiness::Ready {
            reason: Reason::Succeeded,
            message: message.into(),
        };
        Self {
            readiness,
            again_in: None,
        }
    }

    /// Not there yet, and nobody needs to do anything.
    pub fn progressing(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            readiness: Readiness::Progressing {
                reason,
                message: message.into(),
            },
            again_in: None,
        }
    }

    /// Not there, and only the user can help.
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            readiness: Readiness::Stalled {
                reason,
                message: message.into(),
            },
            again_in: None,
        }
    }

    /// Looks again after `pause`.
    #[must_use]
    pub fn again_in(mut self, pause: Duration) -> Self {
        self.again_in = Some(pause);
        self
    }
}

/// What an event tells, besides whether the object is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News(pub EventType, pub Reason, pub String);

/// How far undoing has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleanup {
    /// Nothing is left; the object may go.
    Done,
    /// Something is left.
    Waiting {
        /// What, in one sentence.
        message: String,
        /// When to look again.
        again_in: Duration,
    },
}
