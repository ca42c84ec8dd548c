//! Tags of a tenant, which its resources share: added by publications, removed with the last
//! provider that used them. No foreign key stands between them and their mappings (migration 6
//! says why); a lock does.

use sqlx::AssertSqlSafe;

use super::{StoreError, TenantTx};

/// Names the lock of the tenant's tags, `$1`. Held until the transaction ends: shared by
/// publications, which link to tags before anybody can see that; alone by a removal.
const LOCK: &str = "hashtextextended('prowler-operator tags ' || $1, 0)";

/// Tags of the written resources become exactly those of the file.
pub(super) async fn write_staged(tx: &mut TenantTx) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query(AssertSqlSafe(format!(
        "select pg_advisory_xact_lock_shared({LOCK})"
    )))
    .bind(tx.tenant().to_string())
    .execute(tx.conn())
    .await?;
    sqlx::query(
        "insert into resource_tags (tenant_id, id, key, value)
         select distinct on (id) $1, id, key, value
         from pg_temp.staged_tags order by id
         on conflict do nothing",
    )
    .bind(tenant)
    .execute(tx.conn())
    .await?;
    sqlx::query(
        "delete from resource_tag_mappings m using pg_temp.staged_resources s
         where m.tenant_id = $1 and m.resource_id = s.id",
    )
    .bind(tenant)
    .execute(tx.conn())
    .await?;
    // In the order of their key, and none is left that they could meet.
    sqlx::query(
        "insert into resource_tag_mappings (tenant_id, resource_id, tag_id)
         select distinct $1::uuid, resource_id, tag_id from pg_temp.staged_tag_mappings
         order by resource_id, tag_id",
    )
    .bind(tenant)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Removes up to `most` tags that no resource of the tenant carries any more; how many. `None`
/// while a publication is about to commit: it may carry one that nobody else does, and to wait here
/// would make every further publication wait behind this one.
pub(super) async fn remove_unused(tx: &mut TenantTx, most: i64) -> Result<Option<u64>, StoreError> {
    let alone: bool = sqlx::query_scalar(AssertSqlSafe(format!(
        "select pg_try_advisory_xact_lock({LOCK})"
    )))
    .bind(tx.tenant().to_string())
    .fetch_one(tx.conn())
    .await?;
    if !alone {
        return Ok(None);
    }
    let removed = sqlx::query!(
        "delete from resource_tags where tenant_id = $1 and id in (
           select t.id from resource_tags t where t.tenant_id = $1 and not exists (
             select from resource_tag_mappings m where m.tenant_id = $1 and m.tag_id = t.id)
           limit $2)",
        tx.tenant().0,
        most,
    )
    .execute(tx.conn())
    .await?;
    Ok(Some(removed.rows_affected()))
}
