//! Scan: one run of Prowler over one Provider, and how it went.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Condition, LocalRef, ScanSettings, Time, conditions, status_ext};

/// One run over one Provider. Only `cancel` can be changed.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "prowler-operator.dev",
    version = "v1alpha1",
    kind = "Scan",
    plural = "prowlerscans",
    singular = "prowlerscan",
    shortname = "pscan",
    category = "prowler",
    namespaced,
    status = "ScanStatus",
    derive = "PartialEq",
    cel,
    doc = "One scan of one Provider: made by a user, a ScanSchedule or the API, and gone some time after it ended. Its results stay in the database.",
    selectable = ".spec.providerRef.name",
    selectable = ".status.state",
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.providerRef.name",
        description = "Provider scanned"
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.state",
        description = "State of the scan"
    ),
    printcolumn(
        name = "Stage",
        type_ = "string",
        json_path = ".status.stage",
        description = "What it does now"
    ),
    printcolumn(
        name = "Fail",
        type_ = "integer",
        json_path = ".status.findings.fail",
        description = "Failed checks"
    ),
    printcolumn(
        name = "Critical",
        type_ = "integer",
        json_path = ".status.failedBySeverity.critical",
        description = "Failed checks of critical severity"
    ),
    printcolumn(
        name = "New",
        type_ = "integer",
        json_path = ".status.findings.new",
        description = "Findings not seen before"
    ),
    printcolumn(
        name = "Duration",
        type_ = "integer",
        json_path = ".status.durationSeconds",
        description = "Seconds it ran"
    ),
    printcolumn(
        name = "Attempt",
        type_ = "integer",
        json_path = ".status.attempt",
        description = "Which attempt",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why, in a word",
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
    "self.providerRef == oldSelf.providerRef && self.trigger == oldSelf.trigger \
     && has(self.scan) == has(oldSelf.scan) && (!has(self.scan) || self.scan == oldSelf.scan) \
     && has(self.priority) == has(oldSelf.priority) && (!has(self.priority) || self.priority == oldSelf.priority) \
     && has(self.ttlSecondsAfterFinished) == has(oldSelf.ttlSecondsAfterFinished) \
     && (!has(self.ttlSecondsAfterFinished) || self.ttlSecondsAfterFinished == oldSelf.ttlSecondsAfterFinished)"
).message("a scan cannot be changed, only cancelled: make another Scan"))]
#[x_kube(validation = Rule::new("!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)")
    .message("a cancelled scan stays cancelled: make another Scan")
    .field_path(".cancel"))]
pub struct ScanSpec {
    /// The Provider to scan, of this namespace.
    pub provider_ref: LocalRef,
    /// Who asked for it.
    #[serde(default)]
    pub trigger: Trigger,
    /// What to look at, where it differs from the Provider's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanSettings>,
    /// Among the tenant's waiting scans the higher number starts first. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: Option<i32>,
    /// Set to true to end the scan. Cannot be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Seconds after its end when this object goes, unless a ScanSchedule keeps count.
    /// Default: 604800, seven days. The results stay in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_622_400))]
    pub ttl_seconds_after_finished: Option<i64>,
}

/// Who asked for a scan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// A person or a program.
    #[default]
    Manual,
    /// A ScanSchedule.
    Scheduled,
}

impl Trigger {
    /// The word in manifests and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Scheduled => "scheduled",
        }
    }
}

/// State of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScanState {
    /// Waits for its turn or for another attempt.
    Available,
    /// Has been let in and runs.
    Executing,
    /// Ended, and its findings are published.
    Completed,
    /// Ended without findings.
    Failed,
    /// Was ended before it was done.
    Cancelled,
}

impl ScanState {
    /// The word in manifests and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Executing => "executing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl std::str::FromStr for ScanState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [
            Self::Available,
            Self::Executing,
            Self::Completed,
            Self::Failed,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| format!("'{text}' is no state of a scan"))
    }
}

/// What a scan does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    /// Waits for its turn.
    Queued,
    /// Its pod is being made.
    Starting,
    /// Prowler runs.
    Scanning,
    /// Findings are being stored.
    Ingesting,
    /// It has ended.
    Done,
}

/// What the operator knows of a Scan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScanStatus {
    /// Generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling or Stalled while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Id of the scan's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub scan_id: Option<String>,
    /// Tenant the scan belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub tenant: Option<String>,
    /// Kind of account scanned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub provider: Option<String>,
    /// Account scanned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 250))]
    pub uid: Option<String>,
    /// State of the scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ScanState>,
    /// What it does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Which attempt; 0 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Job of the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub job_name: Option<String>,
    /// When the first attempt was let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Seconds from start to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
    /// Why it is where it is, in a word; `docs/reasons.md` explains each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// The same in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Memory of Prowler's container (quantity), once an attempt needed more than its settings give.
    /// Remembered for the Provider's next scans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub memory: Option<String>,
    /// Findings, counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<FindingCounts>,
    /// Failed checks by severity, muted ones aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_by_severity: Option<SeverityCounts>,
    /// Resources looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<i64>,
    /// Findings set aside because they could not be read or stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<i64>,
    /// The last attempts that failed, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub attempts: Vec<FailedAttempt>,
}

/// Findings, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FindingCounts {
    /// All.
    pub total: i64,
    /// Passed, not muted.
    pub pass: i64,
    /// Failed, not muted.
    pub fail: i64,
    /// To be judged by a person, not muted.
    pub manual: i64,
    /// Muted.
    pub muted: i64,
    /// Not seen before.
    pub new: i64,
    /// Seen before with another result.
    pub changed: i64,
}

/// Failed checks by severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SeverityCounts {
    /// Critical.
    pub critical: i64,
    /// High.
    pub high: i64,
    /// Medium.
    pub medium: i64,
    /// Low.
    pub low: i64,
    /// Informational.
    pub informational: i64,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedAttempt {
    /// Which attempt.
    pub attempt: i32,
    /// Why it failed, in a word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// When.
    pub at: Time,
}

status_ext!(ScanStatus);

impl super::Kind for Scan {
    const KIND: &'static str = "Scan";
    const PLURAL: &'static str = "prowlerscans";
}
