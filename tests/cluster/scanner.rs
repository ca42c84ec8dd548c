//! What the operator tells Prowler, shown to the Prowler of the scanner's image: its parser takes
//! the arguments, somebody reads each variable, files that are put together can be opened, and no
//! SDK asks the node for an identity. No cluster is needed, only the image.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use prowler_operator::api::account::ProviderType;
use prowler_operator::api::common::{ScanSettings, Severity};
use prowler_operator::api::scope::ScopeField;
use prowler_operator::domain::account::Account;
use prowler_operator::domain::credentials::{Composition, ways};
use prowler_operator::domain::scanner::{self, Invocation, Value as Given};
use serde_json::{Value, json};

use crate::support::command::{command, documents, succeed, succeed_with, top};

/// Where the image's file system lies.
pub fn root() -> &'static PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root: PathBuf = succeed(command("hack/images", &["unpack", "scanner"]))
            .trim()
            .into();
        std::fs::create_dir_all(root.join("prowler/credentials")).unwrap();
        root
    })
}

/// Asks within the image, as the user that pods run as, with the variables of its Dockerfile.
/// `before` runs first, with an empty `/prowler/credentials` in memory, as in a pod; `$1` is the
/// image's file system, then come `more`.
fn ask_after(before: &str, more: &[&str], questions: &Value) -> Value {
    let script = format!(
        "mount -t tmpfs tmpfs \"$1/prowler/credentials\"\n\
         {before}\n\
         chown -R 1000:1000 \"$1/prowler/credentials\"\n\
         exec chroot --userspec=1000:1000 \"$1\" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp \
         PYTHONPATH=/opt/prowler PYTHONDONTWRITEBYTECODE=1 python3 -c \"$2\""
    );
    let root = root().to_str().unwrap();
    let mut args = vec!["--mount", "sh", "-ec", &script, "sh", root];
    args.push(include_str!("scanner.py"));
    args.extend(more);
    let answers = succeed_with(command("unshare", &args), &questions.to_string());
    serde_json::from_str(&answers).unwrap()
}

fn ask(questions: &Value) -> Value {
    ask_after("", &[], questions)
}

/// Every way into every type of account, with a name.
fn rows() -> Vec<(String, ProviderType, Invocation)> {
    let mut rows = Vec::new();
    for provider in ProviderType::ALL {
        let mut uids = vec![provider.uid_rule().example];
        if provider == ProviderType::Image {
            uids.push("ghcr.io/organisation");
        }
        for uid in uids {
            let account = Account::parse(provider, uid).unwrap();
            for way in ways(provider) {
                let name = format!("{provider} {uid} {}", way.name);
                let run = scanner::invocation(&account, &ScanSettings::default(), &way.access);
                rows.push((name, provider, run));
            }
        }
    }
    rows
}

/// Every field of the scope that a type knows, alone.
fn scopes() -> Vec<(String, Invocation)> {
    let mut rows = Vec::new();
    for provider in ProviderType::ALL {
        let account = Account::parse(provider, provider.uid_rule().example).unwrap();
        let region = match provider {
            ProviderType::Oraclecloud => "eu-frankfurt-1",
            ProviderType::Alibabacloud => "cn-hangzhou",
            _ => "eu-west-1",
        };
        for field in ScopeField::ALL {
            if !field.is_known_to(provider) {
                continue;
            }
            let two = |one: &str, other: &str| Some(vec![one.to_owned(), other.to_owned()]);
            let mut settings = ScanSettings::default();
            match field {
                ScopeField::Services => settings.services = two("a", "b"),
                ScopeField::Checks => settings.checks = two("a", "b"),
                ScopeField::ExcludedChecks => settings.excluded_checks = two("a", "b"),
                ScopeField::ExcludedServices => settings.excluded_services = two("a", "b"),
                ScopeField::Severities => {
                    settings.severities = Some(vec![
                        Severity::Critical,
                        Severity::High,
                        Severity::Medium,
                        Severity::Low,
                        Severity::Informational,
                    ]);
                }
                ScopeField::Compliances => {
                    settings.compliances = two("cis_3.0_aws", "cis_4.0_aws");
                }
                ScopeField::Categories => settings.categories = two("a", "b"),
                ScopeField::Regions => settings.regions = Some(vec![region.into()]),
            }
            let way = ways(provider).remove(0);
            rows.push((
                format!("{provider} {}", field.as_str()),
                scanner::invocation(&account, &settings, &way.access),
            ));
        }
    }
    rows
}

/// The argument as the kubelet would pass it on, with values that a Secret or a webhook could have
/// given; two dollars are one.
fn passed(argument: &str) -> String {
    let Some((flag, variable)) = argument.split_once("=$(") else {
        return argument.replace("$$", "$");
    };
    let value = match variable {
        "PROWLER_OPERATOR_ROLE_ARN)" => "arn:aws:iam::123456789012:role/prowler",
        "PROWLER_OPERATOR_EXTERNAL_ID)" => "--an-id",
        "PROWLER_OPERATOR_ROLE_SESSION_NAME)" => "prowler",
        "PROWLER_OPERATOR_SESSION_DURATION)" => "900",
        "PROWLER_OPERATOR_CLOUDS_YAML_CLOUD)" => "production",
        "ALIBABA_CLOUD_ROLE_ARN)" => "acs:ram::1234567890123456:role/prowler",
        other => panic!("{other}"),
    };
    format!("{flag}={value}")
}

#[test]
fn prowlers_own_parser_takes_the_arguments_of_every_way_and_every_scope() {
    let mut rows: Vec<_> = rows()
        .into_iter()
        .map(|(name, _, run)| (name, run))
        .collect();
    rows.extend(scopes());
    let mut args: Vec<Vec<String>> = rows
        .iter()
        .map(|(_, run)| run.args.iter().map(|argument| passed(argument)).collect())
        .collect();
    // That a wrong flag would be seen.
    args.push(vec!["aws".into(), "--regiom".into(), "eu-west-1".into()]);
    args.push(vec!["vercel".into(), "--region".into(), "x".into()]);
    let answers = ask(&json!({ "parse": args }));
    let answers = answers["parse"].as_array().unwrap();
    assert_eq!(answers.len(), rows.len() + 2);
    let wrong: Vec<_> = rows
        .iter()
        .zip(answers)
        .filter(|(_, complaint)| !complaint.is_null())
        .map(|((name, run), complaint)| format!("{name}: {:?}: {complaint}", run.args))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for complaint in &answers[rows.len()..] {
        assert!(
            complaint.as_str().unwrap().starts_with("exit 2"),
            "{complaint}"
        );
    }
}

#[test]
fn every_variable_is_read_by_prowler_or_by_the_sdk_beneath_it() {
    let mut asked = BTreeSet::new();
    for (name, provider, run) in rows() {
        for variable in &run.env {
            // These are for the kubelet: it puts them into arguments.
            if variable.name.starts_with("PROWLER_OPERATOR_") {
                let reference = format!("$({})", variable.name);
                let used = run
                    .args
                    .iter()
                    .any(|argument| argument.contains(&reference));
                assert!(used, "{name}: {}", variable.name);
                assert!(matches!(variable.value, Given::Key(_)), "{name}");
            } else {
                asked.insert((provider.as_str(), variable.name.clone()));
            }
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
    let known = asked.len();
    asked.insert(("aws", "AWS_NO_SUCH_VARIABLE".into()));
    let answers = ask(&json!({ "unread": asked }));
    assert_eq!(
        answers["unread"],
        json!([["aws", "AWS_NO_SUCH_VARIABLE"]]),
        "of {known}"
    );
}

#[test]
fn a_type_knows_a_choice_of_checks_if_prowler_has_some_for_it() {
    let providers: Vec<_> = ProviderType::ALL.map(ProviderType::as_str).into();
    let answers = ask(&json!({ "facts": providers }));
    for provider in ProviderType::ALL {
        let facts = &answers["facts"][provider.as_str()];
        for (field, fact) in [
            (ScopeField::Services, "checks"),
            (ScopeField::Checks, "checks"),
            (ScopeField::ExcludedChecks, "checks"),
            (ScopeField::ExcludedServices, "checks"),
            (ScopeField::Severities, "checks"),
            (ScopeField::Categories, "categories"),
            (ScopeField::Compliances, "frameworks"),
        ] {
            let some = facts[fact].as_i64().unwrap() > 0;
            assert_eq!(field.is_known_to(provider), some, "{provider}: {facts}");
        }
    }
}

#[test]
fn what_the_examples_narrow_a_scan_to_exists() {
    let mut asked = Vec::new();
    for entry in std::fs::read_dir(top().join("examples/providers")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for object in documents(&text) {
            let spec = &object["spec"];
            for field in ["services", "excludedServices", "categories"] {
                let words = spec["scan"][field].as_array();
                for word in words.into_iter().flatten() {
                    asked.push(json!([spec["provider"], field, word]));
                }
            }
        }
    }
    assert!(asked.len() > 5, "{asked:?}");
    asked.push(json!(["aws", "services", "no-such-service"]));
    let answers = ask(&json!({ "unknown": asked }));
    assert_eq!(
        answers["unknown"],
        json!([["aws", "services", "no-such-service"]])
    );
}

#[test]
fn a_file_that_is_put_together_is_read_by_the_sdk_it_is_for() {
    const PASS_PHRASE: &str = "correct = horse; battery # staple %(x)s";
    let key = ask(&json!({ "signing_key": PASS_PHRASE }));
    let binary = env!("CARGO_BIN_EXE_prowler-operator");
    let parts = tempfile::tempdir().unwrap();
    let write = |pairs: &[(&str, &str)]| {
        for (name, value) in pairs {
            std::fs::write(parts.path().join(name), value).unwrap();
        }
    };
    write(&[
        ("client_id", "id.apps.googleusercontent.com"),
        ("client_secret", "a \"quoted\" one"),
        ("refresh_token", "1//token"),
        ("user", "ocid1.user.oc1..aaaaaaaa"),
        ("tenancy", "ocid1.tenancy.oc1..aaaaaaaa"),
        (
            "fingerprint",
            "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff",
        ),
        ("region", "eu-frankfurt-1"),
        ("pass_phrase", PASS_PHRASE),
        ("key_content", key["signing_key"].as_str().unwrap()),
    ]);
    let compose = "for file in gcp-user oci-config; do\n\
                   \"$3\" compose --file \"$file\" --parts \"$4\" --to \"$1/prowler/credentials\"\n\
                   done";
    let answers = ask_after(
        compose,
        &[binary, parts.path().to_str().unwrap()],
        &json!({
            "oci_config": Composition::OciConfig.path(),
            "gcp_user": Composition::GcpUser.path(),
        }),
    );
    assert_eq!(
        answers,
        json!({
            "oci_config": { "user": "ocid1.user.oc1..aaaaaaaa", "tenancy": "ocid1.tenancy.oc1..aaaaaaaa",
                            "region": "eu-frankfurt-1", "bits": 2048 },
            "gcp_user": { "client_id": "id.apps.googleusercontent.com",
                          "client_secret": "a \"quoted\" one", "refresh_token": "1//token" },
        })
    );
}

/// The variables that a way sets by itself.
fn fixed(provider: ProviderType) -> serde_json::Map<String, Value> {
    let account = Account::parse(provider, provider.uid_rule().example).unwrap();
    let ways = ways(provider);
    let way = ways.iter().find(|way| way.name == "serviceAccountName");
    scanner::invocation(&account, &ScanSettings::default(), &way.unwrap().access)
        .env
        .into_iter()
        .filter_map(|variable| match variable.value {
            Given::Text(text) => Some((variable.name, text.into())),
            Given::Key(_) => None,
        })
        .collect()
}

#[test]
fn azure_begins_with_the_pods_federated_token_and_never_asks_the_node() {
    let mut environment = fixed(ProviderType::Azure);
    let variable = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
    assert!(environment.contains_key(variable));
    // What the webhook injects.
    for (name, value) in [
        ("AZURE_CLIENT_ID", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"),
        ("AZURE_TENANT_ID", "3f2504e0-4f89-41d3-9a0c-0305e82c3302"),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            "/var/run/secrets/azure/tokens/azure-identity-token",
        ),
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"),
    ] {
        environment.insert(name.into(), value.into());
    }
    let answers = ask(&json!({ "azure_ways": environment }));
    assert_eq!(answers["azure_ways"][0], "WorkloadIdentityCredential");
    // Without a federated token the address in the variable is asked, in place of the node's.
    let answers = ask(&json!({ "azure_asked": variable }));
    assert_eq!(
        answers["azure_asked"],
        json!(["/metadata/identity/oauth2/token"])
    );
}

#[test]
fn alibaba_cloud_never_asks_the_node() {
    let ecs = |environment: &Value| {
        let answers = ask(&json!({ "alibaba_chain": environment }));
        answers["alibaba_chain"].to_string().contains("EcsRamRole")
    };
    assert!(ecs(&json!({})));
    assert!(!ecs(&json!(fixed(ProviderType::Alibabacloud))));
}
