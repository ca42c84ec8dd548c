//! Scans: their place in the queue and the Job of the attempt that runs. What a row says is in
//! `row`, how attempts and scans end in `end`. Admission, an act across tenants, is in
//! `store::admin::admission`; publication in `store::publication`.

mod end;
mod row;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;

pub use self::end::{Ended, Open, cancel, cancel_all, detach, end_attempt, release};
pub use self::row::{Counts, Failure, JobRef, ScanRow, State, of_object};
use super::{StoreError, TenantTx};
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, ScheduleId};

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
    /// The schedule in whose history it counts.
    pub schedule: Option<ScheduleId>,
    /// The due time that led to it.
    pub due_at: Option<Timestamp>,
    /// An annotation asked for it.
    pub is_requested: bool,
    /// It takes the place of the slot's schedule's other scans of the account.
    pub replaces: bool,
    /// `manual` or `scheduled`.
    pub trigger: &'static str,
    /// Higher goes first within the tenant.
    pub priority: i32,
    /// Not before this time.
    pub not_before: Option<Timestamp>,
    /// Scope wishes.
    pub scanner_args: Value,
}

/// Queues a scan, once for its object, and marks the slot that led to it as fulfilled. It begins
/// with the memory that the account's last scan turned out to need. Which scans it takes the place of;
/// `None`: what it was made for was given up meanwhile, or a later due time was claimed before it was
/// queued, and nothing of this is to be committed.
pub async fn enqueue(
    tx: &mut TenantTx,
    scan: &NewScan,
    now: Timestamp,
) -> Result<Option<Vec<ObjectName>>, StoreError> {
    let tenant = tx.tenant().0;
    let inserted = sqlx::query!(
        "insert into scans (tenant_id, id, provider_id, schedule_id, due_at, namespace, name, object_uid,
           trigger, priority, scanner_args, next_attempt_at, memory_bytes)
         select $1, $2, p.id, $4, $5, $6, $7, $8, $9, $10, $11, $12,
           (select o.memory_bytes from scans o
            where o.tenant_id = $1 and o.provider_id = p.id and o.memory_bytes is not null
            order by o.id desc limit 1)
         from providers p where p.tenant_id = $1 and p.id = $3 and not p.is_deleted
         on conflict (tenant_id, object_uid) where object_uid is not null do nothing",
        tenant,
        scan.id.0,
        scan.provider.0,
        scan.schedule.map(|id| id.0),
        scan.due_at.map(ToSqlx::to_sqlx) as _,
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
    if inserted == 0 {
        return Ok(Some(Vec::new()));
    }
    if scan.is_requested {
        let done = sqlx::query!(
            "update requested_scans set state = 'created', scan_id = $3, scan_object = $4
             where tenant_id = $1 and scan_name = $2 and provider_id = $5 and state <> 'skipped'",
            tenant,
            scan.name.name,
            scan.id.0,
            scan.object.0,
            scan.provider.0,
        )
        .execute(tx.conn())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
    }
    if let (Some(schedule), Some(due_at)) = (scan.schedule, scan.due_at) {
        let done = sqlx::query!(
            "update schedule_slots set state = 'created', scan_id = $5, scan_object = $6
             where tenant_id = $1 and schedule_id = $2 and provider_id = $3 and due_at = $4
               and (state = 'created' or state = 'claimed' and not exists (
                 select from schedule_slots o
                 where o.tenant_id = $1 and o.schedule_id = $2 and o.provider_id = $3 and o.due_at > $4
                   and o.state in ('claimed', 'created')))",
            tenant,
            schedule.0,
            scan.provider.0,
            due_at.to_sqlx() as _,
            scan.id.0,
            scan.object.0,
        )
        .execute(tx.conn())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        if scan.replaces {
            let replaced = end::replace(tx, scan.id, schedule, scan.provider, now).await?;
            return Ok(Some(replaced));
        }
    }
    Ok(Some(Vec::new()))
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
    /// Unmuted failures; none of a scan that published nothing.
    pub fail: Option<i64>,
    /// All findings; likewise.
    pub total: Option<i64>,
    /// Memory that Prowler turned out to need, in bytes: what the next scan begins with.
    pub memory_bytes: Option<i64>,
}

/// The newest scan of the provider that ended.
pub async fn last_of(
    tx: &mut TenantTx,
    provider: ProviderId,
) -> Result<Option<LastScan>, StoreError> {
    let row = sqlx::query!(
        r#"select id, name, state, completed_at as "completed_at: jiff_sqlx::Timestamp", counts,
             memory_bytes
           from scans
           where tenant_id = $1 and provider_id = $2 and state in ('completed', 'failed', 'cancelled')
           order by completed_at desc nulls last, id desc limit 1"#,
        tx.tenant().0,
        provider.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let counts: Option<Counts> = row
        .counts
        .map(serde_json::from_value)
        .transpose()
        .map_err(|_| StoreError::inconsistent("scans", "counts", row.id))?;
    Ok(Some(LastScan {
        id: ScanId(row.id),
        name: row.name,
        state: row.state,
        completed_at: row.completed_at.map(jiff_sqlx::Timestamp::to_jiff),
        fail: counts.map(|counts| counts.fail),
        total: counts.map(|counts| counts.total),
        memory_bytes: row.memory_bytes,
    }))
}
