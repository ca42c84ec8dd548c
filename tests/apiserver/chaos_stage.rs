//! The stage: servers, simulated nodes, tenants with their schedules, and two controllers, each behind
//! links of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use prowler_operator::api::{Provider, Scan, ScanSchedule, Tenant};
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Faults;
use crate::support::apiserver::ApiServer;
use crate::support::controller;
use crate::support::db::{Db, run};
use crate::support::link::Link;

const TENANTS: usize = 10;
const EACH: usize = 20;
/// Schedules, each of a Provider of its own.
pub const SCHEDULES: usize = TENANTS * EACH;
/// Scans at once of a tenant.
const CONCURRENT: i32 = 8;

const CONFIG: &str = "
upload: {image: 'localhost/operator:1'}
schedules: {minimumInterval: 1m}
queues: {scans: {maxConcurrent: 50, maxConcurrentPerProviderType: {github: 15}}}
retry: {maxAttempts: 3, backoffSeconds: 2, backoffCapSeconds: 5}
connectionChecks: {parallelism: 0}
scanner: {image: 'localhost/scanner:1', networkPolicy: {enabled: false}}
isolationCanary: {intervalSeconds: 86400}
";

/// Puts down each time that more is let in than a limit allows, in the transaction that does it. In a
/// schema of its own: in ours the program would refuse to start beside it.
const AUDIT: &str = "
    create schema audited;
    create table audited.violations (at timestamptz, what text);
    create view audited.exceeded as
      select 'account' as what from prowler.scans where holds_account
        group by tenant_id, provider_id having count(*) > 1
      union all select 'tenant' from prowler.scans s join prowler.tenants t on t.id = s.tenant_id
        where s.holds_account group by t.id, t.concurrent_scans
        having count(*) > t.concurrent_scans
      union all select 'type' from prowler.scans s
        join prowler.providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
        where s.holds_account and p.provider = 'github' having count(*) > 15
      union all select 'all' from prowler.scans where holds_account having count(*) > 50;
    create function audited.look() returns trigger language plpgsql security definer as $$ begin
      insert into audited.violations select now(), what from audited.exceeded;
      return null;
    end $$;
    grant usage on schema audited to public;
    grant select on all tables in schema audited to public;
    create trigger audit after update on prowler.scans
      for each statement execute function audited.look();";

/// What a server does in the end, for a quarter of what runs.
const PUBLISH: &str = "
    update prowler.scans set state = 'completed', published_attempt = attempt,
      completed_at = now(), duration = 1, reason = null, message = null,
      counts = '{\"total\": 0, \"pass\": 0, \"fail\": 0, \"manual\": 0, \"muted\": 0,
        \"new\": 0, \"changed\": 0, \"critical\": 0, \"high\": 0, \"medium\": 0,
        \"low\": 0, \"informational\": 0}', updated_at = now()
    where state = 'executing' and job_uid is not null and random() < 0.25
      and attempt_started_at < now() - interval '1 second'";

pub struct Links {
    pub api: Arc<Link>,
    pub database: Arc<Link>,
}

impl Links {
    async fn to(api: u16, database: u16) -> Self {
        Self {
            api: Link::to(api).await,
            database: Link::to(database).await,
        }
    }
}

pub struct Stage {
    db: Db,
    client: Client,
    pub links: [Links; 2],
    dir: tempfile::TempDir,
    running: [Option<Child>; 2],
    over: Arc<AtomicBool>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill(0);
        self.kill(1);
    }
}

fn object(name: &str, spec: &Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

fn tenant(number: usize) -> String {
    format!("tenant-{number}")
}

impl Stage {
    pub async fn build() -> Self {
        let server = ApiServer::alone().await;
        server.run_controllers(&["job-controller", "garbage-collector-controller"]);
        let stages = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apiserver/chaos_pods.yaml");
        server.run_nodes(&stages);
        let (client, db) = (server.client(), Db::alone().await);
        let links = [
            Links::to(server.port(), db.port()).await,
            Links::to(server.port(), db.port()).await,
        ];
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("ca.crt"), server.ca()).unwrap();
        std::fs::write(file("config.yaml"), CONFIG).unwrap();
        let kubeconfig = std::fs::read_to_string(server.kubeconfig()).unwrap();
        for (which, links) in links.iter().enumerate() {
            let text = links.api.instead(&kubeconfig);
            std::fs::write(file(&format!("kubeconfig-{which}")), text).unwrap();
        }
        let mut superuser = PgConnection::connect(&db.superuser_url()).await.unwrap();
        run(&mut superuser, AUDIT).await;
        let mut stage = Self {
            db,
            client,
            links,
            dir,
            running: [None, None],
            over: Arc::default(),
        };
        stage.furnish().await;
        stage.start(0);
        stage.start(1);
        stage.arm().await;
        stage
    }

    async fn furnish(&self) {
        self.create(
            "default",
            json!({ "apiVersion": "v1", "kind": "Secret",
                "metadata": { "name": "prowler-operator-installation" },
                "stringData": { "id": "11111111-2222-4333-8444-555555555555" } }),
            Api::<Secret>::namespaced,
        )
        .await;
        for node in 0..3 {
            let node = json!({ "metadata": { "name": format!("node-{node}"),
                "annotations": { "kwok.x-k8s.io/node": "fake" } } });
            let all = |client, _: &str| Api::<Node>::all(client);
            self.create("", node, all).await;
        }
        for number in 0..TENANTS {
            let name = tenant(number);
            let all = |client, _: &str| Api::<Namespace>::all(client);
            self.create("", json!({ "metadata": { "name": name } }), all)
                .await;
            let spec = json!({ "namespaces": [name], "limits": { "concurrentScans": CONCURRENT } });
            let all = |client, _: &str| Api::<Tenant>::all(client);
            self.create("", object(&name, &spec), all).await;
            let account = json!({ "metadata": { "name": "default" } });
            let service = Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced;
            self.create(&name, account, service).await;
            for (secret, data) in [
                (
                    "aws",
                    json!({ "aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "x" }),
                ),
                ("github", json!({ "personal_access_token": "x" })),
            ] {
                let secret = json!({ "metadata": { "name": secret,
                    "labels": { "prowler-operator.dev/credentials": "true" } }, "stringData": data });
                self.create(&name, secret, Api::<Secret>::namespaced).await;
            }
            for one in 0..EACH {
                let (account, kind) = (
                    number * EACH + one,
                    if one % 3 == 0 { "github" } else { "aws" },
                );
                let uid = match kind {
                    "aws" => format!("{account:012}"),
                    _ => format!("org-{account}"),
                };
                let provider = json!({ "provider": kind, "uid": uid,
                    "credentials": { "type": "static", "secretRef": { "name": kind } } });
                let called = format!("p-{one:02}");
                self.create(
                    &name,
                    object(&called, &provider),
                    Api::<Provider>::namespaced,
                )
                .await;
            }
        }
    }

    /// A schedule for each account, once all accounts are stored: a due time that passes before that is
    /// nobody's.
    async fn arm(&self) {
        let begun = Instant::now();
        while self.count("providers").await < i64::try_from(SCHEDULES).unwrap() {
            assert!(begun.elapsed() < super::PATIENCE, "{}", self.logs());
            sleep(Duration::from_millis(200)).await;
        }
        for number in 0..TENANTS {
            for one in 0..EACH {
                let called = format!("p-{one:02}");
                let policy = ["Forbid", "Allow", "Replace"][one % 3];
                let mut spec = json!({ "providerRefs": [{ "name": called }],
                    "concurrencyPolicy": policy });
                if one % 2 == 0 {
                    spec["schedule"] = json!("* * * * *");
                } else {
                    spec["interval"] = json!("1m");
                }
                self.create(
                    &tenant(number),
                    object(&called, &spec),
                    Api::<ScanSchedule>::namespaced,
                )
                .await;
            }
        }
    }

    async fn create<K>(&self, namespace: &str, object: Value, api: impl Fn(Client, &str) -> Api<K>)
    where
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let object = serde_json::from_value(object).unwrap();
        let api = api(self.client.clone(), namespace);
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    pub fn start(&mut self, which: usize) {
        let file = |name: &str| self.dir.path().join(name);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log(which))
            .unwrap();
        let database = &self.links[which].database;
        let user = database.instead(&self.db.user_url());
        let admin = database.instead(&self.db.admin_url());
        let kubeconfig = file(&format!("kubeconfig-{which}"));
        let child = controller::command(self.dir.path(), &kubeconfig, &user, &admin)
            .env("POD_NAME", format!("controller-{which}"))
            .env("HEALTH_ADDR", "127.0.0.1:0")
            .env("LOG_LEVEL", "warn")
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        self.running[which] = Some(child);
    }

    pub fn kill(&mut self, which: usize) {
        if let Some(mut child) = self.running[which].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Fails where a controller has ended by itself.
    pub fn is_running(&mut self) {
        for which in 0..2 {
            let ended = self.running[which].as_mut().map(Child::try_wait);
            if let Some(Ok(Some(status))) = ended {
                panic!("controller {which} ended: {status}\n{}", self.logs());
            }
        }
    }

    fn log(&self, which: usize) -> PathBuf {
        self.dir.path().join(format!("log-{which}"))
    }

    /// The end of what both controllers had to say.
    pub fn logs(&self) -> String {
        let tail = |which| {
            let log = std::fs::read_to_string(self.log(which)).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(25).map(str::to_owned).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        format!("{}\n---\n{}", tail(0), tail(1))
    }

    /// Rows of a table, or of what follows `from`.
    pub async fn count(&self, from: &str) -> i64 {
        let mut conn = self.db.admin_conn().await;
        sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {from}")))
            .fetch_one(&mut conn)
            .await
            .unwrap_or_else(|error| panic!("{from}: {error}"))
    }

    /// Stands in for the server: publishes what runs, now and then.
    pub fn publish(&self) -> JoinHandle<()> {
        let url = self.db.admin_url();
        tokio::spawn(async move {
            let mut conn = PgConnection::connect(&url).await.unwrap();
            loop {
                sleep(Duration::from_millis(300)).await;
                let published = sqlx::raw_sql(PUBLISH).execute(&mut conn).await;
                // Many rows at once, and whatever order a controller has them in: the next does it.
                let passes = |error: sqlx::Error| {
                    let told = error.as_database_error();
                    let code = told.and_then(sqlx::error::DatabaseError::code);
                    assert_eq!(code.as_deref(), Some("40P01"), "{error}");
                };
                published.map_or_else(passes, drop);
            }
        })
    }

    /// Looks for exceeded limits all the time; how often one was.
    pub fn audit(&self) -> JoinHandle<i64> {
        let (url, over) = (self.db.admin_url(), self.over.clone());
        tokio::spawn(async move {
            let mut conn = PgConnection::connect(&url).await.unwrap();
            let mut exceeded = 0;
            while !over.load(Ordering::Relaxed) {
                exceeded += sqlx::query_scalar::<_, i64>("select count(*) from audited.exceeded")
                    .fetch_one(&mut conn)
                    .await
                    .unwrap();
                sleep(Duration::from_millis(50)).await;
            }
            exceeded
        })
    }

    /// Suspends every schedule; until when each was due.
    pub async fn suspend(&mut self) -> Timestamp {
        let until = SystemClock.now();
        for which in 0..2 {
            if self.running[which].is_none() {
                self.start(which);
            }
        }
        let patch = json!({ "spec": { "suspend": true } });
        for number in 0..TENANTS {
            let api = Api::<ScanSchedule>::namespaced(self.client.clone(), &tenant(number));
            for one in 0..EACH {
                api.patch(
                    &format!("p-{one:02}"),
                    &PatchParams::default(),
                    &Patch::Merge(&patch),
                )
                .await
                .unwrap();
            }
        }
        until
    }

    /// Due times of each outcome, those of a stretch one by one.
    pub async fn outcomes(&mut self) -> BTreeMap<String, i64> {
        self.over.store(true, Ordering::Relaxed);
        let mut conn = self.db.admin_conn().await;
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select state || coalesce(' ' || reason, ''), sum(count)::bigint
             from schedule_slots group by 1",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        rows.into_iter().collect()
    }

    /// Due times that have no row or more than one, and rows that are no due time: by what the
    /// schedules say, and when they were stored.
    pub async fn unaccounted(&self, until: Timestamp) -> Vec<String> {
        type Row = (String, bool, jiff_sqlx::Timestamp, jiff_sqlx::Timestamp);
        let mut conn = self.db.admin_conn().await;
        let schedules: Vec<Row> = sqlx::query_as(
            "select namespace || '/' || name, schedule is not null, inserted_at, decided_until
             from schedules",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        assert_eq!(schedules.len(), SCHEDULES);
        let slots: Vec<(String, jiff_sqlx::Timestamp, jiff_sqlx::Timestamp, i64)> = sqlx::query_as(
            "select d.namespace || '/' || d.name, s.due_at, coalesce(s.last_due_at, s.due_at), s.count
             from schedule_slots s join schedules d on d.id = s.schedule_id",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        let mut rows: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
        let mut wrong = Vec::new();
        let minute = SignedDuration::from_mins(1);
        for (name, first, last, count) in slots {
            let (first, last) = (first.to_jiff(), last.to_jiff());
            let stretch = std::iter::successors(Some(first), |time| Some(*time + minute));
            let stretch: Vec<_> = stretch.take_while(|time| *time <= last).collect();
            if stretch.last() != Some(&last) || i64::try_from(stretch.len()).ok() != Some(count) {
                wrong.push(format!("{name}: {first} to {last} are not {count}"));
            }
            rows.entry(name).or_default().extend(stretch);
        }
        for (name, is_cron, stored, decided) in schedules {
            let (stored, decided) = (stored.to_jiff(), decided.to_jiff());
            let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap();
            let next_minute = Timestamp::from_second((stored.as_second() / 60 + 1) * 60).unwrap();
            // At each minute after it was stored, or each minute from then on.
            let first = if is_cron { next_minute } else { whole(stored) };
            let due = std::iter::successors(Some(first), |time| Some(*time + minute));
            let due: Vec<_> = due.take_while(|time| *time <= decided).collect();
            let mut found = rows.remove(&name).unwrap_or_default();
            found.sort();
            if found != due {
                wrong.push(format!("{name}: due {due:?}, found {found:?}"));
            }
            if decided + minute <= until {
                wrong.push(format!("{name}: nothing was decided after {decided}"));
            }
        }
        wrong
    }

    /// What the run came to, as a table.
    pub async fn summary(&self, faults: &Faults, outcomes: &BTreeMap<String, i64>) -> String {
        let mut conn = self.db.admin_conn().await;
        let scans: Vec<(String, i64, i64)> = sqlx::query_as(
            "select state, count(*), sum(attempt)::bigint from scans group by state order by state",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        let list = |pairs: Vec<String>| pairs.join(", ");
        let repairs = ListParams::default().fields("reason=Recounted");
        let repairs = Api::<Event>::all(self.client.clone())
            .list(&repairs)
            .await
            .unwrap();
        let told = |event: &Event| event.series.as_ref().map_or(1, |series| series.count);
        let repairs: i32 = repairs.iter().map(told).sum();
        let late: Option<f64> = sqlx::query_scalar(
            "select percentile_cont(0.99) within group (order by extract(epoch from inserted_at - due_at))::float8
             from schedule_slots where state = 'created'",
        )
        .fetch_one(&mut conn)
        .await
        .unwrap();
        format!(
            "faults: {}\ndue times: {}\nscans: {}\nrepairs of the ledger: {repairs}\nclaimed within {:.1} s of their due time (99 %)",
            list(
                faults
                    .iter()
                    .map(|(kind, count)| format!("{count} {kind}"))
                    .collect()
            ),
            list(
                outcomes
                    .iter()
                    .map(|(kind, count)| format!("{count} {kind}"))
                    .collect()
            ),
            list(
                scans
                    .iter()
                    .map(|(state, count, attempts)| format!(
                        "{count} {state} in {attempts} attempts"
                    ))
                    .collect()
            ),
            late.unwrap_or_default(),
        )
    }

    /// Waits until nothing is written any more for so long.
    pub async fn is_quiet(&self, time: Duration) {
        let begun = Instant::now();
        let (mut before, mut since) = (self.versions().await, Instant::now());
        while since.elapsed() < time {
            sleep(Duration::from_millis(500)).await;
            let now = self.versions().await;
            if now != before {
                let changed: Vec<_> = now
                    .iter()
                    .filter(|(key, version)| before.get(*key) != Some(*version))
                    .take(5)
                    .collect();
                assert!(
                    begun.elapsed() < super::PATIENCE,
                    "still written: {changed:?}\n{}",
                    self.logs()
                );
                (before, since) = (now.clone(), Instant::now());
            }
        }
    }

    /// Versions of all objects and rows that controllers write.
    async fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        self.versions_of::<Tenant>(&mut versions).await;
        self.versions_of::<Provider>(&mut versions).await;
        self.versions_of::<ScanSchedule>(&mut versions).await;
        self.versions_of::<Scan>(&mut versions).await;
        self.versions_of::<Job>(&mut versions).await;
        self.versions_of::<Pod>(&mut versions).await;
        let mut conn = self.db.admin_conn().await;
        for table in [
            "tenants",
            "providers",
            "schedules",
            "schedule_providers",
            "schedule_slots",
            "scans",
        ] {
            let sql = format!(
                "select count(*)::text || ' ' || coalesce(max(xmin::text::bigint), 0) from {table}"
            );
            let version = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_one(&mut conn)
                .await
                .unwrap();
            versions.insert(table.to_owned(), version);
        }
        versions
    }

    async fn versions_of<K>(&self, versions: &mut BTreeMap<String, String>)
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let api: Api<PartialObjectMeta<K>> = Api::all(self.client.clone());
        for object in api.list(&ListParams::default()).await.unwrap() {
            let name = format!(
                "{} {}/{}",
                K::kind(&()),
                object.namespace().unwrap_or_default(),
                object.name_any()
            );
            versions.insert(name, object.resource_version().unwrap_or_default());
        }
    }
}
