//! Provider: an account to scan, and the Secret or ServiceAccount that opens it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::{ProviderType, uid_validation};
use super::asked::asked;
use super::common::{
    Condition, DeletionPolicy, LocalRef, ScanSettings, Time, conditions, status_ext,
};
use super::scope::{ScopeField, scope_validation};

/// The account, how to reach it, and what to scan of it.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "prowler-operator.dev",
    version = "v1alpha1",
    kind = "Provider",
    plural = "prowlerproviders",
    singular = "prowlerprovider",
    shortname = "pprov",
    category = "prowler",
    namespaced,
    status = "ProviderStatus",
    derive = "PartialEq",
    cel,
    doc = "An account to scan: a cloud account, a cluster, a repository, an organisation.",
    selectable = ".spec.provider",
    selectable = ".spec.uid",
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.provider",
        description = "Kind of account"
    ),
    printcolumn(
        name = "UID",
        type_ = "string",
        json_path = ".spec.uid",
        description = "The account"
    ),
    printcolumn(
        name = "Connected",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Connected")].status"#,
        description = "Whether the account could be reached"
    ),
    printcolumn(
        name = "Last Scan",
        type_ = "date",
        json_path = ".status.lastScan.completedAt",
        description = "When the last scan ended"
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.lastScan.state",
        description = "How the last scan ended"
    ),
    printcolumn(
        name = "Fail",
        type_ = "integer",
        json_path = ".status.lastScan.fail",
        description = "Failed checks of the last scan"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the account is valid, stored and can be scanned"
    ),
    printcolumn(
        name = "Alias",
        type_ = "string",
        json_path = ".spec.alias",
        description = "Name for people",
        priority = 1
    ),
    printcolumn(
        name = "Days Left",
        type_ = "integer",
        json_path = ".status.credentials.daysLeft",
        description = "Days until the credentials end",
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
#[x_kube(validation = Rule::new("size(self.uid) >= 3 && size(self.uid) <= 250")
    .message("uid must have 3 to 250 characters")
    .field_path(".uid"))]
#[x_kube(validation = uid_validation(ProviderType::Aws))]
#[x_kube(validation = uid_validation(ProviderType::Azure))]
#[x_kube(validation = uid_validation(ProviderType::Gcp))]
#[x_kube(validation = uid_validation(ProviderType::Kubernetes))]
#[x_kube(validation = uid_validation(ProviderType::M365))]
#[x_kube(validation = uid_validation(ProviderType::Github))]
#[x_kube(validation = uid_validation(ProviderType::Mongodbatlas))]
#[x_kube(validation = uid_validation(ProviderType::Iac))]
#[x_kube(validation = uid_validation(ProviderType::Oraclecloud))]
#[x_kube(validation = uid_validation(ProviderType::Alibabacloud))]
#[x_kube(validation = uid_validation(ProviderType::Cloudflare))]
#[x_kube(validation = uid_validation(ProviderType::Openstack))]
#[x_kube(validation = uid_validation(ProviderType::Image))]
#[x_kube(validation = uid_validation(ProviderType::Googleworkspace))]
#[x_kube(validation = uid_validation(ProviderType::Vercel))]
#[x_kube(validation = uid_validation(ProviderType::Okta))]
#[x_kube(validation = scope_validation(ScopeField::Services))]
#[x_kube(validation = scope_validation(ScopeField::Checks))]
#[x_kube(validation = scope_validation(ScopeField::ExcludedChecks))]
#[x_kube(validation = scope_validation(ScopeField::ExcludedServices))]
#[x_kube(validation = scope_validation(ScopeField::Severities))]
#[x_kube(validation = scope_validation(ScopeField::Compliances))]
#[x_kube(validation = scope_validation(ScopeField::Categories))]
#[x_kube(validation = scope_validation(ScopeField::Regions))]
#[x_kube(validation = Rule::new(
    "!has(self.credentials) || !has(self.credentials.type) || self.credentials.type != 'role' || self.provider in ['aws', 'alibabacloud']"
).message("credentials of type role are for the provider types aws and alibabacloud").field_path(".credentials"))]
#[x_kube(validation = Rule::new(
    "!has(self.credentials) || !has(self.credentials.type) || self.credentials.type != 'service_account' || self.provider == 'gcp'"
).message("credentials of type service_account are for the provider type gcp").field_path(".credentials"))]
#[x_kube(validation = Rule::new(
    "!has(self.credentials) || !has(self.credentials.serviceAccountName) || self.provider in ['aws', 'azure', 'gcp', 'kubernetes', 'alibabacloud']"
).message("serviceAccountName is for the provider types aws, azure, gcp, kubernetes and alibabacloud: the others take a Secret").field_path(".credentials"))]
pub struct ProviderSpec {
    /// Kind of account. Cannot be changed.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("provider cannot be changed: delete this Provider and make another"))]
    pub provider: ProviderType,
    /// The account, as its provider type names it, for example the 12 digits of an AWS
    /// account. Unique in the tenant for each provider type. Cannot be changed.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("uid cannot be changed: delete this Provider and make another"))]
    pub uid: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 100), regex(pattern = r"^[^\x00-\x1f\x7f]*$"))]
    pub alias: Option<String>,
    /// How the scanner gets in. Without it the account is known but cannot be scanned,
    /// except for types that have public content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// What scans look at, and what they may use.
    // Boxed: most Providers say nothing here, and thousands are kept in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Box<ScanSettings>>,
    /// How often the connection is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_check: Option<ConnectionCheck>,
    /// What becomes of the account's rows, its findings among them, when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// No scan starts while true; one that runs may end.
    #[serde(default)]
    pub suspend: bool,
}

/// How the scanner gets in: a Secret of this namespace with `type`, or a ServiceAccount of this
/// namespace for workload identity, or for type `role` both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretRef) || has(self.serviceAccountName)")
    .message("credentials need a secretRef or a serviceAccountName"))]
#[x_kube(validation = Rule::new("has(self.type) == has(self.secretRef)")
    .message("type and secretRef go together: type says which keys the Secret has"))]
#[x_kube(validation = Rule::new("!has(self.secretRef) || !has(self.serviceAccountName) || (has(self.type) && self.type == 'role')")
    .message("secretRef and serviceAccountName go together only for type role"))]
pub struct Credentials {
    /// Which keys the Secret has. Left out with `serviceAccountName` alone.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<CredentialsType>,
    /// A Secret with the label `prowler-operator.dev/credentials: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// A ServiceAccount with the annotation `prowler-operator.dev/scanner: "true"`, for workload
    /// identity or, for a `kubernetes` Provider, to scan this very cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub service_account_name: Option<String>,
}

/// Which keys the Secret has.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsType {
    /// Keys or tokens that open the account themselves.
    Static,
    /// A role to assume (aws, alibabacloud).
    Role,
    /// The key file of a service account (gcp).
    ServiceAccount,
}

impl CredentialsType {
    /// The word in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Role => "role",
            Self::ServiceAccount => "service_account",
        }
    }
}

/// How often the connection is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionCheck {
    /// Time between two checks: hours, minutes and seconds, for example `12h`; at least `5m`, and
    /// `0s` turns them off. Default: `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = Rule::new(
        "self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && (duration(self) == duration('0s') || (duration(self) >= duration('5m') && duration(self) <= duration('8784h')))"
    ).message("interval must be hours, minutes and seconds between 5m and 8784h, for example 12h, or 0s for no checks"))]
    pub interval: Option<String>,
}

/// What the operator knows of a Provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// Generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling or Stalled while they hold; `CredentialsResolved`, Connected;
    /// `CredentialsExpiring` in the last 30 days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Id of the account's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub provider_id: Option<String>,
    /// Tenant the account belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub tenant: Option<String>,
    /// Until when the credentials are good, where they or their Secret's annotation tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsLife>,
    /// The last scan that ended or runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scan: Option<LastScan>,
    /// How far the deletion has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// The last value of the annotation `reconcile.fluxcd.io/requestedAt` that was seen to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// The last value of the annotation `reconcile.fluxcd.io/forceAt` that led to scans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_force_at: Option<String>,
    /// The last value of the annotation `prowler-operator.dev/scan-now` that led to scans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_scan_now: Option<String>,
}

/// Until when credentials are good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsLife {
    /// When the first of them ends.
    pub expires_at: Time,
    /// Whole days until then, rounded down; 0 once it has ended.
    #[schemars(range(min = 0))]
    pub days_left: i64,
}

/// A scan in short.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastScan {
    /// Name of the Scan object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// Id of the scan's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub id: Option<String>,
    /// State of the scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub state: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Failed checks, muted ones aside. Left out where the scan published nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<i64>,
    /// All findings. Left out where the scan published nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// Memory that Prowler turned out to need (quantity), where the settings give less: the next
    /// scan begins with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub memory: Option<String>,
}

/// How far a deletion has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Rows still to delete, in sum.
    pub rows_left: i64,
}

status_ext!(ProviderStatus);
asked!(ProviderStatus);

impl super::Kind for Provider {
    const KIND: &'static str = "Provider";
    const PLURAL: &'static str = "prowlerproviders";

    fn suspended(&self) -> bool {
        self.spec.suspend
    }
}
