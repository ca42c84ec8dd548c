//! What the kinds share: references, selectors, scan settings, conditions.

use std::collections::BTreeMap;

pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What the driver reads and writes of every kind's status.
pub trait StatusExt:
    Clone + std::fmt::Debug + Default + PartialEq + Serialize + Send + Sync + 'static
{
    /// Generation of the spec the status speaks of; none before the first pass.
    fn observed_generation(&self) -> Option<i64>;
    /// Says which generation the status speaks of.
    fn set_observed_generation(&mut self, generation: i64);
    /// The conditions, at most one of a type.
    fn conditions(&self) -> &[Condition];
    /// The conditions, to be changed.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
}

/// Implements [`StatusExt`] for statuses with the two fields.
macro_rules! status_ext {
    ($status:ty) => {
        impl $crate::api::common::StatusExt for $status {
            fn observed_generation(&self) -> Option<i64> {
                self.observed_generation
            }

            fn set_observed_generation(&mut self, generation: i64) {
                self.observed_generation = Some(generation);
            }

            fn conditions(&self) -> &[$crate::api::common::Condition] {
                &self.conditions
            }

            fn conditions_mut(&mut self) -> &mut Vec<$crate::api::common::Condition> {
                &mut self.conditions
            }
        }
    };
}
pub(crate) use status_ext;

/// Condition types.
pub mod condition {
    /// The object does what it should.
    pub const READY: &str = "Ready";
    /// Work is under way or waits for something that may come (kstatus).
    pub const RECONCILING: &str = "Reconciling";
    /// Only an edit helps (kstatus).
    pub const STALLED: &str = "Stalled";
    /// The Provider's credentials were found and allowed.
    pub const CREDENTIALS_RESOLVED: &str = "CredentialsResolved";
    /// The credentials end within 30 days, or have ended.
    pub const CREDENTIALS_EXPIRING: &str = "CredentialsExpiring";
    /// The account could be reached.
    pub const CONNECTED: &str = "Connected";
    /// Records of the scan's file were set aside.
    pub const RECORDS_QUARANTINED: &str = "RecordsQuarantined";
}

/// Names another object: of the same namespace, unless the field says otherwise.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
}

impl LocalRef {
    /// Refers to `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

/// The default of what is on unless it is switched off.
pub(super) fn yes() -> bool {
    true
}

/// What Kubernetes takes as the key of a label. A key that can be none would choose nothing, silently.
const LABEL_KEY: &str =
    "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// What Kubernetes takes as the value of a label.
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

/// Chooses objects by their labels. Never empty: an empty selector would choose everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)"
).message("an empty selector would choose everything: give matchLabels or matchExpressions"))]
pub struct Selector {
    /// Labels an object must carry, all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements an object's labels must meet, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0"
).message("operators In and NotIn need values; Exists and DoesNotExist take none"))]
pub struct Requirement {
    /// Key of the label.
    #[schemars(length(min = 1, max = 317), regex(pattern = LABEL_KEY))]
    pub key: String,
    /// How the label's value relates to `values`.
    pub operator: Operator,
    /// Values for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63), regex(pattern = LABEL_VALUE)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub values: Vec<String>,
}

/// How a label's value relates to the values of a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The label is there and its value is one of them.
    In,
    /// The label is missing or its value is none of them.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

/// What becomes of the rows when the object is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They are deleted, findings too.
    #[default]
    Delete,
    /// They are kept, detached from any object.
    Retain,
}

impl DeletionPolicy {
    /// The word in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "Delete",
            Self::Retain => "Retain",
        }
    }
}

/// What a scan looks at, and what it may use. In a Scan or ScanSchedule a field given here
/// replaces the Provider's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.checks) && size(self.checks) > 0, \
      (has(self.services) && size(self.services) > 0) || (has(self.severities) && size(self.severities) > 0), \
      has(self.compliances) && size(self.compliances) > 0, \
      has(self.categories) && size(self.categories) > 0].filter(given, given).size() <= 1"
).message("Prowler cannot combine these: choose by checks, or services and severities, or compliances, or categories"))]
pub struct ScanSettings {
    /// Services to scan, for example `s3`. Empty: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 200),
        inner(
            length(min = 1, max = 128),
            regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub services: Option<Vec<String>>,
    /// Checks to run, for example `s3_bucket_public_access`. Empty: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 1000),
        inner(
            length(min = 1, max = 128),
            regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub checks: Option<Vec<String>>,
    /// Checks not to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 1000),
        inner(
            length(min = 1, max = 128),
            regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub excluded_checks: Option<Vec<String>>,
    /// Services not to scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 200),
        inner(
            length(min = 1, max = 128),
            regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub excluded_services: Option<Vec<String>>,
    /// Only checks of these severities. Empty: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub severities: Option<Vec<Severity>>,
    /// Only checks of these compliance frameworks, for example `cis_3.0_aws`. Empty: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 100),
        inner(
            length(min = 1, max = 128),
            regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub compliances: Option<Vec<String>>,
    /// Only checks of these categories, for example `internet-exposed`. Empty: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 100),
        inner(
            length(min = 1, max = 128),
            regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub categories: Option<Vec<String>>,
    /// Only these regions; for provider types that have a region filter. Empty: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 100),
        inner(
            length(min = 1, max = 128),
            regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub regions: Option<Vec<String>>,
    /// Scanner image, one of those the installation allows. Default: the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")
    )]
    pub image: Option<String>,
    /// Resources of the scanner. A wish above the tenant's limit is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Seconds a scan may run before it is ended. A wish above the tenant's limit is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 604_800))]
    pub active_deadline_seconds: Option<i64>,
}

/// Severity of a check.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Critical.
    Critical,
    /// High.
    High,
    /// Medium.
    Medium,
    /// Low.
    Low,
    /// Informational.
    Informational,
}

impl Severity {
    /// The word used by Prowler and in the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Informational => "informational",
        }
    }
}

/// Resources of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the container is sure to get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,
    /// The most it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// Amounts of each resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Amounts {
    /// Processor cores, for example `500m` or `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_quantity")]
    pub cpu: Option<Quantity>,
    /// Memory, for example `2Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_quantity")]
    pub memory: Option<Quantity>,
    /// Room on the node's disk, for example `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_quantity")]
    pub ephemeral_storage: Option<Quantity>,
}

/// Schema of a quantity: a number or a text such as `500m` or `2Gi`, never negative.
pub(crate) fn optional_quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "maxLength": 32,
        "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$",
        "x-kubernetes-int-or-string": true,
    })
}

fn match_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 63, "pattern": LABEL_VALUE },
        "x-kubernetes-validations": [{
            "rule": format!("self.all(key, key.matches('{LABEL_KEY}'))"),
            "message": "keys must be keys of labels: a name of letters, digits and . _ -, if need be after a domain and a slash, for example example.com/team",
        }],
    })
}

/// Schema of `status.conditions`: a list with one entry per type.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": generator.subschema_for::<Condition>(),
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
