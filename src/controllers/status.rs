//! The status of an object: conditions computed from how a pass ended, compared with what is
//! stored, and written only when that says something new.

use k8s_controller::conditions::{self, ConditionStatus, DesiredCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::reason::Reason;

/// Condition messages end here: the API server stores at most 32 KiB, people read one line.
pub const MAX_MESSAGE: usize = 1024;

/// What the three conditions of kstatus say about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// `Ready=True`.
    Ready {
        /// Reason of `Ready`.
        reason: Reason,
        /// One sentence.
        message: String,
    },
    /// `Ready=False`, `Reconciling=True`: it goes on without the user.
    Progressing {
        /// Reason of both.
        reason: Reason,
        /// One sentence.
        message: String,
    },
    /// `Ready=False`, `Stalled=True`: only the user can help.
    Stalled {
        /// Reason of both.
        reason: Reason,
        /// One sentence that says what to do.
        message: String,
    },
}

/// Sets `Ready`, and `Reconciling` and `Stalled` only while true.
pub fn set_readiness(conditions: &mut Vec<Condition>, generation: Option<i64>, state: &Readiness) {
    let (ready, other, reason, message) = match state {
        Readiness::Ready { reason, message } => (ConditionStatus::True, None, reason, message),
        Readiness::Progressing { reason, message } => {
            (ConditionStatus::False, Some("Reconciling"), reason, message)
        }
        Readiness::Stalled { reason, message } => {
            (ConditionStatus::False, Some("Stalled"), reason, message)
        }
    };
    set(conditions, generation, "Ready", ready, *reason, message);
    for kind in ["Reconciling", "Stalled"] {
        if other == Some(kind) {
            set(
                conditions,
                generation,
                kind,
                ConditionStatus::True,
                *reason,
                message,
            );
        } else {
            conditions::remove(conditions, kind);
        }
    }
}

/// Sets one condition, keeping its transition time while its status stays.
pub fn set(
    conditions: &mut Vec<Condition>,
    generation: Option<i64>,
    kind: &str,
    status: ConditionStatus,
    reason: Reason,
    message: &str,
) {
    let desired = DesiredCondition::new(kind, status, reason.as_str(), bounded(message))
        .observed_generation(generation);
    // Whether anything changed is decided once, over the whole status.
    let _ = conditions::set(conditions, desired);
}

/// The first [`MAX_MESSAGE`] bytes of a message, cut between characters.
pub fn bounded(message: &str) -> String {
    if message.len() <= MAX_MESSAGE {
        return message.to_owned();
    }
    let mut end = MAX_MESSAGE - '…'.len_utf8();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end])
}

/// The merge patch that turns `old` into `new`, or `None` when they say the same.
pub fn merge_patch<S: Serialize>(old: &S, new: &S) -> Result<Option<Value>, serde_json::Error> {
    let old = serde_json::to_value(old)?;
    let new = serde_json::to_value(new)?;
    Ok(difference(&old, &new))
}

fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in after {
        let change = match before.get(key) {
            Some(stored) => difference(stored, value),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(key.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn types(conditions: &[Condition]) -> Vec<(&str, &str)> {
        conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str()))
            .collect()
    }

    #[test]
    fn reconciling_and_stalled_are_there_only_while_true_and_never_together() {
        let mut conditions = Vec::new();
        let message = String::from("m");
        let reason = Reason::Progressing;
        set_readiness(
            &mut conditions,
            Some(1),
            &Readiness::Progressing {
                reason,
                message: message.clone(),
            },
        );
        assert_eq!(
            types(&conditions),
            [("Ready", "False"), ("Reconciling", "True")]
        );
        set_readiness(
            &mut conditions,
            Some(1),
            &Readiness::Stalled {
                reason,
                message: message.clone(),
            },
        );
        assert_eq!(
            types(&conditions),
            [("Ready", "False"), ("Stalled", "True")]
        );
        set_readiness(
            &mut conditions,
            Some(1),
            &Readiness::Ready { reason, message },
        );
        assert_eq!(types(&conditions), [("Ready", "True")]);
    }

    #[test]
    fn a_status_that_says_the_same_is_no_patch() {
        let status = json!({"conditions": [{"type": "Ready"}], "providers": 2});
        assert_eq!(merge_patch(&status, &status.clone()).unwrap(), None);
    }

    #[test]
    fn a_field_that_went_is_set_to_null() {
        let patch = merge_patch(
            &json!({"a": 1, "b": {"c": 2, "d": 3}}),
            &json!({"b": {"c": 2}}),
        )
        .unwrap();
        assert_eq!(patch, Some(json!({"a": null, "b": {"d": null}})));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let cut = bounded(&"é".repeat(2000));
        assert!(cut.len() <= MAX_MESSAGE && cut.ends_with('…'));
    }
}
