//! Providers on their way out: marked as deleted, which hides them at once and frees their
//! accounts, and then removed by `store::deletion`, or kept under `Retain`.

use crate::domain::ids::{ObjectUid, ProviderId};
use crate::store::{StoreError, TenantTx};

/// Marks the provider of this object as deleted: it is gone from normal reads and its account
/// is free to be declared again. The row, if there was one.
pub async fn retire(
    tx: &mut TenantTx,
    object: ObjectUid,
) -> Result<Option<ProviderId>, StoreError> {
    let id = sqlx::query_scalar!(
        "update providers set is_deleted = true, deleted_at = coalesce(deleted_at, now()), updated_at = now()
         where tenant_id = $1 and object_uid = $2 returning id",
        tx.tenant().0,
        object.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(id.map(ProviderId))
}

/// Marks every provider of a namespace (of the tenant, without one) as deleted and detaches it
/// from its object: from here on the rows are the tenant's to remove, whatever becomes of the
/// object. The objects they were of.
pub async fn retire_namespace(
    tx: &mut TenantTx,
    namespace: Option<&str>,
) -> Result<Vec<ObjectUid>, StoreError> {
    let objects = sqlx::query_scalar!(
        r#"with doomed as (
             select id, object_uid from providers
             where tenant_id = $1 and ($2::text is null or namespace = $2) and not retained
               and (object_uid is not null or not is_deleted)
             for update
           ), retired as (
             update providers p set is_deleted = true, deleted_at = coalesce(p.deleted_at, now()),
               object_uid = null, updated_at = now()
             from doomed d where p.tenant_id = $1 and p.id = d.id
             returning d.object_uid
           )
           select object_uid as "object_uid!" from retired where object_uid is not null"#,
        tx.tenant().0,
        namespace,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(objects.into_iter().map(ObjectUid).collect())
}

/// A provider whose rows the tenant has to remove: deleted, and no object's any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doomed {
    /// The row.
    pub id: ProviderId,
    /// Its own policy keeps the rows.
    pub retain: bool,
}

/// The providers whose rows the tenant has to remove.
pub async fn doomed(tx: &mut TenantTx) -> Result<Vec<Doomed>, StoreError> {
    let rows = sqlx::query!(
        "select id, deletion_policy from providers
         where tenant_id = $1 and is_deleted and object_uid is null and not retained",
        tx.tenant().0,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Doomed {
            id: ProviderId(row.id),
            retain: row.deletion_policy == "Retain",
        })
        .collect())
}

/// Gives up what single providers' policies kept: the tenant goes with all it has.
pub async fn release_retained(tx: &mut TenantTx) -> Result<(), StoreError> {
    sqlx::query!(
        "update providers set retained = false, deletion_policy = 'Delete', updated_at = now()
         where tenant_id = $1 and (retained or deletion_policy <> 'Delete')",
        tx.tenant().0,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Keeps the rows of a provider whose object goes: detached, hidden, never revived unasked.
pub async fn retain(tx: &mut TenantTx, id: ProviderId) -> Result<(), StoreError> {
    sqlx::query!(
        "update providers set retained = true, object_uid = null, updated_at = now()
         where tenant_id = $1 and id = $2",
        tx.tenant().0,
        id.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}
