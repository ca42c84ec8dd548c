//! How fast Providers become Ready, and how fast a restarted controller is quiet, beside what
//! the API server can do at all.
//!
//! `cargo bench --bench providers` (set PROVIDERS=1000 for a quick look). The controller is the
//! real binary; the reference is a bare client that makes the same writes at the same
//! concurrency on the same API server, before and after.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    missing_docs
)]

#[path = "../tests/support/apiserver.rs"]
mod apiserver;
#[path = "../tests/support/db.rs"]
mod db;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use prowler_operator::api::{FINALIZER, Provider, Tenant};
use serde_json::json;

const CONCURRENCY: usize = 8;
const PER_TENANT: usize = 100;

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(run());
}

async fn run() {
    let count: usize = std::env::var("PROVIDERS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10_000);
    let tenants = count.div_ceil(PER_TENANT);
    eprintln!("starting an API server and Postgres");
    let server = apiserver::ApiServer::alone().await;
    let client = server.client();
    let database = db::Db::durable().await;
    let operator = Operator::prepare(server, &database, &client).await;

    eprintln!("making {tenants} tenants and {count} Providers, and as many for the reference");
    make_tenants(&client, tenants).await;
    make_providers(&client, "bench", tenants, count).await;
    make_providers(&client, "bare", tenants, count).await;

    let before = bare_writes(&client, tenants, count, 0).await;
    eprintln!("bare client, first half: {before:.1?}");
    let started = Instant::now();
    let running = operator.start();
    let new = operator.until(count, started, "settled").await;
    eprintln!("controller: {new:.1?} until all are Ready");
    drop(running);
    let after = bare_writes(&client, tenants, count, 1).await;
    eprintln!("bare client, second half: {after:.1?}");
    let bare = before + after;

    let mut ratios = Vec::new();
    let mut rows = Vec::new();
    for round in 1..=3 {
        let list = raw_list(&client).await;
        let started = Instant::now();
        let running = operator.start();
        let quiet = operator.until(count, started, "settled").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let resident = running.resident_mib();
        let writes = operator.writes(&client).await;
        drop(running);
        ratios.push(quiet.as_secs_f64() / list.as_secs_f64());
        rows.push(format!(
            "| restart {round}: quiet after | {:.2} s | raw LIST {:.2} s | {:.2} × | {resident:.0} MiB resident, {writes} objects written |",
            quiet.as_secs_f64(), list.as_secs_f64(), ratios[ratios.len() - 1],
        ));
    }
    ratios.sort_by(f64::total_cmp);
    println!("\n### Providers ({count}, {tenants} tenants, concurrency {CONCURRENCY})\n");
    println!("| what | ours | reference | ratio | |\n|---|---|---|---|---|");
    println!(
        "| new Providers until all Ready | {:.1} s ({:.0}/s) | bare client {:.1} s ({:.0}/s) | {:.2} of its rate | budget ≥ 0.7 |",
        new.as_secs_f64(),
        count as f64 / new.as_secs_f64(),
        bare.as_secs_f64(),
        count as f64 / bare.as_secs_f64(),
        bare.as_secs_f64() / new.as_secs_f64(),
    );
    for row in rows {
        println!("{row}");
    }
    println!(
        "\nMedian restart ratio {:.2} (budget ≤ 2.5), spread {:.2}–{:.2}.",
        ratios[1], ratios[0], ratios[2]
    );
}

fn namespace(prefix: &str, tenant: usize) -> String {
    format!("{prefix}-{tenant}")
}

async fn make_tenants(client: &Client, tenants: usize) {
    for prefix in ["bench", "bare"] {
        futures::stream::iter(0..tenants)
            .map(|n| async move {
                let namespace: Namespace =
                    serde_json::from_value(json!({ "metadata": { "name": namespace(prefix, n) } }))
                        .unwrap();
                Api::all(client.clone())
                    .create(&PostParams::default(), &namespace)
                    .await
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<Vec<_>>()
            .await
            .unwrap();
    }
    futures::stream::iter(0..tenants)
        .map(|n| async move {
            let tenant: Tenant = serde_json::from_value(json!({
                "apiVersion": "prowler-operator.dev/v1alpha1", "kind": "Tenant",
                "metadata": { "name": format!("tenant-{n}") },
                "spec": { "namespaces": [namespace("bench", n)], "limits": { "providers": 1000 } },
            }))
            .unwrap();
            Api::all(client.clone())
                .create(&PostParams::default(), &tenant)
                .await
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
}

async fn make_providers(client: &Client, prefix: &'static str, tenants: usize, count: usize) {
    futures::stream::iter(0..count)
        .map(|n| async move {
            let provider: Provider = serde_json::from_value(json!({
                "apiVersion": "prowler-operator.dev/v1alpha1", "kind": "Provider",
                "metadata": { "name": format!("account-{n}"), "labels": { "env": "bench", "team": format!("team-{}", n % 7) } },
                "spec": { "provider": "aws", "uid": format!("{n:012}"), "alias": format!("account number {n}") },
            }))
            .unwrap();
            let api = Api::namespaced(client.clone(), &namespace(prefix, n % tenants));
            api.create(&PostParams::default(), &provider).await
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
}

/// The writes the controller makes for a new Provider, by a client that does nothing else, for
/// every second object.
async fn bare_writes(client: &Client, tenants: usize, count: usize, half: usize) -> Duration {
    let status = json!({ "status": {
        "observedGeneration": 1, "providerId": "01936f7e-0000-7000-8000-000000000000", "tenant": "tenant-0",
        "conditions": [
            { "type": "CredentialsResolved", "status": "False", "reason": "CredentialsMissing", "observedGeneration": 1,
              "lastTransitionTime": "2026-11-23T00:00:00Z", "message": "No credentials are named; give spec.credentials before a scan." },
            { "type": "Ready", "status": "True", "reason": "Succeeded", "observedGeneration": 1,
              "lastTransitionTime": "2026-11-23T00:00:00Z", "message": "aws account 000000000000 is stored." },
        ] } });
    let status = &status;
    let started = Instant::now();
    futures::stream::iter((0..count).filter(|n| n / tenants % 2 == half))
        .map(|n| async move {
            let api: Api<Provider> =
                Api::namespaced(client.clone(), &namespace("bare", n % tenants));
            let name = format!("account-{n}");
            let finalizers = json!({ "metadata": { "finalizers": [FINALIZER] } });
            api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&finalizers))
                .await?;
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                .await
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    started.elapsed()
}

/// One unpaged LIST of the Providers, bytes only: what no watch can do without.
async fn raw_list(client: &Client) -> Duration {
    let started = Instant::now();
    let request = http::Request::get(
        "/apis/prowler-operator.dev/v1alpha1/prowlerproviders?resourceVersion=0",
    )
    .body(Vec::new())
    .unwrap();
    let text = client.request_text(request).await.unwrap();
    assert!(text.len() > 1000);
    started.elapsed()
}

struct Operator {
    dir: tempfile::TempDir,
    kubeconfig: std::path::PathBuf,
    user_url: String,
    admin_url: String,
    port: u16,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn resident_mib(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
            / 1024.0
    }
}

impl Operator {
    async fn prepare(server: &apiserver::ApiServer, database: &db::Db, client: &Client) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("config.yaml"),
            "scanner: {image: 'localhost/scanner:1'}\nupload: {image: 'localhost/operator:1'}\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("ca.crt"), server.ca()).unwrap();
        let secret: Secret = serde_json::from_value(json!({
            "metadata": { "name": "prowler-operator-installation" },
            "stringData": { "id": "11111111-2222-4333-8444-555555555555" },
        }))
        .unwrap();
        Api::<Secret>::namespaced(client.clone(), "default")
            .create(&PostParams::default(), &secret)
            .await
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            kubeconfig: server.kubeconfig(),
            user_url: database.user_url(),
            admin_url: database.admin_url(),
            port: listener.local_addr().unwrap().port(),
            dir,
        }
    }

    fn start(&self) -> Running {
        let file = |name: &str| self.dir.path().join(name);
        let log = std::fs::File::create(file("log")).unwrap();
        let child = Command::new(Path::new(env!("CARGO_BIN_EXE_prowler-operator")))
            .arg("controller")
            .env("KUBECONFIG", &self.kubeconfig)
            .env("DATABASE_URL", &self.user_url)
            .env("DATABASE_ADMIN_URL", &self.admin_url)
            .env("CONFIG_FILE", file("config.yaml"))
            .env("SERVER_CA_FILE", file("ca.crt"))
            .env("SERVER_URL", "https://server.invalid:8443")
            .env("POD_NAMESPACE", "default")
            .env("HEALTH_ADDR", format!("127.0.0.1:{}", self.port))
            .env("CONCURRENCY", CONCURRENCY.to_string())
            .env("NO_LEADER_ELECTION", "true")
            .env("LOG_LEVEL", "warn")
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        Running(child)
    }

    /// Until as many passes over Providers have ended in `outcome` as there are Providers.
    async fn until(&self, count: usize, started: Instant, outcome: &str) -> Duration {
        let wanted = format!(
            "prowler_operator_reconciles_total{{kind=\"Provider\",outcome=\"{outcome}\"}} "
        );
        loop {
            let seen = self.metrics().await.lines().find_map(|line| {
                line.strip_prefix(&wanted)
                    .and_then(|rest| rest.trim().parse::<usize>().ok())
            });
            if seen.is_some_and(|seen| seen >= count) {
                return started.elapsed();
            }
            if started.elapsed() > Duration::from_mins(15) {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                panic!(
                    "not settled after 15 min: {seen:?}\n{}",
                    &log[log.len().saturating_sub(3000)..]
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn metrics(&self) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let read = async {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        read.await.unwrap_or_default()
    }

    /// Objects whose resource version is newer than the newest before the start: those written.
    async fn writes(&self, client: &Client) -> usize {
        let marker = self.dir.path().join("newest");
        let before: u64 = std::fs::read_to_string(&marker)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(u64::MAX);
        let api: Api<Provider> = Api::all(client.clone());
        let list = api.list_metadata(&ListParams::default()).await.unwrap();
        let versions: Vec<u64> = list
            .items
            .iter()
            .filter_map(|item| item.resource_version()?.parse().ok())
            .collect();
        std::fs::write(&marker, versions.iter().max().unwrap_or(&0).to_string()).unwrap();
        versions.iter().filter(|version| **version > before).count()
    }
}
