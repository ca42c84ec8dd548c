//! A fleet: ten thousand Providers of all sixteen types with credentials of their own, over a
//! thousand tenants and namespaces. How fast they become Ready, how soon a restarted controller is
//! quiet, how soon a thousand rotated Secrets are noticed, and how long a new Provider waits while
//! all the others are stored anew.
//!
//! `cargo bench --bench fleet` (set PROVIDERS=1000 for a quick look). The controller is the real
//! binary, and beside each figure stands what a bare client needs for the same calls on the same
//! API server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    missing_docs
)]

#[path = "../tests/support/apiserver.rs"]
mod apiserver;
#[path = "../tests/support/command.rs"]
mod command;
#[path = "../tests/support/controller.rs"]
mod controller;
#[path = "../tests/support/credentials.rs"]
mod credentials;
#[path = "../tests/support/db.rs"]
mod db;
#[path = "shared/objects.rs"]
mod objects;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use prowler_operator::api::Tenant;
use prowler_operator::api::account::ProviderType;
use prowler_operator::api::provider::CredentialsType;
use prowler_operator::domain::credentials::ways;
use serde_json::{Value, json};
use sqlx::PgConnection;

use controller::{CONCURRENCY, Operator, PATIENCE};
use objects::{
    Names, Restart, bare, bare_writes, condition, each, event, make_bare_kind, make_provider,
    make_secret, make_tenants, name, namespace, ours, until_ready, watch_ready,
};

const PER_TENANT: usize = 10;
/// New Providers whose time to Ready is taken, and the pause between them.
const NEW: usize = 200;
const PAUSE: Duration = Duration::from_millis(100);

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(run());
}

/// What an account of a type names and brings along.
struct Kind {
    spec: Value,
    keys: BTreeMap<String, String>,
}

/// One of each type, by its first way in that has a Secret.
fn kinds() -> Vec<Kind> {
    let kind = |provider: ProviderType| {
        let uid = provider.uid_rule().example;
        let way = ways(provider)
            .into_iter()
            .find(|way| way.access.secret.is_some() && way.access.service_account.is_none());
        let access = way.unwrap().access;
        let keys = access.keys.iter();
        let keys = keys.map(|key| (key.clone(), credentials::value(key, uid)));
        let kind: CredentialsType = access.kind.unwrap();
        Kind {
            spec: json!({ "provider": provider.as_str(), "uid": uid,
                          "credentials": { "type": kind.as_str() } }),
            keys: keys.collect(),
        }
    };
    ProviderType::ALL.into_iter().map(kind).collect()
}

struct Place {
    tenants: usize,
    count: usize,
    kinds: Vec<Kind>,
    client: Client,
    operator: Operator,
    ready: Names,
    database: db::Db,
    _server: apiserver::ApiServer,
}

async fn run() {
    let count: usize = std::env::var("PROVIDERS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10_000);
    let place = Place::new(count.div_ceil(PER_TENANT), count).await;
    let mut rows = vec![place.all_new().await];
    for round in 1..=3 {
        rows.push(place.restart(round).await);
    }
    rows.push(place.rotated().await);
    rows.push(place.new_among_all().await);
    let (tenants, kinds) = (place.tenants, place.kinds.len());
    println!(
        "\n### Fleet ({count} Providers of {kinds} types, {tenants} tenants and namespaces, concurrency {CONCURRENCY})\n"
    );
    println!("| what | ours | reference | ratio | | budget |\n|---|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
}

impl Place {
    async fn new(tenants: usize, count: usize) -> Self {
        eprintln!("starting an API server and Postgres");
        let server = apiserver::ApiServer::start(&[]).await;
        let client = server.client();
        let database = db::Db::durable().await;
        let operator = Operator::prepare(&server, &database, &client).await;
        eprintln!("making {tenants} tenants");
        make_tenants(&client, tenants).await;
        let running = operator.start();
        operator
            .until_settled("Tenant", tenants, Instant::now())
            .await;
        drop(running);
        make_bare_kind(&client).await;
        let place = Self {
            tenants,
            count,
            kinds: kinds(),
            ready: watch_ready(Api::all(client.clone())),
            client,
            operator,
            database,
            _server: server,
        };
        eprintln!("making {count} Providers with a Secret each, and as many for the reference");
        place.make_secrets().await;
        for resource in [ours(), bare()] {
            place.make_objects(&resource).await;
        }
        place
    }

    /// Tenant and type of a Provider: ten types of the sixteen to a tenant.
    fn of(&self, number: usize) -> (usize, &Kind) {
        let (tenant, place) = (number % self.tenants, number / self.tenants);
        (tenant, &self.kinds[(tenant + place) % self.kinds.len()])
    }

    async fn make_secrets(&self) {
        each(0..self.count, async |n| {
            let (tenant, kind) = self.of(n);
            make_secret(&self.client, tenant, &name(n), &kind.keys).await
        })
        .await;
    }

    fn secrets(&self, tenant: usize) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &namespace(tenant))
    }

    async fn make_objects(&self, resource: &ApiResource) {
        each(0..self.count, async |n| {
            let (tenant, kind) = self.of(n);
            let mut spec = kind.spec.clone();
            spec["credentials"]["secretRef"] = json!({ "name": name(n) });
            let labels = json!({ "env": "bench" });
            make_provider(&self.client, resource, tenant, &name(n), labels, spec).await
        })
        .await;
    }

    /// What a bare client needs to read a Secret and to make our writes, for every second object.
    async fn bare_writes(&self, half: usize) -> Duration {
        let turn = "The connection is checked when its turn comes.";
        let conditions = [
            condition(
                "CredentialsResolved",
                "True",
                "Succeeded",
                "Secret account-0 has the keys needed.",
            ),
            condition("Connected", "Unknown", "Progressing", turn),
            condition(
                "Ready",
                "True",
                "Succeeded",
                "aws account 000000000000 is stored.",
            ),
        ];
        let started = Instant::now();
        each((0..self.count).filter(|n| n % 2 == half), async |n| {
            let tenant = self.of(n).0;
            self.secrets(tenant).get(&name(n)).await?;
            bare_writes(&self.client, tenant, &name(n), &conditions).await
        })
        .await;
        started.elapsed()
    }

    fn events(&self, tenant: usize) -> Api<Event> {
        Api::namespaced(self.client.clone(), &namespace(tenant))
    }

    async fn all_new(&self) -> String {
        let before = self.bare_writes(0).await;
        let started = Instant::now();
        let running = self.operator.start();
        let new = until_ready(&self.ready, self.count, started, &self.operator).await;
        let memory = running.memory();
        eprintln!("passes:\n{}", self.operator.passes().await);
        let jobs = Api::<Job>::all(self.client.clone());
        let jobs = jobs.list(&ListParams::default()).await.unwrap().items.len();
        let counted = self.until_counted(started).await;
        drop(running);
        let bare = before + self.bare_writes(1).await;
        let ratio = bare.as_secs_f64() / new.as_secs_f64();
        row(
            &format!(
                "all new, until all are Ready, {:.0}/s",
                self.count as f64 / new.as_secs_f64()
            ),
            &seconds(new),
            &format!("the same reads and writes {}", seconds(bare)),
            &format!("**{ratio:.2}** of its rate"),
            &format!(
                "{jobs} Jobs of checks, {:.0} MiB resident (at most {:.0}), counted by their Tenants after {}",
                memory.resident,
                memory.peak,
                seconds(counted)
            ),
            "≥ 0.7, 4 Jobs, 80 MiB",
        )
    }

    /// Until the Tenants show all of them.
    async fn until_counted(&self, started: Instant) -> Duration {
        let tenants = Api::<Tenant>::all(self.client.clone());
        loop {
            let all = tenants.list(&ListParams::default()).await.unwrap();
            let shown = |tenant: &Tenant| tenant.status.as_ref()?.providers;
            if all.iter().filter_map(shown).sum::<i64>() == i64::try_from(self.count).unwrap() {
                return started.elapsed();
            }
            assert!(started.elapsed() < PATIENCE, "{}", self.operator.log());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn restart(&self, round: usize) -> String {
        let restart = Restart::of(&self.operator, &self.client, self.count).await;
        let Restart {
            written, memory, ..
        } = &restart;
        row(
            &format!("restart {round}, until quiet"),
            &seconds(restart.quiet),
            &format!("raw LIST {}", seconds(restart.list)),
            &format!("**{:.2}** × its time", restart.ratio()),
            &format!(
                "{written} writes, {:.0} MiB resident (at most {:.0})",
                memory.resident, memory.peak
            ),
            "≤ 2.5 × (without Secrets), none, 80 MiB",
        )
    }

    /// A Secret in each namespace, changed as whoever rotates it does.
    async fn rotate(&self, mark: &str) {
        let patch = json!({ "metadata": { "annotations": { "rotated": mark } } });
        each(0..self.tenants, async |n| {
            let secrets = self.secrets(n);
            let params = PatchParams::default();
            secrets
                .patch(&name(n), &params, &Patch::Merge(&patch))
                .await
        })
        .await;
    }

    async fn rotated(&self) -> String {
        // The least that must be done: the changes themselves, a look at each, and an event.
        let started = Instant::now();
        self.rotate("reference").await;
        let resource = bare();
        each(0..self.tenants, async |n| {
            let client = self.client.clone();
            let api = Api::<DynamicObject>::namespaced_with(client, &namespace(n), &resource);
            self.secrets(n).get(&name(n)).await?;
            let object = api.get(&name(n)).await?;
            self.events(n)
                .create(&PostParams::default(), &event(&object, &resource))
                .await
        })
        .await;
        let bare = started.elapsed();

        let running = self.operator.start();
        self.operator
            .until_settled("Provider", self.count, Instant::now())
            .await;
        let mut conn = self.database.admin_conn().await;
        remember(&mut conn).await;
        let started = Instant::now();
        self.rotate("now").await;
        let rotating = started.elapsed();
        while changed(&mut conn).await < self.tenants {
            assert!(started.elapsed() < PATIENCE, "{}", self.operator.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seen = started.elapsed();
        drop(running);
        let ratio = seen.as_secs_f64() / bare.as_secs_f64();
        row(
            &format!("{} Secrets rotated, until each is read again", self.tenants),
            &seconds(seen),
            &format!("the same changes, reads and events {}", seconds(bare)),
            &format!("**{ratio:.2}** × its time"),
            &format!("the changes alone took {}", seconds(rotating)),
            "none",
        )
    }

    /// New Providers while nothing else happens, and while all others are stored anew because the
    /// installation's scanner image changed.
    async fn new_among_all(&self) -> String {
        let running = self.operator.start();
        self.operator
            .until_settled("Provider", self.count, Instant::now())
            .await;
        let idle = self.waits(self.count, async || true).await;
        drop(running);
        self.operator.configure("localhost/scanner:2");
        let (mut conn, mut watching) = (
            self.database.admin_conn().await,
            self.database.admin_conn().await,
        );
        remember(&mut conn).await;
        remember(&mut watching).await;
        let started = Instant::now();
        let _running = self.operator.start();
        // Once it is well under way.
        while changed(&mut conn).await < self.count / 50 {
            assert!(started.elapsed() < PATIENCE, "{}", self.operator.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let all = tokio::spawn({
            let count = self.count;
            async move {
                while changed(&mut watching).await < count {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                started.elapsed()
            }
        });
        let busy = self
            .waits(self.count + NEW, async || !all.is_finished())
            .await;
        let all = tokio::time::timeout(PATIENCE, all).await.unwrap().unwrap();
        let said = |waits: &[Duration]| {
            let (half, most) = (seconds(at(waits, 50)), seconds(at(waits, 99)));
            format!("p50 {half}, p99 {most}")
        };
        row(
            &format!(
                "a new Provider until Ready while all others are stored anew ({} of them)",
                busy.len()
            ),
            &said(&busy),
            &format!("while nothing else happens {}", said(&idle)),
            &format!(
                "**{:.1}** × its p99",
                at(&busy, 99).as_secs_f64() / at(&idle, 99).as_secs_f64()
            ),
            &format!("all stored anew after {}", seconds(all)),
            "p99 < 2 s",
        )
    }

    /// How long each of some new Providers takes until it is Ready; the shortest first. `first` is
    /// the number of the first; no more are made once `on` is false.
    async fn waits(&self, first: usize, on: impl AsyncFn() -> bool) -> Vec<Duration> {
        let mut made = Vec::new();
        for number in first..first + NEW {
            if !on().await {
                break;
            }
            let spec = json!({ "provider": "aws", "uid": format!("{number:012}") });
            let tenant = number % self.tenants;
            let begun = Instant::now();
            make_provider(
                &self.client,
                &ours(),
                tenant,
                &name(number),
                json!({}),
                spec,
            )
            .await
            .unwrap();
            made.push((number, begun));
            tokio::time::sleep(PAUSE).await;
        }
        let mut waits = Vec::new();
        for (number, begun) in made {
            let since = loop {
                if let Some(since) = self.ready.lock().unwrap().get(&name(number)) {
                    break *since;
                }
                assert!(begun.elapsed() < PATIENCE, "{}", self.operator.log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            waits.push(since - begun);
        }
        waits.sort();
        waits
    }
}

/// The value that so many in a hundred do not exceed.
fn at(sorted: &[Duration], percent: usize) -> Duration {
    let place = (sorted.len() * percent).div_ceil(100);
    sorted[place.saturating_sub(1)]
}

/// Remembers, for the session, what each check of a connection is to look at.
async fn remember(conn: &mut PgConnection) {
    let now = "create temp table before as select provider_id, subject from connection_checks";
    db::run(conn, &format!("drop table if exists before; {now}")).await;
}

/// How many Providers have been stored with other credentials or another image since.
async fn changed(conn: &mut PgConnection) -> usize {
    let count: i64 = sqlx::query_scalar(
        "select count(*) from connection_checks c join before b using (provider_id)
         where c.subject <> b.subject",
    )
    .fetch_one(conn)
    .await
    .unwrap();
    usize::try_from(count).unwrap()
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn row(what: &str, ours: &str, reference: &str, ratio: &str, more: &str, budget: &str) -> String {
    let row = format!("| {what} | {ours} | {reference} | {ratio} | {more} | {budget} |");
    eprintln!("{row}");
    row
}
