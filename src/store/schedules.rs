//! Schedules, and the claim of each due time: a slot is claimed in the database before the
//! scan it leads to exists anywhere, so no due time leads to two scans.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;
use uuid::Uuid;

use super::{Change, StoreError, TenantTx};
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, ScheduleId};

/// What is stored of a `ScanSchedule` object.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRecord {
    /// The object.
    pub object: ObjectUid,
    /// Where it is.
    pub name: ObjectName,
    /// Cron expression, unless there is an interval.
    pub schedule: Option<String>,
    /// Interval in seconds, unless there is a cron expression.
    pub interval_seconds: Option<i64>,
    /// Time zone of the cron expression.
    pub time_zone: Option<String>,
    /// No slot is claimed while true.
    pub suspend: bool,
    /// `Forbid`, `Allow` or `Replace`.
    pub concurrency_policy: String,
    /// Seconds after which a due time is missed for good.
    pub starting_deadline_seconds: Option<i64>,
    /// Seconds over which starts are spread.
    pub jitter_seconds: i64,
    /// What its scans look at, over the provider's own scope.
    pub scanner_args: Value,
}

/// What the row remembers of earlier passes.
#[derive(Debug, Clone, PartialEq)]
pub struct Remembered {
    /// When the schedule was first stored: the anchor of an interval.
    pub anchor: Timestamp,
    /// The last due time that was claimed.
    pub last_slot: Option<Timestamp>,
    /// The last due time that was missed.
    pub last_missed: Option<Timestamp>,
    /// How many were missed.
    pub missed: i64,
}

/// Writes the schedule's row; what it remembers survives the object.
pub async fn upsert(
    tx: &mut TenantTx,
    id: ScheduleId,
    record: &ScheduleRecord,
    now: Timestamp,
) -> Result<(Change, Remembered), StoreError> {
    let tenant = tx.tenant().0;
    let created = sqlx::query_scalar!(
        r#"insert into schedules as s (tenant_id, id, namespace, name, object_uid, schedule,
             interval_seconds, time_zone, suspend, concurrency_policy, starting_deadline_seconds,
             jitter_seconds, scanner_args, inserted_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
           on conflict (tenant_id, id) do update set
             object_uid = excluded.object_uid, schedule = excluded.schedule,
             interval_seconds = excluded.interval_seconds, time_zone = excluded.time_zone,
             suspend = excluded.suspend, concurrency_policy = excluded.concurrency_policy,
             starting_deadline_seconds = excluded.starting_deadline_seconds,
             jitter_seconds = excluded.jitter_seconds, scanner_args = excluded.scanner_args,
             is_deleted = false, deleted_at = null, updated_at = now()
           where (s.object_uid, s.schedule, s.interval_seconds, s.time_zone, s.suspend,
                  s.concurrency_policy, s.starting_deadline_seconds, s.jitter_seconds,
                  s.scanner_args, s.is_deleted)
             is distinct from
                 (excluded.object_uid, excluded.schedule, excluded.interval_seconds,
                  excluded.time_zone, excluded.suspend, excluded.concurrency_policy,
                  excluded.starting_deadline_seconds, excluded.jitter_seconds,
                  excluded.scanner_args, false)
           returning (xmax = 0) as "created!""#,
        tenant,
        id.0,
        record.name.namespace,
        record.name.name,
        record.object.0,
        record.schedule,
        record.interval_seconds,
        record.time_zone,
        record.suspend,
        record.concurrency_policy,
        record.starting_deadline_seconds,
        record.jitter_seconds,
        record.scanner_args,
        now.to_sqlx() as _,
    )
    .fetch_optional(tx.conn())
    .await?;
    let remembered = remembered(tx, id).await?;
    Ok((Change::from_created(created), remembered))
}

/// What the row remembers of earlier passes.
pub async fn remembered(tx: &mut TenantTx, id: ScheduleId) -> Result<Remembered, StoreError> {
    let row = sqlx::query!(
        r#"select inserted_at as "anchor: jiff_sqlx::Timestamp",
             last_schedule_time as "last_slot: jiff_sqlx::Timestamp",
             last_missed_time as "last_missed: jiff_sqlx::Timestamp", missed_count
           from schedules where tenant_id = $1 and id = $2"#,
        tx.tenant().0,
        id.0,
    )
    .fetch_one(tx.conn())
    .await?;
    Ok(Remembered {
        anchor: row.anchor.to_jiff(),
        last_slot: row.last_slot.map(jiff_sqlx::Timestamp::to_jiff),
        last_missed: row.last_missed.map(jiff_sqlx::Timestamp::to_jiff),
        missed: row.missed_count,
    })
}

/// A slot that was claimed and the scan it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The account.
    pub provider: ProviderId,
    /// Its object.
    pub provider_name: String,
    /// Name of the `Scan` object the slot leads to.
    pub scan_name: String,
    /// The due time.
    pub due_at: Timestamp,
}

/// One account a slot is claimed for.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The account.
    pub provider: ProviderId,
    /// Name of the `Scan` object to be made.
    pub scan_name: String,
    /// `claimed`, or `skipped` when the concurrency policy says so.
    pub state: &'static str,
}

/// Claims the slot `due_at` for each of `claims`, once each, and remembers it as the last.
pub async fn claim(
    tx: &mut TenantTx,
    id: ScheduleId,
    due_at: Timestamp,
    claims: &[Claim],
) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let providers: Vec<Uuid> = claims.iter().map(|claim| claim.provider.0).collect();
    let names: Vec<String> = claims.iter().map(|claim| claim.scan_name.clone()).collect();
    let states: Vec<String> = claims.iter().map(|claim| claim.state.to_owned()).collect();
    let done = sqlx::query!(
        "insert into schedule_slots (tenant_id, schedule_id, provider_id, due_at, scan_name, state)
         select $1, $2, c.provider_id, $3, c.scan_name, c.state
         from unnest($4::uuid[], $5::text[], $6::text[]) as c (provider_id, scan_name, state)
         join providers p on p.tenant_id = $1 and p.id = c.provider_id and not p.is_deleted
         on conflict do nothing",
        tenant,
        id.0,
        due_at.to_sqlx() as _,
        &providers,
        &names,
        &states,
    )
    .execute(tx.conn())
    .await?;
    sqlx::query!(
        "update schedules set last_schedule_time = $3, updated_at = now()
         where tenant_id = $1 and id = $2 and (last_schedule_time is null or last_schedule_time < $3)",
        tenant,
        id.0,
        due_at.to_sqlx() as _,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected())
}

/// Which of these accounts have no row for the slot `due_at` yet.
pub async fn without_slot(
    tx: &mut TenantTx,
    id: ScheduleId,
    due_at: Timestamp,
    providers: &[ProviderId],
) -> Result<Vec<ProviderId>, StoreError> {
    let ids: Vec<Uuid> = providers.iter().map(|provider| provider.0).collect();
    let open = sqlx::query_scalar!(
        r#"select wanted as "wanted!" from unnest($4::uuid[]) wanted
           where not exists (select from schedule_slots s
             where s.tenant_id = $1 and s.schedule_id = $2 and s.provider_id = wanted and s.due_at = $3)"#,
        tx.tenant().0,
        id.0,
        due_at.to_sqlx() as _,
        &ids,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(open.into_iter().map(ProviderId).collect())
}

/// Remembers that `count` due times passed unclaimed, the last at `last`.
pub async fn missed(
    tx: &mut TenantTx,
    id: ScheduleId,
    last: Timestamp,
    count: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update schedules set last_missed_time = $3, missed_count = missed_count + $4, updated_at = now()
         where tenant_id = $1 and id = $2 and (last_missed_time is null or last_missed_time < $3)",
        tx.tenant().0,
        id.0,
        last.to_sqlx() as _,
        count,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Remembers the next due time, for readers of the database.
pub async fn set_next(
    tx: &mut TenantTx,
    id: ScheduleId,
    next: Option<Timestamp>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update schedules set next_schedule_time = $3 where tenant_id = $1 and id = $2
           and next_schedule_time is distinct from $3",
        tx.tenant().0,
        id.0,
        next.map(ToSqlx::to_sqlx) as _,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Slots claimed but not yet led to a scan's row: their `Scan` objects are (re)made.
pub async fn unfulfilled(tx: &mut TenantTx, id: ScheduleId) -> Result<Vec<Claimed>, StoreError> {
    let rows = sqlx::query!(
        r#"select s.provider_id, p.name as provider_name, s.scan_name,
             s.due_at as "due_at: jiff_sqlx::Timestamp"
           from schedule_slots s
           join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id and not p.is_deleted
           where s.tenant_id = $1 and s.schedule_id = $2 and s.state = 'claimed' and s.scan_id is null"#,
        tx.tenant().0,
        id.0,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Claimed {
            provider: ProviderId(row.provider_id),
            provider_name: row.provider_name,
            scan_name: row.scan_name,
            due_at: row.due_at.to_jiff(),
        })
        .collect())
}

/// A slot as the `Scan` it leads to finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotOfScan {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The account.
    pub provider: ProviderId,
    /// The due time.
    pub due_at: Timestamp,
    /// Seconds over which the schedule spreads its starts.
    pub jitter_seconds: i64,
    /// The scan's row, once there is one.
    pub scan: Option<ScanId>,
}

/// The slot that leads to the `Scan` object `name`, if one does. Decided by our row, not by
/// anything the object says of itself.
pub async fn slot_of_scan(
    tx: &mut TenantTx,
    name: &ObjectName,
) -> Result<Option<SlotOfScan>, StoreError> {
    let row = sqlx::query!(
        r#"select s.schedule_id, s.provider_id, s.due_at as "due_at: jiff_sqlx::Timestamp",
             s.scan_id, d.jitter_seconds
           from schedule_slots s
           join schedules d on d.tenant_id = s.tenant_id and d.id = s.schedule_id
           where s.tenant_id = $1 and d.namespace = $2 and s.scan_name = $3 and s.state = 'claimed'"#,
        tx.tenant().0,
        name.namespace,
        name.name,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(|row| SlotOfScan {
        schedule: ScheduleId(row.schedule_id),
        provider: ProviderId(row.provider_id),
        due_at: row.due_at.to_jiff(),
        jitter_seconds: row.jitter_seconds,
        scan: row.scan_id.map(ScanId),
    }))
}

/// Gives up a slot whose `Scan` object was deleted before it had a row.
pub async fn skip(tx: &mut TenantTx, name: &ObjectName) -> Result<(), StoreError> {
    sqlx::query!(
        "update schedule_slots s set state = 'skipped'
         from schedules d
         where s.tenant_id = $1 and d.tenant_id = s.tenant_id and d.id = s.schedule_id
           and d.namespace = $2 and s.scan_name = $3 and s.scan_id is null",
        tx.tenant().0,
        name.namespace,
        name.name,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Those of the providers that have a scan of this schedule queued or running.
pub async fn busy(
    tx: &mut TenantTx,
    id: ScheduleId,
    providers: &[ProviderId],
) -> Result<Vec<Busy>, StoreError> {
    let ids: Vec<Uuid> = providers.iter().map(|provider| provider.0).collect();
    let rows = sqlx::query!(
        "select provider_id, id, state from scans
         where tenant_id = $1 and schedule_id = $2 and provider_id = any ($3)
           and (state in ('available', 'executing') or holds_account)",
        tx.tenant().0,
        id.0,
        &ids,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Busy {
            provider: ProviderId(row.provider_id),
            scan: ScanId(row.id),
            queued: row.state == "available",
        })
        .collect())
}

/// Those of the providers for which an earlier slot of this schedule still waits for its scan.
pub async fn awaited(
    tx: &mut TenantTx,
    id: ScheduleId,
    due_at: Timestamp,
    providers: &[ProviderId],
) -> Result<Vec<ProviderId>, StoreError> {
    let ids: Vec<Uuid> = providers.iter().map(|provider| provider.0).collect();
    let awaited = sqlx::query_scalar!(
        "select distinct provider_id from schedule_slots
         where tenant_id = $1 and schedule_id = $2 and provider_id = any ($3) and due_at < $4
           and state = 'claimed' and scan_id is null",
        tx.tenant().0,
        id.0,
        &ids,
        due_at.to_sqlx() as _,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(awaited.into_iter().map(ProviderId).collect())
}

/// A scan that is queued or running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// The account.
    pub provider: ProviderId,
    /// The scan.
    pub scan: ScanId,
    /// Not started yet.
    pub queued: bool,
}

/// A scan whose object is to go; its findings stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The scan.
    pub id: ScanId,
    /// Where its object is.
    pub name: ObjectName,
    /// Its object.
    pub object: ObjectUid,
}

/// Finished scans of the schedule beyond the history limits, oldest first.
pub async fn expired_scans(
    tx: &mut TenantTx,
    id: ScheduleId,
    keep_successful: i64,
    keep_failed: i64,
) -> Result<Vec<Expired>, StoreError> {
    let rows = sqlx::query!(
        r#"select namespace as "namespace!", name as "name!", id as "id!", object_uid as "object_uid!" from (
             select namespace, name, state, id, object_uid, row_number() over (
               partition by provider_id, (state = 'completed') order by id desc) as age
             from scans
             where tenant_id = $1 and schedule_id = $2 and state in ('completed', 'failed', 'cancelled')
               and object_uid is not null and not holds_account) finished
           where age > (case when state = 'completed' then $3::bigint else $4::bigint end)
           order by id"#,
        tx.tenant().0,
        id.0,
        keep_successful,
        keep_failed,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Expired {
            id: ScanId(row.id),
            name: ObjectName {
                namespace: row.namespace,
                name: row.name,
            },
            object: ObjectUid(row.object_uid),
        })
        .collect())
}

/// Scans of the schedule that are queued or running, and when the last one completed.
pub async fn activity(
    tx: &mut TenantTx,
    id: ScheduleId,
) -> Result<(i64, Option<Timestamp>), StoreError> {
    let row = sqlx::query!(
        r#"select
             count(*) filter (where state in ('available', 'executing')) as "active!",
             max(completed_at) filter (where state = 'completed') as "last: jiff_sqlx::Timestamp"
           from scans where tenant_id = $1 and schedule_id = $2"#,
        tx.tenant().0,
        id.0,
    )
    .fetch_one(tx.conn())
    .await?;
    Ok((row.active, row.last.map(jiff_sqlx::Timestamp::to_jiff)))
}

/// Gives up a claimed slot whose `Scan` was never made: it counts as missed.
pub async fn lapse(tx: &mut TenantTx, id: ScheduleId, slot: &Claimed) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "update schedule_slots set state = 'missed'
         where tenant_id = $1 and schedule_id = $2 and provider_id = $3 and due_at = $4
           and state = 'claimed' and scan_id is null",
        tx.tenant().0,
        id.0,
        slot.provider.0,
        slot.due_at.to_sqlx() as _,
    )
    .execute(tx.conn())
    .await?;
    let lapsed = i64::try_from(done.rows_affected()).unwrap_or(0);
    sqlx::query!(
        "update schedules set missed_count = missed_count + $4::bigint, updated_at = now(),
           last_missed_time = greatest(last_missed_time, $3)
         where tenant_id = $1 and id = $2 and $4::bigint > 0",
        tx.tenant().0,
        id.0,
        slot.due_at.to_sqlx() as _,
        lapsed,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Marks the schedule of this object as deleted. The row stays: it remembers which due times
/// were claimed, should the object come back. Slots whose `Scan` was not made are given up.
pub async fn retire(tx: &mut TenantTx, object: ObjectUid) -> Result<bool, StoreError> {
    sqlx::query!(
        "update schedule_slots s set state = 'skipped' from schedules d
         where s.tenant_id = $1 and d.tenant_id = s.tenant_id and d.id = s.schedule_id
           and d.object_uid = $2 and s.state = 'claimed' and s.scan_id is null",
        tx.tenant().0,
        object.0,
    )
    .execute(tx.conn())
    .await?;
    let done = sqlx::query!(
        "update schedules set is_deleted = true, deleted_at = now(), object_uid = null, updated_at = now()
         where tenant_id = $1 and object_uid = $2",
        tx.tenant().0,
        object.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}
