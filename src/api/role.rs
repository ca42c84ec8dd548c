//! Role: what its members may do, and which Providers they see.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Condition, LocalRef, conditions, status_ext};

/// Who may do what.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "prowler-operator.dev",
    version = "v1alpha1",
    kind = "Role",
    plural = "prowlerroles",
    singular = "prowlerrole",
    shortname = "prole",
    category = "prowler",
    namespaced,
    status = "RoleStatus",
    derive = "PartialEq",
    cel,
    doc = "A role in a tenant: permissions, the groups of Providers its members see, and the members. It counts only in the tenant's roleNamespaces.",
    printcolumn(
        name = "Permissions",
        type_ = "integer",
        json_path = ".status.permissions",
        description = "Permissions given"
    ),
    printcolumn(
        name = "Groups",
        type_ = "integer",
        json_path = ".status.providerGroups",
        description = "Provider groups in sight"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the role is stored and counts"
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
pub struct RoleSpec {
    /// What the members may do. `MANAGE_PROVIDERS` implies `UNLIMITED_VISIBILITY`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub permissions: Vec<Permission>,
    /// Groups of this namespace whose Providers the members see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 250))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub provider_group_refs: Vec<LocalRef>,
    /// The members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 250))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub subjects: Vec<Subject>,
}

/// Something a member may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Permission {
    /// Give and change roles.
    ManageUsers,
    /// Change the tenant.
    ManageAccount,
    /// Kept for parity; gives nothing.
    ManageBilling,
    /// Write Providers and their groups; implies sight of all.
    ManageProviders,
    /// Write integrations.
    ManageIntegrations,
    /// Write schedules, scans and mute rules.
    ManageScans,
    /// See everything of the tenant.
    UnlimitedVisibility,
}

/// A member of a role.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema,
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.kind == 'ServiceAccount' || !self.name.startsWith('system:')")
    .message("names of users and groups that begin with system: belong to the cluster and cannot be members of a role")
    .field_path(".name"))]
#[x_kube(validation = Rule::new("(self.kind == 'ServiceAccount') == has(self.__namespace__)")
    .message("a ServiceAccount needs its namespace; users and groups have none"))]
#[x_kube(validation = Rule::new("self.kind != 'ServiceAccount' || self.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
    .message("the name of a ServiceAccount has lower-case letters, digits, '-' and '.' only")
    .field_path(".name"))]
pub struct Subject {
    /// What kind of member.
    pub kind: SubjectKind,
    /// Name of the user, group or ServiceAccount.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\x00-\x1f\x7f]+$"))]
    pub name: String,
    /// Namespace of the ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: Option<String>,
}

/// What kind of member.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum SubjectKind {
    /// A user, by the name the cluster or the identity provider gives.
    User,
    /// A group of users.
    Group,
    /// A Kubernetes ServiceAccount.
    ServiceAccount,
}

/// What the operator knows of a Role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleStatus {
    /// Generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling or Stalled while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Id of the role's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub role_id: Option<String>,
    /// Permissions given, implied ones too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<i64>,
    /// Provider groups in sight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_groups: Option<i64>,
}

status_ext!(RoleStatus);

impl super::Kind for Role {
    const KIND: &'static str = "Role";
    const PLURAL: &'static str = "prowlerroles";
}
