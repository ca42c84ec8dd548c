//! Integrations: where a tenant's findings are sent, and those of which providers.

use std::collections::BTreeSet;

use serde_json::Value;
use uuid::Uuid;

use super::{Change, StoreError, TenantTx};
use crate::domain::ids::{IntegrationId, ObjectName, ObjectUid, ProviderId};

/// What is stored of an `Integration` object.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegrationRecord {
    /// The object.
    pub object: ObjectUid,
    /// Where it is.
    pub name: ObjectName,
    /// `amazon_s3`, `aws_security_hub` or `jira`.
    pub kind: &'static str,
    /// Whether anything is sent.
    pub enabled: bool,
    /// How: an object whose keys are named as in the original.
    pub configuration: Value,
    /// Names of the Secret and its keys, if one is named.
    pub credentials: Option<Value>,
    /// Providers whose findings are sent.
    pub providers: BTreeSet<ProviderId>,
}

/// What became of an integration that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    Row(Change),
    /// Another one sends findings of the same provider to Security Hub. Nothing may be committed.
    Taken {
        /// The other object.
        by: ObjectUid,
        /// Where that is, or was.
        name: ObjectName,
    },
}

/// Writes the integration and makes its providers exactly those given. `gone` is an object that
/// no longer exists: what it held is taken from it.
pub async fn upsert(
    tx: &mut TenantTx,
    id: IntegrationId,
    integration: &IntegrationRecord,
    gone: Option<ObjectUid>,
) -> Result<Stored, StoreError> {
    let tenant = tx.tenant().0;
    if let Some(gone) = gone {
        remove(tx, gone).await?;
    }
    // An object made again under its name may be of another type; the row's id is of the name.
    sqlx::query!(
        "delete from integrations where tenant_id = $1 and id = $2 and integration_type <> $3",
        tenant,
        id.0,
        integration.kind,
    )
    .execute(tx.conn())
    .await?;
    let created = sqlx::query_scalar!(
        r#"insert into integrations as i
             (tenant_id, id, namespace, name, object_uid, integration_type, enabled, configuration, credentials)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
           on conflict (tenant_id, id) do update set
             object_uid = excluded.object_uid, enabled = excluded.enabled,
             configuration = excluded.configuration, credentials = excluded.credentials, updated_at = now()
           where (i.object_uid, i.enabled, i.configuration, i.credentials) is distinct from
                 (excluded.object_uid, excluded.enabled, excluded.configuration, excluded.credentials)
           returning (xmax = 0) as "created!""#,
        tenant,
        id.0,
        integration.name.namespace,
        integration.name.name,
        integration.object.0,
        integration.kind,
        integration.enabled,
        integration.configuration,
        integration.credentials,
    )
    .fetch_optional(tx.conn())
    .await?;
    let wanted: Vec<Uuid> = integration.providers.iter().map(|one| one.0).collect();
    let removed = sqlx::query!(
        "delete from integration_provider_mappings
         where tenant_id = $1 and integration_id = $2 and provider_id <> all ($3)",
        tenant,
        id.0,
        &wanted,
    )
    .execute(tx.conn())
    .await?
    .rows_affected();
    // Joined with providers, so that one deleted since it was listed is left out, not an error.
    // Whoever comes second waits here for the first to commit, and then sees it below.
    let added = sqlx::query!(
        "insert into integration_provider_mappings (tenant_id, integration_id, provider_id, integration_type)
         select tenant_id, $2, id, $4 from providers
         where tenant_id = $1 and id = any ($3) and not is_deleted
         on conflict do nothing",
        tenant,
        id.0,
        &wanted,
        integration.kind,
    )
    .execute(tx.conn())
    .await?
    .rows_affected();
    if let Some((by, name)) = other_hub(tx, id, integration.kind, &wanted).await? {
        return Ok(Stored::Taken { by, name });
    }
    Ok(Stored::Row(match (created, removed + added) {
        (None, 0) => Change::Unchanged,
        (Some(true), _) => Change::Created,
        _ => Change::Updated,
    }))
}

/// Another integration that has one of these providers where only one may.
async fn other_hub(
    tx: &mut TenantTx,
    id: IntegrationId,
    kind: &str,
    providers: &[Uuid],
) -> Result<Option<(ObjectUid, ObjectName)>, StoreError> {
    let row = sqlx::query!(
        "select i.object_uid, i.namespace, i.name
         from integration_provider_mappings m
         join integrations i on i.tenant_id = m.tenant_id and i.id = m.integration_id
         where m.tenant_id = $1 and m.provider_id = any ($2) and m.integration_id <> $3
           and m.integration_type = $4 and m.integration_type = 'aws_security_hub'
         limit 1",
        tx.tenant().0,
        providers,
        id.0,
        kind,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(|row| {
        let name = ObjectName {
            namespace: row.namespace,
            name: row.name,
        };
        (ObjectUid(row.object_uid), name)
    }))
}

/// Writes only whether anything is sent, of a spec that is refused otherwise.
pub async fn set_enabled(
    tx: &mut TenantTx,
    object: ObjectUid,
    enabled: bool,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update integrations set enabled = $3, updated_at = now()
         where tenant_id = $1 and object_uid = $2 and enabled <> $3",
        tx.tenant().0,
        object.0,
        enabled,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Removes the integration of this object; its mappings go with it.
pub async fn remove(tx: &mut TenantTx, object: ObjectUid) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "delete from integrations where tenant_id = $1 and object_uid = $2",
        tx.tenant().0,
        object.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}
