//! The ledger of accounts: every scan that holds one, or waits for one, whosever it is; and every
//! schedule whose due times are claimed.

use std::time::Duration;

use crate::domain::ids::{ObjectName, ObjectUid, ScanId, TenantId};
use crate::store::scans::{JobRef, Open};
use crate::store::{AdminStore, StoreError};

/// A scan that is not over, or whose account is not free yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub tenant: TenantId,
    /// The scan.
    pub scan: Open,
    /// Where its object is, or was.
    pub name: ObjectName,
}

/// All of them but those that are not over and were written within `patience`.
pub async fn entries(admin: &AdminStore, patience: Duration) -> Result<Vec<Entry>, StoreError> {
    let rows = sqlx::query!(
        "select tenant_id, id, namespace, name, object_uid, attempt, holds_account,
           job_namespace, job_name, job_uid
         from scans
         where (holds_account or state = 'available')
           and (state not in ('available', 'executing')
             or updated_at < now() - make_interval(secs => $1))",
        patience.as_secs_f64(),
    )
    .fetch_all(admin.pool())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Entry {
            tenant: TenantId(row.tenant_id),
            scan: Open {
                id: ScanId(row.id),
                object: row.object_uid.map(ObjectUid),
                attempt: row.attempt,
                holds_account: row.holds_account,
                job: JobRef::of(row.job_namespace, row.job_name, row.job_uid),
            },
            name: ObjectName {
                namespace: row.namespace,
                name: row.name,
            },
        })
        .collect())
}

/// A schedule that is stored as one whose object is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Armed {
    /// Whose.
    pub tenant: TenantId,
    /// Where its object is, or was.
    pub name: ObjectName,
    /// Its object.
    pub object: ObjectUid,
}

/// All of them.
pub async fn schedules(admin: &AdminStore) -> Result<Vec<Armed>, StoreError> {
    let rows = sqlx::query!(
        r#"select tenant_id, namespace, name, object_uid as "object_uid!" from schedules
           where not is_deleted and object_uid is not null and tenant_id is not null"#,
    )
    .fetch_all(admin.pool())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Armed {
            tenant: TenantId(row.tenant_id),
            name: ObjectName {
                namespace: row.namespace,
                name: row.name,
            },
            object: ObjectUid(row.object_uid),
        })
        .collect())
}

/// A scan that holds an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Whose.
    pub tenant: TenantId,
    /// The scan and its Job.
    pub scan: Open,
    /// Where its object is.
    pub name: ObjectName,
    /// Its attempt has not ended.
    pub is_executing: bool,
    /// Since its row was written.
    pub quiet: Duration,
}

/// All of them.
pub async fn holding(admin: &AdminStore) -> Result<Vec<Holding>, StoreError> {
    let rows = sqlx::query!(
        r#"select tenant_id, id, namespace, name, object_uid, attempt, job_namespace, job_name, job_uid,
             state = 'executing' as "is_executing!",
             greatest(0, extract(epoch from now() - updated_at))::float8 as "quiet!"
           from scans where holds_account and queue_slot is not null"#,
    )
    .fetch_all(admin.pool())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Holding {
            tenant: TenantId(row.tenant_id),
            scan: Open {
                id: ScanId(row.id),
                object: row.object_uid.map(ObjectUid),
                attempt: row.attempt,
                holds_account: true,
                job: JobRef::of(row.job_namespace, row.job_name, row.job_uid),
            },
            name: ObjectName {
                namespace: row.namespace,
                name: row.name,
            },
            is_executing: row.is_executing,
            quiet: Duration::try_from_secs_f64(row.quiet).unwrap_or_default(),
        })
        .collect())
}
