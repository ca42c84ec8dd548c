//! Bytes on disk for each finding, of real findings: what they are, table by table.
//!
//! `cargo bench --bench storage` (set FINDINGS=2000 for a quick look). Files of real Prowler are
//! made larger by copies of their findings about resources of other names, and published twice, as
//! two scans of an account; what the tables grow by is measured after each.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    missing_docs
)]

#[path = "ingest/account.rs"]
#[expect(dead_code, reason = "the benchmark of speed uses more of it")]
mod account;
#[path = "../tests/support/db.rs"]
mod db;
#[path = "../tests/support/ocsf.rs"]
mod ocsf;
#[path = "ingest/publisher.rs"]
#[expect(dead_code, reason = "the benchmark of speed uses more of it")]
mod publisher;

use std::path::Path;

use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::store::partitions;
use serde_json::{Value, json};
use sqlx::PgConnection;

use account::Account;
use publisher::Order;

/// What the budget allows for a finding, in bytes.
const BUDGET: f64 = 1500.0;
/// Type and uid of the account.
const ACCOUNTS: [(&str, &str); 2] = [("kubernetes", "prowler-local"), ("aws", "123456789012")];

fn main() {
    publisher::main(run());
}

async fn run() {
    let findings = publisher::findings(20_000);
    println!("\n### Storage ({findings} findings an account)\n");
    println!(
        "| findings of real Prowler | in the file | a first scan's, on disk | a second scan's | budget |"
    );
    println!("|---|---|---|---|---|");
    let mut parts = Vec::new();
    for (name, uid) in ACCOUNTS {
        let dir = tempfile::tempdir().unwrap();
        let (file, bytes) = write(dir.path(), name, findings);
        let database = db::Db::durable().await;
        partitions::ensure_months(&database.admin().await, SystemClock.now(), 1)
            .await
            .unwrap();
        let mut conn = database.superuser_conn().await;
        let account = Account::of(name, uid, &mut conn).await;
        let mut sizes = vec![Sizes::now(&mut conn).await];
        for _ in 0..2 {
            let attempt = account.scan(&mut conn).await;
            let order = Order {
                database: database.user_url(),
                attempt,
                file: file.clone(),
            };
            tokio::task::spawn_blocking(move || order.hand_over())
                .await
                .unwrap();
            sizes.push(Sizes::now(&mut conn).await);
        }
        let each = |scan: usize| {
            let grown = sizes[scan + 1].sum() - sizes[scan].sum();
            grown as f64 / findings as f64
        };
        println!(
            "| {name} | {:.0} bytes | **{:.0} bytes** | **{:.0} bytes** | ≤ {BUDGET:.0} |",
            bytes as f64 / findings as f64,
            each(0),
            each(1),
        );
        parts.push((name, sizes));
    }
    println!("\n| bytes for each finding of a first scan | table | indexes | toast |");
    println!("|---|---|---|---|");
    for (name, sizes) in &parts {
        for (table, now) in &sizes[1].0 {
            let then = sizes[0].of(table);
            let each = |part: usize| (now[part] - then[part]) as f64 / findings as f64;
            if (0..3).any(|part| each(part) >= 0.5) {
                println!(
                    "| {name}: {table} | {:.0} | {:.0} | {:.0} |",
                    each(0),
                    each(1),
                    each(2)
                );
            }
        }
    }
}

/// Copies of the real findings, as many as wanted, compressed as `upload` does; the bytes before.
fn write(dir: &Path, name: &str, findings: usize) -> (std::path::PathBuf, usize) {
    let real = real(name);
    let copies: Vec<Value> = (0..findings)
        .map(|number| copy(&real[number % real.len()], number / real.len()))
        .collect();
    let whole = serde_json::to_vec_pretty(&copies).unwrap();
    let path = dir.join("copies.zst");
    std::fs::write(&path, zstd::encode_all(&whole[..], 3).unwrap()).unwrap();
    (path, whole.len())
}

/// What the newest of the releases kept among the fixtures found.
fn real(name: &str) -> Vec<Value> {
    let fixtures = std::fs::read_dir("tests/fixtures/real").unwrap();
    let paths = fixtures.map(|entry| entry.unwrap().path());
    let newest = paths.filter(|path| {
        let file = path.file_name().unwrap().to_string_lossy();
        file.starts_with(name) && file.ends_with(".zst")
    });
    let text = std::fs::read(newest.max().unwrap()).unwrap();
    serde_json::from_slice(&zstd::decode_all(&text[..]).unwrap()).unwrap()
}

/// The same finding about another resource.
fn copy(record: &Value, number: usize) -> Value {
    let mut copy = record.clone();
    let mut rename = |pointer: &str| {
        if let Some(name) = copy.pointer_mut(pointer) {
            *name = json!(format!("{}-{number}", name.as_str().unwrap_or_default()));
        }
    };
    for pointer in ["/finding_info/uid", "/resources/0/uid", "/resources/0/name"] {
        rename(pointer);
    }
    copy
}

/// Bytes of each table (its partitions together): itself, its indexes, its toast.
struct Sizes(Vec<(String, [i64; 3])>);

impl Sizes {
    async fn now(conn: &mut PgConnection) -> Self {
        let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
            "select coalesce(p.relname, c.relname)::text,
               sum(pg_relation_size(c.oid))::bigint, sum(pg_indexes_size(c.oid))::bigint,
               sum(coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0))::bigint
             from pg_class c
             left join pg_inherits i on i.inhrelid = c.oid
             left join pg_class p on p.oid = i.inhparent
             where c.relnamespace = 'prowler'::regnamespace and c.relkind = 'r'
             group by 1 order by 1",
        )
        .fetch_all(conn)
        .await
        .unwrap();
        Self(
            rows.into_iter()
                .map(|(table, own, indexes, toast)| (table, [own, indexes, toast]))
                .collect(),
        )
    }

    fn of(&self, table: &str) -> [i64; 3] {
        let found = self.0.iter().find(|(name, _)| name == table);
        found.map_or([0; 3], |(_, sizes)| *sizes)
    }

    fn sum(&self) -> i64 {
        self.0.iter().flat_map(|(_, sizes)| sizes).sum()
    }
}
