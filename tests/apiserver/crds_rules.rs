//! Every rule of the definitions: what it lets pass, what it refuses, and in which words.

use std::collections::BTreeSet;

use prowler_operator::api;
use serde_json::{Value, json};

use super::{Place, sound};

/// A sound spec of the kind with these fields laid over it; null takes a field away.
fn with(kind: &str, over: &Value) -> Value {
    let mut spec = sound(kind);
    for (key, value) in over.as_object().unwrap() {
        if value.is_null() {
            spec.as_object_mut().unwrap().remove(key);
        } else {
            spec[key] = value.clone();
        }
    }
    spec
}

fn many(count: usize, one: impl Fn(usize) -> Value) -> Value {
    (0..count).map(one).collect()
}

/// What passes.
#[expect(clippy::too_many_lines, reason = "a table")]
fn good() -> Vec<(&'static str, Value)> {
    let mut cases = Vec::new();
    let mut kind = |kind: &'static str, overs: Vec<Value>| {
        cases.extend(overs.iter().map(|over| (kind, with(kind, over))));
    };
    kind(
        "Tenant",
        vec![
            json!({ "namespaces": null }),
            json!({ "namespaces": many(100, |n| json!(format!("n-{n}"))) }),
            json!({ "namespaces": ["a"], "roleNamespaces": ["a"] }),
            json!({ "namespaces": ["a"], "roleNamespaces": ["b"], "namespaceSelector": { "matchLabels": { "x": "y" } } }),
            json!({ "namespaceSelector": { "matchExpressions": [{ "key": "x", "operator": "Exists" }] } }),
            json!({ "displayName": "Größe & Söhne", "suspend": true, "roleResolution": "Union" }),
            json!({ "limits": { "concurrentScans": 2, "providers": 0, "scanMemory": "4Gi", "scanCPU": 2, "scanDeadlineSeconds": 60 } }),
            json!({ "retention": { "days": 90, "keepScans": 10 } }),
            json!({ "namespaces": ["a"], "mutelist": { "configMapRef": { "namespace": "a", "name": "mutelist", "key": "mutelist.yaml" } } }),
            json!({ "namespaceSelector": { "matchLabels": { "x": "y" } }, "mutelist": { "configMapRef": { "namespace": "b", "name": "mutelist", "key": "mutelist.yaml" } } }),
        ],
    );
    kind(
        "Provider",
        vec![
            json!({ "credentials": { "type": "static", "secretRef": { "name": "aws" } } }),
            json!({ "credentials": { "serviceAccountName": "scanner" } }),
            json!({ "credentials": { "type": "role", "secretRef": { "name": "aws" } } }),
            json!({ "credentials": { "type": "role", "secretRef": { "name": "aws" }, "serviceAccountName": "scanner" } }),
            json!({ "provider": "gcp", "uid": "my-project-1",
                "credentials": { "type": "service_account", "secretRef": { "name": "gcp" } } }),
            json!({ "provider": "alibabacloud", "uid": "1234567890123456",
                "credentials": { "type": "role", "secretRef": { "name": "ali" } } }),
            json!({ "scan": { "services": ["s3"], "severities": ["high"], "excludedServices": ["ec2"], "regions": ["eu-west-1"] } }),
            json!({ "scan": { "checks": many(1000, |n| json!(format!("check_{n}"))) } }),
            json!({ "scan": { "compliances": ["cis_3.0_aws"], "services": [] } }),
            json!({ "scan": { "categories": ["internet-exposed"] } }),
            json!({ "provider": "iac", "uid": "https://example.com/r.git",
                "scan": { "checks": [], "regions": [], "activeDeadlineSeconds": 600 } }),
            json!({ "provider": "oraclecloud", "uid": "ocid1.tenancy.oc1..aaaa",
                "scan": { "regions": ["eu-frankfurt-1"] } }),
            json!({ "connectionCheck": { "interval": "0s" } }),
        ],
    );
    kind(
        "ProviderGroup",
        vec![
            json!({ "providerRefs": null }),
            json!({ "providerRefs": many(1000, |n| json!({ "name": format!("p-{n}") })) }),
            json!({ "selector": { "matchLabels": { "env": "prod" },
                              "matchExpressions": [{ "key": "team", "operator": "NotIn", "values": ["a", "b"] }] } }),
        ],
    );
    kind(
        "Role",
        vec![
            json!({ "permissions": null }),
            json!({ "permissions": ["MANAGE_USERS", "MANAGE_ACCOUNT", "MANAGE_BILLING", "MANAGE_PROVIDERS",
                                "MANAGE_INTEGRATIONS", "MANAGE_SCANS", "UNLIMITED_VISIBILITY"] }),
            json!({ "providerGroupRefs": [{ "name": "web" }],
                "subjects": [{ "kind": "User", "name": "oidc:anna@example.com" }, { "kind": "Group", "name": "devs" },
                             { "kind": "ServiceAccount", "name": "robot", "namespace": "ci" }] }),
            json!({ "subjects": many(250, |n| json!({ "kind": "User", "name": format!("user-{n}") })) }),
        ],
    );
    kind(
        "ScanSchedule",
        vec![
            json!({ "schedule": "H H(0-5) * * 1-5", "timeZone": "Europe/Berlin" }),
            json!({ "schedule": "@daily", "timeZone": "Etc/GMT+1" }),
            json!({ "schedule": " */15\t0-6/2 1,15 JAN-MAR sun " }),
            json!({ "schedule": null, "interval": "24h" }),
            json!({ "schedule": null, "interval": "1h30m15s" }),
            json!({ "providerRefs": null, "providerSelector": { "matchLabels": { "env": "prod" } } }),
            json!({ "concurrencyPolicy": "Replace", "startingDeadlineSeconds": 0, "jitterSeconds": 3600,
                "successfulScansHistoryLimit": 0, "failedScansHistoryLimit": 100, "suspend": true,
                "scan": { "severities": ["critical"] } }),
        ],
    );
    kind(
        "Scan",
        vec![
            json!({ "trigger": "scheduled", "priority": -1000, "cancel": true, "ttlSecondsAfterFinished": 0 }),
            json!({ "scan": { "checks": ["s3_bucket_public_access"] } }),
        ],
    );
    kind(
        "Integration",
        vec![
            json!({ "configuration": { "bucketName": "a.b-c", "outputDirectory": "/a//./b/" },
                "providerRefs": [{ "name": "a" }, { "name": "b" }], "enabled": false }),
            json!({ "type": "aws_security_hub", "providerRefs": [{ "name": "a" }], "credentials": null,
                "configuration": { "sendOnlyFails": true, "archivePreviousFindings": false } }),
            json!({ "type": "jira", "configuration": null }),
        ],
    );
    kind(
        "MuteRule",
        vec![
            json!({ "findingUids": many(1000, |n| json!(format!("finding-{n}"))) }),
            json!({ "reason": "x".repeat(500), "findingUids": ["u".repeat(300)], "enabled": false }),
        ],
    );
    cases
}

/// What is refused, with what part of the message.
#[expect(clippy::too_many_lines, reason = "a table")]
fn bad() -> Vec<(&'static str, Value, &'static str)> {
    let mut cases = Vec::new();
    let mut kind = |kind: &'static str, overs: Vec<(Value, &'static str)>| {
        cases.extend(
            overs
                .into_iter()
                .map(|(over, message)| (kind, with(kind, &over), message)),
        );
    };
    let empty = "an empty selector would choose everything: give matchLabels or matchExpressions";
    let operators = "operators In and NotIn need values; Exists and DoesNotExist take none";
    kind(
        "Tenant",
        vec![
            (
                json!({ "namespaces": ["kube-system"] }),
                "namespaces whose names begin with kube- belong to the cluster",
            ),
            (
                json!({ "namespaces": many(101, |n| json!(format!("n-{n}"))) }),
                "must have at most 100 items",
            ),
            (json!({ "namespaces": ["a", "a"] }), "Duplicate value"),
            (json!({ "namespaces": ["A"] }), "spec.namespaces[0]"),
            (
                json!({ "namespaces": ["a"], "roleNamespaces": ["b"] }),
                "each of roleNamespaces must be one of the tenant's namespaces",
            ),
            (
                json!({ "namespaces": null, "roleNamespaces": ["b"] }),
                "each of roleNamespaces must be one of the tenant's namespaces",
            ),
            (json!({ "namespaceSelector": {} }), empty),
            (json!({ "namespaceSelector": { "matchLabels": {} } }), empty),
            (
                json!({ "namespaceSelector": { "matchExpressions": [] } }),
                empty,
            ),
            (
                json!({ "namespaceSelector": { "matchExpressions": [{ "key": "x", "operator": "In" }] } }),
                operators,
            ),
            (
                json!({ "namespaceSelector": { "matchExpressions": [{ "key": "x", "operator": "Exists", "values": ["y"] }] } }),
                operators,
            ),
            (
                json!({ "namespaceSelector": { "matchExpressions": [{ "key": "x", "operator": "Gt", "values": ["1"] }] } }),
                "Unsupported value: \"Gt\"",
            ),
            (
                json!({ "namespaceSelector": { "matchLabels": { "a b": "c" } } }),
                "keys must be keys of labels",
            ),
            (
                json!({ "mutelist": { "configMapRef": { "namespace": "b", "name": "m", "key": "k" } } }),
                "mutelist.configMapRef.namespace must be one of the tenant's namespaces",
            ),
            (json!({ "displayName": "two\nlines" }), "spec.displayName"),
            (
                json!({ "limits": { "concurrentScans": 0 } }),
                "spec.limits.concurrentScans",
            ),
            (
                json!({ "limits": { "scanMemory": "lots" } }),
                "spec.limits.scanMemory",
            ),
            (
                json!({ "limits": { "scanMemory": "-1Gi" } }),
                "spec.limits.scanMemory",
            ),
            (
                json!({ "deletionPolicy": "Orphan" }),
                "supported values: \"Delete\", \"Retain\"",
            ),
        ],
    );
    let one_way = "Prowler cannot combine these: choose by checks, or services and severities, or compliances, or categories";
    kind(
        "Provider",
        vec![
            (
                json!({ "credentials": {} }),
                "credentials need a secretRef or a serviceAccountName",
            ),
            (
                json!({ "credentials": { "type": "static" } }),
                "type and secretRef go together",
            ),
            (
                json!({ "credentials": { "secretRef": { "name": "aws" } } }),
                "type and secretRef go together",
            ),
            (
                json!({ "credentials": { "type": "role", "serviceAccountName": "s" } }),
                "type and secretRef go together",
            ),
            (
                json!({ "credentials": { "type": "static", "secretRef": { "name": "aws" }, "serviceAccountName": "s" } }),
                "secretRef and serviceAccountName go together only for type role",
            ),
            (
                json!({ "provider": "github", "uid": "octocat", "credentials": { "type": "role", "secretRef": { "name": "x" } } }),
                "credentials of type role are for the provider types aws and alibabacloud",
            ),
            (
                json!({ "credentials": { "type": "service_account", "secretRef": { "name": "x" } } }),
                "credentials of type service_account are for the provider type gcp",
            ),
            (
                json!({ "provider": "github", "uid": "octocat", "credentials": { "serviceAccountName": "s" } }),
                "the others take a Secret",
            ),
            (
                json!({ "credentials": { "type": "password", "secretRef": { "name": "x" } } }),
                "supported values: \"static\", \"role\", \"service_account\"",
            ),
            (
                json!({ "credentials": { "type": "static", "secretRef": { "name": "../x" } } }),
                "spec.credentials.secretRef.name",
            ),
            (json!({ "alias": "ab" }), "spec.alias"),
            (json!({ "alias": "x".repeat(101) }), "spec.alias"),
            (json!({ "alias": "nul\u{0}byte" }), "spec.alias"),
            (
                json!({ "scan": { "checks": ["a"], "services": ["s3"] } }),
                one_way,
            ),
            (
                json!({ "scan": { "services": ["s3"], "compliances": ["cis_3.0_aws"] } }),
                one_way,
            ),
            (
                json!({ "scan": { "severities": ["high"], "categories": ["x"] } }),
                one_way,
            ),
            (
                json!({ "scan": { "checks": ["--shodan"] } }),
                "spec.scan.checks[0]",
            ),
            (
                json!({ "scan": { "excludedChecks": ["-z"] } }),
                "spec.scan.excludedChecks[0]",
            ),
            (
                json!({ "scan": { "services": ["s3 iam"] } }),
                "spec.scan.services[0]",
            ),
            (
                json!({ "scan": { "services": ["s3", "s3"] } }),
                "Duplicate value",
            ),
            (
                json!({ "scan": { "regions": ["eu-west-1\n"] } }),
                "spec.scan.regions[0]",
            ),
            (
                json!({ "scan": { "categories": ["$(id)"] } }),
                "spec.scan.categories[0]",
            ),
            (
                json!({ "scan": { "compliances": [""] } }),
                "spec.scan.compliances[0]",
            ),
            (
                json!({ "scan": { "excludedServices": ["a;b"] } }),
                "spec.scan.excludedServices[0]",
            ),
            (
                json!({ "scan": { "checks": many(1001, |n| json!(format!("check_{n}"))) } }),
                "must have at most 1000 items",
            ),
            (
                json!({ "scan": { "severities": ["urgent"] } }),
                "Unsupported value: \"urgent\"",
            ),
            (json!({ "scan": { "image": "-x" } }), "spec.scan.image"),
            (
                json!({ "scan": { "activeDeadlineSeconds": 59 } }),
                "spec.scan.activeDeadlineSeconds",
            ),
            (
                json!({ "scan": { "resources": { "limits": { "memory": "2 Gi" } } } }),
                "spec.scan.resources.limits.memory",
            ),
            (
                json!({ "connectionCheck": { "interval": "1d" } }),
                "spec.connectionCheck.interval",
            ),
            (
                json!({ "connectionCheck": { "interval": "4m59s" } }),
                "interval must be hours, minutes and seconds between 5m and 8784h, for example 12h, or 0s for no checks",
            ),
            (
                json!({ "provider": "github", "uid": "octocat", "scan": { "regions": ["eu-west-1"] } }),
                "Prowler knows regions only for the provider types aws, oraclecloud and alibabacloud",
            ),
        ],
    );
    for (field, message) in [
        (
            "services",
            "Prowler knows services only for the provider types aws, azure, ",
        ),
        (
            "checks",
            "Prowler knows checks only for the provider types aws, azure, ",
        ),
        (
            "excludedChecks",
            "Prowler knows excludedChecks only for the provider types aws, azure, ",
        ),
        (
            "excludedServices",
            "Prowler knows excludedServices only for the provider types aws, azure, ",
        ),
        (
            "severities",
            "Prowler knows severities only for the provider types aws, azure, ",
        ),
        (
            "compliances",
            "Prowler knows compliances only for the provider types aws, azure, ",
        ),
        (
            "categories",
            "Prowler knows categories only for the provider types aws, azure, ",
        ),
    ] {
        let scan = json!({ field: ["high"] });
        kind(
            "Provider",
            vec![(
                json!({ "provider": "image", "uid": "nginx:1.27", "scan": scan }),
                message,
            )],
        );
    }
    kind(
        "ProviderGroup",
        vec![
            (json!({ "selector": {} }), empty),
            (
                json!({ "providerRefs": [{ "name": "a" }, { "name": "a" }] }),
                "Duplicate value",
            ),
            (
                json!({ "providerRefs": [{}] }),
                "spec.providerRefs[0].name: Required value",
            ),
            (
                json!({ "providerRefs": many(1001, |n| json!({ "name": format!("p-{n}") })) }),
                "must have at most 1000 items",
            ),
        ],
    );
    let system = "names of users and groups that begin with system: belong to the cluster";
    let namespace = "a ServiceAccount needs its namespace; users and groups have none";
    kind(
        "Role",
        vec![
            (
                json!({ "subjects": [{ "kind": "User", "name": "system:admin" }] }),
                system,
            ),
            (
                json!({ "subjects": [{ "kind": "Group", "name": "system:masters" }] }),
                system,
            ),
            (
                json!({ "subjects": [{ "kind": "User", "name": "system:serviceaccount:a:b" }] }),
                system,
            ),
            (
                json!({ "subjects": [{ "kind": "ServiceAccount", "name": "robot" }] }),
                namespace,
            ),
            (
                json!({ "subjects": [{ "kind": "User", "name": "anna", "namespace": "a" }] }),
                namespace,
            ),
            (
                json!({ "subjects": [{ "kind": "ServiceAccount", "name": "Robot", "namespace": "a" }] }),
                "the name of a ServiceAccount has lower-case letters",
            ),
            (
                json!({ "subjects": [{ "kind": "Robot", "name": "r" }] }),
                "Unsupported value: \"Robot\"",
            ),
            (
                json!({ "permissions": ["MANAGE_EVERYTHING"] }),
                "Unsupported value: \"MANAGE_EVERYTHING\"",
            ),
            (
                json!({ "permissions": ["MANAGE_SCANS", "MANAGE_SCANS"] }),
                "Duplicate value",
            ),
        ],
    );
    let one_time = "give exactly one of schedule (a cron expression) and interval (such as 24h)";
    let one_choice = "give exactly one of providerRefs and providerSelector";
    let zone = "TZ= and CRON_TZ= are not supported in schedule: use timeZone";
    let fields = "schedule must be a cron expression of five fields";
    let interval = "interval must be hours, minutes and seconds between 1m and 8784h";
    kind(
        "ScanSchedule",
        vec![
            (json!({ "schedule": null }), one_time),
            (json!({ "interval": "24h" }), one_time),
            (json!({ "providerRefs": null }), one_choice),
            (
                json!({ "providerSelector": { "matchLabels": { "a": "b" } } }),
                one_choice,
            ),
            (
                json!({ "providerRefs": null, "providerSelector": {} }),
                empty,
            ),
            (
                json!({ "providerRefs": [] }),
                "should have at least 1 items",
            ),
            (json!({ "schedule": "TZ=Europe/Berlin 0 2 * * *" }), zone),
            (json!({ "schedule": "CRON_TZ=UTC 0 2 * * *" }), zone),
            (json!({ "schedule": "0 2 * *" }), fields),
            (json!({ "schedule": "0 0 2 * * *" }), fields),
            (json!({ "schedule": "@reboot" }), fields),
            (
                json!({ "schedule": null, "interval": "24h", "timeZone": "Europe/Berlin" }),
                "timeZone goes with schedule; an interval has no time zone",
            ),
            (json!({ "schedule": null, "interval": "59s" }), interval),
            (json!({ "schedule": null, "interval": "1d" }), interval),
            (json!({ "schedule": null, "interval": "9000h" }), interval),
            (json!({ "timeZone": "../etc/passwd" }), "spec.timeZone"),
            (
                json!({ "concurrencyPolicy": "Queue" }),
                "Unsupported value: \"Queue\"",
            ),
            (json!({ "jitterSeconds": -1 }), "spec.jitterSeconds"),
            (
                json!({ "scan": { "checks": ["a"], "categories": ["b"] } }),
                one_way,
            ),
        ],
    );
    kind(
        "Scan",
        vec![
            (
                json!({ "providerRef": null }),
                "spec.providerRef: Required value",
            ),
            (
                json!({ "providerRef": { "name": "" } }),
                "spec.providerRef.name",
            ),
            (
                json!({ "trigger": "cron" }),
                "supported values: \"manual\", \"scheduled\"",
            ),
            (json!({ "priority": 1001 }), "spec.priority"),
            (
                json!({ "scan": { "checks": ["a"], "compliances": ["b"] } }),
                one_way,
            ),
        ],
    );
    kind("Integration", bad_integrations());
    kind(
        "MuteRule",
        vec![
            (json!({ "reason": "x" }), "spec.reason"),
            (json!({ "reason": null }), "spec.reason: Required value"),
            (json!({ "findingUids": [] }), "spec.findingUids"),
            (json!({ "findingUids": ["a", "a"] }), "Duplicate value"),
            (
                json!({ "findingUids": ["u".repeat(301)] }),
                "spec.findingUids[0]",
            ),
            (
                json!({ "findingUids": many(1001, |n| json!(format!("finding-{n}"))) }),
                "must have at most 1000 items",
            ),
        ],
    );
    cases
}

fn bad_integrations() -> Vec<(Value, &'static str)> {
    let below = "outputDirectory must name a directory below the bucket's root";
    let signs = "outputDirectory must have none of the characters";
    let bucket = "bucketName must be the name of a bucket";
    let of_s3 = "bucketName and outputDirectory are for integrations of type amazon_s3";
    let of_hub = "sendOnlyFails and archivePreviousFindings are for integrations of type";
    let one = "an aws_security_hub integration belongs to exactly one Provider";
    let directory = |directory: &str| json!({ "configuration": { "bucketName": "acme", "outputDirectory": directory } });
    vec![
        (json!({ "type": null }), "spec.type: Required value"),
        (json!({ "type": "slack" }), "Unsupported value: \"slack\""),
        (
            json!({ "configuration": null }),
            "an amazon_s3 integration needs configuration.bucketName",
        ),
        (
            json!({ "configuration": { "outputDirectory": "a" } }),
            "an amazon_s3 integration needs configuration.bucketName",
        ),
        (
            json!({ "credentials": null }),
            "integrations of type amazon_s3 and jira need credentials",
        ),
        (
            json!({ "credentials": {} }),
            "spec.credentials.secretRef: Required value",
        ),
        (json!({ "configuration": { "bucketName": "Acme" } }), bucket),
        (json!({ "configuration": { "bucketName": "a..b" } }), bucket),
        (json!({ "configuration": { "bucketName": "ab" } }), bucket),
        (directory("a/../b"), below),
        (directory("."), below),
        (directory("//"), below),
        (directory("a:b"), signs),
        (directory("a\nb"), signs),
        (
            json!({ "configuration": { "bucketName": "acme", "sendOnlyFails": true } }),
            of_hub,
        ),
        (
            json!({ "type": "jira", "configuration": { "archivePreviousFindings": true } }),
            of_hub,
        ),
        (json!({ "type": "jira" }), of_s3),
        (
            json!({ "type": "jira", "configuration": null, "providerRefs": [{ "name": "a" }] }),
            "a jira integration is for the whole tenant",
        ),
        (
            json!({ "type": "aws_security_hub", "configuration": null }),
            one,
        ),
        (
            json!({ "type": "aws_security_hub", "configuration": null,
                    "providerRefs": [{ "name": "a" }, { "name": "b" }] }),
            one,
        ),
        (
            json!({ "providerRefs": [{ "name": "a" }, { "name": "a" }] }),
            "Duplicate value",
        ),
    ]
}

#[tokio::test]
async fn what_makes_sense_passes() {
    let place = Place::new().await;
    for (kind, spec) in good() {
        let result = place.try_create(kind, &spec).await;
        assert!(
            result.is_ok(),
            "{kind} {spec}: {}",
            result.unwrap_err().message
        );
    }
}

#[tokio::test]
async fn what_does_not_is_refused_in_a_sentence() {
    let place = Place::new().await;
    for (kind, spec, sentence) in bad() {
        let Err(status) = place.try_create(kind, &spec).await else {
            panic!("{kind} {spec} passed");
        };
        assert!(
            status.message.contains(sentence),
            "{kind} {spec}\n{}",
            status.message
        );
    }
}

#[tokio::test]
async fn several_faults_are_told_at_once() {
    let place = Place::new().await;
    let spec = json!({
        "provider": "aws", "uid": "12345",
        "credentials": { "type": "static" },
        "scan": { "checks": ["a"], "categories": ["b"] },
    });
    let message = place
        .try_create("Provider", &spec)
        .await
        .unwrap_err()
        .message;
    for part in [
        "12 digits",
        "type and secretRef go together",
        "Prowler cannot combine",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// A rule that no case here refuses by would be a string nobody tried.
#[test]
fn every_rule_has_a_refusing_case() {
    let mut told: BTreeSet<String> = bad()
        .into_iter()
        .map(|(.., sentence)| sentence.to_owned())
        .collect();
    // Those are tried where objects are changed, and where uids are.
    told.extend(
        [
            "provider cannot be changed",
            "type cannot be changed",
            "uid cannot be changed",
            "a scan cannot be changed, only cancelled",
            "a cancelled scan stays cancelled",
            "the uid of provider type",
            "uid must have 3 to 250 characters",
        ]
        .map(str::to_owned),
    );
    let mut rules = 0;
    for crd in api::all_crds() {
        let mut found = Vec::new();
        collect(
            &serde_json::to_value(&crd.spec.versions).unwrap(),
            &mut found,
        );
        for rule in found {
            rules += 1;
            let message = rule["message"].as_str().expect("every rule has a sentence");
            assert!(
                told.iter()
                    .any(|sentence| message.contains(sentence.as_str())),
                "{}: no case is refused by '{message}'",
                crd.spec.names.kind
            );
        }
    }
    assert!(rules > 40, "{rules} rules were found");
}

fn collect(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(rules)) = map.get("x-kubernetes-validations") {
                found.extend(rules.iter().cloned());
            }
            map.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}
