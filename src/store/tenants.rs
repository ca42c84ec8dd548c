//! Tenants: the row behind each `Tenant` object. Claims of namespaces are acts across tenants
//! and live in `store::admin::claims`.

use serde_json::Value;

use super::{Change, StoreError, TenantTx};
use crate::domain::ids::ObjectUid;

/// What is stored of a `Tenant` object.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantRecord {
    /// The object.
    pub object: ObjectUid,
    /// Its name.
    pub name: String,
    /// Name shown to people.
    pub display_name: String,
    /// `Delete` or `Retain`.
    pub deletion_policy: String,
    /// Nothing is started while true.
    pub suspend: bool,
    /// Scans that may hold an account at once.
    pub concurrent_scans: i32,
    /// Providers the tenant may have.
    pub max_providers: i32,
    /// The spec, for readers of the database.
    pub spec: Value,
}

/// Writes the tenant's row. A row of an earlier object of this name is taken over: names are
/// unique, so that object is gone.
pub async fn upsert(tx: &mut TenantTx, tenant: &TenantRecord) -> Result<Change, StoreError> {
    let id = tx.tenant().0;
    let created = sqlx::query_scalar!(
        r#"insert into tenants as t
             (id, name, display_name, object_uid, deletion_policy, suspend, concurrent_scans, max_providers, spec)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
           on conflict (id) do update set
             name = excluded.name, display_name = excluded.display_name,
             object_uid = excluded.object_uid, deletion_policy = excluded.deletion_policy,
             suspend = excluded.suspend, concurrent_scans = excluded.concurrent_scans,
             max_providers = excluded.max_providers, spec = excluded.spec,
             is_deleted = false, deleted_at = null, updated_at = now()
           where (t.name, t.display_name, t.object_uid, t.deletion_policy, t.suspend,
                  t.concurrent_scans, t.max_providers, t.spec, t.is_deleted)
             is distinct from
                 (excluded.name, excluded.display_name, excluded.object_uid, excluded.deletion_policy,
                  excluded.suspend, excluded.concurrent_scans, excluded.max_providers, excluded.spec, false)
           returning (xmax = 0) as "created!""#,
        id,
        tenant.name,
        tenant.display_name,
        tenant.object.0,
        tenant.deletion_policy,
        tenant.suspend,
        tenant.concurrent_scans,
        tenant.max_providers,
        tenant.spec,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(Change::from_created(created))
}

/// Of a spec that is refused: writes whether the tenant is suspended, and lowers its limits to
/// the most there may be.
pub async fn restrain(
    tx: &mut TenantTx,
    suspend: bool,
    concurrent_scans: i32,
    max_providers: i32,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update tenants set suspend = $2, concurrent_scans = least(concurrent_scans, $3),
           max_providers = least(max_providers, $4), updated_at = now()
         where id = $1 and (suspend <> $2 or concurrent_scans > $3 or max_providers > $4)",
        tx.tenant().0,
        suspend,
        concurrent_scans,
        max_providers,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Providers not deleted, and scans that hold an account.
pub async fn counts(tx: &mut TenantTx) -> Result<(i64, i64), StoreError> {
    let row = sqlx::query!(
        r#"select
             (select count(*) from providers where tenant_id = $1 and not is_deleted) as "providers!",
             (select count(*) from scans where tenant_id = $1 and holds_account) as "scans!""#,
        tx.tenant().0,
    )
    .fetch_one(tx.conn())
    .await?;
    Ok((row.providers, row.scans))
}

/// Marks the tenant as deleted: from here on nothing of it is admitted. Whether there was one.
pub async fn retire(tx: &mut TenantTx) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update tenants set is_deleted = true, deleted_at = coalesce(deleted_at, now()), updated_at = now()
         where id = $1",
        tx.tenant().0,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the tenant's row; what is left of small tables goes with it. Refused while a provider is
/// left, on whose rows others hang that no reference would take along.
pub async fn remove(tx: &mut TenantTx) -> Result<(), StoreError> {
    let tenant = tx.tenant();
    // Nobody adds a provider after this: that takes a lock on the same row.
    sqlx::query!("select id from tenants where id = $1 for update", tenant.0)
        .fetch_optional(tx.conn())
        .await?;
    let left = sqlx::query_scalar!(
        r#"select count(*) as "left!" from providers where tenant_id = $1"#,
        tenant.0,
    )
    .fetch_one(tx.conn())
    .await?;
    if left > 0 {
        return Err(StoreError::Refused(format!(
            "tenant {tenant} still has providers ({left}); its row is kept until they are gone"
        )));
    }
    sqlx::query!("delete from tenants where id = $1", tenant.0)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Keeps the rows of a tenant whose object goes: detached, so that nothing is started for it.
pub async fn detach(tx: &mut TenantTx) -> Result<(), StoreError> {
    sqlx::query!(
        "update tenants set object_uid = null, updated_at = now() where id = $1",
        tx.tenant().0
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Removes the tenant's groups, roles, schedules, integrations and mute rules of a namespace it no
/// longer holds. What may be many rows goes with a schedule too: `deletion::schedules_step` is to have
/// removed it before.
pub async fn forget_namespace(tx: &mut TenantTx, namespace: &str) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "delete from roles where tenant_id = $1 and namespace = $2",
        tenant,
        namespace
    )
    .execute(tx.conn())
    .await?;
    sqlx::query!(
        "delete from provider_groups where tenant_id = $1 and namespace = $2",
        tenant,
        namespace
    )
    .execute(tx.conn())
    .await?;
    sqlx::query!(
        "delete from schedules where tenant_id = $1 and namespace = $2",
        tenant,
        namespace
    )
    .execute(tx.conn())
    .await?;
    sqlx::query!(
        "delete from integrations where tenant_id = $1 and namespace = $2",
        tenant,
        namespace
    )
    .execute(tx.conn())
    .await?;
    sqlx::query!(
        "delete from mute_rules where tenant_id = $1 and namespace = $2",
        tenant,
        namespace
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The namespaces of which the tenant has rows: those it holds, and any in which something was
/// stored by a pass that did not know yet that the namespace was given back.
pub async fn namespaces_in_use(tx: &mut TenantTx) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_scalar!(
        r#"select namespace as "namespace!" from providers
             where tenant_id = $1 and (object_uid is not null or not is_deleted)
           union select namespace from provider_groups where tenant_id = $1
           union select namespace from roles where tenant_id = $1
           union select namespace from schedules where tenant_id = $1
           union select namespace from integrations where tenant_id = $1
           union select namespace from mute_rules where tenant_id = $1"#,
        tx.tenant().0,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(names)
}
