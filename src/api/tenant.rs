//! Tenant: the boundary everything else lives inside.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{
    Condition, DeletionPolicy, Quantity, Selector, conditions, optional_quantity, status_ext,
};

/// What a tenant is and which namespaces are its.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "prowler-operator.dev",
    version = "v1alpha1",
    kind = "Tenant",
    plural = "prowlertenants",
    singular = "prowlertenant",
    shortname = "pten",
    category = "prowler",
    status = "TenantStatus",
    derive = "PartialEq",
    cel,
    doc = "A tenant: an organisation whose accounts, scans and findings nobody else sees. It claims namespaces; what lies in them is the tenant's.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the tenant is stored and holds its namespaces"
    ),
    printcolumn(
        name = "Providers",
        type_ = "integer",
        json_path = ".status.providers",
        description = "Providers not deleted"
    ),
    printcolumn(
        name = "Active",
        type_ = "integer",
        json_path = ".status.activeScans",
        description = "Scans running now"
    ),
    printcolumn(
        name = "Suspend",
        type_ = "boolean",
        json_path = ".spec.suspend",
        description = "Whether nothing new starts",
        priority = 1
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "Why",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since creation"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.roleNamespaces) || has(self.namespaceSelector) || (has(self.namespaces) && self.roleNamespaces.all(n, n in self.namespaces))"
).message("each of roleNamespaces must be one of the tenant's namespaces").field_path(".roleNamespaces"))]
#[x_kube(validation = Rule::new(
    "!has(self.mutelist) || has(self.namespaceSelector) || (has(self.namespaces) && self.mutelist.configMapRef.namespace in self.namespaces)"
).message("mutelist.configMapRef.namespace must be one of the tenant's namespaces").field_path(".mutelist"))]
pub struct TenantSpec {
    /// Name shown to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), regex(pattern = r"^[^\x00-\x1f\x7f]*$"))]
    pub display_name: Option<String>,
    /// Namespaces that are this tenant's. The first tenant to claim a namespace holds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        inner(
            length(min = 1, max = 63),
            regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(n, !n.startsWith('kube-'))")
        .message("namespaces whose names begin with kube- belong to the cluster and cannot be claimed"))]
    pub namespaces: Vec<String>,
    /// Claims further namespaces by label; only such as also carry the label
    /// `prowler-operator.dev/tenant` with this tenant's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// Claimed namespaces in which Role objects count. Default: the first of `namespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 100),
        inner(
            length(min = 1, max = 63),
            regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub role_namespaces: Option<Vec<String>>,
    /// What the tenant may use. Each has a default and a ceiling set by the installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<TenantLimits>,
    /// How long results are kept. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Which of a member's roles decide: the first given (`FirstRole`) or all (`Union`).
    #[serde(default)]
    pub role_resolution: RoleResolution,
    /// Findings to mute, as a Prowler mutelist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutelist: Option<Mutelist>,
    /// What becomes of the tenant's rows when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Nothing new starts while true; what runs may end.
    #[serde(default)]
    pub suspend: bool,
}

/// What a tenant may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantLimits {
    /// Scans that run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrent_scans: Option<i32>,
    /// Providers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub providers: Option<i32>,
    /// Memory of one scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_quantity")]
    pub scan_memory: Option<Quantity>,
    /// Processor cores of one scan.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "scanCPU")]
    #[schemars(schema_with = "optional_quantity")]
    pub scan_cpu: Option<Quantity>,
    /// Longest run of one scan, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 604_800))]
    pub scan_deadline_seconds: Option<i64>,
}

/// How long results are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Days a scan and its findings are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36_500))]
    pub days: Option<i32>,
    /// Latest completed scans of each Provider that are kept however old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_scans: Option<i32>,
}

/// Which of a member's roles decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RoleResolution {
    /// The one given first, then by name.
    #[default]
    FirstRole,
    /// All together.
    Union,
}

/// Where the mutelist is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mutelist {
    /// A ConfigMap in a namespace of this tenant.
    pub config_map_ref: ConfigMapKeyRef,
}

/// A key of a ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Namespace of the ConfigMap, claimed by this tenant.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the ConfigMap.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Key in it. Default: `mutelist.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}

/// What the operator knows of a Tenant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// Generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling or Stalled while they hold; Isolated, False while the database lets
    /// rows of one tenant be reached by another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Id of the tenant's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub tenant_id: Option<String>,
    /// Namespaces the tenant holds: the first 100 of them by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Vec<String>,
    /// Providers not deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub providers: Option<i64>,
    /// Scans running now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_scans: Option<i64>,
}

status_ext!(TenantStatus);

impl super::Kind for Tenant {
    const KIND: &'static str = "Tenant";
    const PLURAL: &'static str = "prowlertenants";

    fn suspended(&self) -> bool {
        self.spec.suspend
    }
}
