//! What a provider's findings and resources were: read once before a publication, written once
//! at its end.

use futures::TryStreamExt as _;
use uuid::Uuid;

use super::{StoreError, TenantTx, partitions};
use crate::domain::history::{CHUNK, History};
use crate::domain::ids::ProviderId;
use crate::domain::inventory::{Digest, Inventory};

/// Chunks written by one statement.
const CHUNKS_AT_ONCE: usize = 32;

/// The newest finding of every uid of the provider that lies in a month still kept.
pub(super) async fn load_history(
    tx: &mut TenantTx,
    provider: ProviderId,
) -> Result<History, StoreError> {
    let forget_before = partitions::oldest_month(tx.conn())
        .await?
        .and_then(|month| u32::try_from(month.as_second()).ok())
        .unwrap_or(0);
    let tenant = tx.tenant().0;
    let bytes = sqlx::query_scalar!(
        r#"select coalesce(sum(octet_length(entries)), 0) as "bytes!" from provider_finding_states
           where tenant_id = $1 and provider_id = $2"#,
        tenant,
        provider.0,
    )
    .fetch_one(tx.conn())
    .await?;
    let bytes = usize::try_from(bytes).unwrap_or(0);
    let mut history = History::with_capacity(History::entries_in(bytes));
    let mut chunks = sqlx::query_scalar!(
        "select entries from provider_finding_states where tenant_id = $1 and provider_id = $2",
        tenant,
        provider.0,
    )
    .fetch(tx.conn());
    while let Some(chunk) = chunks.try_next().await? {
        history.load(&chunk, forget_before).map_err(|_| {
            StoreError::inconsistent("provider_finding_states", "entries", provider)
        })?;
    }
    Ok(history)
}

/// Replaces what is stored of the provider's findings.
pub(super) async fn save_history(
    tx: &mut TenantTx,
    provider: ProviderId,
    history: History,
) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    let bytes = history.into_bytes();
    let mut number = 0_i32;
    for group in bytes.chunks(CHUNK * CHUNKS_AT_ONCE) {
        let chunks: Vec<&[u8]> = group.chunks(CHUNK).collect();
        let numbers: Vec<i32> = (number..).take(chunks.len()).collect();
        number = number.saturating_add(i32::try_from(chunks.len()).unwrap_or(i32::MAX));
        sqlx::query!(
            "insert into provider_finding_states (tenant_id, provider_id, chunk, entries)
             select $1, $2, c.chunk, c.entries
             from unnest($3::integer[], $4::bytea[]) as c (chunk, entries)
             on conflict (tenant_id, provider_id, chunk) do update set entries = excluded.entries",
            tenant,
            provider.0,
            &numbers,
            &chunks as &[&[u8]],
        )
        .execute(tx.conn())
        .await?;
    }
    sqlx::query!(
        "delete from provider_finding_states
         where tenant_id = $1 and provider_id = $2 and chunk >= $3",
        tenant,
        provider.0,
        number,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The provider's resources.
pub(super) async fn load_inventory(
    tx: &mut TenantTx,
    provider: ProviderId,
) -> Result<Inventory, StoreError> {
    let tenant = tx.tenant().0;
    let resources = sqlx::query_scalar!(
        r#"select count(*) as "count!" from resources where tenant_id = $1 and provider_id = $2"#,
        tenant,
        provider.0,
    )
    .fetch_one(tx.conn())
    .await?;
    let mut inventory = Inventory::with_capacity(usize::try_from(resources).unwrap_or(0));
    let mut rows = sqlx::query!(
        "select id, digest, failed_findings_count from resources
         where tenant_id = $1 and provider_id = $2",
        tenant,
        provider.0,
    )
    .fetch(tx.conn());
    while let Some(row) = rows.try_next().await? {
        inventory.load(
            row.id,
            digest(&row.digest, row.id)?,
            row.failed_findings_count,
        );
    }
    Ok(inventory)
}

fn digest(stored: &[u8], row: Uuid) -> Result<Digest, StoreError> {
    stored
        .try_into()
        .map_err(|_| StoreError::inconsistent("resources", "digest", row))
}
