//! How attempts and scans end: failed, cancelled, and — apart from both — the account let go when
//! no pod is left.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use super::row::JobRef;
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, ScheduleId};
use crate::domain::reason::Reason;
use crate::store::{StoreError, TenantTx, uuids};

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
           failed_attempts = failed_attempts
             || jsonb_build_object('attempt', attempt, 'reason', $5::text, 'at', $9::text),
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
        now.to_string(),
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

/// Cancels the schedule's scans of this account that have not ended, but for the one that takes their
/// place; where their objects are.
pub(super) async fn replace(
    tx: &mut TenantTx,
    by: ScanId,
    schedule: ScheduleId,
    provider: ProviderId,
    now: Timestamp,
) -> Result<Vec<ObjectName>, StoreError> {
    let rows = sqlx::query!(
        "update scans set state = 'cancelled', reason = $6, completed_at = $5,
           message = 'Replaced by the schedule''s next scan.',
           duration = extract(epoch from $5::timestamptz - started_at)::integer, updated_at = now()
         where tenant_id = $1 and schedule_id = $2 and provider_id = $3 and id <> $4
           and (holds_account or state in ('available', 'executing'))
           and state in ('available', 'executing')
         returning namespace, name",
        tx.tenant().0,
        schedule.0,
        provider.0,
        by.0,
        now.to_sqlx() as _,
        Reason::Cancelled.as_str(),
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ObjectName {
            namespace: row.namespace,
            name: row.name,
        })
        .collect())
}

/// Frees the account and the slots of an attempt whose pod is gone.
pub async fn release(tx: &mut TenantTx, id: ScanId, attempt: i32) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update scans set holds_account = false, slot = null, queue_slot = null, limited_type = null,
           type_slot = null, updated_at = now()
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
    let ids = uuids(providers);
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
            job: JobRef::of(row.job_namespace, row.job_name, row.job_uid),
        })
        .collect())
}
