//! The chart as tests render it: its values factor by factor, and sets of them in which every two
//! choices meet.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test; not every test binary uses all of it"
)]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::command::{command, documents, helm, succeed};

/// The chart.
pub const CHART: &str = "charts/prowler-operator";
/// The shortest set of values that renders.
pub const EMBEDDED: &str = "database.embedded=true";

/// Choices of which one is taken each, as `--set` has them.
const FACTORS: &[&[&[&str]]] = &[
    &[
        &[EMBEDDED],
        &["database.existingSecret=db"],
        &[EMBEDDED, "postgres.persistence.enabled=false"],
        &[EMBEDDED, "postgres.persistence.existingClaim=mine"],
        &[
            EMBEDDED,
            "postgres.persistence.storageClass=fast",
            "postgres.parameters.max_connections=200",
        ],
    ],
    &[
        &[],
        &["server.tls.existingSecret=mine"],
        &[
            "server.tls.certManager.enabled=true",
            "server.tls.certManager.issuerRef.name=ca",
            "server.tls.certManager.issuerRef.kind=ClusterIssuer",
        ],
    ],
    // Two namespaces that every cluster has.
    &[&[], &["rbac.namespaces={default,kube-public}"]],
    &[&[], &["rbac.create=false"]],
    &[&[], &["networkPolicy.enabled=true"]],
    &[
        &[],
        &["scanner.networkPolicy.enabled=true"],
        &[
            "scanner.networkPolicy.enabled=true",
            "scanner.networkPolicy.egress[0].ports[0].port=443",
            "scanner.networkPolicy.egress[0].to[0].ipBlock.cidr=203.0.113.0/24",
        ],
    ],
    &[
        &[],
        &["metrics.service.enabled=false"],
        &[
            "metrics.serviceMonitor.enabled=true",
            "metrics.serviceMonitor.interval=30s",
            "metrics.serviceMonitor.labels.release=prometheus",
        ],
    ],
    &[&[], &["crds.enabled=false"], &["crds.keep=false"]],
    &[
        &[],
        &[
            "controller.serviceAccount.create=false",
            "controller.serviceAccount.name=mine",
        ],
        &["server.serviceAccount.annotations.note=on"],
    ],
    &[
        &[],
        &["controller.podDisruptionBudget.enabled=false"],
        &["server.podDisruptionBudget.maxUnavailable=50%"],
    ],
    &[
        &[],
        &["fullnameOverride=y", "commonLabels.team=security"],
        &["nameOverride=x", "clusterDomain=example.org"],
    ],
    &[
        &[],
        &[
            "image.registry=localhost:5000",
            "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "imagePullSecrets[0].name=pull",
        ],
        &[
            "image.registry=",
            "image.tag=1.2.3",
            "image.pullPolicy=Always",
        ],
    ],
    &[
        &[],
        &[
            "controller.replicaCount=1",
            "controller.nodeSelector.pool=system",
            "controller.tolerations[0].key=c",
            "controller.tolerations[0].operator=Exists",
            "controller.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1",
            "controller.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey=zone",
            "controller.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector.matchLabels.a=b",
            "controller.priorityClassName=high",
            "controller.topologySpreadConstraints[0].maxSkew=1",
            "controller.topologySpreadConstraints[0].topologyKey=zone",
            "controller.topologySpreadConstraints[0].whenUnsatisfiable=DoNotSchedule",
            "controller.topologySpreadConstraints[0].labelSelector.matchLabels.a=b",
            "controller.podLabels.d=e",
            "controller.podAnnotations.f=g",
            "controller.extraEnv[0].name=TZ",
            "controller.extraEnv[0].value=UTC",
            "controller.extraVolumes[0].name=more",
            "controller.extraVolumes[0].configMap.name=more",
            "controller.extraVolumeMounts[0].name=more",
            "controller.extraVolumeMounts[0].mountPath=/more",
        ],
        &[
            "server.extraEnv[0].name=NODE",
            "server.extraEnv[0].valueFrom.fieldRef.fieldPath=spec.nodeName",
            "server.service.type=LoadBalancer",
            "server.service.annotations.f=g",
            "server.extraVolumes[0].name=more",
            "server.extraVolumes[0].secret.secretName=more",
            "server.extraVolumeMounts[0].name=more",
            "server.extraVolumeMounts[0].mountPath=/more",
            "server.podLabels.d=e",
            "postgres.podLabels.d=e",
            "postgres.podAnnotations.f=g",
            "postgres.nodeSelector.disk=fast",
            "postgres.tolerations[0].key=c",
        ],
    ],
    &[&[], SCANNER],
    &[
        &[],
        &[
            "log.level=debug",
            "log.format=text",
            "check.failOn=warning",
            "tenancy.deniedNamespaces={platform-*}",
            "queues.scans.maxConcurrent=7",
            "queues.scans.maxConcurrentPerProviderType.aws=3",
            "kueue.localQueue=audits",
            "retry.maxAttempts=5",
            "jobTtlSeconds=900",
            "partitions.monthsAhead=2",
        ],
    ],
];

/// Each value of `scanner` and `upload` that reaches a scan's pod.
pub const SCANNER: &[&str] = &[
    "scanner.image=example.org/prowler:1",
    "scanner.imagePullPolicy=Always",
    "scanner.allowedImages={example.org/*}",
    "scanner.imagePullSecrets[0].name=pull",
    "scanner.extraEnv[0].name=HTTPS_PROXY",
    "scanner.extraEnv[0].value=http://proxy:3128",
    "scanner.nodeSelector.pool=scans",
    "scanner.gkeAutopilot=true",
    "scanner.tolerations[0].key=scans",
    "scanner.tolerations[0].operator=Exists",
    "scanner.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key=x",
    "scanner.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=Exists",
    "scanner.priorityClassName=low",
    "scanner.podLabels.team=security",
    "scanner.podAnnotations.note=on",
    "scanner.resources.limits.memory=1Gi",
    "upload.resources.limits.memory=64Mi",
];

/// Sets of values in which every choice meets every choice of every other factor at least once.
pub fn matrix() -> Vec<Vec<&'static str>> {
    let mut missing = BTreeSet::new();
    for (one, of_one) in FACTORS.iter().enumerate() {
        for (other, of_other) in FACTORS[..one].iter().enumerate() {
            for a in 0..of_one.len() {
                for b in 0..of_other.len() {
                    missing.insert(((other, b), (one, a)));
                }
            }
        }
    }
    let mut rows = Vec::new();
    while let Some(&(first, second)) = missing.first() {
        let mut row = vec![None; FACTORS.len()];
        row[first.0] = Some(first.1);
        row[second.0] = Some(second.1);
        for factor in 0..FACTORS.len() {
            if row[factor].is_some() {
                continue;
            }
            // The choice that meets most of what it has not met yet, among those fixed so far.
            let met = |choice: usize| {
                let fixed = row.iter().enumerate();
                fixed
                    .filter_map(|(other, chosen)| Some((other, (*chosen)?)))
                    .filter(|&other| missing.contains(&pair((factor, choice), other)))
                    .count()
            };
            row[factor] =
                (0..FACTORS[factor].len()).max_by_key(|&choice| (met(choice), usize::MAX - choice));
        }
        let row: Vec<(usize, usize)> = row.into_iter().map(Option::unwrap).enumerate().collect();
        for (index, &one) in row.iter().enumerate() {
            for &other in &row[..index] {
                missing.remove(&pair(one, other));
            }
        }
        rows.push(
            row.iter()
                .flat_map(|&(factor, choice)| FACTORS[factor][choice])
                .copied()
                .collect(),
        );
    }
    rows
}

type Choice = (usize, usize);

fn pair(one: Choice, other: Choice) -> (Choice, Choice) {
    (one.min(other), one.max(other))
}

/// `helm template` with these values, in a namespace of this name.
pub fn template_in(namespace: &str, sets: &[&str]) -> Command {
    let mut args = vec![
        "template",
        "prowler-operator",
        CHART,
        "--namespace",
        namespace,
    ];
    for set in sets {
        args.extend(["--set", set]);
    }
    command(helm(), &args)
}

/// `helm template` with these values.
pub fn template(sets: &[&str]) -> Command {
    template_in("prowler-operator-system", sets)
}

/// What the chart makes of these values.
pub fn render(sets: &[&str]) -> Vec<Value> {
    documents(&succeed(template(sets)))
}

/// The controller's configuration file in what was rendered.
pub fn config_file(objects: &[Value]) -> &str {
    let map = objects.iter().find(|object| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        object["kind"] == "ConfigMap" && name.ends_with("-config")
    });
    map.unwrap()["data"]["config.yaml"].as_str().unwrap()
}
