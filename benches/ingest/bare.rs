//! The reference: a binary COPY of rows that are there already, into tables without row
//! security.

use std::time::Instant;

use futures::TryStreamExt as _;
use prowler_operator::domain::uuid7;
use prowler_operator::store::publication::Attempt;
use sqlx::PgConnection;

use crate::account::count;
use crate::db::run;

/// What a publication writes of a scan, in the order of the tables' foreign keys.
const SCAN: [&str; 3] = [
    "findings",
    "resource_finding_mappings",
    "provider_finding_states",
];
/// What it writes besides when it is the account's first.
const FIRST: [&str; 4] = [
    "check_metadata",
    "resources",
    "resource_tags",
    "resource_tag_mappings",
];
const PART: usize = 1024 * 1024;

/// Tables as ours, with their indexes and months, in a schema of their own.
pub struct Bare;

/// The rows of one table, encoded.
pub struct Rows {
    table: &'static str,
    encoded: Vec<u8>,
}

impl Bare {
    /// Makes the tables and fills them with what ours hold.
    pub async fn new(conn: &mut PgConnection) -> Self {
        run(conn, "create schema bare").await;
        for table in FIRST.into_iter().chain(SCAN) {
            let months: Vec<(String, String)> = sqlx::query_as(
                "select c.relname::text, pg_get_expr(c.relpartbound, c.oid)
                 from pg_inherits i join pg_class c on c.oid = i.inhrelid
                 where i.inhparent = ('prowler.' || $1)::regclass",
            )
            .bind(table)
            .fetch_all(&mut *conn)
            .await
            .unwrap();
            let by_month = if months.is_empty() {
                ""
            } else if table == "findings" {
                "partition by range (id)"
            } else {
                "partition by range (finding_id)"
            };
            run(
                conn,
                &format!(
                    "create table bare.{table} (like prowler.{table} including all) {by_month}"
                ),
            )
            .await;
            for (month, bound) in months {
                run(
                    conn,
                    &format!("create table bare.{month} partition of bare.{table} {bound}"),
                )
                .await;
            }
            run(
                conn,
                &format!("insert into bare.{table} select * from prowler.{table}"),
            )
            .await;
        }
        Self
    }

    /// Loads rows in one transaction, and looks whether they are all there; seconds of loading.
    pub async fn load(&self, conn: &mut PgConnection, rows: Vec<Rows>, attempt: &Attempt) -> f64 {
        let tenant = attempt.tenant;
        run(
            conn,
            &format!("delete from bare.provider_finding_states where tenant_id = '{tenant}'"),
        )
        .await;
        let started = Instant::now();
        run(conn, "begin").await;
        for Rows { table, encoded } in &rows {
            let statement = format!("copy bare.{table} from stdin (format binary)");
            let mut copy = conn.copy_in_raw(&statement).await.unwrap();
            for part in encoded.chunks(PART) {
                copy.send(part).await.unwrap();
            }
            copy.finish().await.unwrap();
        }
        run(conn, "commit").await;
        let seconds = started.elapsed().as_secs_f64();
        for table in FIRST.into_iter().chain(SCAN) {
            let ours = count(conn, &format!("prowler.{table}"), tenant).await;
            let bare = count(conn, &format!("bare.{table}"), tenant).await;
            assert_eq!(ours, bare, "rows of {table}");
        }
        seconds
    }
}

/// The rows that the publication of this attempt wrote, the account's scan number `scan`.
pub async fn rows(conn: &mut PgConnection, attempt: &Attempt, scan: usize) -> Vec<Rows> {
    let first: &[&str] = if scan == 0 { &FIRST } else { &[] };
    let (from, to) = uuid7::finding_ids(attempt.scan);
    let mut rows = Vec::new();
    for table in first.iter().copied().chain(SCAN) {
        // In the order in which they were written; those of a scan are a range of ids.
        let which = match table {
            "findings" => format!("and id between '{from}' and '{to}' order by id"),
            "resource_finding_mappings" => {
                format!("and finding_id between '{from}' and '{to}' order by finding_id")
            }
            _ => String::new(),
        };
        let statement = format!(
            "copy (select * from prowler.{table} where tenant_id = '{}' {which})
             to stdout (format binary)",
            attempt.tenant
        );
        let mut encoded = Vec::new();
        let mut parts = conn.copy_out_raw(&statement).await.unwrap();
        while let Some(part) = parts.try_next().await.unwrap() {
            encoded.extend_from_slice(&part);
        }
        rows.push(Rows { table, encoded });
    }
    rows
}
