//! Deletion of a provider's rows, and of what hangs on the schedules of a namespace, in bounded
//! batches, each its own transaction. Resumable from any point: a pass deletes what it finds and
//! says whether anything is left.

use super::{Store, StoreError, TenantTx, tags};
use crate::domain::ids::{ProviderId, ScanId, TenantId};
use crate::domain::uuid7;

/// Rows of one batch.
pub const BATCH: i64 = 5000;

/// What one batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Rows deleted.
    pub deleted: u64,
    /// The provider's row itself is gone: nothing is left.
    pub done: bool,
    /// A publication of another provider is about to commit; what is left waits for it.
    pub busy: bool,
}

/// Deletes one batch of what belongs to a provider, in the order in which rows depend on one
/// another, and its own row at the end.
///
/// The provider must be marked as deleted and no scan of it may hold the account: otherwise a
/// publication could put rows back, and the batch is refused.
pub async fn step(
    store: &Store,
    tenant: TenantId,
    provider: ProviderId,
) -> Result<Batch, StoreError> {
    let mut tx = store.tenant(tenant).await?;
    let locked = sqlx::query!(
        "select is_deleted from providers where tenant_id = $1 and id = $2 for update",
        tenant.0,
        provider.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = locked else {
        return Ok(Batch {
            deleted: 0,
            done: true,
            busy: false,
        });
    };
    if !row.is_deleted {
        return Err(StoreError::Refused(format!(
            "provider {provider} is not marked as deleted; its rows are kept"
        )));
    }
    let full = BATCH.cast_unsigned();
    let mut deleted = findings(&mut tx, provider).await?;
    if deleted < full {
        deleted += resources(&mut tx, provider).await?;
    }
    if deleted < full {
        deleted += quarantined(&mut tx, provider).await?;
    }
    if deleted < full {
        deleted += slots(&mut tx, provider).await?;
    }
    if deleted < full {
        deleted += scans(&mut tx, provider).await?;
    }
    let mut busy = false;
    if deleted == 0 {
        match tags::remove_unused(&mut tx, BATCH).await? {
            Some(gone) => deleted = gone,
            None => busy = true,
        }
    }
    let done = deleted == 0 && !busy;
    if done {
        sqlx::query!(
            "delete from providers where tenant_id = $1 and id = $2",
            tenant.0,
            provider.0
        )
        .execute(tx.conn())
        .await?;
    }
    tx.commit().await?;
    Ok(Batch {
        deleted,
        done,
        busy,
    })
}

/// Removes one batch of what hangs on the schedules of a namespace: their due times, and what scans
/// that are kept say of them. The schedules themselves stay, for `tenants::forget_namespace`, which
/// would else take all of it along at once. How many rows were written; with none, none is left.
pub async fn schedules_step(
    store: &Store,
    tenant: TenantId,
    namespace: &str,
) -> Result<u64, StoreError> {
    let mut tx = store.tenant(tenant).await?;
    let mut written = sqlx::query!(
        "delete from schedule_slots
         where tenant_id = $1 and (schedule_id, provider_id, due_at) in (
           select s.schedule_id, s.provider_id, s.due_at from schedule_slots s
           join schedules d on d.tenant_id = s.tenant_id and d.id = s.schedule_id
           where s.tenant_id = $1 and d.namespace = $2 limit $3)",
        tenant.0,
        namespace,
        BATCH,
    )
    .execute(tx.conn())
    .await?
    .rows_affected();
    if written < BATCH.cast_unsigned() {
        written += sqlx::query!(
            "update scans set schedule_id = null
             where tenant_id = $1 and id in (
               select s.id from scans s
               join schedules d on d.tenant_id = s.tenant_id and d.id = s.schedule_id
               where s.tenant_id = $1 and d.namespace = $2 limit $3)",
            tenant.0,
            namespace,
            BATCH,
        )
        .execute(tx.conn())
        .await?
        .rows_affected();
    }
    tx.commit().await?;
    Ok(written)
}

/// About how many findings and resources are left, for people who wait.
pub async fn rows_left(tx: &mut TenantTx, provider: ProviderId) -> Result<i64, StoreError> {
    let left = sqlx::query_scalar!(
        r#"select (select coalesce(sum((counts->>'total')::bigint), 0)::bigint from scans
                   where tenant_id = $1 and provider_id = $2 and published_attempt is not null)
              + (select count(*) from resources where tenant_id = $1 and provider_id = $2) as "left!""#,
        tx.tenant().0,
        provider.0,
    )
    .fetch_one(tx.conn())
    .await?;
    Ok(left)
}

/// Findings and their mappings, scan by scan: those of a scan are a range of ids. A scan whose
/// findings are gone counts as not published.
async fn findings(tx: &mut TenantTx, provider: ProviderId) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let mut deleted = 0;
    while deleted < BATCH {
        let scan = sqlx::query_scalar!(
            "select id from scans
             where tenant_id = $1 and provider_id = $2 and published_attempt is not null
             order by id limit 1",
            tenant,
            provider.0,
        )
        .fetch_optional(tx.conn())
        .await?;
        let Some(scan) = scan else { break };
        let (first, last) = uuid7::finding_ids(ScanId(scan));
        let wanted = BATCH - deleted;
        let gone = sqlx::query_scalar!(
            r#"with doomed as (
                 select id from findings
                 where tenant_id = $1 and id between $2 and $3 and scan_id = $4 limit $5
               ), mappings as (
                 delete from resource_finding_mappings m using doomed d
                 where m.tenant_id = $1 and m.finding_id = d.id and m.finding_id between $2 and $3
               ), gone as (
                 delete from findings f using doomed d
                 where f.tenant_id = $1 and f.id = d.id and f.id between $2 and $3 returning 1
               )
               select count(*) as "gone!" from gone"#,
            tenant,
            first,
            last,
            scan,
            wanted,
        )
        .fetch_one(tx.conn())
        .await?;
        deleted += gone;
        if gone < wanted {
            sqlx::query!(
                "update scans set published_attempt = null where tenant_id = $1 and id = $2",
                tenant,
                scan,
            )
            .execute(tx.conn())
            .await?;
        }
    }
    Ok(deleted.cast_unsigned())
}

/// Resources, and their links to tags.
async fn resources(tx: &mut TenantTx, provider: ProviderId) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let deleted = sqlx::query!(
        "with doomed as (
             select id from resources where tenant_id = $1 and provider_id = $2 limit $3
           ), mappings as (
             delete from resource_tag_mappings m using doomed d
             where m.tenant_id = $1 and m.resource_id = d.id
           )
           delete from resources r using doomed d where r.tenant_id = $1 and r.id = d.id",
        tenant,
        provider.0,
        BATCH,
    )
    .execute(tx.conn())
    .await?
    .rows_affected();
    Ok(deleted)
}

/// Records set aside.
async fn quarantined(tx: &mut TenantTx, provider: ProviderId) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        "delete from quarantined_findings where tenant_id = $1 and (scan_id, attempt, position) in (
           select q.scan_id, q.attempt, q.position from quarantined_findings q
           join scans s on s.tenant_id = q.tenant_id and s.id = q.scan_id
           where q.tenant_id = $1 and s.provider_id = $2 limit $3)",
        tx.tenant().0,
        provider.0,
        BATCH,
    )
    .execute(tx.conn())
    .await?;
    Ok(deleted.rows_affected())
}

/// Due times that schedules claimed for it: nothing else prunes them. Before the scans they led to,
/// each of which would be written into its slot on its way out.
async fn slots(tx: &mut TenantTx, provider: ProviderId) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        "delete from schedule_slots
         where tenant_id = $1 and provider_id = $2 and (schedule_id, due_at) in (
           select schedule_id, due_at from schedule_slots
           where tenant_id = $1 and provider_id = $2 limit $3)",
        tx.tenant().0,
        provider.0,
        BATCH,
    )
    .execute(tx.conn())
    .await?;
    Ok(deleted.rows_affected())
}

/// Scans.
async fn scans(tx: &mut TenantTx, provider: ProviderId) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let held = sqlx::query_scalar!(
        r#"select exists (select from scans
             where tenant_id = $1 and provider_id = $2 and holds_account) as "held!""#,
        tenant,
        provider.0,
    )
    .fetch_one(tx.conn())
    .await?;
    if held {
        return Err(StoreError::Refused(format!(
            "a scan still holds the account of provider {provider}; its rows are kept until its pod is gone"
        )));
    }
    let deleted = sqlx::query!(
        "delete from scans where tenant_id = $1 and id in (
           select id from scans where tenant_id = $1 and provider_id = $2 limit $3)",
        tenant,
        provider.0,
        BATCH,
    )
    .execute(tx.conn())
    .await?;
    Ok(deleted.rows_affected())
}
