//! A scan's row, as the controller reads it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, ScheduleId};
use crate::store::{StoreError, TenantTx};

/// Where a scan is. `scheduled` is never stored: it is a schedule's next slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Queued, or waiting for a retry.
    Available,
    /// Admitted: it holds the account and slots.
    Executing,
    /// Published.
    Completed,
    /// Ended without findings, for good.
    Failed,
    /// Ended because somebody asked.
    Cancelled,
}

impl State {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Executing => "executing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        Ok(match text {
            "available" => Self::Available,
            "executing" => Self::Executing,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "cancelled" => Self::Cancelled,
            _ => return Err(StoreError::inconsistent("scans", "state", "a scan")),
        })
    }
}

/// What the findings of a scan add up to. Severities count unmuted failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "each field is named after what it counts")]
pub struct Counts {
    pub total: i64,
    pub pass: i64,
    pub fail: i64,
    pub manual: i64,
    pub muted: i64,
    pub new: i64,
    pub changed: i64,
    pub critical: i64,
    pub high: i64,
    pub medium: i64,
    pub low: i64,
    pub informational: i64,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Failure {
    /// Which attempt, from 1.
    pub attempt: i32,
    /// Why it failed, in a word.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A scan's row as the controller needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanRow {
    /// The scan.
    pub id: ScanId,
    /// Its object.
    pub object: ObjectUid,
    /// The account.
    pub provider: ProviderId,
    /// The account is soft-deleted.
    pub provider_deleted: bool,
    /// Type of the account.
    pub provider_type: String,
    /// The account's uid.
    pub provider_uid: String,
    /// The schedule it belongs to.
    pub schedule: Option<ScheduleId>,
    /// Where it is.
    pub state: State,
    /// The attempt that runs or ran last; 0 before the first.
    pub attempt: i32,
    /// The account and slots are held.
    pub holds_account: bool,
    /// Namespace, name and uid of the attempt's Job, as far as known.
    pub job: Option<JobRef>,
    /// Not before this time.
    pub next_attempt_at: Option<Timestamp>,
    /// Scope wishes of the `Scan` object.
    pub scanner_args: Value,
    /// The provider's spec as it was at admission.
    pub admitted: Option<Value>,
    /// First admission.
    pub started_at: Option<Timestamp>,
    /// Admission of the attempt that runs or ran last.
    pub attempt_started_at: Option<Timestamp>,
    /// End.
    pub completed_at: Option<Timestamp>,
    /// Whole seconds from start to end.
    pub duration: Option<i32>,
    /// Why it ended, or waits.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub message: Option<String>,
    /// What the findings add up to.
    pub counts: Option<Counts>,
    /// Distinct resources.
    pub resources: i32,
    /// Records set aside.
    pub quarantined: i32,
    /// Memory of the `scan` container after an `OOMKilled`, in bytes.
    pub memory_bytes: Option<i64>,
    /// The last attempt whose file the server refused.
    pub refused_attempt: Option<i32>,
    /// The attempts that failed, oldest first.
    pub failures: Vec<Failure>,
}

/// The Job of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRef {
    /// Where it is.
    pub name: ObjectName,
    /// Which object, once it is known to exist.
    pub uid: Option<ObjectUid>,
}

impl JobRef {
    /// From the columns of a row.
    pub(in crate::store) fn of(
        namespace: Option<String>,
        name: Option<String>,
        uid: Option<uuid::Uuid>,
    ) -> Option<Self> {
        Some(Self {
            name: ObjectName {
                namespace: namespace?,
                name: name?,
            },
            uid: uid.map(ObjectUid),
        })
    }
}

/// The scan of this object.
pub async fn of_object(
    tx: &mut TenantTx,
    object: ObjectUid,
) -> Result<Option<ScanRow>, StoreError> {
    let row = sqlx::query!(
        r#"select s.id, s.provider_id, p.is_deleted as provider_deleted, p.provider, p.uid,
             s.schedule_id, s.state, s.attempt, s.holds_account, s.job_namespace, s.job_name, s.job_uid,
             s.next_attempt_at as "next_attempt_at: jiff_sqlx::Timestamp", s.scanner_args, s.admitted,
             s.started_at as "started_at: jiff_sqlx::Timestamp",
             s.attempt_started_at as "attempt_started_at: jiff_sqlx::Timestamp",
             s.completed_at as "completed_at: jiff_sqlx::Timestamp", s.duration, s.reason, s.message,
             s.counts, s.unique_resource_count, s.quarantined, s.memory_bytes, s.refused_attempt,
             s.failed_attempts
           from scans s join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
           where s.tenant_id = $1 and s.object_uid = $2"#,
        tx.tenant().0,
        object.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let job = JobRef::of(row.job_namespace, row.job_name, row.job_uid);
    let counts = row
        .counts
        .map(serde_json::from_value)
        .transpose()
        .map_err(|_| StoreError::inconsistent("scans", "counts", row.id))?;
    Ok(Some(ScanRow {
        id: ScanId(row.id),
        object,
        provider: ProviderId(row.provider_id),
        provider_deleted: row.provider_deleted,
        provider_type: row.provider,
        provider_uid: row.uid,
        schedule: row.schedule_id.map(ScheduleId),
        state: State::parse(&row.state)?,
        attempt: row.attempt,
        holds_account: row.holds_account,
        job,
        next_attempt_at: row.next_attempt_at.map(jiff_sqlx::Timestamp::to_jiff),
        scanner_args: row.scanner_args,
        admitted: row.admitted,
        started_at: row.started_at.map(jiff_sqlx::Timestamp::to_jiff),
        attempt_started_at: row.attempt_started_at.map(jiff_sqlx::Timestamp::to_jiff),
        completed_at: row.completed_at.map(jiff_sqlx::Timestamp::to_jiff),
        duration: row.duration,
        reason: row.reason,
        message: row.message,
        counts,
        resources: row.unique_resource_count,
        quarantined: row.quarantined,
        memory_bytes: row.memory_bytes,
        refused_attempt: row.refused_attempt,
        failures: serde_json::from_value(row.failed_attempts)
            .map_err(|_| StoreError::inconsistent("scans", "failed_attempts", row.id))?,
    }))
}
