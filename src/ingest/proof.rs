//! Whose findings a file holds: which field of a record proves the account, per provider type.
//!
//! The provider's uid comes from the scan's row; the file only confirms it.

use super::record::Record;
use crate::api::account::ProviderType;

/// How the records of one provider type prove the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// `cloud.account.uid` is the uid.
    Account,
    /// The same, whatever the case.
    AccountAnyCase,
    /// The same, or the directory (`metadata.tenant_uid`) is; a finding about the directory
    /// itself, whose account is the directory, proves nothing.
    AccountOrDirectory,
    /// `unmapped.provider_uid` is the uid: such records have no `cloud`.
    ProviderUid,
    /// No field tells.
    None,
}

/// The table of provider types.
fn rule(provider: ProviderType) -> Rule {
    match provider {
        ProviderType::Aws
        | ProviderType::Gcp
        | ProviderType::Mongodbatlas
        | ProviderType::Oraclecloud
        | ProviderType::Alibabacloud
        | ProviderType::Vercel
        | ProviderType::Okta
        | ProviderType::Googleworkspace
        | ProviderType::Openstack
        // The Job passes `--provider-uid`, which becomes the account.
        | ProviderType::Iac => Rule::Account,
        ProviderType::Github => Rule::AccountAnyCase,
        ProviderType::Azure => Rule::AccountOrDirectory,
        // The Job passes `--cluster-name` or `--context`.
        ProviderType::Kubernetes => Rule::ProviderUid,
        ProviderType::M365 | ProviderType::Image | ProviderType::Cloudflare => Rule::None,
    }
}

/// What a record says of its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof<'a> {
    /// It is the expected one.
    Right,
    /// It is this other one.
    Wrong(&'a str),
    /// Nothing.
    Silent,
}

/// Compares a record's account with the expected one.
pub(super) fn prove<'a>(provider: ProviderType, uid: &str, record: &'a Record<'_>) -> Proof<'a> {
    let account = record.cloud.0.account.0.uid.as_str();
    match rule(provider) {
        Rule::None => Proof::Silent,
        Rule::Account => compare(account, |found| found == uid),
        Rule::AccountAnyCase => compare(account, |found| found.eq_ignore_ascii_case(uid)),
        Rule::ProviderUid => compare(record.unmapped.0.provider_uid.as_str(), |found| {
            found == uid
        }),
        Rule::AccountOrDirectory => {
            let directory = record.metadata.0.tenant_uid.as_str();
            match compare(account, |found| found.eq_ignore_ascii_case(uid)) {
                Proof::Wrong(_) if directory.eq_ignore_ascii_case(uid) => Proof::Right,
                Proof::Wrong(found) if found.eq_ignore_ascii_case(directory) => Proof::Silent,
                proof => proof,
            }
        }
    }
}

fn compare(found: &str, is_expected: impl Fn(&str) -> bool) -> Proof<'_> {
    if found.is_empty() {
        Proof::Silent
    } else if is_expected(found) {
        Proof::Right
    } else {
        Proof::Wrong(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(provider: ProviderType, uid: &str, record: &str) -> String {
        let record: Record<'_> = serde_json::from_str(record).unwrap();
        format!("{:?}", prove(provider, uid, &record))
    }

    #[test]
    fn each_provider_type_proves_its_account_by_its_own_field() {
        use ProviderType::{Aws, Azure, Cloudflare, Github, Iac, Kubernetes};
        let aws = r#"{"cloud": {"account": {"uid": "123456789012"}}}"#;
        let tenant = r#"{"cloud": {"account": {"uid": "d"}}, "metadata": {"tenant_uid": "d"}}"#;
        let subscription =
            r#"{"cloud": {"account": {"uid": "s"}}, "metadata": {"tenant_uid": "d"}}"#;
        let cluster = r#"{"unmapped": {"provider_uid": "prod"}}"#;
        for (provider, uid, record, expected) in [
            (Aws, "123456789012", aws, "Right"),
            (Aws, "999999999999", aws, "Wrong(\"123456789012\")"),
            (Aws, "123456789012", "{}", "Silent"),
            (Aws, "123456789012", r#"{"cloud": null}"#, "Silent"),
            (Azure, "s", subscription, "Right"),
            (Azure, "S", subscription, "Right"),
            (Azure, "d", subscription, "Right"),
            (Azure, "other", subscription, "Wrong(\"s\")"),
            (Azure, "s", tenant, "Silent"),
            (
                Github,
                "Acme",
                r#"{"cloud": {"account": {"uid": "acme"}}}"#,
                "Right",
            ),
            (Kubernetes, "prod", cluster, "Right"),
            (Kubernetes, "test", cluster, "Wrong(\"prod\")"),
            (
                Iac,
                "https://github.com/a/b",
                r#"{"cloud": {"account": {"uid": "iac"}}}"#,
                "Wrong(\"iac\")",
            ),
            (Cloudflare, "x", aws, "Silent"),
        ] {
            assert_eq!(
                proof(provider, uid, record),
                expected,
                "{provider} {uid} {record}"
            );
        }
    }
}
