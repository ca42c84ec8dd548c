//! Thousands of schedules that are due at the same second: how late their due times are claimed and
//! what is made of them, beside as many stock `CronJob`s on the same API server.
//!
//! `cargo bench --bench schedules` (set SCHEDULES=500 for a quick look). The controller is the real
//! binary. A claim is dated by its commit, as Postgres tells it; a `CronJob` by when a watch shows the
//! Job it made.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    missing_docs
)]

#[path = "../tests/support/apiserver.rs"]
mod apiserver;
#[path = "../tests/support/controller.rs"]
mod controller;
#[path = "../tests/support/db.rs"]
mod db;
#[path = "shared/objects.rs"]
mod objects;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use prowler_operator::api::ScanSchedule;
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::PgConnection;

use controller::{Operator, PATIENCE};
use objects::{each, make_provider, make_secret, make_tenants, name, namespace, ours};

const TENANTS: usize = 100;
/// Between the last schedule and the second at which all are due.
const AHEAD: SignedDuration = SignedDuration::from_secs(45);

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(run());
}

async fn run() {
    let count = std::env::var("SCHEDULES").ok().and_then(|n| n.parse().ok());
    let count: usize = count.unwrap_or(5_000);
    let server = apiserver::ApiServer::alone().await;
    let client = server.client();
    let (ours, made) = schedules(count, server, &client).await;
    let theirs = cron_jobs(count, server, &client).await;
    println!("\n### Schedules ({count} due at the same second, of {TENANTS} tenants)\n");
    println!("| | p50 | p99 | the last |");
    println!("|---|---|---|---|");
    println!("| due time to committed claim | {} |", row(&ours));
    println!("| stock CronJobs: due time to Job | {} |", row(&theirs));
    println!("\n{made}");
    println!("\nBudget: claims committed within 1 s (p99), none lost, none twice.");
}

/// Seconds.
fn row(late: &[f64]) -> String {
    let at = |percent: usize| late[(late.len() - 1) * percent / 100];
    format!("{:.2} s | {:.2} s | {:.2} s", at(50), at(99), at(100))
}

/// A minute's beginning not before this.
fn minute_after(time: Timestamp) -> Timestamp {
    Timestamp::from_second((time.as_second() / 60 + 1) * 60).unwrap()
}

fn cron(due: Timestamp) -> String {
    due.strftime("%-M %-H %-d %-m *").to_string()
}

async fn sleep_until(time: Timestamp) {
    let left = time.duration_since(SystemClock.now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
}

/// How late each due time was claimed, and what became of them.
#[expect(clippy::too_many_lines, reason = "one night, told once")]
async fn schedules(
    count: usize,
    server: &apiserver::ApiServer,
    client: &Client,
) -> (Vec<f64>, String) {
    let database = db::Db::durable_with(&["track_commit_timestamp=on"]).await;
    let mut conn = database.superuser_conn().await;
    // The transaction of each claim: a row that is written again tells another.
    sqlx::raw_sql(
        "create schema bench;
         create table bench.claims (schedule_id uuid, xid xid);
         create function bench.note() returns trigger language plpgsql security definer as $$ begin
           insert into bench.claims
             select schedule_id, pg_current_xact_id()::xid from claimed;
           return null;
         end $$;
         create trigger note after insert on prowler.schedule_slots referencing new table as claimed
           for each statement execute function bench.note();",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    let operator = Operator::prepare(server, &database, client).await;
    operator.configure_with(
        "localhost/scanner:1",
        "queues: {scans: {maxConcurrent: 5000}}\nconnectionChecks: {parallelism: 0}\n",
    );
    let running = operator.start();
    make_tenants(client, TENANTS).await;
    each(0..TENANTS, async |tenant| {
        let keys = json!({ "aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "x" });
        make_secret(client, tenant, "keys", keys).await
    })
    .await;
    each(0..count, async |number| {
        let spec = json!({ "provider": "aws", "uid": format!("{number:012}"),
            "credentials": { "type": "static", "secretRef": { "name": "keys" } } });
        make_provider(
            client,
            &ours(),
            number % TENANTS,
            &name(number),
            json!({}),
            spec,
        )
        .await
    })
    .await;
    until(&mut conn, "select count(*) from prowler.providers", count).await;
    // Once all are armed: due in the minute after the next.
    let begun = Instant::now();
    each(0..count.min(200), async |number| {
        schedule(client, number, "0 0 1 1 *").await
    })
    .await;
    let each_takes = begun.elapsed() / u32::try_from(count.min(200)).unwrap();
    let needed = each_takes * u32::try_from(count).unwrap() * 3;
    let due = minute_after(SystemClock.now() + SignedDuration::try_from(needed).unwrap() + AHEAD);
    each(0..count, async |number| {
        schedule(client, number, &cron(due)).await
    })
    .await;
    let armed =
        format!("select count(*) from prowler.schedules where next_schedule_time = '{due}'");
    until(&mut conn, &armed, count).await;
    assert!(SystemClock.now() < due, "armed in time");
    sleep_until(due).await;

    let slots = "select count(*) from prowler.schedule_slots where state in ('claimed', 'created')";
    let claimed = until(&mut conn, slots, count).await;
    let queued = until(&mut conn, "select count(*) from prowler.scans", count).await;
    let admitted = "select count(*) from prowler.scans where attempt > 0";
    let most = count.min(TENANTS * 5);
    until(&mut conn, admitted, most).await;
    // As the rows tell it: this look comes after the last was queued.
    let (admitted,): (f64,) = sqlx::query_as(
        "select extract(epoch from max(started_at))::float8 from prowler.scans where attempt > 0",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    let admitted = Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(admitted);
    // Nothing twice, and nothing after that.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (rows, distinct, scans): (i64, i64, i64) = sqlx::query_as(
        "select count(*), count(distinct (schedule_id, provider_id, due_at)),
           (select count(*) from prowler.scans) from prowler.schedule_slots",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    let wanted = i64::try_from(count).unwrap();
    assert_eq!(
        (rows, distinct, scans),
        (wanted, wanted, wanted),
        "none twice, none lost"
    );
    let late: Vec<(f64,)> = sqlx::query_as(
        "select extract(epoch from claimed_at - due_at)::float8
         from (select q.due_at, (select min(pg_xact_commit_timestamp(x.xid))
             from bench.claims x where x.schedule_id = q.schedule_id) as claimed_at
           from prowler.schedule_slots q) s order by 1",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let late: Vec<f64> = late.into_iter().map(|(late,)| late).collect();
    assert_eq!(late.len(), count);
    drop(running);
    let rate = |what: usize, at: Timestamp| {
        let took = at.duration_since(due).as_secs_f64();
        format!("{what} in {took:.1} s ({:.0}/s)", what as f64 / took)
    };
    let made = format!(
        "From the due second on: {} claims, {} Scan objects made and queued, {} scans let in (of each tenant its 5).",
        rate(count, claimed),
        rate(count, queued),
        rate(most, admitted)
    );
    (late, made)
}

async fn schedule(client: &Client, number: usize, cron: &str) -> kube::Result<ScanSchedule> {
    let object: ScanSchedule = serde_json::from_value(json!({
        "apiVersion": "prowler-operator.dev/v1alpha1", "kind": "ScanSchedule",
        "metadata": { "name": name(number) },
        "spec": { "schedule": cron, "providerRefs": [{ "name": name(number) }] },
    }))
    .unwrap();
    let api = Api::<ScanSchedule>::namespaced(client.clone(), &namespace(number % TENANTS));
    put(&api, &object, cron).await
}

/// Makes the object, or has the one that is there due at these times.
async fn put<K>(api: &Api<K>, object: &K, cron: &str) -> kube::Result<K>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    match api.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = Patch::Merge(json!({ "spec": { "schedule": cron } }));
            api.patch(&object.name_any(), &PatchParams::default(), &patch)
                .await
        }
        other => other,
    }
}

/// Waits until the query counts so many; when that was.
async fn until(conn: &mut PgConnection, query: &str, count: usize) -> Timestamp {
    let (begun, wanted) = (Instant::now(), i64::try_from(count).unwrap());
    loop {
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        if found >= wanted {
            return SystemClock.now();
        }
        assert!(begun.elapsed() < PATIENCE, "{found} of {wanted}: {query}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How late the Jobs of as many `CronJob`s are.
async fn cron_jobs(count: usize, server: &apiserver::ApiServer, client: &Client) -> Vec<f64> {
    server.run_controllers(&["cronjob-controller"]);
    let seen: Arc<Mutex<Vec<Timestamp>>> = Arc::default();
    let noting = seen.clone();
    let jobs: Api<PartialObjectMeta<Job>> = Api::all(client.clone());
    let watching = tokio::spawn(async move {
        let ours = watcher::Config::default().labels("bench=cronjob");
        let mut jobs = std::pin::pin!(watcher(jobs, ours).default_backoff().touched_objects());
        let mut known = std::collections::HashSet::new();
        while let Some(event) = jobs.next().await {
            if let Ok(job) = event
                && known.insert(job.uid())
            {
                noting.lock().unwrap().push(SystemClock.now());
            }
        }
    });
    let begun = Instant::now();
    let probe = count.min(200);
    each(0..probe, async |number| {
        cron_job(client, number, "0 0 1 1 *").await
    })
    .await;
    let needed =
        begun.elapsed() / u32::try_from(probe).unwrap() * u32::try_from(count).unwrap() * 2;
    let due = minute_after(SystemClock.now() + SignedDuration::try_from(needed).unwrap() + AHEAD);
    each(0..count, async |number| {
        cron_job(client, number, &cron(due)).await
    })
    .await;
    assert!(SystemClock.now() < due, "made in time");
    sleep_until(due).await;
    let begun = Instant::now();
    while seen.lock().unwrap().len() < count {
        assert!(begun.elapsed() < PATIENCE, "{}", seen.lock().unwrap().len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    watching.abort();
    let mut late: Vec<f64> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|at| at.duration_since(due).as_secs_f64())
        .collect();
    late.sort_by(f64::total_cmp);
    late
}

async fn cron_job(client: &Client, number: usize, cron: &str) -> kube::Result<CronJob> {
    let template: Value = json!({ "metadata": { "labels": { "bench": "cronjob" } }, "spec": {
        "suspend": true,
        "template": { "spec": { "restartPolicy": "Never",
            "containers": [{ "name": "scan", "image": "localhost/scanner:1" }] } },
    } });
    let object: CronJob = serde_json::from_value(json!({
        "metadata": { "name": name(number) },
        "spec": { "schedule": cron, "timeZone": "Etc/UTC", "jobTemplate": template },
    }))
    .unwrap();
    let api = Api::<CronJob>::namespaced(client.clone(), &namespace(number % TENANTS));
    put(&api, &object, cron).await
}
