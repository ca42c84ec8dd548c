//! Which connection checks run: so many at once, the new and the changed first, every tenant in
//! turn. A unique key on the slot holds the number whatever two controllers believe.

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx;

use crate::domain::ids::{ObjectName, ProviderId};
use crate::store::admin::AdminTx;
use crate::store::{AdminStore, StoreError};

/// A check that nobody has ended for so long is given up: its Job has a shorter deadline.
pub const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_mins(20);

/// What became of letting checks in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// How many were let in.
    pub count: u64,
    /// Those that hold a place and have no Job yet: let in just now, or before by somebody who
    /// never learned it.
    pub without_job: Vec<Admitted>,
}

/// A check that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The account.
    pub provider: ProviderId,
    /// Its object.
    pub name: ObjectName,
}

/// Lets in as many checks as there is room for.
pub async fn admit(
    admin: &AdminStore,
    parallelism: i32,
    now: Timestamp,
) -> Result<Admission, StoreError> {
    let mut tx = admin.begin().await?;
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('prowler.checks', 0))")
        .execute(tx.conn())
        .await?;
    // Those of accounts that are going, and those nobody ended.
    sqlx::query!(
        "update connection_checks c set
           due_at = case when p.is_deleted then null else $1::timestamptz + interval '10 minutes' end,
           slot = null, running_subject = null, started_at = null,
           job_namespace = null, job_name = null, job_uid = null
         from providers p
         where c.slot is not null and p.tenant_id = c.tenant_id and p.id = c.provider_id
           and (p.is_deleted or c.started_at < $2)",
        now.to_sqlx() as _,
        (now - GIVEN_UP_AFTER).to_sqlx() as _,
    )
    .execute(tx.conn())
    .await?;
    // Who is next is asked only where there is a place: of ten thousand that wait each is a row.
    let is_room = sqlx::query_scalar!(
        r#"select count(tenant_id) < $1::integer as "room!"
           from connection_checks where slot between 1 and $1"#,
        parallelism,
    )
    .fetch_one(tx.conn())
    .await?;
    let count = if is_room {
        let_in(&mut tx, parallelism, now).await?
    } else {
        0
    };
    let rows = sqlx::query!(
        "select c.provider_id, p.namespace, p.name
         from connection_checks c
         join providers p on p.tenant_id = c.tenant_id and p.id = c.provider_id
         where c.slot is not null and c.job_uid is null",
    )
    .fetch_all(tx.conn())
    .await?;
    tx.commit().await?;
    let admitted = rows.into_iter().map(|row| Admitted {
        provider: ProviderId(row.provider_id),
        name: ObjectName {
            namespace: row.namespace,
            name: row.name,
        },
    });
    Ok(Admission {
        count,
        without_job: admitted.collect(),
    })
}

/// Gives the free places to those that are due.
async fn let_in(tx: &mut AdminTx, parallelism: i32, now: Timestamp) -> Result<u64, StoreError> {
    // A scan that reached the account since was a check as well.
    sqlx::query!(
        "update connection_checks c set
           due_at = p.connection_last_checked_at + make_interval(secs => c.interval_seconds)
         from providers p
         where c.due_at <= $1 and c.slot is null and not c.urgent
           and p.tenant_id = c.tenant_id and p.id = c.provider_id
           and p.connected is not null
           and p.connection_last_checked_at + make_interval(secs => c.interval_seconds) > $1",
        now.to_sqlx() as _,
    )
    .execute(tx.conn())
    .await?;
    let done = sqlx::query!(
        r#"with due as (
             select c.tenant_id, c.provider_id, c.urgent, c.due_at,
               row_number() over (partition by c.tenant_id order by c.urgent desc, c.due_at, c.provider_id)
                 + coalesce(r.places, 0) as turn
             from connection_checks c
             join providers p on p.tenant_id = c.tenant_id and p.id = c.provider_id
             join tenants t on t.id = c.tenant_id
             left join (select tenant_id, count(*) as places from connection_checks
                        where slot is not null group by tenant_id) r on r.tenant_id = c.tenant_id
             where c.due_at <= $1 and c.slot is null
               and not p.is_deleted and not p.suspend and not t.is_deleted and not t.suspend
           ), free as (
             select n, row_number() over (order by n) as place
             from generate_series(1, $2::integer) n
             where not exists (select from connection_checks r where r.slot = n)
           ), chosen as (
             select tenant_id, provider_id, row_number() over (order by urgent desc, turn, due_at, provider_id) as place
             from due
           )
           update connection_checks c set
             slot = f.n, number = c.number + 1, running_subject = c.subject, started_at = $1
           from chosen d join free f on f.place = d.place
           where c.tenant_id = d.tenant_id and c.provider_id = d.provider_id"#,
        now.to_sqlx() as _,
        parallelism,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected())
}
