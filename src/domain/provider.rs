//! Which Providers make sense: spec and what it points at, to a [`ValidProvider`] or to all
//! that is wrong with it.

use super::account::Account;
use super::credentials::{self, Access, Named};
use super::limits::{self, Ceilings, Images};
use super::scope;
pub use super::violation::Violation;
use crate::api::common::{DeletionPolicy, ScanSettings};
use crate::api::provider::ProviderSpec;

/// What a Provider's spec points at, as far as it was found.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// What the credentials name.
    pub named: Named<'a>,
    /// The most a scan of the tenant may use.
    pub ceilings: &'a Ceilings,
    /// The images the installation allows.
    pub images: &'a Images,
}

/// A Provider that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidProvider {
    account: Account,
    alias: Option<String>,
    access: Access,
    settings: ScanSettings,
    deletion_policy: DeletionPolicy,
    suspend: bool,
}

impl ValidProvider {
    /// The account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Name for people.
    pub fn alias(&self) -> Option<&str> {
        self.alias.as_deref()
    }

    /// How the scanner gets in.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// What scans look at.
    pub fn settings(&self) -> &ScanSettings {
        &self.settings
    }

    /// What becomes of the rows.
    pub fn deletion_policy(&self) -> DeletionPolicy {
        self.deletion_policy
    }

    /// Whether no scan starts.
    pub fn suspend(&self) -> bool {
        self.suspend
    }

    /// Whether a scan can get in at all: credentials are named, or not needed.
    pub fn can_be_scanned(&self) -> bool {
        self.access != Access::default() || credentials::optional(self.account.provider())
    }
}

/// Checks a Provider. All violations at once, so that the user edits once; those whose reason
/// is not `is_stalled` may heal without an edit.
pub fn validate(spec: &ProviderSpec, found: &Found<'_>) -> Result<ValidProvider, Vec<Violation>> {
    let ProviderSpec {
        provider,
        uid,
        alias,
        credentials,
        scan,
        // The dispatcher's business; its form is the definition's.
        connection_check: _,
        deletion_policy,
        suspend,
    } = spec;
    let mut violations = Vec::new();
    let account = Account::parse(*provider, uid)
        .map_err(|violation| violations.push(violation))
        .ok();
    let access = credentials::check(*provider, uid.trim(), credentials.as_ref(), &found.named)
        .map_err(|more| violations.extend(more))
        .ok();
    let settings = scan.clone().unwrap_or_default();
    violations.extend(scope::check(*provider, &settings, "spec.scan"));
    violations.extend(limits::check(
        &settings,
        found.ceilings,
        found.images,
        "spec.scan",
    ));
    match (account, access) {
        (Some(account), Some(access)) if violations.is_empty() => Ok(ValidProvider {
            account,
            alias: alias.clone(),
            access,
            settings: *settings,
            deletion_policy: *deletion_policy,
            suspend: *suspend,
        }),
        _ => Err(violations),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::credentials::SecretFound;
    use super::super::reason::Reason;
    use super::*;

    fn spec(value: serde_json::Value) -> ProviderSpec {
        serde_json::from_value(value).unwrap()
    }

    fn check(
        value: serde_json::Value,
        secret: Option<&[(&str, &str)]>,
    ) -> Result<ValidProvider, Vec<Violation>> {
        let data: BTreeMap<String, Vec<u8>> = secret
            .unwrap_or_default()
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect();
        let ceilings = Ceilings {
            memory: "4Gi".into(),
            cpu: "2".into(),
            deadline_seconds: 7200,
        };
        let images = Images {
            default: "prowler:5".into(),
            allowed: Vec::new(),
        };
        let found = Found {
            named: Named {
                secret: secret.map(|_| SecretFound {
                    allowed: true,
                    data: &data,
                    expires: None,
                }),
                ..Named::default()
            },
            ceilings: &ceilings,
            images: &images,
        };
        validate(&spec(value), &found)
    }

    #[test]
    fn a_sound_provider_passes() {
        let provider = check(
            json!({
                "provider": "aws", "uid": "123456789012", "alias": "production",
                "credentials": {"type": "static", "secretRef": {"name": "aws"}},
                "scan": {"regions": ["eu-west-1"], "activeDeadlineSeconds": 3600},
            }),
            Some(&[
                ("aws_access_key_id", "AKIA"),
                ("aws_secret_access_key", "s"),
                ("other", "x"),
            ]),
        )
        .unwrap();
        assert_eq!(provider.account().uid(), "123456789012");
        let keys: Vec<_> = provider.access().keys.iter().map(String::as_str).collect();
        assert_eq!(keys, ["aws_access_key_id", "aws_secret_access_key"]);
        assert!(provider.can_be_scanned());
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let violations = check(
            json!({
                "provider": "github", "uid": "under_score",
                "credentials": {"type": "static", "secretRef": {"name": "gh"}},
                "scan": {"regions": ["eu-west-1"], "image": "evil:1", "checks": ["--shodan"]},
            }),
            None,
        )
        .unwrap_err();
        let reasons: Vec<_> = violations.iter().map(Violation::reason).collect();
        assert_eq!(
            reasons,
            [
                Reason::InvalidUID,
                Reason::SecretNotFound,
                Reason::InvalidScope,
                Reason::InvalidScope,
                Reason::ImageNotAllowed,
            ]
        );
    }

    #[test]
    fn an_account_without_credentials_is_known_but_not_scanned() {
        let aws = check(json!({"provider": "aws", "uid": "123456789012"}), None).unwrap();
        assert!(!aws.can_be_scanned());
        let image = check(json!({"provider": "image", "uid": "nginx:1.27"}), None).unwrap();
        assert!(image.can_be_scanned());
    }
}
