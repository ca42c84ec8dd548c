//! A Job that has one pod and one try, as scans and checks have it: whose it is, what the chart's
//! values add, and what holds for every pod of ours in a tenant's namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use super::job::{POD_LABELS, SPEC_HASH};
use super::pod;
use crate::api::labels;
use crate::config::file::FileConfig;
use crate::domain::ids::{ObjectName, ProviderId, TenantId};
use crate::domain::scanner::Invocation;

/// What a Job is made of besides what all have.
pub(super) struct OneShot<'a> {
    pub(super) name: String,
    /// The object whose Job it is.
    pub(super) object: &'a ObjectName,
    pub(super) owner: &'a OwnerReference,
    /// How Prowler gets in: its identity shows in the pod's labels and nodes.
    pub(super) run: &'a Invocation,
    pub(super) labels: BTreeMap<String, String>,
    /// Of the pod.
    pub(super) annotations: &'a [(&'a str, &'a str)],
    /// Seconds for all of it.
    pub(super) deadline_seconds: i64,
    /// Containers, volumes, ServiceAccount and time to end.
    pub(super) pod: PodSpec,
}

impl OneShot<'_> {
    /// The whole Job.
    pub(super) fn job(self, config: &FileConfig) -> Job {
        let meta = ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.object.namespace.clone()),
            labels: Some(self.labels.clone()),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        };
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
                spec: Some(self.whole_pod(config)),
            },
            ..JobSpec::default()
        };
        let hash = (SPEC_HASH.to_owned(), pod::spec_hash(&spec));
        Job {
            metadata: ObjectMeta {
                annotations: Some([hash].into()),
                ..meta
            },
            spec: Some(spec),
            status: None,
        }
    }

    /// Ours last: a value of the chart cannot hide a pod from the watch.
    fn pod_labels(&self, config: &FileConfig) -> BTreeMap<String, String> {
        let mut labels = config.scanner.pod_labels.clone();
        labels.extend(pod::texts(&self.run.pod_labels));
        labels.extend(self.labels.clone());
        labels
    }

    fn pod_annotations(&self, config: &FileConfig) -> BTreeMap<String, String> {
        // A mesh's sidecar would keep the pod from ending, and could read what `upload` sends.
        let alone = [
            ("sidecar.istio.io/inject", "false"),
            ("linkerd.io/inject", "disabled"),
        ];
        let mut annotations = config.scanner.pod_annotations.clone();
        annotations.extend(pod::texts(&alone));
        annotations.extend(pod::texts(self.annotations));
        annotations
    }

    fn whole_pod(self, config: &FileConfig) -> PodSpec {
        let scanner = &config.scanner;
        PodSpec {
            restart_policy: Some("Never".to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(pod::pod_security()),
            image_pull_secrets: pod::pull_secrets(scanner),
            node_selector: pod::node_selector(scanner, self.run),
            tolerations: Some(pod::tolerations(&scanner.tolerations)),
            affinity: scanner.affinity.clone(),
            priority_class_name: scanner.priority_class_name.clone(),
            ..self.pod
        }
    }
}

/// Labels of a Job and of its pod: what works there, from which queue, for whom.
pub(super) fn labels(
    component: &str,
    queue: &str,
    tenant: TenantId,
    provider: ProviderId,
) -> BTreeMap<String, String> {
    let (tenant, provider) = (tenant.to_string(), provider.to_string());
    let ours = [
        ("app.kubernetes.io/component", component),
        (labels::QUEUE, queue),
        (labels::TENANT, &tenant),
        (labels::PROVIDER, &provider),
    ];
    pod::texts(&ours).chain(pod::texts(&POD_LABELS)).collect()
}
