//! The Job of one attempt: Prowler as an init container that holds the cloud credentials, then
//! `upload`, which holds nothing but a short-lived token for our server ([`containers`]). Which
//! of the pod's volumes each of them mounts is what keeps the two apart ([`volumes`]). Where
//! Prowler wants a file that the Secret holds in parts, `compose` makes it first.

mod containers;
mod volumes;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::one_shot::{self, OneShot};
use super::outcome::{SCAN, UPLOAD};
use crate::api::{FIELD_MANAGER, labels};
use crate::config::file::FileConfig;
use crate::domain::ids::{ObjectName, ProviderId, ScanId, TenantId};
use crate::domain::scanner::Invocation;

/// Audience of the token that `upload` shows our server.
pub const AUDIENCE: &str = "prowler-operator";
/// Value of the label [`labels::QUEUE`] on Jobs and pods of scans.
pub const QUEUE: &str = "scans";
/// Label of a Job with the `LocalQueue` that starts it:
/// <https://kueue.sigs.k8s.io/docs/tasks/run/jobs/>.
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";
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
        let mut labels = one_shot::labels(SCAN, QUEUE, self.tenant, self.provider);
        labels.extend([
            (labels::SCAN.to_owned(), self.scan.to_string()),
            (labels::ATTEMPT.to_owned(), self.attempt.to_string()),
        ]);
        let annotations = [
            // Whatever is injected for workload identity is for `scan` alone. See
            // <https://github.com/aws/amazon-eks-pod-identity-webhook>,
            // <https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html> and
            // <https://www.alibabacloud.com/help/en/container-service-for-kubernetes/latest/ack-pod-identity-webhook>.
            ("eks.amazonaws.com/skip-containers", UPLOAD),
            ("azure.workload.identity/skip-containers", UPLOAD),
            ("pod-identity.alibabacloud.com/skip-containers", UPLOAD),
            (SCAN_NAME, self.object.name.as_str()),
        ];
        let shot = OneShot {
            name: self.job_name(),
            object: &self.object,
            owner: &self.owner,
            run: &self.run,
            labels,
            annotations: &annotations,
            deadline_seconds: self.deadline_seconds,
            pod: self.pod(config),
        };
        let mut job = shot.job(config);
        if config.kueue.enabled {
            // On the Job alone: with it on the pod, Kueue would take that for another workload.
            let labels = job.metadata.labels.get_or_insert_default();
            labels.insert(KUEUE_QUEUE.to_owned(), config.kueue.local_queue.clone());
            job.spec.get_or_insert_default().suspend = Some(true);
        }
        job
    }

    fn pod(&self, config: &FileConfig) -> PodSpec {
        let compose = self.compose_container(config);
        PodSpec {
            service_account_name: self.run.service_account.clone(),
            termination_grace_period_seconds: Some(30),
            init_containers: Some(
                compose
                    .into_iter()
                    .chain([self.scan_container(config)])
                    .collect(),
            ),
            containers: vec![self.upload_container(config)],
            volumes: Some(self.volumes()),
            ..PodSpec::default()
        }
    }
}

#[cfg(test)]
mod tests;
