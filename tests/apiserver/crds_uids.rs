//! UIDs at the API server: each wrong one is refused with its rule and an example, and the
//! program would have decided the same.

use prowler_operator::api::account::ProviderType;
use prowler_operator::domain::account::Account;
use serde_json::json;

use super::Place;

/// For each type, uids that only just are right or wrong.
fn candidates(kind: ProviderType) -> Vec<String> {
    let example = kind.uid_rule().example;
    let mut uids: Vec<String> = vec![
        example.to_owned(),
        format!("{example}\n"),
        format!(" {example}"),
        example.to_uppercase(),
        example.to_lowercase(),
        format!("https://{example}"),
        format!("{example}/"),
        format!("-{example}"),
        format!("{example}\u{a0}"),
        format!("{example}\u{0}"),
        format!("{example}é"),
        example[1..].to_owned(),
        example[..example.len() - 1].to_owned(),
        format!("{example}0"),
        example.chars().take(2).collect(),
        example.repeat(12),
        "a".repeat(250),
        "a".repeat(251),
        String::new(),
    ];
    let more: &[&str] = match kind {
        ProviderType::Azure => &[
            "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            "01890a5d-ac96-774b-bcce-b302099a8057",
            "{3f2504e0-4f89-41d3-9a0c-0305e82c3301}",
            "urn:uuid:3f2504e0-4f89-41d3-9a0c-0305e82c3301",
            "3f2504e0-4f89-41d3-1a0c-0305e82c3301",
        ],
        ProviderType::Gcp => &[
            "example.com:project-1",
            "trailing-hyphen-",
            "short",
            "1project",
        ],
        ProviderType::M365 => &["contoso", "contoso-.com", "a..com", "a.c"],
        ProviderType::Github => &["under_score", "@login", "abc"],
        ProviderType::Iac => &[
            "git@github.com:o/r.git",
            "git@github.com:o/r",
            "ftp://x/y.git",
            "http://",
            "https://x/ü",
        ],
        ProviderType::Oraclecloud => &["ocid1.tenancy.oc1..", "ocid1.user.oc1.eu-x-1.a"],
        ProviderType::Image => &["nginx:1.27", "ghcr.io/o/a@sha256:00", "/nginx"],
        ProviderType::Okta => &["x.okta.mil", "okta.com", "a.b.okta.com", "x.example.com"],
        _ => &[],
    };
    uids.extend(more.iter().map(|uid| (*uid).to_owned()));
    uids
}

#[tokio::test]
async fn the_server_and_the_program_agree_and_a_refusal_tells_rule_and_example() {
    let place = Place::new().await;
    for kind in ProviderType::ALL {
        let rule = kind.uid_rule();
        for uid in candidates(kind) {
            let spec = json!({ "provider": kind.as_str(), "uid": uid });
            let server = place.try_create("Provider", &spec).await;
            let program = Account::parse(kind, &uid);
            assert_eq!(
                server.is_ok(),
                program.is_ok(),
                "{kind} {uid:?}: {server:?} {program:?}"
            );
            // A uid that fits the rule but is too long or short is told the length.
            let Err(status) = server else { continue };
            let message = &status.message;
            assert!(message.contains("spec.uid"), "{kind} {uid:?}: {message}");
            assert!(
                (message.contains(rule.must_be) && message.contains(rule.example))
                    || message.contains("uid must have 3 to 250 characters"),
                "{kind} {uid:?}: {message}"
            );
        }
    }
}

#[tokio::test]
async fn an_unknown_provider_type_is_told_the_known_ones() {
    let place = Place::new().await;
    let spec = json!({ "provider": "awz", "uid": "123456789012" });
    let message = place
        .try_create("Provider", &spec)
        .await
        .unwrap_err()
        .message;
    assert!(
        message.contains("spec.provider: Unsupported value: \"awz\""),
        "{message}"
    );
    for kind in ProviderType::ALL {
        assert!(
            message.contains(&format!("\"{kind}\"")),
            "{kind}: {message}"
        );
    }
}

#[tokio::test]
async fn a_missing_uid_or_provider_is_named() {
    let place = Place::new().await;
    for (spec, field) in [
        (json!({ "provider": "aws" }), "spec.uid: Required value"),
        (
            json!({ "uid": "123456789012" }),
            "spec.provider: Required value",
        ),
        (
            json!({ "provider": "aws", "uid": 123_456_789_012_i64 }),
            "spec.uid: Invalid value: \"integer\"",
        ),
    ] {
        let message = place
            .try_create("Provider", &spec)
            .await
            .unwrap_err()
            .message;
        assert!(message.contains(field), "{message}");
    }
}
