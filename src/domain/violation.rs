//! What a user must change: where, why, and what would be right.

use std::fmt;

use super::reason::Reason;

/// One thing in a spec that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    field: String,
    message: String,
    reason: Reason,
}

impl Violation {
    /// The field at `field` is not allowed; `message` says why and what would be, without a
    /// full stop.
    pub fn new(reason: Reason, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
            reason,
        }
    }

    /// Path of the field, from `spec`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Why it is not allowed and what would be.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The word for it.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}.", self.field, self.message)
    }
}
