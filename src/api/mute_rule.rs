//! MuteRule: findings that a tenant has decided not to hear of any more.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::common::{Condition, conditions, status_ext, yes};

/// Which findings are muted, and why.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "prowler-operator.dev",
    version = "v1alpha1",
    kind = "MuteRule",
    plural = "prowlermuterules",
    singular = "prowlermuterule",
    shortname = "pmute",
    category = "prowler",
    namespaced,
    status = "MuteRuleStatus",
    derive = "PartialEq",
    cel,
    doc = "Findings of the tenant that are muted, with the reason that is shown beside each.",
    printcolumn(
        name = "Findings",
        type_ = "integer",
        json_path = ".status.findings",
        description = "Finding uids named"
    ),
    printcolumn(
        name = "Enabled",
        type_ = "boolean",
        json_path = ".spec.enabled",
        description = "Whether the rule counts"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".spec.reason",
        description = "Why they are muted"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the rule is stored"
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
pub struct MuteRuleSpec {
    /// Why these findings are muted; shown beside each of them.
    #[schemars(
        length(min = 3, max = 500),
        regex(pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")
    )]
    pub reason: String,
    /// Uids of findings, as `finding_info.uid` of Prowler's output has them. Each one mutes the
    /// finding of that uid in every scan.
    #[schemars(
        length(min = 1, max = 1000),
        inner(length(min = 1, max = 300), regex(pattern = r"^[^\x00-\x1f\x7f]*$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub finding_uids: Vec<String>,
    /// Whether the rule counts. Findings muted before stay muted when it no longer does.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// What the operator knows of a MuteRule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MuteRuleStatus {
    /// Generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling or Stalled while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Id of the rule's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub rule_id: Option<String>,
    /// Finding uids named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<i64>,
}

status_ext!(MuteRuleStatus);

impl super::Kind for MuteRule {
    const KIND: &'static str = "MuteRule";
    const PLURAL: &'static str = "prowlermuterules";
}
