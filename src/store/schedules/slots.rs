//! Slots: a due time is claimed in the database for each account before the scan it leads to
//! exists anywhere, so that no due time leads to two scans.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use uuid::Uuid;

use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, ScheduleId};
use crate::store::{StoreError, TenantTx, uuids};

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
    let ids = uuids(providers);
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

/// Those of the providers for which an earlier slot of this schedule still waits for its scan.
pub async fn awaited(
    tx: &mut TenantTx,
    id: ScheduleId,
    due_at: Timestamp,
    providers: &[ProviderId],
) -> Result<Vec<ProviderId>, StoreError> {
    let ids = uuids(providers);
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
             s.scan_id, d.jitter_seconds, d.name as schedule_name, d.object_uid as schedule_object,
             p.name as provider_name
           from schedule_slots s
           join schedules d on d.tenant_id = s.tenant_id and d.id = s.schedule_id
           join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
           where s.tenant_id = $1 and d.namespace = $2 and s.scan_name = $3 and s.state = 'claimed'"#,
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
        scan: row.scan_id.map(ScanId),
    }))
}

/// Gives up a slot whose `Scan` object was deleted before it had a row.
pub async fn skip(tx: &mut TenantTx, name: &ObjectName) -> Result<(), StoreError> {
    sqlx::query!(
        "update schedule_slots s set state = 'skipped'
         from schedules d
         where s.tenant_id = $1 and d.tenant_id = s.tenant_id and d.id = s.schedule_id
           and d.namespace = $2 and s.scan_name = $3 and s.state = 'claimed' and s.scan_id is null",
        tx.tenant().0,
        name.namespace,
        name.name,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Gives up a claimed slot whose `Scan` was never made: it counts as missed. False: it was given
/// up already, or its scan is queued by now.
pub async fn lapse(tx: &mut TenantTx, id: ScheduleId, slot: &Claimed) -> Result<bool, StoreError> {
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
    Ok(lapsed > 0)
}
