//! Providers: accounts of a tenant. A live row is found by its natural key — type and uid of
//! the account — so that a restored cluster or database finds it again.

mod retirement;

use serde_json::Value;

pub use self::retirement::{Doomed, doomed, release_retained, retain, retire, retire_namespace};
use super::{Change, StoreError, TenantTx};
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId};

/// What is stored of a `Provider` object. No credential value is ever part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderRecord {
    /// The object.
    pub object: ObjectUid,
    /// Where it is.
    pub name: ObjectName,
    /// Type of the account, for example `aws`.
    pub provider: String,
    /// The account.
    pub uid: String,
    /// Name shown to people.
    pub alias: Option<String>,
    /// Labels of the object, for selectors.
    pub labels: Value,
    /// What a scan of this account looks at.
    pub scanner_args: Value,
    /// Which Secret or `ServiceAccount` opens it (names and a version, never values).
    pub credentials: Value,
    /// `Delete` or `Retain`.
    pub deletion_policy: String,
    /// Nothing is started while true.
    pub suspend: bool,
    /// `metadata.generation` this was taken from.
    pub generation: i64,
    /// Hash over all of the above: equal means nothing to write. Never 0.
    pub fingerprint: i64,
    /// Take over the rows of this account that a Provider left behind under `Retain`.
    pub adopt: bool,
}

/// How storing a provider ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// The row is as asked.
    Row {
        /// The row.
        id: ProviderId,
        /// What was done to it.
        change: Change,
        /// Name or labels differ from before: groups and schedules may choose it now, or not.
        chosen_anew: bool,
    },
    /// Another object holds the account.
    Taken {
        /// That object.
        by: ObjectUid,
        /// Where it is, or was.
        name: ObjectName,
    },
    /// The tenant has as many providers as it may, or more since its limit was lowered.
    Full {
        /// How many it has.
        count: i64,
        /// How many it may have.
        limit: i32,
    },
}

/// Writes the provider's row. The row of another object is taken over only when that object
/// is `gone`, which the caller has from the API server and not from a cache.
pub async fn upsert(
    tx: &mut TenantTx,
    fresh: ProviderId,
    record: &ProviderRecord,
    gone: Option<ObjectUid>,
) -> Result<Stored, StoreError> {
    let tenant = tx.tenant().0;
    let row = sqlx::query!(
        "select id, object_uid, namespace, name, labels, fingerprint, generation from providers
         where tenant_id = $1 and provider = $2 and uid = $3 and not is_deleted
         for update",
        tenant,
        record.provider,
        record.uid,
    )
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else {
        return insert(tx, fresh, record).await;
    };
    let id = ProviderId(row.id);
    let holder = row.object_uid.map(ObjectUid);
    if holder == Some(record.object) {
        if row.fingerprint == record.fingerprint && row.generation == record.generation {
            return Ok(Stored::Row {
                id,
                change: Change::Unchanged,
                chosen_anew: false,
            });
        }
    } else if let Some(by) = holder
        && holder != gone
    {
        return Ok(Stored::Taken {
            by,
            name: ObjectName {
                namespace: row.namespace,
                name: row.name,
            },
        });
    }
    sqlx::query!(
        "update providers set object_uid = $3, namespace = $4, name = $5, alias = $6, labels = $7,
           scanner_args = $8, credentials = $9, deletion_policy = $10, suspend = $11, generation = $12,
           fingerprint = $13, retained = false, updated_at = now()
         where tenant_id = $1 and id = $2",
        tenant,
        id.0,
        record.object.0,
        record.name.namespace,
        record.name.name,
        record.alias,
        record.labels,
        record.scanner_args,
        record.credentials,
        record.deletion_policy,
        record.suspend,
        record.generation,
        record.fingerprint,
    )
    .execute(tx.conn())
    .await?;
    Ok(Stored::Row {
        id,
        change: Change::Updated,
        chosen_anew: row.labels != record.labels
            || row.namespace != record.name.namespace
            || row.name != record.name.name,
    })
}

async fn insert(
    tx: &mut TenantTx,
    fresh: ProviderId,
    record: &ProviderRecord,
) -> Result<Stored, StoreError> {
    let tenant = tx.tenant().0;
    // Locking the tenant's row makes counting and inserting one act: the limit holds however
    // many are inserted at once.
    let limit = sqlx::query_scalar!(
        "select max_providers from tenants where id = $1 and not is_deleted for no key update",
        tenant
    )
    .fetch_optional(tx.conn())
    .await?
    .ok_or_else(|| {
        StoreError::Refused("the tenant is gone; its Tenant object comes first".to_owned())
    })?;
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from providers where tenant_id = $1 and not is_deleted"#,
        tenant
    )
    .fetch_one(tx.conn())
    .await?;
    if count >= i64::from(limit) {
        return Ok(Stored::Full { count, limit });
    }
    if record.adopt
        && let Some(id) = adopt(tx, record).await?
    {
        return Ok(Stored::Row {
            id,
            change: Change::Updated,
            chosen_anew: true,
        });
    }
    sqlx::query!(
        "insert into providers (tenant_id, id, provider, uid, alias, object_uid, namespace, name, labels,
           scanner_args, credentials, deletion_policy, suspend, generation, fingerprint)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        tenant,
        fresh.0,
        record.provider,
        record.uid,
        record.alias,
        record.object.0,
        record.name.namespace,
        record.name.name,
        record.labels,
        record.scanner_args,
        record.credentials,
        record.deletion_policy,
        record.suspend,
        record.generation,
        record.fingerprint,
    )
    .execute(tx.conn())
    .await?;
    Ok(Stored::Row {
        id: fresh,
        change: Change::Created,
        chosen_anew: true,
    })
}

/// Takes over the newest rows of the account that a Provider left behind under `Retain`.
async fn adopt(
    tx: &mut TenantTx,
    record: &ProviderRecord,
) -> Result<Option<ProviderId>, StoreError> {
    let id = sqlx::query_scalar!(
        "update providers set is_deleted = false, deleted_at = null, retained = false,
           object_uid = $4, namespace = $5, name = $6, alias = $7, labels = $8, scanner_args = $9,
           credentials = $10, deletion_policy = $11, suspend = $12, generation = $13,
           fingerprint = $14, updated_at = now()
         where tenant_id = $1 and id = (
           select id from providers
           where tenant_id = $1 and provider = $2 and uid = $3 and is_deleted and retained
           order by deleted_at desc limit 1)
         returning id",
        tx.tenant().0,
        record.provider,
        record.uid,
        record.object.0,
        record.name.namespace,
        record.name.name,
        record.alias,
        record.labels,
        record.scanner_args,
        record.credentials,
        record.deletion_policy,
        record.suspend,
        record.generation,
        record.fingerprint,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(id.map(ProviderId))
}

/// Makes the next pass over the provider's object read its rows again, also after a restart:
/// something the object shows has changed.
pub async fn mark(tx: &mut TenantTx, id: ProviderId) -> Result<(), StoreError> {
    sqlx::query!(
        "update providers set fingerprint = 0
         where tenant_id = $1 and id = $2 and not is_deleted and fingerprint <> 0",
        tx.tenant().0,
        id.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Writes only what needs no check, of a spec that is refused otherwise. The next pass that
/// stores it writes it whole. Whether the labels differ from before.
pub async fn set_unchecked(
    tx: &mut TenantTx,
    object: ObjectUid,
    suspend: bool,
    deletion_policy: &str,
    labels: &Value,
) -> Result<bool, StoreError> {
    let relabelled = sqlx::query_scalar!(
        r#"with found as (
             select id, labels from providers
             where tenant_id = $1 and object_uid = $2 and not is_deleted
               and (suspend <> $3 or deletion_policy <> $4 or labels <> $5)
             for update
           )
           update providers p set suspend = $3, deletion_policy = $4, labels = $5, fingerprint = 0,
             updated_at = now()
           from found where p.tenant_id = $1 and p.id = found.id
           returning found.labels <> $5 as "relabelled!""#,
        tx.tenant().0,
        object.0,
        suspend,
        deletion_policy,
        labels,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(relabelled.unwrap_or_default())
}

/// A provider as selectors see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The row.
    pub id: ProviderId,
    /// Where its object is.
    pub name: ObjectName,
    /// Type of the account.
    pub provider: String,
    /// The account.
    pub uid: String,
    /// Labels of its object.
    pub labels: Value,
    /// Nothing is started while true.
    pub suspend: bool,
}

/// All providers of the tenant that are not deleted, by namespace and name.
pub async fn list(tx: &mut TenantTx) -> Result<Vec<Listed>, StoreError> {
    let rows = sqlx::query!(
        "select id, namespace, name, provider, uid, labels, suspend from active_providers
         where tenant_id = $1 order by namespace, name",
        tx.tenant().0,
    )
    .fetch_all(tx.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            let missing =
                |column: &str| StoreError::inconsistent("active_providers", column, "a provider");
            Ok(Listed {
                id: ProviderId(row.id.ok_or_else(|| missing("id"))?),
                name: ObjectName {
                    namespace: row.namespace.ok_or_else(|| missing("namespace"))?,
                    name: row.name.ok_or_else(|| missing("name"))?,
                },
                provider: row.provider.ok_or_else(|| missing("provider"))?,
                uid: row.uid.ok_or_else(|| missing("uid"))?,
                labels: row.labels.unwrap_or_default(),
                suspend: row.suspend.unwrap_or_default(),
            })
        })
        .collect()
}

/// The live provider whose object is `name`.
pub async fn by_name(
    tx: &mut TenantTx,
    name: &ObjectName,
) -> Result<Option<ProviderId>, StoreError> {
    let id = sqlx::query_scalar!(
        "select id from providers where tenant_id = $1 and namespace = $2 and name = $3 and not is_deleted
         order by inserted_at desc limit 1",
        tx.tenant().0,
        name.namespace,
        name.name,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(id.map(ProviderId))
}
