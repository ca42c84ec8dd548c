//! The form of a Secret: its keys, which of them stand for each other, and how each reaches Prowler.

use std::collections::BTreeSet;

use super::Composition;
use crate::domain::reason::Reason;

/// The keys of a Secret for one provider type and one type of credentials.
#[derive(Debug)]
pub struct Shape {
    /// The keys.
    pub keys: &'static [Key],
    /// Keys of which some take the place of others.
    pub choice: Option<Choice>,
}

/// A key of a Secret.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// How its value reaches Prowler.
    pub delivery: Delivery,
}

/// How the value of a key reaches Prowler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As this environment variable.
    Env(&'static str),
    /// As a file of this name in [`DIRECTORY`], named by this flag.
    File(&'static str, &'static str),
    /// As the value of this flag.
    Flag(&'static str),
    /// Not at all: accepted for those who bring their Secrets along, not needed.
    Unused,
    /// As a part of this file, which is put together in the scan's pod.
    Composed(Composition),
}

/// Groups of keys that stand for each other.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// The groups; a group counts when all its keys are there.
    pub groups: &'static [&'static [&'static str]],
    /// How many groups there must be.
    pub must: Must,
}

/// How many groups of a [`Choice`] there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Must {
    /// One and no more.
    ExactlyOne,
    /// One or more.
    AtLeastOne,
    /// None is needed, but no group may be there in part.
    Whole,
    /// As `AtLeastOne`, unless a ServiceAccount stands in.
    UnlessServiceAccount,
}

impl Shape {
    /// What is wrong with the keys that are there; each completes "Secret … ".
    pub(super) fn faults(
        &self,
        present: &BTreeSet<&str>,
        service_account: bool,
    ) -> Vec<(Reason, String)> {
        let mut faults: Vec<_> = self
            .keys
            .iter()
            .filter(|key| key.required && !present.contains(key.name))
            .map(|key| {
                (
                    Reason::SecretKeyMissing,
                    format!("lacks the key {}", key.name),
                )
            })
            .collect();
        if let Some(Choice { groups, must }) = self.choice {
            let whole = groups
                .iter()
                .filter(|group| group.iter().all(|key| present.contains(key)))
                .count();
            let part = groups.iter().find(|group| {
                let there = group.iter().filter(|key| present.contains(*key)).count();
                there > 0 && there < group.len()
            });
            let list = groups
                .iter()
                .map(|group| group.join(" and "))
                .collect::<Vec<_>>()
                .join(", or ");
            let needs_one = match must {
                Must::ExactlyOne | Must::AtLeastOne => true,
                Must::UnlessServiceAccount => !service_account,
                Must::Whole => false,
            };
            if let Some(group) = part {
                faults.push((
                    Reason::SecretKeyMissing,
                    format!("needs {} together", group.join(" and ")),
                ));
            } else if needs_one && whole == 0 {
                let instead = if must == Must::UnlessServiceAccount {
                    ", or a serviceAccountName beside it"
                } else {
                    ""
                };
                faults.push((Reason::SecretKeyMissing, format!("needs {list}{instead}")));
            } else if must == Must::ExactlyOne && whole > 1 {
                faults.push((Reason::InvalidSpec, format!("may have only one of: {list}")));
            }
        }
        faults
    }
}
