//! Months: the partitions of findings and of what hangs on them.
//!
//! A month is made apart, protected, and attached: a parent's policies do not protect a direct
//! read of a partition, and no moment may exist in which one is readable. There is no default
//! partition: the controller makes a month before it admits a scan of it.

use jiff::{Timestamp, ToSpan as _, Zoned, tz::TimeZone};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use super::{AdminStore, StoreError, TenantTx};
use crate::domain::ids::ScanId;
use crate::domain::uuid7;

/// Tables by month, each ranged on a `UUIDv7`.
pub const PARTITIONED: [&str; 2] = ["findings", "resource_finding_mappings"];

/// Makes the month of `from` and the following ones, `months` in all, in every partitioned
/// table; answers the names of those it made.
///
/// Harmless to repeat and to run twice at once. Waits for no lock longer than a few seconds:
/// [`StoreError::Unavailable`] then, and the next call goes on where this one stopped.
pub async fn ensure_months(
    admin: &AdminStore,
    from: Timestamp,
    months: u32,
) -> Result<Vec<String>, StoreError> {
    let mut made = Vec::new();
    let mut conn = admin.pool().acquire().await?;
    let first = from.to_zoned(TimeZone::UTC);
    for ahead in 0..months {
        let month = month_after(&first, ahead)?;
        for table in PARTITIONED {
            let partition = partition_name(table, &month);
            if ensure(&mut conn, table, &partition, &month).await? {
                tracing::info!(%partition, "made a partition");
                made.push(partition);
            }
        }
    }
    Ok(made)
}

/// Whether the month that a scan's findings belong to is there in every partitioned table.
pub async fn month_exists(tx: &mut TenantTx, scan: ScanId) -> Result<bool, StoreError> {
    let month = uuid7::uuid7_to_datetime(scan.0)
        .map_err(|error| StoreError::Refused(error.to_string()))?
        .to_zoned(TimeZone::UTC);
    for table in PARTITIONED {
        if !is_attached(tx.conn(), table, &partition_name(table, &month)).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many months there are without a gap, from that of `from` on, in every partitioned table;
/// counts to `most`.
pub(super) async fn months_from(
    conn: &mut PgConnection,
    from: Timestamp,
    most: u32,
) -> Result<u32, StoreError> {
    let first = from.to_zoned(TimeZone::UTC);
    for ahead in 0..most {
        let month = month_after(&first, ahead)?;
        for table in PARTITIONED {
            if !is_attached(conn, table, &partition_name(table, &month)).await? {
                return Ok(ahead);
            }
        }
    }
    Ok(most)
}

/// The beginning of the month so many months after that of `first`.
fn month_after(first: &Zoned, ahead: u32) -> Result<Zoned, StoreError> {
    first
        .checked_add(i64::from(ahead).months())
        .and_then(|day| day.first_of_month())
        .and_then(|day| day.start_of_day())
        .map_err(|_| StoreError::Refused("the month lies beyond the calendar".to_owned()))
}

/// Where the oldest month of findings begins; `None` when there is no month.
pub(super) async fn oldest_month(conn: &mut PgConnection) -> Result<Option<Timestamp>, StoreError> {
    // The lower bound as the catalogue prints it: `FOR VALUES FROM ('<uuid>') TO (…)`.
    let bound: Option<String> = sqlx::query_scalar!(
        r#"select min(substring(pg_get_expr(c.relpartbound, c.oid) from '''([0-9a-f-]{36})'''))
           from pg_inherits i
           join pg_class p on p.oid = i.inhparent
           join pg_class c on c.oid = i.inhrelid
           where p.relnamespace = to_regnamespace('prowler') and p.relname = 'findings'"#
    )
    .fetch_one(conn)
    .await?;
    let Some(bound) = bound.and_then(|bound| Uuid::try_parse(&bound).ok()) else {
        return Ok(None);
    };
    let millis = i64::try_from(bound.as_u128() >> 80).unwrap_or(i64::MAX);
    Ok(Timestamp::from_millisecond(millis).ok())
}

/// `findings_2026_nov`.
fn partition_name(table: &str, month: &Zoned) -> String {
    format!("{table}_{}", month.strftime("%Y_%b")).to_lowercase()
}

async fn ensure(
    conn: &mut PgConnection,
    table: &str,
    partition: &str,
    month: &Zoned,
) -> Result<bool, StoreError> {
    // Without the lock: the common case must not wait for another one's work.
    if is_attached(conn, table, partition).await? {
        return Ok(false);
    }
    let mut tx = conn.begin().await?;
    sqlx::query("set local lock_timeout = '5s'")
        .execute(&mut *tx)
        .await?;
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('prowler-operator partitions', 0))")
        .execute(&mut *tx)
        .await?;
    if is_attached(&mut tx, table, partition).await? {
        return Ok(false);
    }
    let next = month
        .checked_add(1.month())
        .map_err(|_| StoreError::Refused("the month lies beyond the calendar".to_owned()))?;
    let (lower, upper) = (bound(month.timestamp())?, bound(next.timestamp())?);
    // Names and bounds are made here, of letters, digits and underscores.
    for statement in [
        format!(
            "create table {partition} (like {table} including defaults including constraints \
             including storage including comments)"
        ),
        format!("select protect('{partition}')"),
        // Migration 17 says why.
        format!("alter table {partition} alter column tenant_id set statistics 0"),
        format!(
            "alter table {table} attach partition {partition} \
             for values from ('{lower}') to ('{upper}')"
        ),
    ] {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(true)
}

async fn is_attached(
    conn: &mut PgConnection,
    table: &str,
    partition: &str,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select exists (
               select from pg_inherits i
               join pg_class p on p.oid = i.inhparent
               join pg_class c on c.oid = i.inhrelid
               where p.relnamespace = to_regnamespace('prowler')
                 and p.relname = $1 and c.relname = $2) as "attached!""#,
        table,
        partition
    )
    .fetch_one(conn)
    .await?)
}

/// The smallest id of this moment; no version bits, so that every id of it is at or above.
fn bound(start: Timestamp) -> Result<Uuid, StoreError> {
    uuid7::floor(start).map_err(|error| StoreError::Refused(error.to_string()))
}
