//! Credentials: which keys a Secret must have for each provider type, and how each key
//! reaches Prowler. One table, for checking Secrets and for building scan pods alike.

mod table;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::reason::Reason;
use super::violation::Violation;
use crate::api::account::ProviderType;
use crate::api::provider::{Credentials, CredentialsType};

pub use table::shape;

/// Where files of credentials are mounted in the scanner's container.
pub const DIRECTORY: &str = "/prowler/credentials";

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
    /// Only as a part of a file that the scanner's pod cannot put together.
    Composed,
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

/// How the scanner gets in, checked: what is named and which keys the Secret has. Names only,
/// so that it can be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Access {
    /// Type of credentials in the Secret.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<CredentialsType>,
    /// Name of the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Keys of the Secret that are used and not empty.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub keys: BTreeSet<String>,
    /// Name of the ServiceAccount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
}

/// A Secret as it was found. It is looked at and dropped; its values appear nowhere.
#[derive(Clone, Copy)]
pub struct SecretFound<'a> {
    /// Carries the label that allows its use.
    pub allowed: bool,
    /// Its data.
    pub data: &'a BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for SecretFound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFound")
            .field("allowed", &self.allowed)
            .field("keys", &self.data.keys())
            .finish()
    }
}

/// A ServiceAccount as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceAccountFound {
    /// Carries the annotation that allows its use.
    pub allowed: bool,
}

/// What the credentials name, as far as it was found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<'a> {
    /// The Secret, if it is named and exists.
    pub secret: Option<SecretFound<'a>>,
    /// The ServiceAccount, if it is named and exists.
    pub service_account: Option<ServiceAccountFound>,
}

/// Whether accounts of this type can be scanned without credentials.
pub fn optional(provider: ProviderType) -> bool {
    // Public repositories and images.
    matches!(provider, ProviderType::Iac | ProviderType::Image)
}

/// Whether a ServiceAccount can open accounts of this type.
pub fn by_service_account(provider: ProviderType) -> bool {
    matches!(
        provider,
        ProviderType::Aws
            | ProviderType::Azure
            | ProviderType::Gcp
            | ProviderType::Kubernetes
            | ProviderType::Alibabacloud
    )
}

/// Checks what the credentials name. All violations at once; those whose reason is not
/// `is_stalled` may heal without an edit.
pub fn check(
    provider: ProviderType,
    credentials: Option<&Credentials>,
    named: &Named<'_>,
) -> Result<Access, Vec<Violation>> {
    let Some(credentials) = credentials else {
        return Ok(Access::default());
    };
    let mut violations = Vec::new();
    let Credentials {
        kind,
        secret_ref,
        service_account_name,
    } = credentials;
    let mut access = Access {
        kind: *kind,
        secret: secret_ref.as_ref().map(|secret| secret.name.clone()),
        keys: BTreeSet::new(),
        service_account: service_account_name.clone(),
    };
    let mut refuse = |reason, field: &str, message: String| {
        violations.push(Violation::new(
            reason,
            format!("spec.credentials{field}"),
            message,
        ));
    };

    match (kind, secret_ref, service_account_name) {
        (None, None, None) => {
            refuse(
                Reason::InvalidSpec,
                "",
                "give a secretRef or a serviceAccountName".into(),
            );
        }
        (None, Some(_), _) | (Some(_), None, _) => refuse(
            Reason::InvalidSpec,
            ".type",
            "type and secretRef go together: type says which keys the Secret has".into(),
        ),
        (Some(CredentialsType::Static | CredentialsType::ServiceAccount), Some(_), Some(_)) => {
            refuse(
                Reason::InvalidSpec,
                "",
                "secretRef and serviceAccountName go together only for type role".into(),
            );
        }
        _ => {}
    }
    if let Some(name) = service_account_name {
        if !by_service_account(provider) {
            refuse(
                Reason::InvalidSpec,
                ".serviceAccountName",
                format!("accounts of provider type {provider} need a Secret"),
            );
        }
        match named.service_account {
            None => refuse(
                Reason::ServiceAccountNotFound,
                ".serviceAccountName",
                format!("there is no ServiceAccount '{name}' in this namespace"),
            ),
            Some(ServiceAccountFound { allowed: false }) => refuse(
                Reason::ServiceAccountNotAllowed,
                ".serviceAccountName",
                format!(
                    "ServiceAccount '{name}' is not meant for scans: give it the annotation \
                     prowler-operator.dev/scanner: \"true\""
                ),
            ),
            Some(ServiceAccountFound { allowed: true }) => {}
        }
    }
    if let (Some(kind), Some(secret)) = (kind, secret_ref) {
        let name = &secret.name;
        match (shape(provider, *kind), named.secret) {
            (None, _) => refuse(
                Reason::InvalidSpec,
                ".type",
                format!(
                    "accounts of provider type {provider} have no credentials of type {}",
                    kind.as_str()
                ),
            ),
            (_, None) => refuse(
                Reason::SecretNotFound,
                ".secretRef",
                format!("there is no Secret '{name}' in this namespace"),
            ),
            (_, Some(SecretFound { allowed: false, .. })) => refuse(
                Reason::SecretNotAllowed,
                ".secretRef",
                format!(
                    "Secret '{name}' is not meant for scans: give it the label \
                     prowler-operator.dev/credentials: \"true\""
                ),
            ),
            (Some(shape), Some(SecretFound { data, .. })) => {
                let present: BTreeSet<&str> = data
                    .iter()
                    .filter(|(_, value)| !value.is_empty())
                    .map(|(key, _)| key.as_str())
                    .collect();
                for (reason, sentence) in shape.faults(&present, service_account_name.is_some()) {
                    refuse(reason, ".secretRef", format!("Secret '{name}' {sentence}"));
                }
                for fault in values::faults(provider, *kind, data) {
                    refuse(
                        Reason::InvalidSpec,
                        ".secretRef",
                        format!("Secret '{name}': {fault}"),
                    );
                }
                access.keys = shape
                    .keys
                    .iter()
                    .filter(|key| present.contains(key.name))
                    .map(|key| key.name.to_owned())
                    .collect();
            }
        }
    }
    if violations.is_empty() {
        Ok(access)
    } else {
        Err(violations)
    }
}

impl Shape {
    /// What is wrong with the keys that are there; each completes "Secret … ".
    fn faults(&self, present: &BTreeSet<&str>, service_account: bool) -> Vec<(Reason, String)> {
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
        if let Some(key) = self
            .keys
            .iter()
            .find(|key| key.delivery == Delivery::Composed && present.contains(key.name))
        {
            faults.push((
                Reason::InvalidSpec,
                format!(
                    "holds {} in a form that this version cannot hand to Prowler: use another type of \
                     credentials",
                    key.name
                ),
            ));
        }
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

#[cfg(test)]
mod tests;
