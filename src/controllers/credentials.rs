//! What credentials name, looked at in the cluster: by metadata on every pass, and
//! by value only when something changed. Values are checked and dropped; they go nowhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use super::Context;
use super::error::Error;
use super::references::{self, Found, User};
use crate::api::provider::Credentials;
use crate::api::{annotations, labels};
use crate::domain::credentials::{Named, SecretFound, ServiceAccountFound};

/// What the credentials name, by metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    secret: Option<Found>,
    account: Option<Found>,
}

/// The values of a Secret, for as long as they are looked at.
#[derive(Default)]
pub struct Values {
    data: BTreeMap<String, Vec<u8>>,
    expires: Option<String>,
}

impl Seen {
    /// Looks at what `credentials` name, in the watch where it has it; `user` is called when
    /// that changes.
    pub async fn of(
        credentials: Option<&Credentials>,
        namespace: &str,
        user: User,
        cx: &Context,
    ) -> Result<Self, Error> {
        let Some(credentials) = credentials else {
            return Ok(Self::default());
        };
        let mut seen = Self::default();
        if let Some(secret) = &credentials.secret_ref {
            seen.secret = Some(
                cx.references
                    .secret(cx, namespace, &secret.name, &user)
                    .await?,
            );
        }
        if let Some(account) = &credentials.service_account_name {
            seen.account = Some(
                cx.references
                    .service_account(cx, namespace, account, &user)
                    .await?,
            );
        }
        Ok(seen)
    }

    /// Looks at what `credentials` name as it is at this moment: what a watch has may be old.
    pub async fn live(
        credentials: Option<&Credentials>,
        namespace: &str,
        cx: &Context,
    ) -> Result<Self, Error> {
        let mut seen = Self::default();
        if let Some(secret) = credentials.and_then(|c| c.secret_ref.as_ref()) {
            seen.secret = Some(references::live_secret(cx, namespace, &secret.name).await?);
        }
        if let Some(account) = credentials.and_then(|c| c.service_account_name.as_ref()) {
            seen.account = Some(references::live_service_account(cx, namespace, account).await?);
        }
        Ok(seen)
    }

    /// A text that differs whenever something named appeared, changed, was allowed or went.
    pub fn version(&self) -> String {
        let part = |found: &Option<Found>| match found {
            None => "-".to_owned(),
            Some(Found::Missing) => "missing".to_owned(),
            Some(Found::NotAllowed) => "not allowed".to_owned(),
            Some(Found::Allowed { version }) => version.clone(),
        };
        // An account's version counts only as far as it is allowed: its tokens come and go.
        let account = match &self.account {
            Some(Found::Allowed { version }) => {
                version.split('/').next().unwrap_or_default().to_owned()
            }
            other => part(other),
        };
        format!("{} {account}", part(&self.secret))
    }

    /// Reads the Secret's values, if it may be used.
    pub async fn values(
        &self,
        credentials: Option<&Credentials>,
        namespace: &str,
        cx: &Context,
    ) -> Result<Values, Error> {
        let name = credentials.and_then(|credentials| credentials.secret_ref.as_ref());
        let (Some(name), Some(Found::Allowed { .. })) = (name, &self.secret) else {
            return Ok(Values::default());
        };
        let api: Api<Secret> = Api::namespaced(cx.client.clone(), namespace);
        let secret = api.get_opt(&name.name).await?.filter(|secret| {
            let label = secret.labels().get(labels::CREDENTIALS);
            label.is_some_and(|value| value == "true")
        });
        let Some(secret) = secret else {
            // Gone, or not meant for scans any more: what was seen is old.
            return Err(Error::Outdated);
        };
        let expires = secret.annotations().get(annotations::EXPIRES).cloned();
        let data = secret.data.unwrap_or_default();
        Ok(Values {
            data: data
                .into_iter()
                .map(|(key, value)| (key, value.0))
                .collect(),
            expires,
        })
    }

    /// The same as the rules want it, looked at now.
    pub fn named<'a>(&self, values: &'a Values, at: Timestamp) -> Named<'a> {
        let allowed = |found: &Found| match found {
            Found::Allowed { .. } => Some(true),
            Found::NotAllowed => Some(false),
            Found::Missing => None,
        };
        Named {
            secret: self
                .secret
                .as_ref()
                .and_then(allowed)
                .map(|allowed| SecretFound {
                    allowed,
                    data: &values.data,
                    expires: values.expires.as_deref(),
                }),
            service_account: self
                .account
                .as_ref()
                .and_then(allowed)
                .map(|allowed| ServiceAccountFound { allowed }),
            at,
        }
    }
}
