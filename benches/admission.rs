//! Admission alone: 50,000 scans of 1,000 tenants in line. How fast they are let in, how long one
//! pass takes, what it costs to know why all the others wait, and the memory of both.
//!
//! `cargo bench --bench admission` (set SCANS=5000 for a quick look). Beside it, in the same run and on
//! the same rows, stands a queue that knows no limits but one over all, and no fairness: whoever came
//! first is marked as running. That is the least a queue in Postgres can cost.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    missing_docs
)]

#[path = "../tests/support/db.rs"]
mod db;

use std::time::{Duration, Instant};

use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::domain::queue::{Limits, Running};
use prowler_operator::store::AdminStore;
use prowler_operator::store::admin::admission::{admit, holders, in_line};
use sqlx::{AssertSqlSafe, PgConnection};

const TENANTS: usize = 1_000;
/// Scans at once over all tenants: the chart's default, and a large installation.
const AT_ONCE: [i32; 2] = [20, 500];
const ROUNDS: usize = 3;
/// Passes that are timed in a round; each lets as many in as have ended.
const PASSES: usize = 40;

fn main() {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(run());
}

async fn run() {
    let scans = std::env::var("SCANS").ok().and_then(|n| n.parse().ok());
    let scans: usize = scans.unwrap_or(50_000);
    let db = db::Db::durable().await;
    let mut conn = db.admin_conn().await;
    fill(&mut conn, scans).await;
    let admin = db.admin().await;
    println!("\n### Admission ({scans} scans of {TENANTS} tenants in line)\n");
    println!(
        "| scans at once | a pass, p50 / p99 | admissions/s | first come, no limits: admissions/s | ratio | a pass without room |"
    );
    println!("|---|---|---|---|---|---|");
    for at_once in AT_ONCE {
        row(at_once, &admin, &mut conn).await;
    }
    why(scans, &admin, &mut conn).await;
    println!(
        "\nMedian of {ROUNDS} rounds of {PASSES} passes each, after each of which all that run have ended. Kueue publishes about 42 admissions/s; the budget is 500/s."
    );
}

async fn exec(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await
        .unwrap();
}

/// Each tenant with as many accounts as scans, of two types; priorities differ.
async fn fill(conn: &mut PgConnection, scans: usize) {
    let each = scans / TENANTS;
    exec(
        conn,
        &format!(
            "insert into tenants (id, name, concurrent_scans)
               select md5('t' || n)::uuid, 'tenant-' || n, 5 from generate_series(1, {TENANTS}) n;
             insert into providers (tenant_id, id, provider, uid, name, namespace)
               select md5('t' || n)::uuid, md5('p' || n || '-' || a)::uuid,
                 case when a % 3 = 0 then 'gcp' else 'aws' end, 'account-' || a, 'p-' || a, 't-' || n
               from generate_series(1, {TENANTS}) n, generate_series(1, {each}) a;
             insert into scans (tenant_id, id, provider_id, namespace, name, object_uid, trigger, priority)
               select p.tenant_id, ('019ac000-' || substr(md5(p.id::text), 1, 4) || '-7'
                   || substr(md5(p.id::text), 5, 3) || '-8' || substr(md5(p.id::text), 8, 3) || '-'
                   || substr(md5(p.id::text), 11, 12))::uuid,
                 p.id, p.namespace, 's-' || p.name, gen_random_uuid(), 'scheduled',
                 (length(p.uid) % 3) - 1
               from providers p;
             analyze"
        ),
    )
    .await;
}

/// Those that run have ended, and as many others stand in line: it stays as long.
async fn end_all(conn: &mut PgConnection) {
    exec(
        conn,
        "update scans set state = 'available', attempt = 0, holds_account = false, slot = null,
           queue_slot = null, limited_type = null, type_slot = null,
           id = ('019ac000-' || substr(md5(random()::text), 1, 4) || '-7' || substr(md5(random()::text), 1, 3)
             || '-8' || substr(md5(random()::text), 1, 3) || '-' || substr(md5(random()::text), 1, 12))::uuid
         where holds_account",
    )
    .await;
}

async fn row(at_once: i32, admin: &AdminStore, conn: &mut PgConnection) {
    let limits = Limits {
        all: Some(at_once),
        kinds: [("gcp".to_owned(), at_once / 2)].into(),
    };
    let (mut ours, mut bare, mut passes, mut full) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (mut time, mut count) = (Duration::ZERO, 0);
        for _ in 0..PASSES {
            let begun = Instant::now();
            let admitted = admit(admin, &limits, SystemClock.now()).await.unwrap();
            passes.push(begun.elapsed());
            time += begun.elapsed();
            count += admitted.len();
            if usize::try_from(at_once).unwrap() == admitted.len() {
                let begun = Instant::now();
                assert!(
                    admit(admin, &limits, SystemClock.now())
                        .await
                        .unwrap()
                        .is_empty()
                );
                full.push(begun.elapsed());
            }
            end_all(conn).await;
        }
        ours.push(count as f64 / time.as_secs_f64());
        let (mut time, mut count) = (Duration::ZERO, 0);
        for _ in 0..PASSES {
            let begun = Instant::now();
            count += first_come(conn, at_once).await;
            time += begun.elapsed();
            end_all(conn).await;
        }
        bare.push(count as f64 / time.as_secs_f64());
        exec(conn, "vacuum analyze scans").await;
    }
    let (ours, bare) = (median(&mut ours), median(&mut bare));
    passes.sort();
    full.sort();
    let at = |percent: usize| ms(passes[(passes.len() - 1) * percent / 100]);
    println!(
        "| {at_once} | {} / {} ms | {ours:.0} | {bare:.0} | {:.2} | {} ms |",
        at(50),
        at(99),
        ours / bare,
        full.get(full.len() / 2)
            .map_or_else(String::new, |time| ms(*time)),
    );
}

/// The queue that knows nothing but who came first.
async fn first_come(conn: &mut PgConnection, at_once: i32) -> usize {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "update scans s set state = 'executing', attempt = s.attempt + 1, holds_account = true,
           slot = n.n, queue_slot = n.n, started_at = now(), attempt_started_at = now(),
           updated_at = now()
         from (select tenant_id, id, row_number() over () as n from (
           select tenant_id, id from scans where state = 'available' and not is_deleted
           order by priority desc, id limit {at_once} for update skip locked) next) n
         where s.tenant_id = n.tenant_id and s.id = n.id returning s.id"
    )))
    .fetch_all(conn)
    .await
    .unwrap();
    rows.len()
}

/// What it costs to know why everybody waits.
async fn why(scans: usize, admin: &AdminStore, conn: &mut PgConnection) {
    let limits = Limits {
        all: Some(AT_ONCE[0]),
        ..Limits::default()
    };
    admit(admin, &limits, SystemClock.now()).await.unwrap();
    let before = resident();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let waiting = in_line(admin, SystemClock.now()).await.unwrap();
        let holders = holders(admin).await.unwrap();
        let running = Running::of(holders, limits.clone());
        let told = waiting
            .iter()
            .filter(|one| running.why(one).is_some())
            .count();
        times.push(begun.elapsed());
        assert_eq!(told, scans - usize::try_from(AT_ONCE[0]).unwrap());
    }
    times.sort();
    println!(
        "\nWhy each of the others waits, in a sentence: {} ms for all of them, and {:.0} MiB for as long.",
        ms(times[times.len() / 2]),
        peak() - before
    );
    end_all(conn).await;
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

fn resident() -> f64 {
    status("VmRSS:")
}

fn peak() -> f64 {
    status("VmHWM:")
}

/// MiB of this process.
fn status(which: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(which)).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}
