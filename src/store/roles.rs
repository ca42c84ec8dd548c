//! Roles, whom they are given to and which provider groups they reach.

use uuid::Uuid;

use super::{Change, StoreError, TenantTx};
use crate::domain::ids::{GroupId, ObjectName, ObjectUid, RoleId};
use crate::domain::permission::Permissions;

/// Somebody a role is given to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`.
    pub kind: String,
    /// Namespace of a `ServiceAccount`, else empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What is stored of a `Role` object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRecord {
    /// The object.
    pub object: ObjectUid,
    /// Where it is.
    pub name: ObjectName,
    /// What it permits.
    pub permissions: Permissions,
    /// Groups it reaches.
    pub groups: Vec<GroupId>,
    /// Whom it is given to.
    pub subjects: Vec<Subject>,
}

/// Writes the role and makes its links and subjects exactly those given.
pub async fn upsert(
    tx: &mut TenantTx,
    id: RoleId,
    role: &RoleRecord,
) -> Result<Change, StoreError> {
    let tenant = tx.tenant().0;
    let p = &role.permissions;
    let created = sqlx::query_scalar!(
        r#"insert into roles as r (tenant_id, id, namespace, name, object_uid, manage_users, manage_account,
             manage_billing, manage_providers, manage_integrations, manage_scans, unlimited_visibility)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
           on conflict (tenant_id, id) do update set
             object_uid = excluded.object_uid, manage_users = excluded.manage_users,
             manage_account = excluded.manage_account, manage_billing = excluded.manage_billing,
             manage_providers = excluded.manage_providers,
             manage_integrations = excluded.manage_integrations, manage_scans = excluded.manage_scans,
             unlimited_visibility = excluded.unlimited_visibility, updated_at = now()
           where (r.object_uid, r.manage_users, r.manage_account, r.manage_billing, r.manage_providers,
                  r.manage_integrations, r.manage_scans, r.unlimited_visibility)
             is distinct from
                 (excluded.object_uid, excluded.manage_users, excluded.manage_account,
                  excluded.manage_billing, excluded.manage_providers, excluded.manage_integrations,
                  excluded.manage_scans, excluded.unlimited_visibility)
           returning (xmax = 0) as "created!""#,
        tenant,
        id.0,
        role.name.namespace,
        role.name.name,
        role.object.0,
        p.manage_users,
        p.manage_account,
        p.manage_billing,
        p.manage_providers,
        p.manage_integrations,
        p.manage_scans,
        p.unlimited_visibility,
    )
    .fetch_optional(tx.conn())
    .await?;
    let links = link_groups(tx, id, &role.groups).await?;
    let subjects = set_subjects(tx, id, &role.subjects).await?;
    Ok(match (created, links + subjects) {
        (None, 0) => Change::Unchanged,
        (Some(true), _) => Change::Created,
        _ => Change::Updated,
    })
}

async fn link_groups(tx: &mut TenantTx, id: RoleId, groups: &[GroupId]) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let wanted: Vec<Uuid> = groups.iter().map(|group| group.0).collect();
    let removed = sqlx::query!(
        "delete from role_provider_group_relationship
         where tenant_id = $1 and role_id = $2 and provider_group_id <> all ($3)",
        tenant,
        id.0,
        &wanted,
    )
    .execute(tx.conn())
    .await?;
    let added = sqlx::query!(
        "insert into role_provider_group_relationship (tenant_id, role_id, provider_group_id)
         select tenant_id, $2, id from provider_groups where tenant_id = $1 and id = any ($3)
         on conflict do nothing",
        tenant,
        id.0,
        &wanted,
    )
    .execute(tx.conn())
    .await?;
    Ok(removed.rows_affected() + added.rows_affected())
}

async fn set_subjects(
    tx: &mut TenantTx,
    id: RoleId,
    subjects: &[Subject],
) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let column = |part: fn(&Subject) -> &String| {
        subjects.iter().map(|s| part(s).clone()).collect::<Vec<_>>()
    };
    let (kinds, namespaces, names) = (
        column(|s| &s.kind),
        column(|s| &s.namespace),
        column(|s| &s.name),
    );
    let removed = sqlx::query!(
        "delete from role_subjects where tenant_id = $1 and role_id = $2
           and (kind, namespace, name) not in
             (select * from unnest($3::text[], $4::text[], $5::text[]))",
        tenant,
        id.0,
        &kinds,
        &namespaces,
        &names,
    )
    .execute(tx.conn())
    .await?;
    let added = sqlx::query!(
        "insert into role_subjects (tenant_id, role_id, kind, namespace, name)
         select $1, $2, kind, namespace, name
         from unnest($3::text[], $4::text[], $5::text[]) as s (kind, namespace, name)
         on conflict do nothing",
        tenant,
        id.0,
        &kinds,
        &namespaces,
        &names,
    )
    .execute(tx.conn())
    .await?;
    Ok(removed.rows_affected() + added.rows_affected())
}

/// Removes the role of this object; links and subjects go with it.
pub async fn remove(tx: &mut TenantTx, object: ObjectUid) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "delete from roles where tenant_id = $1 and object_uid = $2",
        tx.tenant().0,
        object.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}
