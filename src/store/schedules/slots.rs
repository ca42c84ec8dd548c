//! Slots: a due time is claimed in the database for each account before the scan it leads to
//! exists anywhere, so that no due time leads to two scans.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, ScheduleId};
use crate::store::{StoreError, TenantTx};

/// Seconds that a claimed slot may be late beyond the schedule's own deadline: a pass that claims
/// one at the last moment may still make its `Scan`.
pub const CLAIMED_GRACE_SECONDS: i64 = 300;

/// A slot that was claimed and the scan it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The account.
    pub provider: ProviderId,
    /// Name of its object.
    pub provider_name: String,
    /// Its object.
    pub provider_object: Option<ObjectUid>,
    /// Name of the `Scan` object the slot leads to.
    pub scan_name: String,
    /// The due time.
    pub due_at: Timestamp,
}

/// Slots claimed but not yet led to a scan's row: their `Scan` objects are (re)made. Those whose
/// account went are given up: it may come back after months.
pub async fn unfulfilled(tx: &mut TenantTx, id: ScheduleId) -> Result<Vec<Claimed>, StoreError> {
    let rows = sqlx::query!(
        r#"with gone as (
             update schedule_slots s set state = 'skipped', reason = 'Deleted'
             from providers p
             where s.tenant_id = $1 and s.schedule_id = $2 and s.state = 'claimed'
               and p.tenant_id = s.tenant_id and p.id = s.provider_id and p.is_deleted
           )
           select s.provider_id, p.name as provider_name, p.object_uid, s.scan_name as "scan_name!",
             s.due_at as "due_at: jiff_sqlx::Timestamp"
           from schedule_slots s
           join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id and not p.is_deleted
           where s.tenant_id = $1 and s.schedule_id = $2 and s.state = 'claimed'"#,
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
            provider_object: row.object_uid.map(ObjectUid),
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
    /// Name of its object.
    pub schedule_name: String,
    /// Its object, unless that was deleted.
    pub schedule_object: Option<ObjectUid>,
    /// The account.
    pub provider: ProviderId,
    /// Name of its object.
    pub provider_name: String,
    /// The due time.
    pub due_at: Timestamp,
    /// Seconds over which the schedule spreads its starts.
    pub jitter_seconds: i64,
    /// The scan takes the place of those of the same schedule and account that have not ended.
    pub replaces: bool,
    /// The scan's row, once there is one.
    pub scan: Option<ScanId>,
}

/// The slot that leads to a `Scan` object of this name, if one does; no more than one does. Whether
/// the object that has the name is the one the slot leads to is for the caller to see.
pub async fn slot_of_scan(
    tx: &mut TenantTx,
    name: &ObjectName,
) -> Result<Option<SlotOfScan>, StoreError> {
    let row = sqlx::query!(
        r#"select s.schedule_id, s.provider_id, s.due_at as "due_at: jiff_sqlx::Timestamp",
             s.scan_id, d.jitter_seconds, d.concurrency_policy, d.name as schedule_name, d.object_uid as schedule_object,
             p.name as provider_name
           from schedule_slots s
           join schedules d on d.tenant_id = s.tenant_id and d.id = s.schedule_id
           join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
           where s.tenant_id = $1 and d.namespace = $2 and s.scan_name = $3
             and s.state in ('claimed', 'created')"#,
        tx.tenant().0,
        name.namespace,
        name.name,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(|row| SlotOfScan {
        schedule: ScheduleId(row.schedule_id),
        schedule_name: row.schedule_name,
        schedule_object: row.schedule_object.map(ObjectUid),
        provider: ProviderId(row.provider_id),
        provider_name: row.provider_name,
        due_at: row.due_at.to_jiff(),
        jitter_seconds: row.jitter_seconds,
        replaces: row.concurrency_policy == "Replace",
        scan: row.scan_id.map(ScanId),
    }))
}

/// Whether a slot of this schedule (its object and its name, by which one that has no object any more is
/// known) and of this account led to a `Scan` of this name, and was given up.
pub async fn gave_up(
    tx: &mut TenantTx,
    name: &ObjectName,
    schedule: (ObjectUid, &str),
    provider_name: &str,
) -> Result<bool, StoreError> {
    let gave_up = sqlx::query_scalar!(
        r#"select exists (select from schedules d
             join providers p on p.tenant_id = d.tenant_id and p.namespace = d.namespace
             join schedule_slots s on s.tenant_id = d.tenant_id and s.schedule_id = d.id
               and s.provider_id = p.id
             where d.tenant_id = $1 and d.namespace = $2 and d.name = $6 and p.name = $5
               and coalesce(d.object_uid = $4, true) and s.scan_name = $3 and s.state in ('skipped', 'missed', 'superseded')) as "gave_up!""#,
        tx.tenant().0,
        name.namespace,
        name.name,
        schedule.0.0,
        provider_name,
        schedule.1,
    )
    .fetch_one(tx.conn())
    .await?;
    Ok(gave_up)
}

/// Gives up a slot whose `Scan` object was deleted before it had a row.
pub async fn skip(tx: &mut TenantTx, name: &ObjectName) -> Result<(), StoreError> {
    sqlx::query!(
        "update schedule_slots s set state = 'skipped', reason = 'Deleted'
         from schedules d
         where s.tenant_id = $1 and d.tenant_id = s.tenant_id and d.id = s.schedule_id
           and d.namespace = $2 and s.scan_name = $3 and s.state = 'claimed'",
        tx.tenant().0,
        name.namespace,
        name.name,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Remembers that the slot led to this object, whose row the database does not have any more.
pub async fn fulfil(
    tx: &mut TenantTx,
    id: ScheduleId,
    slot: &Claimed,
    object: ObjectUid,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update schedule_slots set state = 'created', scan_object = $5
         where tenant_id = $1 and schedule_id = $2 and provider_id = $3 and due_at = $4
           and state = 'claimed'",
        tx.tenant().0,
        id.0,
        slot.provider.0,
        slot.due_at.to_sqlx() as _,
        object.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Why a claimed slot is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// Its `Scan` could not be made in time.
    Deadline,
    /// Somebody else's `Scan` has its name.
    NameTaken,
    /// A later due time was claimed before its `Scan` was queued.
    Superseded,
}

impl GivenUp {
    /// State and reason of the row.
    fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Deadline => ("missed", Some("Deadline")),
            Self::NameTaken => ("missed", Some("NameTaken")),
            Self::Superseded => ("superseded", None),
        }
    }
}

/// Gives up a claimed slot whose `Scan` was never queued: its due time counts as missed, once, of however
/// many accounts. How many due times count by this; `None`: it was given up already, or its scan is
/// queued by now.
pub async fn lapse(
    tx: &mut TenantTx,
    id: ScheduleId,
    slot: &Claimed,
    why: GivenUp,
) -> Result<Option<u64>, StoreError> {
    // Two that lapse at once for two accounts count one after the other.
    sqlx::query!(
        "select from schedules where tenant_id = $1 and id = $2 for no key update",
        tx.tenant().0,
        id.0,
    )
    .execute(tx.conn())
    .await?;
    let (state, reason) = why.words();
    let done = sqlx::query!(
        "update schedule_slots set state = $5, reason = $6
         where tenant_id = $1 and schedule_id = $2 and provider_id = $3 and due_at = $4
           and state = 'claimed'",
        tx.tenant().0,
        id.0,
        slot.provider.0,
        slot.due_at.to_sqlx() as _,
        state,
        reason,
    )
    .execute(tx.conn())
    .await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    let counted = sqlx::query!(
        "update schedules d set missed_count = missed_count + 1,
           last_missed_time = greatest(last_missed_time, $3), updated_at = now()
         where d.tenant_id = $1 and d.id = $2
           and not exists (select from schedule_slots o
             where o.tenant_id = $1 and o.schedule_id = $2 and o.due_at = $3
               and o.state in ('missed', 'superseded') and o.provider_id <> $4)",
        tx.tenant().0,
        id.0,
        slot.due_at.to_sqlx() as _,
        slot.provider.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(Some(counted.rows_affected()))
}
