//! Each finding is there when it is so, and not when it is not.

use serde_json::{Value, json};

use super::*;

const DIGEST: &str =
    "r/operator@sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A Deployment with nothing to find, changed by JSON merge.
fn deployment(changes: Value) -> Deployment {
    let mut object = json!({
        "metadata": { "name": "po-controller" },
        "spec": {
            "replicas": 2,
            "selector": {},
            "template": {
                "metadata": { "labels": { "app": "po", "part": "controller" } },
                "spec": {
                    "serviceAccountName": "po-controller",
                    "initContainers": [{ "name": "bootstrap", "image": DIGEST, "env": [] }],
                    "containers": [{ "name": "controller", "image": DIGEST, "env": [
                        { "name": "LOG_LEVEL", "value": "info" },
                        { "name": "SERVER_URL", "value": "https://server.svc:8443" },
                    ]}],
                },
            },
        },
    });
    merge(&mut object, changes);
    serde_json::from_value(object).unwrap()
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes,
    }
}

/// The Deployment with these variables in its container `controller`, after its own.
fn with_env(env: Value) -> Deployment {
    let mut found = deployment(json!({}));
    let pod = found.spec.template.spec.as_mut().unwrap();
    let more: Vec<k8s_openapi::api::core::v1::EnvVar> = serde_json::from_value(env).unwrap();
    pod.containers[0].env.as_mut().unwrap().extend(more);
    found
}

fn budget(selector: &Value) -> PodDisruptionBudget {
    serde_json::from_value(json!({ "spec": { "selector": selector } })).unwrap()
}

fn ours() -> [PodDisruptionBudget; 1] {
    [budget(
        &json!({ "matchLabels": { "app": "po", "part": "controller" } }),
    )]
}

fn objects(findings: &[Finding]) -> Vec<(Severity, &str)> {
    findings
        .iter()
        .map(|finding| (finding.severity, &*finding.object))
        .collect()
}

#[test]
fn an_installation_for_production_has_nothing_to_find() {
    let controller = deployment(json!({}));
    assert_eq!(part(&controller, Some(&ours())), []);
    assert_eq!(evaluation(&controller), []);
    assert_eq!(account(&controller), "po-controller");
    assert_eq!(secret_rights("ns", "po-controller", &[]), None);
}

#[test]
fn one_replica_is_found_and_none_and_a_default_of_one() {
    for (replicas, words) in [
        (json!(1), "It has 1 replica:"),
        (json!(0), "It has 0 replicas:"),
        (json!(null), "It has 1 replica:"),
    ] {
        let found = part(
            &deployment(json!({ "spec": { "replicas": replicas } })),
            Some(&ours()),
        );
        assert_eq!(
            objects(&found),
            [(Severity::Warning, "Deployment po-controller")]
        );
        assert!(found[0].sentence.starts_with(words), "{found:?}");
    }
    assert_eq!(
        part(
            &deployment(json!({ "spec": { "replicas": 3 } })),
            Some(&ours())
        ),
        []
    );
}

#[test]
fn a_budget_counts_by_what_it_selects_not_by_its_name() {
    let controller = deployment(json!({}));
    let expression = json!({ "matchExpressions": [{ "key": "part", "operator": "In", "values": ["controller"] }] });
    for selects in [
        json!({}),
        json!({ "matchLabels": { "app": "po" } }),
        expression,
    ] {
        assert_eq!(part(&controller, Some(&[budget(&selects)])), []);
    }
    let other = json!({ "matchLabels": { "app": "po", "part": "server" } });
    for spares_nothing in [vec![], vec![budget(&json!(null))], vec![budget(&other)]] {
        let found = part(&controller, Some(&spares_nothing));
        assert_eq!(
            objects(&found),
            [(Severity::Warning, "Deployment po-controller")]
        );
        assert!(
            found[0].sentence.starts_with("No PodDisruptionBudget"),
            "{found:?}"
        );
    }
    // Not read is not missing.
    assert_eq!(part(&controller, None), []);
}

#[test]
fn images_by_tag_are_found_wherever_they_run() {
    let by = |image: &str| {
        let container = json!([{ "name": "c", "image": image }]);
        let init = json!({ "spec": { "template": { "spec": { "initContainers": container } } } });
        let main = json!({ "spec": { "template": { "spec": { "containers": container } } } });
        [init, main].map(|changes| part(&deployment(changes), Some(&ours())))
    };
    for image in ["r/operator:1", "r/operator", "r:5000/operator:latest"] {
        for found in by(image) {
            assert_eq!(
                objects(&found),
                [(Severity::Warning, &*format!("image {image}"))]
            );
        }
    }
    for found in by("r:5000/operator:1@sha256:00") {
        assert_eq!(found, []);
    }
}

#[test]
fn debug_logging_is_found_however_it_is_asked_for() {
    for filter in [
        "debug",
        "TRACE",
        "info,prowler_operator=debug",
        "warn,sqlx=trace",
        "5",
    ] {
        let found = part(
            &with_env(json!([{ "name": "LOG_LEVEL", "value": filter }])),
            Some(&ours()),
        );
        let object = "Deployment po-controller, container controller";
        assert_eq!(objects(&found), [(Severity::Warning, object)], "{filter}");
        assert!(found[0].sentence.contains(filter), "{found:?}");
    }
    for filter in ["info", "warn,prowler_operator=info", "off", "info,x=loud"] {
        let found = part(
            &with_env(json!([{ "name": "LOG_LEVEL", "value": filter }])),
            Some(&ours()),
        );
        assert_eq!(found, [], "{filter}");
    }
    // Of two the last counts, as for the kubelet.
    let twice = json!([{ "name": "LOG_LEVEL", "value": "debug" }, { "name": "LOG_LEVEL", "value": "info" }]);
    assert_eq!(part(&with_env(twice), Some(&ours())), []);
}

#[test]
fn what_is_for_evaluation_is_found_by_what_bootstrap_is_to_make() {
    let database = with_env(json!([{ "name": "DATABASE_SECRET", "value": "po-database" }]));
    assert_eq!(
        objects(&evaluation(&database)),
        [(Severity::Warning, "embedded database")]
    );
    let certificate = with_env(json!([{ "name": "SERVER_TLS_SECRET", "value": "po-server-tls" }]));
    assert_eq!(
        objects(&evaluation(&certificate)),
        [(Severity::Warning, "Secret po-server-tls")]
    );
}

#[test]
fn plain_http_to_the_server_is_an_error() {
    let plain = with_env(json!([{ "name": "SERVER_URL", "value": "http://server.svc:8080" }]));
    assert_eq!(
        objects(&evaluation(&plain)),
        [(Severity::Error, "SERVER_URL")]
    );
}

#[test]
fn rights_to_every_secret_are_an_error_that_names_the_verbs() {
    let found = secret_rights("ns", "po-controller", &["get", "list"]).unwrap();
    assert_eq!(
        (found.severity, &*found.object),
        (Severity::Error, "ServiceAccount po-controller")
    );
    assert!(
        found
            .sentence
            .starts_with("It may get, list every Secret of namespace ns"),
        "{found}"
    );
}

fn config(scanner: Value) -> FileConfig {
    let mut file = json!({ "scanner": { "image": DIGEST }, "upload": { "image": DIGEST } });
    merge(&mut file["scanner"], scanner);
    serde_json::from_value(file).unwrap()
}

#[test]
fn scanner_images_by_tag_and_by_prefix_are_found() {
    assert_eq!(settings(&config(json!({ "allowedImages": [DIGEST] }))), []);
    for (scanner, object) in [
        (json!({ "image": "prowler:5" }), "image prowler:5"),
        (json!({ "allowedImages": ["prowler:6"] }), "image prowler:6"),
        (
            json!({ "allowedImages": ["mirror.example/*"] }),
            "scanner.allowedImages",
        ),
        (json!({ "allowedImages": ["*"] }), "scanner.allowedImages"),
    ] {
        let found = settings(&config(scanner));
        assert_eq!(objects(&found), [(Severity::Warning, object)]);
    }
    let mut upload = config(json!({}));
    upload.upload.image = "operator:1".into();
    assert_eq!(
        objects(&settings(&upload)),
        [(Severity::Warning, "image operator:1")]
    );
}

#[test]
fn plain_http_of_prowler_is_found_and_a_proxy_is_none() {
    let with = |name: &str, value: &str| {
        settings(&config(
            json!({ "extraEnv": [{ "name": name, "value": value }] }),
        ))
    };
    let found = with("AWS_ENDPOINT_URL", "http://emulator:5000");
    assert_eq!(
        objects(&found),
        [(Severity::Warning, "scanner.extraEnv AWS_ENDPOINT_URL")]
    );
    assert_eq!(with("AWS_ENDPOINT_URL", "https://emulator:5000"), []);
    for proxy in ["HTTPS_PROXY", "https_proxy"] {
        assert_eq!(with(proxy, "http://proxy:3128"), []);
    }
}
