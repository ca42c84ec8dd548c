use serde_json::json;

use super::*;
use crate::api::common::ScanSettings;
use crate::domain::account::Account;
use crate::domain::credentials::ways;
use crate::domain::scanner;

fn config() -> FileConfig {
    serde_json::from_value(json!({
        "scanner": { "image": "prowler:5", "extraEnv": [{ "name": "HTTPS_PROXY", "value": "http://proxy:3128" }] },
        "upload": { "image": "operator:1" },
    }))
    .unwrap()
}

fn check(kind: ProviderType, uid: &str, way: usize) -> Check {
    let account = Account::parse(kind, uid).unwrap();
    let access = ways(kind).remove(way).access;
    Check {
        tenant: TenantId(uuid::Uuid::from_u128(1)),
        provider: ProviderId(uuid::Uuid::from_u128(2)),
        number: 3,
        object: ObjectName {
            namespace: "team-a".into(),
            name: "production".into(),
        },
        owner: OwnerReference::default(),
        kind,
        uid: uid.to_owned(),
        run: scanner::invocation(&account, &ScanSettings::default(), &access),
        access,
        image: "prowler:5".into(),
    }
}

#[test]
fn a_check_has_the_keys_as_files_and_nothing_that_opens_anything_else() {
    for kind in ProviderType::ALL {
        for way in 0..ways(kind).len() {
            let check = check(kind, kind.uid_rule().example, way);
            let job = check.job(&config());
            let pod = job.spec.unwrap().template.spec.unwrap();
            assert_eq!(pod.automount_service_account_token, Some(false));
            assert_eq!(pod.containers.len(), 1);
            assert!(pod.init_containers.is_none());
            let container = &pod.containers[0];
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.read_only_root_filesystem, Some(true));
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert_eq!(
                container.termination_message_policy.as_deref(),
                Some("File"),
                "never the log"
            );
            for variable in container.env.iter().flatten() {
                assert!(variable.value_from.is_none(), "{kind}: {}", variable.name);
            }
            let volumes = pod.volumes.unwrap();
            let items = volumes.iter().find_map(|volume| volume.secret.as_ref());
            let keys: Vec<_> = items
                .iter()
                .flat_map(|secret| secret.items.iter().flatten())
                .map(|item| item.key.clone())
                .collect();
            assert_eq!(keys, check.access.keys.iter().cloned().collect::<Vec<_>>());
            let own_token = volumes.iter().any(|volume| volume.projected.is_some());
            let inside = kind == ProviderType::Kubernetes && check.access.kind.is_none();
            assert_eq!(own_token, inside, "{kind}");
        }
    }
}

#[test]
fn what_a_user_wrote_names_no_variable() {
    let mut check = check(ProviderType::Iac, "https://example.com/a", 0);
    check.uid = "https://example.com/$(PROWLER_OPERATOR_KEYS)".into();
    let job = check.job(&config());
    let pod = job.spec.unwrap().template.spec.unwrap();
    let uid = pod.containers[0]
        .env
        .iter()
        .flatten()
        .find(|variable| variable.name == "PROWLER_OPERATOR_UID")
        .unwrap();
    assert_eq!(
        uid.value.as_deref(),
        Some("https://example.com/$$(PROWLER_OPERATOR_KEYS)")
    );
}

#[test]
fn a_check_keeps_from_the_node_as_a_scan_does() {
    let job = check(ProviderType::Aws, "123456789012", 0).job(&config());
    let pod = job.spec.unwrap().template.spec.unwrap();
    let env = pod.containers[0].env.clone().unwrap();
    let named = |name: &str| env.iter().find(|variable| variable.name == name);
    assert_eq!(
        named("AWS_EC2_METADATA_DISABLED").unwrap().value.as_deref(),
        Some("true")
    );
    assert_eq!(
        named("HTTPS_PROXY").unwrap().value.as_deref(),
        Some("http://proxy:3128")
    );
}
