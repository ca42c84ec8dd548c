//! What the chart's values decide about the pods of scans and their two containers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, EnvVar, ResourceRequirements, Toleration};
use k8s_openapi::api::networking::v1::NetworkPolicyEgressRule;
use serde::Deserialize;

/// Label of GKE's nodes whose metadata server gives each pod its own identity. See
/// <https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity>.
pub const GKE_METADATA_SERVER: &str = "iam.gke.io/gke-metadata-server-enabled";

/// Prowler's container and the pods it runs in.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scanner {
    /// Image used unless a Provider names another that is allowed.
    pub image: String,
    /// Images a Provider may name: exact references, or prefixes that end in `*`.
    #[serde(default)]
    pub allowed_images: Vec<String>,
    /// `imagePullPolicy` of the scanner.
    #[serde(default)]
    pub image_pull_policy: Option<String>,
    /// Names of pull Secrets, in the tenant's namespace.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// Environment added to the `scan` container.
    #[serde(default)]
    pub extra_env: Vec<EnvVar>,
    /// Node labels scan pods need.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// The cluster is GKE Autopilot, which refuses [`GKE_METADATA_SERVER`] as a node selector and
    /// needs none: all its nodes have it.
    #[serde(default)]
    pub gke_autopilot: bool,
    /// Taints scan pods tolerate.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Affinity of scan pods.
    #[serde(default)]
    pub affinity: Option<Affinity>,
    /// Priority class of scan pods.
    #[serde(default)]
    pub priority_class_name: Option<String>,
    /// Further labels of scan pods.
    #[serde(default)]
    pub pod_labels: BTreeMap<String, String>,
    /// Further annotations of scan pods.
    #[serde(default)]
    pub pod_annotations: BTreeMap<String, String>,
    /// Resources of the `scan` container.
    #[serde(default)]
    pub resources: Option<ResourceRequirements>,
    /// Where scan pods may connect.
    #[serde(default)]
    pub network_policy: NetworkPolicy,
    /// Seconds that a scan's pod may wait for a node before its attempt is given up.
    #[serde(default = "scheduling_timeout")]
    pub scheduling_timeout_seconds: i64,
}

/// The `NetworkPolicy` of scan pods in each claimed namespace.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkPolicy {
    /// Whether there is one; where not, one that was made before is taken away.
    pub enabled: bool,
    /// Its name.
    pub name: String,
    /// Where scan pods may connect, all of it: name resolution and the server too.
    pub egress: Vec<NetworkPolicyEgressRule>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self {
            enabled: false,
            name: "prowler-operator-scans".to_owned(),
            egress: Vec::new(),
        }
    }
}

/// The container that sends the findings.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upload {
    /// The operator's own image.
    pub image: String,
    /// Its `imagePullPolicy`.
    #[serde(default)]
    pub image_pull_policy: Option<String>,
    /// Its resources.
    #[serde(default)]
    pub resources: Option<ResourceRequirements>,
}

/// Time for an autoscaler to bring a node.
fn scheduling_timeout() -> i64 {
    600
}
