//! Admission: which queued scans start now. Slot and attempt are taken in one transaction, and
//! unique keys hold every limit whatever two controllers believe.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use crate::domain::ids::{ObjectName, ScanId, TenantId};
use crate::store::{AdminStore, StoreError};

/// A scan that may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its tenant.
    pub tenant: TenantId,
    /// The scan.
    pub scan: ScanId,
    /// Its object.
    pub name: ObjectName,
    /// The attempt that starts.
    pub attempt: i32,
}

/// Admits as many scans as the limits leave room for: one per account, each tenant's
/// `concurrent_scans`, `max_concurrent` over all; fair between tenants, then by priority, then
/// first come.
pub async fn admit(
    admin: &AdminStore,
    max_concurrent: i32,
    now: Timestamp,
) -> Result<Vec<Admitted>, StoreError> {
    let mut tx = admin.begin().await?;
    // Admissions queue up here instead of colliding on the keys.
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('prowler.admission', 0))")
        .execute(tx.conn())
        .await?;
    let candidates = sqlx::query!(
        r#"with held as (
             select tenant_id, count(*) as used from scans where holds_account group by tenant_id
           ), waiting as (
             select distinct on (s.tenant_id, s.provider_id)
               s.tenant_id, s.id, s.priority, t.concurrent_scans, coalesce(h.used, 0) as used
             from scans s
             join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
             join tenants t on t.id = s.tenant_id
             left join held h on h.tenant_id = s.tenant_id
             where s.state = 'available' and not s.is_deleted and not s.holds_account
               and (s.next_attempt_at is null or s.next_attempt_at <= $1)
               and not p.is_deleted and not p.suspend and not t.is_deleted and not t.suspend
               and not exists (
                 select from scans o
                 where o.tenant_id = s.tenant_id and o.provider_id = s.provider_id and o.holds_account)
             order by s.tenant_id, s.provider_id, s.priority desc, s.id
           ), ranked as (
             select w.*, row_number() over (partition by tenant_id order by priority desc, id) as rank
             from waiting w
           )
           select tenant_id, id, concurrent_scans from ranked
           where used + rank <= concurrent_scans
           order by used + rank, id
           limit greatest(0, $2::integer - (select count(*) from scans where holds_account))"#,
        now.to_sqlx() as _,
        max_concurrent,
    )
    .fetch_all(tx.conn())
    .await?;
    let mut admitted = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let row = sqlx::query!(
            r#"update scans s set
                 state = 'executing', attempt = s.attempt + 1, holds_account = true,
                 slot = (select min(n) from generate_series(1, $3::integer) n where not exists (
                   select from scans o where o.tenant_id = $1 and o.slot = n)),
                 queue_slot = (select min(n) from generate_series(1, $4::integer) n where not exists (
                   select from scans o where o.queue_slot = n)),
                 job_namespace = null, job_name = null, job_uid = null, next_attempt_at = null,
                 started_at = coalesce(s.started_at, $5), attempt_started_at = $5,
                 admitted = jsonb_build_object('provider', p.provider, 'uid', p.uid,
                   'scan', p.scanner_args, 'credentials', p.credentials),
                 credentials = p.credentials, updated_at = now()
               from providers p
               where s.tenant_id = $1 and s.id = $2 and s.state = 'available'
                 and p.tenant_id = s.tenant_id and p.id = s.provider_id
               returning s.namespace, s.name, s.attempt"#,
            candidate.tenant_id,
            candidate.id,
            candidate.concurrent_scans,
            max_concurrent,
            now.to_sqlx() as _,
        )
        .fetch_optional(tx.conn())
        .await?;
        if let Some(row) = row {
            admitted.push(Admitted {
                tenant: TenantId(candidate.tenant_id),
                scan: ScanId(candidate.id),
                name: ObjectName {
                    namespace: row.namespace,
                    name: row.name,
                },
                attempt: row.attempt,
            });
        }
    }
    tx.commit().await?;
    Ok(admitted)
}

/// Scans of all tenants that wait, and those that hold an account and a place in the queue.
pub async fn count(admin: &AdminStore) -> Result<(i64, i64), StoreError> {
    // Of all tenants, by the indexes of those that are open.
    let row = sqlx::query!(
        r#"select
             (select count(*) from scans where state = 'available' and not is_deleted
                and tenant_id is not null) as "waiting!",
             (select count(*) from scans where queue_slot is not null) as "active!""#
    )
    .fetch_one(admin.pool())
    .await?;
    Ok((row.waiting, row.active))
}

/// What a queued scan waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// Another scan holds the account.
    Account {
        /// Name of that scan's object.
        by: String,
    },
    /// The tenant runs as many scans as it may.
    Tenant {
        /// How many that is.
        limit: i32,
    },
    /// As many Jobs run as may, over all tenants.
    Queue {
        /// How many that is.
        limit: i32,
    },
    /// Tenant or provider is suspended or going.
    Suspended,
    /// Nothing: it is admitted in a moment.
    Nothing,
}

/// What stands between a queued scan and its start.
pub async fn waits_for(
    admin: &AdminStore,
    tenant: TenantId,
    scan: ScanId,
    max_concurrent: i32,
) -> Result<Waits, StoreError> {
    let row = sqlx::query!(
        r#"select t.concurrent_scans,
             (t.suspend or t.is_deleted or p.suspend or p.is_deleted) as "suspended!",
             (select o.name from scans o where o.tenant_id = s.tenant_id
                and o.provider_id = s.provider_id and o.holds_account) as holder,
             (select count(*) from scans o where o.tenant_id = s.tenant_id and o.holds_account) as "used!",
             (select count(*) from scans o where o.holds_account) as "all!"
           from scans s
           join tenants t on t.id = s.tenant_id
           join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
           where s.tenant_id = $1 and s.id = $2"#,
        tenant.0,
        scan.0,
    )
    .fetch_optional(admin.pool())
    .await?;
    let Some(row) = row else {
        return Ok(Waits::Nothing);
    };
    Ok(if row.suspended {
        Waits::Suspended
    } else if let Some(by) = row.holder {
        Waits::Account { by }
    } else if row.used >= i64::from(row.concurrent_scans) {
        Waits::Tenant {
            limit: row.concurrent_scans,
        }
    } else if row.all >= i64::from(max_concurrent) {
        Waits::Queue {
            limit: max_concurrent,
        }
    } else {
        Waits::Nothing
    })
}
