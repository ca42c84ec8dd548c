//! Provider groups and their memberships.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{Change, StoreError, TenantTx};
use crate::domain::ids::{GroupId, ObjectName, ObjectUid, ProviderId};

/// Writes the group's row and makes its memberships exactly `members`.
pub async fn upsert(
    tx: &mut TenantTx,
    id: GroupId,
    object: ObjectUid,
    name: &ObjectName,
    members: &BTreeSet<ProviderId>,
) -> Result<Change, StoreError> {
    let tenant = tx.tenant().0;
    let created = sqlx::query_scalar!(
        r#"insert into provider_groups as g (tenant_id, id, namespace, name, object_uid)
           values ($1, $2, $3, $4, $5)
           on conflict (tenant_id, id) do update set object_uid = excluded.object_uid, updated_at = now()
             where g.object_uid is distinct from excluded.object_uid
           returning (xmax = 0) as "created!""#,
        tenant,
        id.0,
        name.namespace,
        name.name,
        object.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    let wanted: Vec<Uuid> = members.iter().map(|member| member.0).collect();
    let removed = sqlx::query!(
        "delete from provider_group_memberships
         where tenant_id = $1 and provider_group_id = $2 and provider_id <> all ($3)",
        tenant,
        id.0,
        &wanted,
    )
    .execute(tx.conn())
    .await?
    .rows_affected();
    // Joined with providers, so that one deleted since it was listed is left out, not an error.
    let added = sqlx::query!(
        "insert into provider_group_memberships (tenant_id, provider_id, provider_group_id)
         select tenant_id, id, $2 from providers
         where tenant_id = $1 and id = any ($3) and not is_deleted
         on conflict do nothing",
        tenant,
        id.0,
        &wanted,
    )
    .execute(tx.conn())
    .await?
    .rows_affected();
    Ok(match (created, removed + added) {
        (None, 0) => Change::Unchanged,
        (Some(true), _) => Change::Created,
        _ => Change::Updated,
    })
}

/// The groups of these names in `namespace`, as (name, id).
pub async fn by_names(
    tx: &mut TenantTx,
    namespace: &str,
    names: &[String],
) -> Result<Vec<(String, GroupId)>, StoreError> {
    let rows = sqlx::query!(
        "select name, id from provider_groups where tenant_id = $1 and namespace = $2 and name = any ($3)",
        tx.tenant().0,
        namespace,
        names,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.name, GroupId(row.id)))
        .collect())
}

/// Removes the group of this object; memberships and links go with it.
pub async fn remove(tx: &mut TenantTx, object: ObjectUid) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "delete from provider_groups where tenant_id = $1 and object_uid = $2",
        tx.tenant().0,
        object.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}
