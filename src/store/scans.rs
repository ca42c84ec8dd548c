//! Scans: their place in the queue, the attempt that runs, and how they ended. Admission, an
//! act across tenants, is in `store::admin::admission`; publication in `store::publication`.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StoreError, TenantTx};
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, ScheduleId};
use crate::domain::reason::Reason;

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
}

/// The Job of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRef {
    /// Where it is.
    pub name: ObjectName,
    /// Which object, once it is known to exist.
    pub uid: Option<ObjectUid>,
}

/// A scan to be queued.
#[derive(Debug, Clone)]
pub struct NewScan {
    /// Id if it becomes a row now.
    pub id: ScanId,
    /// The `Scan` object.
    pub object: ObjectUid,
    /// Where it is.
    pub name: ObjectName,
    /// The account.
    pub provider: ProviderId,
    /// The slot that led to it.
    pub slot: Option<(ScheduleId, Timestamp)>,
    /// `manual` or `scheduled`.
    pub trigger: &'static str,
    /// Higher goes first within the tenant.
    pub priority: i32,
    /// Not before this time.
    pub not_before: Option<Timestamp>,
    /// Scope wishes.
    pub scanner_args: Value,
}

/// Queues a scan, once for its object, and marks the slot that led to it as fulfilled.
pub async fn enqueue(tx: &mut TenantTx, scan: &NewScan) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    let (schedule, due_at) = scan.slot.unzip();
    let inserted = sqlx::query!(
        "insert into scans (tenant_id, id, provider_id, schedule_id, due_at, namespace, name, object_uid,
           trigger, priority, scanner_args, next_attempt_at)
         select $1, $2, p.id, $4, $5, $6, $7, $8, $9, $10, $11, $12
         from providers p where p.tenant_id = $1 and p.id = $3 and not p.is_deleted
         on conflict (tenant_id, object_uid) where object_uid is not null do nothing",
        tenant,
        scan.id.0,
        scan.provider.0,
        schedule.map(|id| id.0),
        due_at.map(ToSqlx::to_sqlx) as _,
        scan.name.namespace,
        scan.name.name,
        scan.object.0,
        scan.trigger,
        scan.priority,
        scan.scanner_args,
        scan.not_before.map(ToSqlx::to_sqlx) as _,
    )
    .execute(tx.conn())
    .await?
    .rows_affected();
    if let (Some(schedule), Some(due_at), 1) = (schedule, due_at, inserted) {
        sqlx::query!(
            "update schedule_slots set scan_id = $5
             where tenant_id = $1 and schedule_id = $2 and provider_id = $3 and due_at = $4",
            tenant,
            schedule.0,
            scan.provider.0,
            due_at.to_sqlx() as _,
            scan.id.0,
        )
        .execute(tx.conn())
        .await?;
    }
    Ok(())
}

/// Gives the row of a restored slot to the object that stands for it now.
pub async fn adopt(tx: &mut TenantTx, id: ScanId, object: ObjectUid) -> Result<(), StoreError> {
    sqlx::query!(
        "update scans set object_uid = $3 where tenant_id = $1 and id = $2",
        tx.tenant().0,
        id.0,
        object.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
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
             s.completed_at as "completed_at: jiff_sqlx::Timestamp", s.duration, s.reason, s.message,
             s.counts, s.unique_resource_count, s.quarantined, s.memory_bytes
           from scans s join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
           where s.tenant_id = $1 and s.object_uid = $2"#,
        tx.tenant().0,
        object.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let job = match (row.job_namespace, row.job_name) {
        (Some(namespace), Some(name)) => Some(JobRef {
            name: ObjectName { namespace, name },
            uid: row.job_uid.map(ObjectUid),
        }),
        _ => None,
    };
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
        completed_at: row.completed_at.map(jiff_sqlx::Timestamp::to_jiff),
        duration: row.duration,
        reason: row.reason,
        message: row.message,
        counts,
        resources: row.unique_resource_count,
        quarantined: row.quarantined,
        memory_bytes: row.memory_bytes,
    }))
}

/// Remembers the name of an attempt's Job before it is made. False: the attempt is over.
pub async fn plan_job(
    tx: &mut TenantTx,
    id: ScanId,
    attempt: i32,
    job: &ObjectName,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update scans set job_namespace = $4, job_name = $5, updated_at = now()
         where tenant_id = $1 and id = $2 and attempt = $3 and state = 'executing' and job_uid is null",
        tx.tenant().0,
        id.0,
        attempt,
        job.namespace,
        job.name,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Records which object the attempt's Job is; uploads are accepted from its pod from here on.
pub async fn record_job(
    tx: &mut TenantTx,
    id: ScanId,
    attempt: i32,
    uid: ObjectUid,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update scans set job_uid = $4, updated_at = now()
         where tenant_id = $1 and id = $2 and attempt = $3 and state = 'executing'
           and (job_uid is null or job_uid = $4)",
        tx.tenant().0,
        id.0,
        attempt,
        uid.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// How an attempt ended that published nothing.
#[derive(Debug, Clone)]
pub struct Ended<'a> {
    /// The attempt.
    pub attempt: i32,
    /// Why.
    pub reason: &'a str,
    /// The same in a sentence, redacted and bounded.
    pub message: &'a str,
    /// When to try again; `None`: never.
    pub retry_at: Option<Timestamp>,
    /// Memory for the next attempt.
    pub memory_bytes: Option<i64>,
}

/// Ends an attempt: back to the queue, or failed for good. False: it was over already, for
/// example because its findings were published in the meantime.
pub async fn end_attempt(
    tx: &mut TenantTx,
    id: ScanId,
    ended: &Ended<'_>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update scans set
           state = case when $4::timestamptz is null then 'failed' else 'available' end,
           next_attempt_at = $4, reason = $5, message = $6,
           memory_bytes = coalesce($8, memory_bytes),
           completed_at = case when $4::timestamptz is null then $7::timestamptz end,
           duration = case when $4::timestamptz is null
             then extract(epoch from $7::timestamptz - started_at)::integer end,
           updated_at = now()
         where tenant_id = $1 and id = $2 and attempt = $3 and state = 'executing'",
        tx.tenant().0,
        id.0,
        ended.attempt,
        ended.retry_at.map(ToSqlx::to_sqlx) as _,
        ended.reason,
        ended.message,
        now.to_sqlx() as _,
        ended.memory_bytes,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Cancels a scan that has not ended; its attempt is fenced from here on. Whether it had not.
pub async fn cancel(
    tx: &mut TenantTx,
    id: ScanId,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update scans set state = 'cancelled', reason = $5, message = $3, completed_at = $4,
           duration = extract(epoch from $4::timestamptz - started_at)::integer, updated_at = now()
         where tenant_id = $1 and id = $2 and state in ('available', 'executing')",
        tx.tenant().0,
        id.0,
        message,
        now.to_sqlx() as _,
        reason.as_str(),
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Frees the account and the slots of an attempt whose pod is gone.
pub async fn release(tx: &mut TenantTx, id: ScanId, attempt: i32) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update scans set holds_account = false, slot = null, queue_slot = null, updated_at = now()
         where tenant_id = $1 and id = $2 and attempt = $3 and holds_account and state <> 'executing'",
        tx.tenant().0,
        id.0,
        attempt,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Detaches the row from its object, which goes; the findings stay.
pub async fn detach(tx: &mut TenantTx, id: ScanId) -> Result<(), StoreError> {
    sqlx::query!(
        "update scans set object_uid = null, updated_at = now() where tenant_id = $1 and id = $2",
        tx.tenant().0,
        id.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The newest scan of a provider that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct LastScan {
    /// The scan.
    pub id: ScanId,
    /// Name of its object.
    pub name: String,
    /// How it ended.
    pub state: String,
    /// When.
    pub completed_at: Option<Timestamp>,
    /// Unmuted failures.
    pub fail: i64,
    /// All findings.
    pub total: i64,
}

/// The newest scan of the provider that ended.
pub async fn last_of(
    tx: &mut TenantTx,
    provider: ProviderId,
) -> Result<Option<LastScan>, StoreError> {
    let row = sqlx::query!(
        r#"select id, name, state, completed_at as "completed_at: jiff_sqlx::Timestamp", counts
           from scans
           where tenant_id = $1 and provider_id = $2 and state in ('completed', 'failed', 'cancelled')
           order by completed_at desc nulls last, id desc limit 1"#,
        tx.tenant().0,
        provider.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let counts: Counts = row
        .counts
        .map(serde_json::from_value)
        .transpose()
        .map_err(|_| StoreError::inconsistent("scans", "counts", row.id))?
        .unwrap_or_default();
    Ok(Some(LastScan {
        id: ScanId(row.id),
        name: row.name,
        state: row.state,
        completed_at: row.completed_at.map(jiff_sqlx::Timestamp::to_jiff),
        fail: counts.fail,
        total: counts.total,
    }))
}

/// A scan of a provider that holds the account or could still start, and its Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The scan.
    pub id: ScanId,
    /// Its object, unless that is gone.
    pub object: Option<ObjectUid>,
    /// The attempt.
    pub attempt: i32,
    /// The account is held: a pod may be there.
    pub holds_account: bool,
    /// The attempt's Job.
    pub job: Option<JobRef>,
}

/// Cancels every scan of these providers, which are deleted, that has not ended, and lists
/// those that still hold the account.
pub async fn cancel_all(
    tx: &mut TenantTx,
    providers: &[ProviderId],
    message: &str,
    now: Timestamp,
) -> Result<Vec<Open>, StoreError> {
    let tenant = tx.tenant().0;
    let ids: Vec<uuid::Uuid> = providers.iter().map(|provider| provider.0).collect();
    sqlx::query!(
        "update scans set state = 'cancelled', reason = $5, message = $3, completed_at = $4,
           duration = extract(epoch from $4::timestamptz - started_at)::integer, updated_at = now()
         where tenant_id = $1 and provider_id = any ($2) and state in ('available', 'executing')",
        tenant,
        &ids,
        message,
        now.to_sqlx() as _,
        Reason::ProviderDeleted.as_str(),
    )
    .execute(tx.conn())
    .await?;
    let rows = sqlx::query!(
        "select id, object_uid, attempt, holds_account, job_namespace, job_name, job_uid from scans
         where tenant_id = $1 and provider_id = any ($2) and holds_account",
        tenant,
        &ids,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Open {
            id: ScanId(row.id),
            object: row.object_uid.map(ObjectUid),
            attempt: row.attempt,
            holds_account: row.holds_account,
            job: row
                .job_namespace
                .zip(row.job_name)
                .map(|(namespace, name)| JobRef {
                    name: ObjectName { namespace, name },
                    uid: row.job_uid.map(ObjectUid),
                }),
        })
        .collect())
}
