//! Schedules: what is stored of each, and what it remembers of due times that passed. Slots, the
//! claims of due times, are in `slots`; the scans they led to in `history`.

mod history;
mod slots;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;

pub use self::history::{Busy, Ended, Expired, activity, busy, expired_scans, last_ended};
pub use self::slots::{
    Claim, Claimed, SlotOfScan, awaited, claim, lapse, skip, slot_of_scan, unfulfilled,
    without_slot,
};
use super::{Change, StoreError, TenantTx};
use crate::domain::ids::{ObjectName, ObjectUid, ScheduleId};

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
