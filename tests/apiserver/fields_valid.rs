//! Sound objects of each kind that together have every field.

use serde_json::{Value, json};

use crate::support::operator::{ACCOUNT, Operator, World, aws};

/// A sound object.
pub struct Sample {
    pub name: String,
    pub spec: Value,
    /// How its state begins when all is well.
    pub says: &'static str,
}

/// What the samples point at.
pub async fn furnish(operator: &Operator, world: &World) {
    operator.aws_secret(&world.namespace, "keys").await;
    operator
        .service_account(&world.namespace, "scanner", true)
        .await;
    operator
        .secret(
            &world.namespace,
            "jira",
            true,
            &[
                ("user_mail", "ada@example.com"),
                ("api_token", "t"),
                ("domain", "acme"),
            ],
        )
        .await;
    operator.provider(world, "production", ACCOUNT).await;
}

pub fn samples(kind: &str, world: &World) -> Vec<Sample> {
    let sample = |name: &str, spec: Value| Sample {
        name: name.to_owned(),
        spec,
        says: "Current ",
    };
    match kind {
        "Tenant" => tenants(world),
        "Provider" => providers(),
        "ProviderGroup" => vec![sample(
            "group",
            json!({ "providerRefs": [{ "name": "production" }], "selector": selector() }),
        )],
        "Role" => vec![sample(
            "auditor",
            json!({ "permissions": ["MANAGE_SCANS"], "providerGroupRefs": [{ "name": "group" }],
                    "subjects": [{ "kind": "ServiceAccount", "name": "robot", "namespace": "ci" }] }),
        )],
        "ScanSchedule" => schedules(),
        "Scan" => scans(),
        "Integration" => integrations(),
        "MuteRule" => vec![sample(
            "accepted",
            json!({ "reason": "Accepted until the move.", "findingUids": ["a-finding"], "enabled": true }),
        )],
        _ => panic!("no samples of {kind}"),
    }
}

fn selector() -> Value {
    json!({ "matchLabels": { "env": "prod" },
            "matchExpressions": [{ "key": "team", "operator": "In", "values": ["a"] }] })
}

/// Settings of a scan that name all that can be named together; the other ways to choose
/// checks come in samples of their own.
fn settings() -> Value {
    json!({
        "services": ["s3"], "severities": ["high"], "excludedChecks": ["s3_x"],
        "excludedServices": ["ec2"], "regions": ["eu-west-1"], "image": "prowler:other",
        "resources": {
            "requests": { "cpu": "100m", "memory": "512Mi", "ephemeral-storage": "1Gi" },
            "limits": { "cpu": "1", "memory": "1Gi", "ephemeral-storage": "2Gi" },
        },
        "activeDeadlineSeconds": 3600,
    })
}

/// The ways that exclude each other.
fn ways() -> [(&'static str, Value); 4] {
    [
        ("services", settings()),
        ("checks", json!({ "checks": ["s3_bucket_public_access"] })),
        ("compliances", json!({ "compliances": ["cis_3.0_aws"] })),
        ("categories", json!({ "categories": ["internet-exposed"] })),
    ]
}

fn tenants(world: &World) -> Vec<Sample> {
    let listed = json!({
        "displayName": "Team A", "namespaces": [world.namespace], "roleNamespaces": [world.namespace],
        "limits": { "concurrentScans": 2, "providers": 100, "scanMemory": "4Gi", "scanCPU": "2",
                    "scanDeadlineSeconds": 7200 },
        "retention": { "days": 90, "keepScans": 10 }, "roleResolution": "Union",
        "mutelist": { "configMapRef": { "namespace": world.namespace, "name": "mutelist", "key": "mutelist.yaml" } },
        "deletionPolicy": "Retain", "suspend": false,
    });
    let chosen = json!({ "namespaceSelector": selector() });
    vec![
        Sample {
            name: format!("{}-chooses", world.tenant),
            spec: chosen,
            says: "Current ",
        },
        Sample {
            name: world.tenant.clone(),
            spec: listed,
            says: "Current ",
        },
    ]
}

fn providers() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (n, (way, scan)) in ways().into_iter().enumerate() {
        let mut spec = aws(&format!("{n:012}"), "keys");
        spec["scan"] = scan;
        if n == 0 {
            spec["alias"] = json!("Production");
            spec["connectionCheck"] = json!({ "interval": "12h" });
            spec["deletionPolicy"] = json!("Retain");
            spec["suspend"] = json!(false);
        }
        if n == 1 {
            spec["credentials"] = json!({ "serviceAccountName": "scanner" });
        }
        samples.push(Sample {
            name: format!("by-{way}"),
            spec,
            says: "Current ",
        });
    }
    samples
}

fn schedules() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (n, (way, scan)) in ways().into_iter().enumerate() {
        let mut spec = json!({ "scan": scan });
        if n == 0 {
            spec["schedule"] = json!("0 2 * * *");
            spec["timeZone"] = json!("Europe/Berlin");
            spec["providerRefs"] = json!([{ "name": "production" }]);
            spec["concurrencyPolicy"] = json!("Forbid");
            spec["startingDeadlineSeconds"] = json!(600);
            spec["suspend"] = json!(false);
            spec["jitterSeconds"] = json!(60);
            spec["successfulScansHistoryLimit"] = json!(3);
            spec["failedScansHistoryLimit"] = json!(1);
        } else {
            spec["interval"] = json!("24h");
            spec["suspend"] = json!(true);
            spec["providerSelector"] = selector();
        }
        samples.push(Sample {
            name: format!("by-{way}"),
            spec,
            says: "Current ",
        });
    }
    samples
}

fn scans() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (way, scan) in ways() {
        samples.push(Sample {
            name: format!("by-{way}"),
            spec: json!({ "providerRef": { "name": "production" }, "trigger": "manual", "scan": scan,
                          "priority": 5, "cancel": false, "ttlSecondsAfterFinished": 600 }),
            // It waits for its turn.
            says: "InProgress Queued",
        });
    }
    samples
}

fn integrations() -> Vec<Sample> {
    let sample = |name: &str, spec: Value| Sample {
        name: name.to_owned(),
        spec,
        says: "Current ",
    };
    vec![
        sample(
            "bucket",
            json!({ "type": "amazon_s3", "enabled": true, "providerRefs": [{ "name": "production" }],
                    "configuration": { "bucketName": "acme", "outputDirectory": "findings" },
                    "credentials": { "secretRef": { "name": "keys" } } }),
        ),
        sample(
            "hub",
            json!({ "type": "aws_security_hub", "providerRefs": [{ "name": "production" }],
                    "configuration": { "sendOnlyFails": true, "archivePreviousFindings": true } }),
        ),
        sample(
            "tracker",
            json!({ "type": "jira", "credentials": { "secretRef": { "name": "jira" } } }),
        ),
    ]
}
