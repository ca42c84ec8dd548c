//! Which namespace belongs to which tenant. The row decides: whoever inserts it first has the
//! namespace until it is released.

use serde_json::Value;

use crate::domain::ids::TenantId;
use crate::store::{AdminStore, StoreError};

/// How a claim ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The namespace is the tenant's.
    Held,
    /// Another tenant holds it.
    Lost {
        /// Name of that tenant.
        to: String,
    },
}

/// Claims a namespace, unless somebody holds it.
pub async fn claim(
    admin: &AdminStore,
    tenant: TenantId,
    namespace: &str,
) -> Result<Claim, StoreError> {
    // Two statements: what another transaction has just committed is not in the snapshot of
    // the insert that lost to it.
    sqlx::query!(
        "insert into tenant_namespaces (namespace, tenant_id) values ($1, $2) on conflict do nothing",
        namespace,
        tenant.0,
    )
    .execute(admin.pool())
    .await?;
    let holder = sqlx::query!(
        "select n.tenant_id, t.name from tenant_namespaces n join tenants t on t.id = n.tenant_id
         where n.namespace = $1",
        namespace,
    )
    .fetch_optional(admin.pool())
    .await?;
    Ok(match holder {
        Some(row) if row.tenant_id != tenant.0 => Claim::Lost { to: row.name },
        Some(_) => Claim::Held,
        // Released between the two statements: the next pass claims it.
        None => Claim::Lost {
            to: "a tenant that just released it".to_owned(),
        },
    })
}

/// Whether the tenant holds the namespace.
pub async fn is_held_by(
    admin: &AdminStore,
    tenant: TenantId,
    namespace: &str,
) -> Result<bool, StoreError> {
    let held = sqlx::query_scalar!(
        r#"select exists (select from tenant_namespaces
             where namespace = $1 and tenant_id = $2) as "held!""#,
        namespace,
        tenant.0,
    )
    .fetch_one(admin.pool())
    .await?;
    Ok(held)
}

/// Gives a namespace back. What lived in it must be gone already.
pub async fn release(
    admin: &AdminStore,
    tenant: TenantId,
    namespace: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from tenant_namespaces where namespace = $1 and tenant_id = $2",
        namespace,
        tenant.0,
    )
    .execute(admin.pool())
    .await?;
    Ok(())
}

/// A claimed namespace and what a reconciler needs to know of its tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The namespace.
    pub namespace: String,
    /// Its tenant.
    pub tenant: TenantId,
    /// The tenant's name.
    pub name: String,
    /// The tenant's spec as stored.
    pub spec: Value,
    /// Nothing of the tenant is started.
    pub suspend: bool,
    /// The tenant is being deleted.
    pub is_deleted: bool,
}

/// All claims, by namespace.
pub async fn all(admin: &AdminStore) -> Result<Vec<Claimed>, StoreError> {
    let rows = sqlx::query!(
        "select n.namespace, t.id, t.name, t.spec, t.suspend, t.is_deleted
         from tenant_namespaces n join tenants t on t.id = n.tenant_id order by n.namespace",
    )
    .fetch_all(admin.pool())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Claimed {
            namespace: row.namespace,
            tenant: TenantId(row.id),
            name: row.name,
            spec: row.spec,
            suspend: row.suspend,
            is_deleted: row.is_deleted,
        })
        .collect())
}

/// The namespaces a tenant holds, in order.
pub async fn of_tenant(admin: &AdminStore, tenant: TenantId) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_scalar!(
        "select namespace from tenant_namespaces where tenant_id = $1 order by namespace",
        tenant.0,
    )
    .fetch_all(admin.pool())
    .await?;
    Ok(names)
}
