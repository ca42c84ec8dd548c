//! Accounts: a provider type with a uid that fits it, in the form that is stored and compared.
//!
//! The rules are the table `api::account`; the API server applies the same table as CEL.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::reason::Reason;
use super::violation::Violation;
pub use crate::api::account::ProviderType;
use crate::api::account::{UID_MAX, UID_MIN};

/// An account whose uid fits its type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    provider: ProviderType,
    uid: String,
}

impl Account {
    /// Reads a uid as its type wants it; the violation names the rule and an example.
    pub fn parse(provider: ProviderType, text: &str) -> Result<Self, Violation> {
        let rule = provider.uid_rule();
        let uid = if rule.folded {
            text.trim().to_ascii_lowercase()
        } else {
            text.to_owned()
        };
        // The API server measures what was written, not what is left of it.
        let fits = [text.chars().count(), uid.chars().count()]
            .iter()
            .all(|length| (UID_MIN..=UID_MAX).contains(length));
        if fits
            && PATTERNS
                .get(&provider)
                .is_some_and(|pattern| pattern.is_match(&uid))
        {
            Ok(Self { provider, uid })
        } else {
            Err(Violation::new(
                Reason::InvalidUID,
                "spec.uid",
                format!("{} ({UID_MIN} to {UID_MAX} characters)", rule.message()),
            ))
        }
    }

    /// Its type.
    pub fn provider(&self) -> ProviderType {
        self.provider
    }

    /// Its uid, as stored.
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

/// Compiled once. A pattern that does not compile would be missing here, and refuse everything;
/// a test compiles them all.
static PATTERNS: LazyLock<BTreeMap<ProviderType, Regex>> = LazyLock::new(|| {
    ProviderType::ALL
        .into_iter()
        .filter_map(|kind| Some((kind, Regex::new(kind.uid_rule().pattern).ok()?)))
        .collect()
});

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;
    use proptest::prelude::*;

    use super::*;
    use crate::api::Provider;
    use crate::api::provider::ProviderSpec;

    /// Uids of each type, right ones and wrong ones.
    const CORPUS: &[(ProviderType, &[&str], &[&str])] = &[
        (
            ProviderType::Aws,
            &["123456789012", "000000000000"],
            &[
                "12345678901",
                "1234567890123",
                "12345678901a",
                "1",
                "",
                "123456789012\n",
                " 123456789012",
                "１２３４５６７８９０１２",
                "arn:aws:iam::123456789012:root",
            ],
        ),
        (
            ProviderType::Azure,
            &[
                "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
                "00000000-0000-4000-8000-000000000000",
            ],
            &[
                "3F2504E0-4F89-41D3-9A0C-0305E82C3301",
                "{3f2504e0-4f89-41d3-9a0c-0305e82c3301}",
                "urn:uuid:3f2504e0-4f89-41d3-9a0c-0305e82c3301",
                "3f2504e04f8941d39a0c0305e82c3301",
                "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
                "01890a5d-ac96-774b-bcce-b302099a8057",
                "3f2504e0-4f89-41d3-1a0c-0305e82c3301",
                "3f2504e0-4f89-41d3-9a0c-0305e82c3301\n",
                "contoso.com",
            ],
        ),
        (
            ProviderType::Gcp,
            &[
                "my-project-123456",
                "a12345",
                "example.com:project-1",
                "trailing-hyphen-",
            ],
            &[
                "short",
                "1project",
                "My-Project",
                "my_project",
                "a123456789012345678901234567890",
                "Example.com:project-1",
                "my-project\n",
            ],
        ),
        (
            ProviderType::Kubernetes,
            &[
                "arn:aws:eks:eu-west-1:123456789012:cluster/prod",
                "gke_project_europe-west1_cluster",
                "admin@kubernetes",
                "abc",
                "in-cluster",
            ],
            &[
                "-cluster",
                "a",
                "ab",
                "my cluster",
                "cluster\n",
                "_cluster",
                "clüster",
            ],
        ),
        (
            ProviderType::M365,
            &[
                "contoso.onmicrosoft.com",
                "Contoso.COM",
                "a.bc",
                "sub-domain.example.co",
            ],
            &[
                "contoso",
                "https://contoso.com",
                "-contoso.com",
                "contoso-.com",
                "contoso..com",
                "contoso.c",
                "contoso.c0m",
                "contoso.com\n",
                "contoso.com/",
                "a123456789012345678901234567890123456789012345678901234567890123.com",
            ],
        ),
        (
            ProviderType::Github,
            &[
                "prowler-cloud",
                "abc",
                "a-very-long-login-of-39-characters-abcd",
                "trailing-",
            ],
            &[
                "ab",
                "a",
                "-login",
                "under_score",
                "@login",
                "a-login-that-is-longer-than-39-characters",
                "login\n",
                "https://github.com/login",
            ],
        ),
        (
            ProviderType::Mongodbatlas,
            &["5f43a7b2c9d8e1f0a1b2c3d4", "5F43A7B2C9D8E1F0A1B2C3D4"],
            &[
                "5f43a7b2c9d8e1f0a1b2c3d",
                "5f43a7b2c9d8e1f0a1b2c3d45",
                "5f43a7b2c9d8e1f0a1b2c3dg",
            ],
        ),
        (
            ProviderType::Iac,
            &[
                "https://github.com/org/repository.git",
                "https://github.com/org/repository",
                "http://localhost:3000/x",
                "git@github.com:org/repository.git",
                "ssh://git@example.com/repository.git",
                "https://example.com/größe",
            ],
            &[
                "ftp://example.com/repository.git",
                "http://",
                "https:///path",
                "git@github.com:org/repository",
                "ssh://git@example.com/repository",
                "github.com/org/repository",
                "https://example.com/a b",
                "https://example.com/\u{a0}",
                "https://example.com/\u{2003}",
                "https://example.com/\u{0}",
                "https://example.com/\n",
            ],
        ),
        (
            ProviderType::Oraclecloud,
            &[
                "ocid1.tenancy.oc1..aaaaaaaa3d5c",
                "ocid1.compartment.oc1.eu-frankfurt-1.abc",
            ],
            &[
                "ocid1.tenancy.oc1.aaaa",
                "ocid2.tenancy.oc1..aaaa",
                "ocid1.tenancy.oc1..",
                "ocid1.Tenancy.oc1..aaaa",
            ],
        ),
        (
            ProviderType::Alibabacloud,
            &["1234567890123456"],
            &["123456789012345", "12345678901234567", "123456789012345a"],
        ),
        (
            ProviderType::Cloudflare,
            &["372e67954025e0ba6aaa6d586b9e0b59"],
            &[
                "372E67954025E0BA6AAA6D586B9E0B59",
                "372e67954025e0ba6aaa6d586b9e0b5",
                "372e67954025e0ba6aaa6d586b9e0b59a",
            ],
        ),
        (
            ProviderType::Openstack,
            &["a6944d763bf64ee6a275f1263fae0352", "demo", "my.project_1"],
            &["ab", "-project", "my project", "project/1"],
        ),
        (
            ProviderType::Image,
            &[
                "registry.example.com",
                "nginx:1.27",
                "registry.example.com/team/app@sha256:0123abcd",
                "abc",
            ],
            &["ab", "/nginx", "my image", "nginx:1.27\n"],
        ),
        (
            ProviderType::Googleworkspace,
            &["C01abc2de", "C1a"],
            &["c01abc2de", "C", "01abc2de", "C01-abc"],
        ),
        (
            ProviderType::Vercel,
            &[
                "team_aBcDeFgHiJkLmNoP",
                "team_aBcDeFgHiJkLmNoP1234567890123456",
            ],
            &[
                "team_short",
                "aBcDeFgHiJkLmNoP12345678",
                "team_aBcDeFgHiJkLmNoP12345678901234567",
                "team_aBcDeFgHiJkLmNo-",
            ],
        ),
        (
            ProviderType::Okta,
            &[
                "my-organisation.okta.com",
                " My-Organisation.OKTA.com\n",
                "dev-1.oktapreview.com",
                "x.okta-emea.com",
                "x.okta-gov.com",
                "x.okta.mil",
                "x.okta-miltest.com",
                "x.trex-govcloud.com",
            ],
            &[
                "https://my-organisation.okta.com",
                "okta.com",
                "my.organisation.okta.com",
                "-x.okta.com",
                "x.okta.com/",
                "x.example.com",
                "my organisation.okta.com",
                "\u{212a}x.okta.com",
            ],
        ),
    ];

    fn provider(kind: ProviderType, uid: &str) -> Provider {
        let spec: ProviderSpec = serde_json::from_value(serde_json::json!({
            "provider": kind.as_str(), "uid": uid
        }))
        .unwrap();
        Provider {
            metadata: ObjectMeta::default(),
            spec,
            status: None,
        }
    }

    fn cel_accepts(kind: ProviderType, uid: &str) -> bool {
        provider(kind, uid).validate_cel().is_ok()
    }

    #[test]
    fn every_type_accepts_and_refuses_what_the_corpus_says() {
        for (kind, good, bad) in CORPUS {
            for uid in *good {
                assert!(
                    Account::parse(*kind, uid).is_ok(),
                    "{kind} should accept {uid:?}"
                );
            }
            for uid in *bad {
                assert!(
                    Account::parse(*kind, uid).is_err(),
                    "{kind} should refuse {uid:?}"
                );
            }
        }
    }

    #[test]
    fn the_api_server_and_the_program_agree_on_the_corpus() {
        for (kind, good, bad) in CORPUS {
            for uid in good.iter().chain(*bad) {
                assert_eq!(
                    cel_accepts(*kind, uid),
                    Account::parse(*kind, uid).is_ok(),
                    "{kind} {uid:?}"
                );
            }
        }
    }

    #[test]
    fn the_corpus_has_every_type() {
        let types: Vec<_> = CORPUS.iter().map(|(kind, ..)| *kind).collect();
        for kind in ProviderType::ALL {
            assert!(types.contains(&kind), "{kind}");
            assert!(
                Account::parse(kind, kind.uid_rule().example).is_ok(),
                "{kind}"
            );
            assert_eq!(ProviderType::from_name(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(PATTERNS.len(), ProviderType::ALL.len());
    }

    #[test]
    fn length_counts_characters_and_holds_for_every_type() {
        let long = "a".repeat(250);
        assert!(Account::parse(ProviderType::Kubernetes, &long).is_ok());
        assert!(Account::parse(ProviderType::Kubernetes, &format!("{long}a")).is_err());
        let umlauts = format!("https://x/{}", "ü".repeat(240));
        assert!(Account::parse(ProviderType::Iac, &umlauts).is_ok());
        assert!(Account::parse(ProviderType::Iac, &format!("{umlauts}ü")).is_err());
    }

    #[test]
    fn an_okta_domain_is_stored_without_blanks_and_in_lower_case() {
        let account = Account::parse(ProviderType::Okta, "  Example.Okta.com ").unwrap();
        assert_eq!(account.uid(), "example.okta.com");
    }

    #[test]
    fn a_refusal_names_the_type_the_rule_and_an_example() {
        let violation = Account::parse(ProviderType::Aws, "1").unwrap_err();
        assert_eq!(violation.field(), "spec.uid");
        assert_eq!(violation.reason(), Reason::InvalidUID);
        assert_eq!(
            violation.message(),
            "the uid of provider type aws must be the 12 digits of the account id, for example 123456789012 \
             (3 to 250 characters)"
        );
    }

    fn near_misses() -> impl Strategy<Value = (ProviderType, String)> {
        let piece = prop_oneof![
            Just(String::new()),
            "[ -~]{0,3}",
            "\\PC{0,2}",
            Just("\n".to_owned()),
            Just("\u{a0}".to_owned()),
            Just("\u{85}".to_owned()),
            Just("\u{1c}".to_owned()),
        ];
        (
            proptest::sample::select(&ProviderType::ALL[..]),
            piece.clone(),
            piece,
            0..40_usize,
        )
            .prop_map(|(kind, before, inside, at)| {
                let example: Vec<char> = kind.uid_rule().example.chars().collect();
                let at = at.min(example.len());
                let (head, tail) = example.split_at(at);
                let uid = before
                    + &head.iter().collect::<String>()
                    + &inside
                    + &tail.iter().collect::<String>();
                (kind, uid)
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn the_api_server_and_the_program_agree_on_near_misses((kind, uid) in near_misses()) {
            prop_assert_eq!(cel_accepts(kind, &uid), Account::parse(kind, &uid).is_ok());
        }

        #[test]
        fn what_was_accepted_is_accepted_again_unchanged((kind, uid) in near_misses()) {
            if let Ok(account) = Account::parse(kind, &uid) {
                let again = Account::parse(kind, account.uid());
                prop_assert_eq!(again, Ok(account));
            }
        }
    }
}
