//! ScanSchedule: when to scan which Providers.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::asked::asked;
use super::common::{Condition, LocalRef, ScanSettings, Selector, Time, conditions, status_ext};

/// When to scan which Providers.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "prowler-operator.dev",
    version = "v1alpha1",
    kind = "ScanSchedule",
    plural = "scanschedules",
    singular = "scanschedule",
    shortname = "ssched",
    category = "prowler",
    namespaced,
    status = "ScanScheduleStatus",
    derive = "PartialEq",
    cel,
    doc = "A schedule that scans Providers at the times of a cron expression or at an interval.",
    printcolumn(
        name = "Schedule",
        type_ = "string",
        json_path = ".spec.schedule",
        description = "Cron expression"
    ),
    printcolumn(
        name = "Interval",
        type_ = "string",
        json_path = ".spec.interval",
        description = "Time between scans"
    ),
    printcolumn(
        name = "Time Zone",
        type_ = "string",
        json_path = ".spec.timeZone",
        description = "Time zone of the cron expression"
    ),
    printcolumn(
        name = "Suspend",
        type_ = "boolean",
        json_path = ".spec.suspend",
        description = "Whether nothing is started"
    ),
    printcolumn(
        name = "Providers",
        type_ = "integer",
        json_path = ".status.providers",
        description = "Providers scanned",
        priority = 1
    ),
    printcolumn(
        name = "Active",
        type_ = "integer",
        json_path = ".status.active",
        description = "Scans not ended"
    ),
    printcolumn(
        name = "Last",
        type_ = "date",
        json_path = ".status.lastScheduleTime",
        description = "Last due time"
    ),
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.nextScheduleTime",
        description = "Next due time"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the schedule is armed"
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
#[x_kube(validation = Rule::new("has(self.schedule) != has(self.interval)")
    .message("give exactly one of schedule (a cron expression) and interval (such as 24h)"))]
#[x_kube(validation = Rule::new("has(self.providerRefs) != has(self.providerSelector)")
    .message("give exactly one of providerRefs and providerSelector"))]
#[x_kube(validation = Rule::new("!has(self.timeZone) || has(self.schedule)")
    .message("timeZone goes with schedule; an interval has no time zone")
    .field_path(".timeZone"))]
pub struct ScanScheduleSpec {
    /// Cron expression of five fields: minute, hour, day of month, month, day of week. `H` stands
    /// for a value drawn once for each schedule, to spread the load: `H H * * *` is once a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("!self.contains('TZ=')")
        .message("TZ= and CRON_TZ= are not supported in schedule: use timeZone"))]
    #[x_kube(validation = Rule::new(
        r"self.contains('TZ=') || self.matches(r'^[ \t]*([^ \t]+[ \t]+){4}[^ \t]+[ \t]*$') || self.matches('^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$')"
    ).message("schedule must be a cron expression of five fields: minute, hour, day of month, month, day of week; for example '0 2 * * *', or 'H H * * *' for once a day at a time of its own"))]
    pub schedule: Option<String>,
    /// Time between scans, for example `24h`, counted from the creation of the schedule. At
    /// least what the installation allows: `schedules.minimumInterval` of the chart, 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = Rule::new(
        "self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && duration(self) >= duration('1m') && duration(self) <= duration('8784h')"
    ).message("interval must be hours, minutes and seconds between 1m and 8784h, for example 24h or 1h30m"))]
    pub interval: Option<String>,
    /// Name of the time zone of `schedule`, for example `Europe/Berlin`. Default: `Etc/UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._+/-]*$")
    )]
    pub time_zone: Option<String>,
    /// Providers of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub provider_refs: Option<Vec<LocalRef>>,
    /// Providers of this namespace by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_selector: Option<Selector>,
    /// What happens when a Provider's last scan of this schedule has not ended: the new one is
    /// left out (`Forbid`), queued behind, at most one (`Allow`), or takes its place (`Replace`).
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Seconds after a due time in which its scan may still be queued; later it counts as missed.
    /// How long it then waits in line does not count. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_622_400))]
    pub starting_deadline_seconds: Option<i64>,
    /// No due time leads to a scan while true. Scans made before stay in line or go on.
    #[serde(default)]
    pub suspend: bool,
    /// Scans start up to this many seconds after the due time, each Provider at its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub jitter_seconds: Option<i64>,
    /// Successful Scan objects kept for each Provider; results stay in the database. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub successful_scans_history_limit: Option<i32>,
    /// Failed Scan objects kept for each Provider. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub failed_scans_history_limit: Option<i32>,
    /// What the scans look at, where it differs from the Provider's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanSettings>,
}

/// What happens when the last scan has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// The new one is queued behind it, at most one.
    Allow,
    /// The new one is left out.
    #[default]
    Forbid,
    /// The old one is cancelled.
    Replace,
}

impl ConcurrencyPolicy {
    /// The word in manifests and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Forbid => "Forbid",
            Self::Replace => "Replace",
        }
    }
}

/// What the operator knows of a ScanSchedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScanScheduleStatus {
    /// Generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling or Stalled while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Id of the schedule's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub schedule_id: Option<String>,
    /// Scans of this schedule that have not ended, and claimed due times whose Scan is about to be
    /// queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<i64>,
    /// Providers scanned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub providers: Option<i64>,
    /// Last due time for which scans were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// Next due time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// When a scan of this schedule last ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// Last due time that passed without a scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_missed_time: Option<Time>,
    /// Due times that passed without a scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_count: Option<i64>,
    /// Scans that were left out because the Provider's last one had not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_count: Option<i64>,
    /// How the last scan of each Provider ended: at most 50, those that did not end well first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["provider".into()]))]
    pub last_results: Vec<LastResult>,
    /// Results beyond those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results_not_shown: Option<i64>,
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

/// How the last scan that a schedule led to for a Provider ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastResult {
    /// Name of the Provider.
    #[schemars(length(max = 253))]
    pub provider: String,
    /// `completed`, `failed` or `cancelled`.
    #[schemars(length(max = 32))]
    pub state: String,
    /// Why, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

status_ext!(ScanScheduleStatus);
asked!(ScanScheduleStatus);

impl super::Kind for ScanSchedule {
    const KIND: &'static str = "ScanSchedule";
    const PLURAL: &'static str = "scanschedules";

    fn suspended(&self) -> bool {
        self.spec.suspend
    }
}
