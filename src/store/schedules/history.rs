//! The scans that a schedule led to: how many are not over, how the others ended, and which of those
//! are still kept as objects.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, ScheduleId};
use crate::store::{StoreError, TenantTx, uuids};

/// How a scan ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `completed`, `failed` or `cancelled`.
    pub state: String,
    /// Why, in a word.
    pub reason: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
}

/// How the last scan of this schedule ended for each of the providers that has had one.
pub async fn last_ended(
    tx: &mut TenantTx,
    id: ScheduleId,
    providers: &[ProviderId],
) -> Result<BTreeMap<ProviderId, Ended>, StoreError> {
    let ids = uuids(providers);
    // One by one along the index: a schedule has more scans the longer it is there.
    let rows = sqlx::query!(
        r#"select p.id as "provider!", s.state, s.reason,
             s.completed_at as "at: jiff_sqlx::Timestamp"
           from unnest($3::uuid[]) as p (id)
           cross join lateral (
             select state, reason, completed_at from scans
             where tenant_id = $1 and provider_id = p.id and schedule_id = $2
               and state in ('completed', 'failed', 'cancelled')
             order by inserted_at desc limit 1) s"#,
        tx.tenant().0,
        id.0,
        &ids,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let ended = Ended {
                state: row.state,
                reason: row.reason,
                at: row.at.map(jiff_sqlx::Timestamp::to_jiff),
            };
            (ProviderId(row.provider), ended)
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

/// Scans of the schedule that are queued or running or about to be queued, and when the last one
/// completed.
pub async fn activity(
    tx: &mut TenantTx,
    id: ScheduleId,
) -> Result<(i64, Option<Timestamp>), StoreError> {
    let row = sqlx::query!(
        r#"select
             (select count(*) from scans where tenant_id = $1 and schedule_id = $2
                and (holds_account or state in ('available', 'executing'))
                and state in ('available', 'executing'))
             + (select count(*) from schedule_slots where tenant_id = $1 and schedule_id = $2
                and state = 'claimed') as "active!",
             (select max(completed_at) from scans where tenant_id = $1 and schedule_id = $2
                and state = 'completed') as "last: jiff_sqlx::Timestamp""#,
        tx.tenant().0,
        id.0,
    )
    .fetch_one(tx.conn())
    .await?;
    Ok((row.active, row.last.map(jiff_sqlx::Timestamp::to_jiff)))
}
