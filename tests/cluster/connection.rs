//! Connection checks for real: Prowler's own library in the scanner's image for every way into
//! every type, and the whole way over Jobs on the cluster.

use std::sync::{Arc, Mutex};

use prowler_operator::api::account::ProviderType;
use prowler_operator::dispatch::check::{SCRIPT, Verdict};
use prowler_operator::domain::credentials::ways;
use prowler_operator::domain::reason::Reason;
use serde_json::Value;

use crate::demo::{Demo, OTHER, await_tenant, other_tenant, remove_other, wait_for};
use crate::scanner::root;
use crate::support::command::{command, succeed};

/// A value that has the shape of what the key holds, and opens nothing.
fn value(key: &str) -> String {
    let rsa = || succeed(command("openssl", &["genrsa", "-traditional", "2048"]));
    let service_account = || {
        serde_json::json!({
            "type": "service_account", "project_id": "my-project", "private_key_id": "k",
            "private_key": succeed(command("openssl", &["genrsa", "2048"])),
            "client_email": "prowler@my-project.iam.gserviceaccount.com", "client_id": "1",
            "token_uri": "https://oauth2.googleapis.com/token",
        })
        .to_string()
    };
    match key {
        "kubeconfig_content" => "apiVersion: v1\nkind: Config\ncurrent-context: production\n\
             clusters: [{name: c, cluster: {server: 'https://192.0.2.1:6443'}}]\n\
             contexts: [{name: 'arn:aws:eks:eu-west-1:123456789012:cluster/prod', context: {cluster: c, user: u}}]\n\
             users: [{name: u, user: {token: none}}]\n"
            .to_owned(),
        "service_account_key" | "credentials_content" => service_account(),
        "delegated_user" => "admin@example.com".to_owned(),
        "clouds_yaml_content" => "clouds:\n  production:\n    auth: {auth_url: 'https://192.0.2.1:5000/v3', \
             username: u, password: p, project_name: n, user_domain_name: d, project_domain_name: d}\n    region_name: r\n"
            .to_owned(),
        "clouds_yaml_cloud" => "production".to_owned(),
        "github_app_key_content" | "key_content" | "okta_private_key" => rsa(),
        "github_app_id" => "1234".to_owned(),
        "session_duration" => "3600".to_owned(),
        "role_arn" => "arn:aws:iam::123456789012:role/prowler".to_owned(),
        "certificate_content" => "MIIB".to_owned(),
        "user" | "tenancy" => format!("ocid1.{}.oc1..{}", if key == "user" { "user" } else { "tenancy" }, "a".repeat(60)),
        "fingerprint" => vec!["ab"; 16].join(":"),
        "client_id" | "tenant_id" => "3f2504e0-4f89-41d3-9a0c-0305e82c3301".to_owned(),
        _ => format!("nothing-{key}"),
    }
}

/// What the check says in the image, as the user that pods run as and without a network.
fn check(kind: ProviderType, keys: &std::path::Path) -> String {
    let root = root().to_str().unwrap();
    let script = "mkdir -p \"$1/credentials\" && mount --bind \"$2\" \"$1/credentials\"\n\
         told=$(mktemp -p \"$1/tmp\"); chmod 666 \"$told\"\n\
         chroot --userspec=1000:1000 \"$1\" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp \
         PYTHONPATH=/opt/prowler PYTHONDONTWRITEBYTECODE=1 AWS_EC2_METADATA_DISABLED=true \
         PROWLER_OPERATOR_PROVIDER=\"$3\" PROWLER_OPERATOR_UID=\"$4\" PROWLER_OPERATOR_KEYS=/credentials \
         PROWLER_OPERATOR_SECONDS=20 PROWLER_OPERATOR_TOLD=\"/tmp/$(basename \"$told\")\" python3 -c \"$5\" >/dev/null 2>&1 || true\n\
         cat \"$told\"; rm \"$told\"";
    succeed(command(
        "unshare",
        &[
            "--mount",
            "--net",
            "sh",
            "-ec",
            script,
            "sh",
            root,
            keys.to_str().unwrap(),
            kind.as_str(),
            kind.uid_rule().example,
            SCRIPT,
        ],
    ))
}

#[test]
fn whatever_opens_nothing_is_answered_by_a_reason_and_never_by_a_traceback() {
    root();
    let work: Vec<_> = ProviderType::ALL
        .into_iter()
        .flat_map(|kind| ways(kind).into_iter().map(move |way| (kind, way)))
        .collect();
    let (work, faults) = (Arc::new(Mutex::new(work)), Mutex::new(Vec::new()));
    let next = || work.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((kind, way)) = next() {
                    let keys = tempfile::tempdir().unwrap();
                    for key in &way.access.keys {
                        std::fs::write(keys.path().join(key), value(key)).unwrap();
                    }
                    succeed(command(
                        "chmod",
                        &["-R", "a+rX", keys.path().to_str().unwrap()],
                    ));
                    let line = check(kind, keys.path());
                    let told: Value = serde_json::from_str(&line).unwrap_or_default();
                    let error = told["error"].as_str().unwrap_or("no answer");
                    let verdict = Verdict::of(&line);
                    println!(
                        "{kind} {}: {} {}",
                        way.name, verdict.reason, verdict.message
                    );
                    // These would be mistakes of the check, not refusals.
                    let ours = [
                        "no answer",
                        "TypeError",
                        "KeyError",
                        "AttributeError",
                        "NameError",
                        "ImportError",
                        "ModuleNotFoundError",
                        "UnboundLocalError",
                        "FileNotFoundError",
                    ];
                    let classified = [
                        Reason::AuthenticationFailed,
                        Reason::ConnectionFailed,
                        Reason::WrongAccount,
                    ];
                    let bad = ours.contains(&error)
                        || !classified.contains(&verdict.reason)
                        || verdict.message.contains("Traceback")
                        || way
                            .access
                            .keys
                            .iter()
                            .any(|key| verdict.message.contains(&format!("nothing-{key}")));
                    // A public image or repository needs no credentials, only a way to it.
                    if bad || verdict.connected != Some(false) {
                        faults
                            .lock()
                            .unwrap()
                            .push(format!("{kind} {}: {line}", way.name));
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// One account that can be reached, one that is somebody else's, and one that lets nobody in.
fn accounts() -> String {
    let provider = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: prowler-operator.dev/v1alpha1\nkind: Provider\n\
             metadata: {{name: {name}, namespace: {OTHER}}}\nspec: {spec}\n"
        )
    };
    let keys = "credentials: {type: static, secretRef: {name: keys}}";
    format!(
        "apiVersion: v1\nkind: Secret\n\
         metadata: {{name: keys, namespace: {OTHER}, labels: {{prowler-operator.dev/credentials: \"true\"}}}}\n\
         stringData: {{aws_access_key_id: other, aws_secret_access_key: other}}\n\
         ---\napiVersion: v1\nkind: ServiceAccount\n\
         metadata: {{name: nobody, namespace: {OTHER}, annotations: {{prowler-operator.dev/scanner: \"true\"}}}}\n\
         {}{}{}",
        provider(
            "ours",
            &format!("{{provider: aws, uid: \"123456789012\", {keys}}}")
        ),
        provider(
            "theirs",
            &format!("{{provider: aws, uid: \"210987654321\", {keys}}}")
        ),
        provider(
            "closed",
            "{provider: kubernetes, uid: closed, credentials: {serviceAccountName: nobody}}"
        ),
    )
}

#[test]
fn connections_are_checked_on_the_cluster_without_a_scan() {
    let demo = Demo::up();
    remove_other(&demo);
    demo.apply(&other_tenant());
    await_tenant(&demo);
    demo.apply(&accounts());
    for (name, state, reason) in [
        ("ours", "True", "Succeeded"),
        ("theirs", "False", "WrongAccount"),
        ("closed", "False", "AuthenticationFailed"),
    ] {
        let found = wait_for("the connection check", 180, || {
            let provider = demo.get(&["prowlerprovider", name, "--namespace", OTHER]);
            let conditions = provider["status"]["conditions"].as_array()?.clone();
            conditions
                .into_iter()
                .find(|c| c["type"] == "Connected" && c["status"] != "Unknown")
        });
        assert_eq!(found["status"], state, "{name}: {found}");
        assert_eq!(found["reason"], reason, "{name}: {found}");
    }
    let jobs = wait_for("the Jobs to be gone", 60, || {
        let jobs = demo.list(&["jobs", "--namespace", OTHER]);
        jobs.is_empty().then_some(jobs.len())
    });
    assert_eq!(jobs, 0);
    assert!(
        demo.list(&["prowlerscans", "--namespace", OTHER])
            .is_empty()
    );
    remove_other(&demo);
}
