//! ProviderGroup: Providers named together or chosen by label.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::common::{Condition, LocalRef, Selector, conditions, status_ext};

/// Which Providers belong together. A Provider belongs if it is named or chosen.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "prowler-operator.dev",
    version = "v1alpha1",
    kind = "ProviderGroup",
    plural = "prowlerprovidergroups",
    singular = "prowlerprovidergroup",
    shortname = "pgrp",
    category = "prowler",
    namespaced,
    status = "ProviderGroupStatus",
    derive = "PartialEq",
    cel,
    doc = "A group of Providers, so that a Role can give sight of them together.",
    printcolumn(
        name = "Providers",
        type_ = "integer",
        json_path = ".status.providers",
        description = "Providers in the group"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the group is stored"
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
pub struct ProviderGroupSpec {
    /// Providers of this namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub provider_refs: Vec<LocalRef>,
    /// Providers by label: of the whole tenant if the group lies in one of its
    /// `roleNamespaces`, else of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
}

/// What the operator knows of a ProviderGroup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderGroupStatus {
    /// Generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling or Stalled while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Id of the group's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub group_id: Option<String>,
    /// Providers in the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub providers: Option<i64>,
}

status_ext!(ProviderGroupStatus);

impl super::Kind for ProviderGroup {
    const KIND: &'static str = "ProviderGroup";
    const PLURAL: &'static str = "prowlerprovidergroups";
}
