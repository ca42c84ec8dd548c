//! What the pods of scans and of checks have in common: the strictest Pod Security level, bounds,
//! and the cluster's own token where the cluster itself is looked at.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile,
    EmptyDirVolumeSource, EnvVar, KeyToPath, LocalObjectReference, ObjectFieldSelector,
    PodSecurityContext, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
    SecurityContext, ServiceAccountTokenProjection, Toleration, Volume, VolumeMount,
    VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::config::file::{GKE_METADATA_SERVER, Scanner};
use crate::domain::scanner::Invocation;

/// Where a pod's own token lies.
pub(super) const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Pairs as labels and annotations want them.
pub(super) fn texts<'a>(
    pairs: &'a [(&'a str, &'a str)],
) -> impl Iterator<Item = (String, String)> + use<'a> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
}

/// Hash of a Job's spec, by which a Job is recognised as the one planned.
pub(super) fn spec_hash(spec: &JobSpec) -> String {
    // The spec is made of plain data: it always encodes.
    let encoded = serde_json::to_vec(spec).unwrap_or_default();
    blake3::hash(&encoded).to_hex()[..32].to_owned()
}

/// The pod's side of the level `restricted`.
pub(super) fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(1000),
        run_as_group: Some(1000),
        fs_group: Some(1000),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// The chart's pull Secrets, of the tenant's namespace.
pub(super) fn pull_secrets(scanner: &Scanner) -> Option<Vec<LocalObjectReference>> {
    let names: Vec<_> = scanner
        .image_pull_secrets
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    (!names.is_empty()).then_some(names)
}

/// What the chart asks of nodes, and for workload identity on Google Cloud that the node does not
/// answer with its own identity.
pub(super) fn node_selector(
    scanner: &Scanner,
    run: &Invocation,
) -> Option<BTreeMap<String, String>> {
    let mut selector = scanner.node_selector.clone();
    if run.metadata_of_its_own && !scanner.gke_autopilot {
        selector.insert(GKE_METADATA_SERVER.to_owned(), "true".to_owned());
    }
    (!selector.is_empty()).then_some(selector)
}

/// An empty directory of at most this size.
pub(super) fn scratch(name: &str, size: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(size.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A volume of these parts.
pub(super) fn projected(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(sources),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Scan pods leave a node that does not answer after 15 s: the account is waited for.
pub(super) fn tolerations(more: &[Toleration]) -> Vec<Toleration> {
    [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    .map(|key| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(15),
        ..Toleration::default()
    })
    .into_iter()
    .chain(more.iter().cloned())
    .collect()
}

/// A variable with this value.
pub(super) fn variable(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.into()),
        ..EnvVar::default()
    }
}

pub(super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

pub(super) fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

pub(super) fn resources<const R: usize, const L: usize>(
    requests: [(&str, &str); R],
    limits: [(&str, &str); L],
) -> ResourceRequirements {
    let amounts = |list: &[(&str, &str)]| {
        list.iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
            .collect()
    };
    ResourceRequirements {
        requests: Some(amounts(&requests)),
        limits: Some(amounts(&limits)),
        claims: None,
    }
}

pub(super) fn token(audience: Option<&str>, seconds: i64) -> VolumeProjection {
    VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: audience.map(str::to_owned),
            expiration_seconds: Some(seconds),
            path: "token".to_owned(),
            ..ServiceAccountTokenProjection::default()
        }),
        ..VolumeProjection::default()
    }
}

/// What a pod finds below the usual path when its token is mounted the usual way.
pub(super) fn cluster_access() -> Vec<VolumeProjection> {
    vec![
        token(None, 3607),
        VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: "kube-root-ca.crt".to_owned(),
                items: Some(vec![KeyToPath {
                    key: "ca.crt".to_owned(),
                    path: "ca.crt".to_owned(),
                    ..KeyToPath::default()
                }]),
                ..ConfigMapProjection::default()
            }),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: "namespace".to_owned(),
                    field_ref: Some(ObjectFieldSelector {
                        field_path: "metadata.namespace".to_owned(),
                        ..ObjectFieldSelector::default()
                    }),
                    ..DownwardAPIVolumeFile::default()
                }]),
            }),
            ..VolumeProjection::default()
        },
    ]
}
