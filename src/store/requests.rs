//! Scans asked for by an annotation: each token is taken once for the object that carries it, and
//! what is to be made of it is written down before anything is.

use uuid::Uuid;

use super::{StoreError, TenantTx};
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, ScheduleId};

/// A Scan that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The account.
    pub provider: ProviderId,
    /// Name of its object.
    pub provider_name: String,
    /// Its object.
    pub provider_object: Option<ObjectUid>,
    /// Name of the `Scan` object.
    pub scan_name: String,
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is taken, for so many scans.
    Now(u64),
    /// It was taken before.
    Before,
    /// None of the accounts is there any more: nothing of this is to be committed.
    ForNobody,
}

/// Takes a token of `object`, and writes down the Scans it asks for: (account, name of its Scan).
pub async fn take(
    tx: &mut TenantTx,
    object: ObjectUid,
    token: &str,
    schedule: Option<ScheduleId>,
    scans: &[(ProviderId, String)],
) -> Result<Taken, StoreError> {
    let tenant = tx.tenant().0;
    let first = sqlx::query!(
        "insert into scan_requests (tenant_id, object_uid, token) values ($1, $2, $3)
         on conflict do nothing",
        tenant,
        object.0,
        token,
    )
    .execute(tx.conn())
    .await?;
    if first.rows_affected() == 0 {
        return Ok(Taken::Before);
    }
    let providers: Vec<Uuid> = scans.iter().map(|(provider, _)| provider.0).collect();
    let names: Vec<String> = scans.iter().map(|(_, name)| name.clone()).collect();
    // Joined with providers, so that one deleted since it was listed is left out, not an error.
    let asked = sqlx::query!(
        "insert into requested_scans (tenant_id, object_uid, token, provider_id, schedule_id, scan_name)
         select $1, $2, $3, p.id, $4, w.name
         from unnest($5::uuid[], $6::text[]) as w (provider_id, name)
         join providers p on p.tenant_id = $1 and p.id = w.provider_id and not p.is_deleted",
        tenant,
        object.0,
        token,
        schedule.map(|id| id.0),
        &providers,
        &names,
    )
    .execute(tx.conn())
    .await?;
    Ok(match asked.rows_affected() {
        0 => Taken::ForNobody,
        scans => Taken::Now(scans),
    })
}

/// The Scans that `object` asks for and that are still to be made.
pub async fn unmade(tx: &mut TenantTx, object: ObjectUid) -> Result<Vec<Wanted>, StoreError> {
    let rows = sqlx::query!(
        "select r.provider_id, p.name as provider_name, p.object_uid, r.scan_name
         from requested_scans r
         join providers p on p.tenant_id = r.tenant_id and p.id = r.provider_id and not p.is_deleted
         where r.tenant_id = $1 and r.object_uid = $2 and r.state = 'claimed'
         order by r.inserted_at, r.scan_name",
        tx.tenant().0,
        object.0,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Wanted {
            provider: ProviderId(row.provider_id),
            provider_name: row.provider_name,
            provider_object: row.object_uid.map(ObjectUid),
            scan_name: row.scan_name,
        })
        .collect())
}

/// Remembers which object a `Scan` that was asked for is, or that it is not to be made (`None`).
pub async fn made(
    tx: &mut TenantTx,
    scan_name: &str,
    scan: Option<ObjectUid>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update requested_scans set scan_object = $3,
           state = case when $3::uuid is null then 'skipped' else 'created' end
         where tenant_id = $1 and scan_name = $2 and state = 'claimed'",
        tx.tenant().0,
        scan_name,
        scan.map(|scan| scan.0),
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// A `Scan` that was asked for, as it finds itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The object that asks: the Scan's owner.
    pub object: ObjectUid,
    /// The account.
    pub provider: ProviderId,
    /// Name of its object.
    pub provider_name: String,
    /// Whose history it counts in.
    pub schedule: Option<ScheduleId>,
    /// The scan's row, once there is one.
    pub scan: Option<ScanId>,
}

/// What asks for a `Scan` object of this name, if anything does. Whether the object that has the name
/// is the one that was asked for is for the caller to see.
pub async fn of_scan(tx: &mut TenantTx, name: &ObjectName) -> Result<Option<Request>, StoreError> {
    let row = sqlx::query!(
        "select r.object_uid, r.provider_id, r.schedule_id, r.scan_id, p.name as provider_name
         from requested_scans r
         join providers p on p.tenant_id = r.tenant_id and p.id = r.provider_id
         where r.tenant_id = $1 and r.scan_name = $2 and p.namespace = $3 and r.state <> 'skipped'",
        tx.tenant().0,
        name.name,
        name.namespace,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(|row| Request {
        object: ObjectUid(row.object_uid),
        provider: ProviderId(row.provider_id),
        provider_name: row.provider_name,
        schedule: row.schedule_id.map(ScheduleId),
        scan: row.scan_id.map(ScanId),
    }))
}

/// Whether `object` asked for a `Scan` of this name, which is not to be made any more.
pub async fn gave_up(
    tx: &mut TenantTx,
    name: &ObjectName,
    object: ObjectUid,
) -> Result<bool, StoreError> {
    let gave_up = sqlx::query_scalar!(
        r#"select exists (select from requested_scans
             where tenant_id = $1 and scan_name = $2 and object_uid = $3 and state = 'skipped')
             as "gave_up!""#,
        tx.tenant().0,
        name.name,
        object.0,
    )
    .fetch_one(tx.conn())
    .await?;
    Ok(gave_up)
}

/// Forgets what an object asked for that is gone: no other will have its uid.
pub async fn forget(tx: &mut TenantTx, object: ObjectUid) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from scan_requests where tenant_id = $1 and object_uid = $2",
        tx.tenant().0,
        object.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}
