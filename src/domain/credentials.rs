//! Credentials: which keys a Secret must have for each provider type, and how each key
//! reaches Prowler. One table, for checking Secrets and for building scan pods alike.

mod composition;
mod expiry;
mod kubeconfig;
mod material;
mod shape;
mod table;
pub(super) mod values;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reason::Reason;
use super::violation::Violation;
use crate::api::account::ProviderType;
use crate::api::provider::{Credentials, CredentialsType};
use crate::api::{annotations, labels};

pub use composition::{Composition, File};
pub use expiry::{Expiry, Source, days_until};
pub use shape::{Choice, Delivery, Key, Must, Shape};
pub use table::shape;
pub use ways::{Way, ways};

/// Where files of credentials are in the scanner's container.
pub const DIRECTORY: &str = "/prowler/credentials";
/// Where `compose` finds the keys of which it makes such files.
pub const PARTS_DIRECTORY: &str = "/prowler/parts";

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
    /// When the first of what the Secret holds ends, as far as it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Expiry>,
}

/// A Secret as it was found. It is looked at and dropped; its values appear nowhere.
#[derive(Clone, Copy)]
pub struct SecretFound<'a> {
    /// Carries the label that allows its use.
    pub allowed: bool,
    /// Its data.
    pub data: &'a BTreeMap<String, Vec<u8>>,
    /// What its owner wrote of its end.
    pub expires: Option<&'a str>,
}

impl fmt::Debug for SecretFound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFound")
            .field("allowed", &self.allowed)
            .field("keys", &self.data.keys())
            .field("expires", &self.expires)
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
    /// When it was looked at.
    pub at: Timestamp,
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

/// Checks what the credentials of the account `uid` name. All violations at once; those whose
/// reason is not `is_stalled` may heal without an edit.
pub fn check(
    provider: ProviderType,
    uid: &str,
    credentials: Option<&Credentials>,
    named: &Named<'_>,
) -> Result<Access, Vec<Violation>> {
    let Some(credentials) = credentials else {
        return Ok(Access::default());
    };
    let mut faults: Vec<Fault> = form(credentials).into_iter().collect();
    if let Some(name) = &credentials.service_account_name {
        faults.extend(service_account(provider, name, named.service_account));
    }
    let (mut keys, mut expiry) = (BTreeSet::new(), None);
    if let (Some(kind), Some(reference)) = (credentials.kind, &credentials.secret_ref) {
        let beside = credentials.service_account_name.is_some();
        match secret(provider, kind, uid, &reference.name, named, beside) {
            Ok(used) => (keys, expiry) = used,
            Err(more) => faults.extend(more),
        }
    }
    if faults.is_empty() {
        return Ok(Access {
            kind: credentials.kind,
            secret: credentials
                .secret_ref
                .as_ref()
                .map(|secret| secret.name.clone()),
            keys,
            service_account: credentials.service_account_name.clone(),
            expiry,
        });
    }
    Err(faults
        .into_iter()
        .map(|(reason, field, message)| {
            Violation::new(reason, format!("spec.credentials{field}"), message)
        })
        .collect())
}

/// A reason, the field within the credentials, and a sentence.
type Fault = (Reason, &'static str, String);

/// Whether type, Secret and ServiceAccount go together; the definition has the same rules.
fn form(credentials: &Credentials) -> Option<Fault> {
    let Credentials {
        kind,
        secret_ref,
        service_account_name,
    } = credentials;
    let (field, message) = match (kind, secret_ref, service_account_name) {
        (None, None, None) => ("", "give a secretRef or a serviceAccountName"),
        (None, Some(_), _) | (Some(_), None, _) => (
            ".type",
            "type and secretRef go together: type says which keys the Secret has",
        ),
        (Some(CredentialsType::Static | CredentialsType::ServiceAccount), Some(_), Some(_)) => (
            "",
            "secretRef and serviceAccountName go together only for type role",
        ),
        _ => return None,
    };
    Some((Reason::InvalidSpec, field, message.into()))
}

fn service_account(
    provider: ProviderType,
    name: &str,
    found: Option<ServiceAccountFound>,
) -> Vec<Fault> {
    const FIELD: &str = ".serviceAccountName";
    let mut faults = Vec::new();
    if !by_service_account(provider) {
        let message = format!("accounts of provider type {provider} need a Secret");
        faults.push((Reason::InvalidSpec, FIELD, message));
    }
    match found {
        None => faults.push((
            Reason::ServiceAccountNotFound,
            FIELD,
            format!("there is no ServiceAccount '{name}' in this namespace"),
        )),
        Some(ServiceAccountFound { allowed: false }) => faults.push((
            Reason::ServiceAccountNotAllowed,
            FIELD,
            format!(
                "ServiceAccount '{name}' is not meant for scans: give it the annotation {}: \"true\"",
                annotations::SCANNER
            ),
        )),
        Some(ServiceAccountFound { allowed: true }) => {}
    }
    faults
}

/// The keys of the Secret that are used, and when they end. `beside` says whether a
/// ServiceAccount is named too.
fn secret(
    provider: ProviderType,
    kind: CredentialsType,
    uid: &str,
    name: &str,
    named: &Named<'_>,
    beside: bool,
) -> Result<(BTreeSet<String>, Option<Expiry>), Vec<Fault>> {
    const FIELD: &str = ".secretRef";
    let Some(shape) = shape(provider, kind) else {
        let kind = kind.as_str();
        let message =
            format!("accounts of provider type {provider} have no credentials of type {kind}");
        return Err(vec![(Reason::InvalidSpec, ".type", message)]);
    };
    let mut expiry = None;
    let expires = named.secret.and_then(|secret| secret.expires);
    let mut keys = keys(shape, name, named.secret, beside, |data| {
        let mut looked = values::look(provider, kind, uid, data);
        let annotated = expires.map(Expiry::annotated).transpose();
        let annotated = annotated.map_err(|fault| looked.faults.push(fault));
        expiry = Expiry::earlier(looked.expiry, annotated.ok().flatten());
        looked.faults
    });
    if let (Ok(_), Some(Expiry { at, of })) = (&keys, &expiry)
        && expiry
            .as_ref()
            .is_some_and(|expiry| expiry.is_over(named.at))
    {
        let message = format!("Secret '{name}': {of} expired at {at}; put a new one in");
        keys = Err(vec![(Reason::CredentialsExpired, message)]);
    }
    let faults = |faults: Vec<(Reason, String)>| {
        let placed = |(reason, message)| (reason, FIELD, message);
        faults.into_iter().map(placed).collect()
    };
    keys.map(|keys| (keys, expiry)).map_err(faults)
}

/// The keys of a Secret of this shape that are used, or what is wrong with it; `values` looks at
/// what they hold, each sentence completing "Secret …: ".
pub(super) fn keys(
    shape: &Shape,
    name: &str,
    found: Option<SecretFound<'_>>,
    beside: bool,
    values: impl FnOnce(&BTreeMap<String, Vec<u8>>) -> Vec<String>,
) -> Result<BTreeSet<String>, Vec<(Reason, String)>> {
    let Some(SecretFound { allowed, data, .. }) = found else {
        let message = format!("there is no Secret '{name}' in this namespace");
        return Err(vec![(Reason::SecretNotFound, message)]);
    };
    if !allowed {
        let message = format!(
            "Secret '{name}' is not meant for this: give it the label {}: \"true\"",
            labels::CREDENTIALS
        );
        return Err(vec![(Reason::SecretNotAllowed, message)]);
    }
    let present: BTreeSet<&str> = data
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, _)| key.as_str())
        .collect();
    let missing = shape
        .faults(&present, beside)
        .into_iter()
        .map(|(reason, sentence)| (reason, format!("Secret '{name}' {sentence}")));
    let wrong = values(data)
        .into_iter()
        .map(|fault| (Reason::InvalidSpec, format!("Secret '{name}': {fault}")));
    let faults: Vec<_> = missing.chain(wrong).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(shape
        .keys
        .iter()
        .filter(|key| present.contains(key.name))
        .map(|key| key.name.to_owned())
        .collect())
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
