//! The Job of one attempt: Prowler as an init container that holds the cloud credentials, then
//! `upload`, which holds nothing but a short-lived token for our server ([`containers`]). Which
//! of the pod's volumes each of them mounts is what keeps the two apart ([`volumes`]). Where
//! Prowler wants a file that the Secret holds in parts, `compose` makes it first.

mod containers;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use super::outcome::{SCAN, UPLOAD};
use super::pod::{node_selector, pod_security, pull_secrets, spec_hash, tolerations};
use crate::api::{FIELD_MANAGER, labels};
use crate::config::file::FileConfig;
use crate::domain::ids::{ObjectName, ProviderId, ScanId, TenantId};
use crate::domain::scanner::Invocation;

/// Audience of the token that `upload` shows our server.
pub const AUDIENCE: &str = "prowler-operator";
/// Value of the label [`labels::QUEUE`] on Jobs and pods of scans.
pub const QUEUE: &str = "scans";
/// Annotation with the hash of the Job's spec, by which a Job is recognised as the one planned.
pub const SPEC_HASH: &str = "prowler-operator.dev/spec-hash";
/// Annotation on the pod with the name of its `Scan`; a hint for waking, never trusted.
pub const SCAN_NAME: &str = "prowler-operator.dev/scan-name";

/// By which our pods in a tenant's namespace, of scans and of checks, can be selected.
pub const POD_LABELS: [(&str, &str); 2] = [
    ("app.kubernetes.io/name", "prowler-operator"),
    ("app.kubernetes.io/managed-by", FIELD_MANAGER),
];

/// Everything a Job is made of that differs from scan to scan.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The tenant.
    pub tenant: TenantId,
    /// The account.
    pub provider: ProviderId,
    /// The scan.
    pub scan: ScanId,
    /// The attempt, from 1.
    pub attempt: i32,
    /// The `Scan` object.
    pub object: ObjectName,
    /// The `Scan` object as owner.
    pub owner: OwnerReference,
    /// How to run Prowler.
    pub run: Invocation,
    /// The Secret whose keys that names.
    pub secret: Option<String>,
    /// Mount the `ServiceAccount`'s token into `scan`, for a scan of the cluster itself.
    pub in_cluster: bool,
    /// Scanner image.
    pub image: String,
    /// Resources of `scan`.
    pub resources: ResourceRequirements,
    /// Seconds the whole attempt may take.
    pub deadline_seconds: i64,
    /// Where findings go.
    pub server_url: String,
    /// PEM of the CA of that address.
    pub server_ca: String,
}

impl Attempt {
    /// The Job's name: one per attempt, so that making it again meets the first.
    pub fn job_name(&self) -> String {
        format!("scan-{}-{}", self.scan, self.attempt)
    }

    /// The whole Job.
    pub fn job(&self, config: &FileConfig) -> Job {
        let spec = JobSpec {
            parallelism: Some(1),
            completions: Some(1),
            backoff_limit: Some(0),
            active_deadline_seconds: Some(self.deadline_seconds),
            ttl_seconds_after_finished: Some(config.job_ttl_seconds),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(self.pod_labels(config)),
                    annotations: Some(self.pod_annotations(config)),
                    ..ObjectMeta::default()
                }),
                spec: Some(self.pod(config)),
            },
            ..JobSpec::default()
        };
        Job {
            metadata: ObjectMeta {
                name: Some(self.job_name()),
                namespace: Some(self.object.namespace.clone()),
                labels: Some(self.labels()),
                annotations: Some([(SPEC_HASH.to_owned(), spec_hash(&spec))].into()),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            status: None,
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/component", SCAN.to_owned()),
            (labels::QUEUE, QUEUE.to_owned()),
            (labels::TENANT, self.tenant.to_string()),
            (labels::PROVIDER, self.provider.to_string()),
            (labels::SCAN, self.scan.to_string()),
            (labels::ATTEMPT, self.attempt.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .chain(POD_LABELS.map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect()
    }

    fn pod_labels(&self, config: &FileConfig) -> BTreeMap<String, String> {
        let identity = self.run.pod_labels.iter();
        let identity = identity.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        // Ours last: a value of the chart cannot hide a scan pod from the watch.
        config
            .scanner
            .pod_labels
            .clone()
            .into_iter()
            .chain(identity)
            .chain(self.labels())
            .collect()
    }

    fn pod_annotations(&self, config: &FileConfig) -> BTreeMap<String, String> {
        let fixed = [
            // Whatever is injected for workload identity is for `scan` alone. See
            // <https://github.com/aws/amazon-eks-pod-identity-webhook>,
            // <https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html> and
            // <https://www.alibabacloud.com/help/en/container-service-for-kubernetes/latest/ack-pod-identity-webhook>.
            ("eks.amazonaws.com/skip-containers", UPLOAD),
            ("azure.workload.identity/skip-containers", UPLOAD),
            ("pod-identity.alibabacloud.com/skip-containers", UPLOAD),
            // A mesh's sidecar would keep the pod from ending, and could read what `upload` sends.
            ("sidecar.istio.io/inject", "false"),
            ("linkerd.io/inject", "disabled"),
            (SCAN_NAME, self.object.name.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        config
            .scanner
            .pod_annotations
            .clone()
            .into_iter()
            .chain(fixed)
            .collect()
    }

    fn pod(&self, config: &FileConfig) -> PodSpec {
        let scanner = &config.scanner;
        PodSpec {
            restart_policy: Some("Never".to_owned()),
            service_account_name: self.run.service_account.clone(),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(30),
            security_context: Some(pod_security()),
            init_containers: Some(
                self.compose_container(config)
                    .into_iter()
                    .chain([self.scan_container(config)])
                    .collect(),
            ),
            containers: vec![self.upload_container(config)],
            volumes: Some(self.volumes()),
            image_pull_secrets: pull_secrets(scanner),
            node_selector: node_selector(scanner, &self.run),
            tolerations: Some(tolerations(&scanner.tolerations)),
            affinity: scanner.affinity.clone(),
            priority_class_name: scanner.priority_class_name.clone(),
            ..PodSpec::default()
        }
    }
}

#[cfg(test)]
mod tests;
