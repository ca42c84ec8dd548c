//! How fast Providers become Ready, and how fast a restarted controller is quiet, beside what
//! the API server can do at all.
//!
//! `cargo bench --bench providers` (set PROVIDERS=1000 for a quick look). The controller is the
//! real binary; the reference is a bare client that makes the same writes at the same
//! concurrency on the same API server, half of them before and half after. Its objects are of a
//! kind with the same schema that the controller does not know, so that it leaves them alone.

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

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::ApiResource;
use kube::{Api, Client};
use prowler_operator::api::Provider;
use serde_json::json;

use controller::{CONCURRENCY, Operator};
use objects::{
    BARE_WRITES, Restart, bare, bare_writes, condition, each, make_bare_kind, make_provider,
    make_secret, make_tenants, name, namespace, ours, until_all_is_written, until_ready,
    watch_ready, writes,
};

const PER_TENANT: usize = 100;

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(run());
}

/// What the Providers of a round name to be opened by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credentials {
    None,
    /// Each a Secret of its own, which the controller reads once and the reference too.
    Secrets,
}

/// Rounds whose median counts.
const ROUNDS: usize = 3;

async fn run() {
    let count: usize = std::env::var("PROVIDERS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10_000);
    let tenants = count.div_ceil(PER_TENANT);
    let (mut ratios, mut news, mut restarts) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let place = Place::new(tenants, count, Credentials::None).await;
        let (ratio, row) = place.new_providers(&format!("new {round}")).await;
        ratios.push(ratio);
        news.push(row);
        if round == ROUNDS {
            for round in 1..=ROUNDS {
                restarts.push(place.restart(&format!("restart {round}")).await);
            }
        }
    }
    let place = Place::new(tenants, count, Credentials::Secrets).await;
    let (_, with_secrets) = place.new_providers("new, a Secret each").await;
    let restart_with_secrets = place.restart("restart, a Secret each").await;

    println!("\n### Providers ({count}, {tenants} tenants, concurrency {CONCURRENCY})\n");
    println!("| what | ours | reference | ratio | | budget |\n|---|---|---|---|---|---|");
    for row in &news {
        println!("{row}");
    }
    println!("{with_secrets}");
    for (_, row) in restarts.iter().chain([&restart_with_secrets]) {
        println!("{row}");
    }
    let restarts = restarts.into_iter().map(|(ratio, _)| ratio).collect();
    println!(
        "\nMedian of new Providers {}; of restarts {}.",
        median(ratios),
        median(restarts)
    );
}

/// The median and the spread.
fn median(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    format!(
        "{:.2}, spread {:.2}–{:.2}",
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1]
    )
}

/// Servers of a round's own, with the tenants and Providers on them.
struct Place {
    tenants: usize,
    count: usize,
    credentials: Credentials,
    client: Client,
    operator: Operator,
    // Dropped last: their processes end with them.
    _database: db::Db,
    _server: apiserver::ApiServer,
}

impl Place {
    async fn new(tenants: usize, count: usize, credentials: Credentials) -> Self {
        eprintln!("starting an API server and Postgres");
        let server = apiserver::ApiServer::start(&[]).await;
        let client = server.client();
        let database = db::Db::durable().await;
        let operator = Operator::prepare(&server, &database, &client).await;

        eprintln!("making {tenants} tenants and {count} Providers, and as many for the reference");
        make_tenants(&client, tenants).await;
        if credentials == Credentials::Secrets {
            make_secrets(&client, tenants, count).await;
        }
        // Tenants first: what is measured are the Providers.
        let running = operator.start();
        operator
            .until_settled("Tenant", tenants, Instant::now())
            .await;
        drop(running);
        make_bare_kind(&client).await;
        for resource in [ours(), bare()] {
            make_objects(&client, &resource, tenants, count, credentials).await;
        }
        Self {
            tenants,
            count,
            credentials,
            client,
            operator,
            _database: database,
            _server: server,
        }
    }

    /// New Providers until all are Ready, beside the reference: the ratio and its row.
    async fn new_providers(&self, what: &str) -> (f64, String) {
        let (client, count) = (&self.client, self.count);
        let before = self.bare_writes(0).await;
        eprintln!("{what}: bare client, first half: {before:.1?}");
        let ready = watch_ready(Api::<Provider>::all(client.clone()));
        let written = writes(client).await;
        let started = Instant::now();
        let running = self.operator.start();
        let new = until_ready(&ready, count, started, &self.operator).await;
        let written = writes(client).await - written;
        eprintln!("{what}: controller: {new:.1?} until all are Ready, {written} writes");
        until_all_is_written(client).await;
        eprintln!("passes:\n{}", self.operator.passes().await);
        drop(running);
        let after = self.bare_writes(1).await;
        eprintln!("{what}: bare client, second half: {after:.1?}");
        let bare = before + after;
        let ratio = bare.as_secs_f64() / new.as_secs_f64();
        let besides = match self.credentials {
            Credentials::None => "",
            Credentials::Secrets => " and a read",
        };
        let row = format!(
            "| {what}: until all Ready | {:.1} s ({:.0}/s) | bare client {:.1} s ({:.0}/s) | **{ratio:.2}** of its rate | {:.2} writes a Provider, the reference {BARE_WRITES}{besides} | ≥ 0.7 |",
            new.as_secs_f64(),
            count as f64 / new.as_secs_f64(),
            bare.as_secs_f64(),
            count as f64 / bare.as_secs_f64(),
            written as f64 / count as f64,
        );
        (ratio, row)
    }

    /// A restart until it is quiet, beside a raw LIST: the ratio and its row.
    async fn restart(&self, what: &str) -> (f64, String) {
        let restart = Restart::of(&self.operator, &self.client, self.count).await;
        let ratio = restart.ratio();
        let row = format!(
            "| {what}: quiet after | {:.2} s | raw LIST {:.2} s | **{ratio:.2}** × its time | {} writes, {:.0} MiB resident (at most {:.0}) | ≤ 2.5, none, 80 MiB |",
            restart.quiet.as_secs_f64(),
            restart.list.as_secs_f64(),
            restart.written,
            restart.memory.resident,
            restart.memory.peak,
        );
        eprintln!("{row}");
        (ratio, row)
    }
}

/// A Secret for each Provider.
async fn make_secrets(client: &Client, tenants: usize, count: usize) {
    let keys = json!({ "aws_access_key_id": "a", "aws_secret_access_key": "b" });
    each(0..count, async |n| {
        make_secret(client, n % tenants, &name(n), &keys).await
    })
    .await;
}

async fn make_objects(
    client: &Client,
    resource: &ApiResource,
    tenants: usize,
    count: usize,
    credentials: Credentials,
) {
    each(0..count, async |n| {
        let mut spec = json!({ "provider": "aws", "uid": format!("{n:012}"), "alias": format!("account number {n}") });
        if credentials == Credentials::Secrets {
            spec["credentials"] = json!({ "type": "static", "secretRef": { "name": name(n) } });
        }
        let labels = json!({ "env": "bench", "team": format!("team-{}", n % 7) });
        make_provider(client, resource, n % tenants, &name(n), labels, spec).await
    })
    .await;
}

impl Place {
    /// The same by a client that does nothing else, for every second object.
    async fn bare_writes(&self, half: usize) -> Duration {
        let (client, tenants, count) = (&self.client, self.tenants, self.count);
        let missing = "No credentials are named; give spec.credentials before a scan.";
        let conditions = [
            condition(
                "CredentialsResolved",
                "False",
                "CredentialsMissing",
                missing,
            ),
            condition(
                "Ready",
                "True",
                "Succeeded",
                "aws account 000000000000 is stored.",
            ),
        ];
        let started = Instant::now();
        each((0..count).filter(|n| n / tenants % 2 == half), async |n| {
            let tenant = n % tenants;
            if self.credentials == Credentials::Secrets {
                Api::<Secret>::namespaced(client.clone(), &namespace(tenant))
                    .get(&name(n))
                    .await?;
            }
            bare_writes(client, tenant, &name(n), &conditions).await
        })
        .await;
        started.elapsed()
    }
}
