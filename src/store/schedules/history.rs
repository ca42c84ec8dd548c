//! The scans that a schedule led to: those that are not over, which its concurrency policy asks
//! for, and those that are, of which the latest are kept as objects.

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, ScheduleId};
use crate::store::{StoreError, TenantTx};

/// A scan that is queued or running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// The account.
    pub provider: ProviderId,
    /// The scan.
    pub scan: ScanId,
    /// Not started yet.
    pub queued: bool,
}

/// Those of the providers that have a scan of this schedule queued or running.
pub async fn busy(
    tx: &mut TenantTx,
    id: ScheduleId,
    providers: &[ProviderId],
) -> Result<Vec<Busy>, StoreError> {
    let ids: Vec<Uuid> = providers.iter().map(|provider| provider.0).collect();
    let rows = sqlx::query!(
        "select provider_id, id, state from scans
         where tenant_id = $1 and schedule_id = $2 and provider_id = any ($3)
           and (state in ('available', 'executing') or holds_account)",
        tx.tenant().0,
        id.0,
        &ids,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Busy {
            provider: ProviderId(row.provider_id),
            scan: ScanId(row.id),
            queued: row.state == "available",
        })
        .collect())
}

/// A scan whose object is to go; its findings stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The scan.
    pub id: ScanId,
    /// Where its object is.
    pub name: ObjectName,
    /// Its object.
    pub object: ObjectUid,
}

/// Finished scans of the schedule beyond the history limits, oldest first.
pub async fn expired_scans(
    tx: &mut TenantTx,
    id: ScheduleId,
    keep_successful: i64,
    keep_failed: i64,
) -> Result<Vec<Expired>, StoreError> {
    let rows = sqlx::query!(
        r#"select namespace as "namespace!", name as "name!", id as "id!", object_uid as "object_uid!" from (
             select namespace, name, state, id, object_uid, row_number() over (
               partition by provider_id, (state = 'completed') order by id desc) as age
             from scans
             where tenant_id = $1 and schedule_id = $2 and state in ('completed', 'failed', 'cancelled')
               and object_uid is not null and not holds_account) finished
           where age > (case when state = 'completed' then $3::bigint else $4::bigint end)
           order by id"#,
        tx.tenant().0,
        id.0,
        keep_successful,
        keep_failed,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Expired {
            id: ScanId(row.id),
            name: ObjectName {
                namespace: row.namespace,
                name: row.name,
            },
            object: ObjectUid(row.object_uid),
        })
        .collect())
}

/// Scans of the schedule that are queued or running, and when the last one completed.
pub async fn activity(
    tx: &mut TenantTx,
    id: ScheduleId,
) -> Result<(i64, Option<Timestamp>), StoreError> {
    let row = sqlx::query!(
        r#"select
             count(*) filter (where state in ('available', 'executing')) as "active!",
             max(completed_at) filter (where state = 'completed') as "last: jiff_sqlx::Timestamp"
           from scans where tenant_id = $1 and schedule_id = $2"#,
        tx.tenant().0,
        id.0,
    )
    .fetch_one(tx.conn())
    .await?;
    Ok((row.active, row.last.map(jiff_sqlx::Timestamp::to_jiff)))
}
