//! Schedules: what is stored of each, and what it remembers of due times that passed. What becomes of
//! those is decided in `store::admin::due`; the Scans that claimed ones lead to are in `slots`, those
//! they led to in `history`.

mod history;
mod slots;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;

pub use self::history::{Ended, Expired, activity, expired_scans, last_ended};
pub use self::slots::{
    CLAIMED_GRACE_SECONDS, Claimed, GivenUp, SlotOfScan, fulfil, gave_up, lapse, skip,
    slot_of_scan, unfulfilled,
};
use super::{StoreError, TenantTx, uuids};
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScheduleId};

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
    /// `metadata.generation` this was taken from.
    pub generation: i64,
    /// Of a schedule that is stored for the first time: before this nothing is due.
    pub undecided_since: Timestamp,
    /// When the object was made: one that comes anew has no due times from before.
    pub created: Timestamp,
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
    /// How many were left out because the last scan had not ended.
    pub skipped: i64,
    /// Every due time up to this one is decided.
    pub decided_until: Timestamp,
    /// The next due time.
    pub next: Option<Timestamp>,
    /// It was suspended when it was last looked at.
    pub rests: bool,
    /// `metadata.generation` of what is stored.
    pub generation: i64,
    /// The object.
    pub object: Option<ObjectUid>,
    /// Cron expression, interval in seconds and time zone.
    pub times: (Option<String>, Option<i64>, Option<String>),
}

impl ScheduleRecord {
    /// Cron expression, interval in seconds and time zone.
    pub fn times(&self) -> (Option<String>, Option<i64>, Option<String>) {
        let zone = self.time_zone.clone();
        (self.schedule.clone(), self.interval_seconds, zone)
    }
}

/// Writes the schedule's row; what it remembers survives the object. Other due times than before
/// count from now on, and those of an object that has come anew from then on, unless an interval goes
/// on. What an older copy of the object says is not stored over a newer.
pub async fn upsert(
    tx: &mut TenantTx,
    id: ScheduleId,
    record: &ScheduleRecord,
    now: Timestamp,
) -> Result<Remembered, StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "insert into schedules as s (tenant_id, id, namespace, name, object_uid, schedule,
           interval_seconds, time_zone, suspend, concurrency_policy, starting_deadline_seconds,
           jitter_seconds, scanner_args, generation, decided_until, inserted_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
         on conflict (tenant_id, id) do update set
           object_uid = excluded.object_uid, schedule = excluded.schedule,
           interval_seconds = excluded.interval_seconds, time_zone = excluded.time_zone,
           suspend = excluded.suspend, concurrency_policy = excluded.concurrency_policy,
           starting_deadline_seconds = excluded.starting_deadline_seconds,
           jitter_seconds = excluded.jitter_seconds, scanner_args = excluded.scanner_args,
           generation = excluded.generation,
           decided_until = case
             when s.object_uid is distinct from excluded.object_uid and excluded.schedule is not null
               then greatest(s.decided_until, $17)
             when (s.schedule, s.interval_seconds, s.time_zone) is distinct from
                 (excluded.schedule, excluded.interval_seconds, excluded.time_zone)
               then greatest(s.decided_until, excluded.inserted_at)
             else s.decided_until end,
           is_deleted = false, deleted_at = null, updated_at = now()
         where (s.object_uid, s.generation, s.schedule, s.interval_seconds, s.time_zone, s.suspend,
                s.concurrency_policy, s.starting_deadline_seconds, s.jitter_seconds,
                s.scanner_args, s.is_deleted)
           is distinct from
               (excluded.object_uid, excluded.generation, excluded.schedule,
                excluded.interval_seconds, excluded.time_zone, excluded.suspend,
                excluded.concurrency_policy, excluded.starting_deadline_seconds,
                excluded.jitter_seconds, excluded.scanner_args, false)
           and (s.object_uid is distinct from excluded.object_uid
             or s.generation <= excluded.generation)",
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
        record.generation,
        record.undecided_since.to_sqlx() as _,
        now.to_sqlx() as _,
        record.created.to_sqlx() as _,
    )
    .execute(tx.conn())
    .await?;
    remembered(tx, id)
        .await?
        .ok_or_else(|| StoreError::inconsistent("schedules", "id", id.0))
}

/// What the row remembers of earlier passes, if there is one.
pub async fn remembered(
    tx: &mut TenantTx,
    id: ScheduleId,
) -> Result<Option<Remembered>, StoreError> {
    let row = sqlx::query!(
        r#"select inserted_at as "anchor: jiff_sqlx::Timestamp",
             last_schedule_time as "last_slot: jiff_sqlx::Timestamp",
             last_missed_time as "last_missed: jiff_sqlx::Timestamp", missed_count, skipped_count,
             decided_until as "decided_until: jiff_sqlx::Timestamp",
             next_schedule_time as "next: jiff_sqlx::Timestamp", rests, generation, object_uid,
             schedule, interval_seconds, time_zone
           from schedules where tenant_id = $1 and id = $2"#,
        tx.tenant().0,
        id.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(|row| Remembered {
        anchor: row.anchor.to_jiff(),
        last_slot: row.last_slot.map(jiff_sqlx::Timestamp::to_jiff),
        last_missed: row.last_missed.map(jiff_sqlx::Timestamp::to_jiff),
        missed: row.missed_count,
        skipped: row.skipped_count,
        decided_until: row.decided_until.to_jiff(),
        next: row.next.map(jiff_sqlx::Timestamp::to_jiff),
        rests: row.rests,
        generation: row.generation,
        object: row.object_uid.map(ObjectUid),
        times: (row.schedule, row.interval_seconds, row.time_zone),
    }))
}

/// Makes the accounts that the schedule chooses exactly `chosen`.
pub async fn choose(
    tx: &mut TenantTx,
    id: ScheduleId,
    chosen: &[ProviderId],
) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    let wanted = uuids(chosen);
    sqlx::query!(
        "delete from schedule_providers
         where tenant_id = $1 and schedule_id = $2 and provider_id <> all ($3)",
        tenant,
        id.0,
        &wanted,
    )
    .execute(tx.conn())
    .await?;
    // Joined with providers, so that one deleted since it was listed is left out, not an error.
    sqlx::query!(
        "insert into schedule_providers (tenant_id, schedule_id, provider_id)
         select tenant_id, $2, id from providers
         where tenant_id = $1 and id = any ($3) and not is_deleted
         on conflict do nothing",
        tenant,
        id.0,
        &wanted,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Whether `slot` is the last due time that was claimed, and an account that the schedule chooses has
/// joined since.
pub async fn lacks_slot(
    tx: &mut TenantTx,
    id: ScheduleId,
    slot: Timestamp,
) -> Result<bool, StoreError> {
    let lacks = sqlx::query_scalar!(
        r#"select exists (
             select from schedules d
             join schedule_providers c on c.tenant_id = d.tenant_id and c.schedule_id = d.id
             where d.tenant_id = $1 and d.id = $2 and d.last_schedule_time = $3
               and coalesce((select coalesce(o.last_due_at, o.due_at) < $3 from schedule_slots o
                 where o.tenant_id = $1 and o.schedule_id = $2 and o.provider_id = c.provider_id
                   and o.due_at <= $3
                 order by o.due_at desc limit 1), true)) as "lacks!""#,
        tx.tenant().0,
        id.0,
        slot.to_sqlx() as _,
    )
    .fetch_one(tx.conn())
    .await?;
    Ok(lacks)
}

/// Remembers that nothing is due: what the object of this generation says cannot be read. Not what
/// an older copy says of one that has been mended since.
pub async fn disarm(
    tx: &mut TenantTx,
    id: ScheduleId,
    object: ObjectUid,
    generation: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update schedules set next_schedule_time = null where tenant_id = $1 and id = $2
           and next_schedule_time is not null
           and (object_uid is distinct from $3 or generation <= $4)",
        tx.tenant().0,
        id.0,
        object.0,
        generation,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Marks the schedule of this object as deleted. The row stays: it remembers which due times
/// were claimed, should the object come back. Slots whose `Scan` was not made are given up.
pub async fn retire(tx: &mut TenantTx, object: ObjectUid) -> Result<bool, StoreError> {
    let retired = sqlx::query_scalar!(
        "update schedules set is_deleted = true, deleted_at = now(), object_uid = null, updated_at = now()
         where tenant_id = $1 and object_uid = $2
         returning id",
        tx.tenant().0,
        object.0,
    )
    .fetch_all(tx.conn())
    .await?;
    sqlx::query!(
        "update schedule_slots set state = 'skipped', reason = 'Deleted'
         where tenant_id = $1 and schedule_id = any ($2) and state = 'claimed'",
        tx.tenant().0,
        &retired,
    )
    .execute(tx.conn())
    .await?;
    Ok(!retired.is_empty())
}
