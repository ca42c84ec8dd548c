//! HTTPS for scan pods; health and metrics.
//!
//! A pod's findings come in through [`receive`](self): `identity` finds out whose they are,
//! `crate::ingest` stores them. The server comes up before its database, its certificate and
//! the API server do, and is unready until then. It never writes Kubernetes objects.

mod answer;
mod body;
pub mod health;
mod identity;
mod listen;
mod receive;
mod tls;
mod turns;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::routing::post;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::health::Readiness;
use self::listen::Manners;
use self::receive::App;
use self::tls::Certificate;
use self::turns::{Tickets, Turns};
use crate::config::server::ServerArgs;
use crate::domain::clock::SystemClock;
use crate::ingest::spool::{Limits, Spool};
use crate::metrics::database::{DATABASE, Pools};
use crate::metrics::kubernetes::KubernetesMetrics;
use crate::metrics::{self, server::ServerMetrics};
use crate::store::Store;

/// How often the database is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Bodies that may wait for a place, for each that is received.
const WAITING: usize = 4;
/// How long the API server may take for an answer.
const KUBERNETES: Duration = Duration::from_secs(15);

/// Runs until SIGTERM, then finishes what is being published.
pub async fn run(args: Box<ServerArgs>) -> anyhow::Result<ExitCode> {
    args.check().map_err(anyhow::Error::msg)?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let counted = Counted::default();
    let mut registry = Registry::default();
    counted.register(&mut registry);
    let readiness = Readiness::default();
    // Health is served to the very end, so that a probe sees a server that finishes its work.
    let served = CancellationToken::new();
    let health = tokio::spawn(health::serve(
        args.health_addr,
        registry,
        readiness.clone(),
        served.clone(),
    ));
    let tasks = TaskTracker::new();
    tokio::select! {
        done = serve(&args, counted, &readiness, &tasks, stop.clone()) => done?,
        () = stop.cancelled() => {}
    }
    readiness.waiting("its end");
    tasks.close();
    if tokio::time::timeout(args.shutdown(), tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("stopped before everything was finished; its senders will try again");
    }
    served.cancel();
    let _ = health.await;
    Ok(ExitCode::SUCCESS)
}

/// All that the server counts.
#[derive(Default)]
struct Counted {
    uploads: ServerMetrics,
    kubernetes: KubernetesMetrics,
    pools: Pools,
}

impl Counted {
    fn register(&self, registry: &mut Registry) {
        metrics::build::register(registry);
        self.uploads.register(registry);
        self.kubernetes.register(registry);
        DATABASE.register(&self.pools, registry);
    }
}

async fn serve(
    args: &ServerArgs,
    counted: Counted,
    readiness: &Readiness,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let store = Store::open("server", &args.user)?;
    store.watch(&counted.pools);
    let spool = Spool::open(
        args.spool_dir.clone(),
        Limits {
            body: args.max_upload_bytes,
            spool: args.max_spool_bytes,
            file: args.max_file_bytes,
            record: args.max_record_bytes,
        },
    )
    .with_context(|| format!("the spool {} cannot be used", args.spool_dir.display()))?;
    let app = App {
        client: kubernetes(&counted.kubernetes).await?,
        store: store.clone(),
        clock: Arc::new(SystemClock),
        spool,
        metrics: counted.uploads,
        audience: args.token_audience.clone(),
        tickets: Tickets::default(),
        receiving: Turns::new(
            args.max_uploads.into(),
            WAITING * usize::from(args.max_uploads),
        ),
        // Nobody waits for one who has no place for a body.
        publishing: Turns::new(args.max_publications.into(), usize::MAX),
        tasks: tasks.clone(),
        max_body: args.max_upload_bytes,
        idle: args.idle(),
        upload: args.upload(),
    };
    let router = Router::new()
        .route("/v1/upload", post(receive::upload))
        .fallback(receive::not_found)
        .with_state(Arc::new(app));
    let listener = TcpListener::bind(args.listen_addr)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen_addr))?;
    readiness.waiting("its certificate");
    let certificate = Certificate::wait(
        args.tls_cert_file.clone(),
        args.tls_key_file.clone(),
        Duration::from_secs(args.tls_poll_seconds),
    )
    .await;
    let looking = look_at_database(store, readiness.clone());
    tokio::spawn(stop.clone().run_until_cancelled_owned(looking));
    tracing::info!(address = %args.listen_addr, "listening");
    let manners = Manners {
        connections: args.max_connections.into(),
        idle: args.idle(),
    };
    listen::listen(listener, certificate, router, manners, tasks.clone(), stop).await;
    Ok(())
}

/// Access to the API server, without asking it anything yet.
async fn kubernetes(metrics: &KubernetesMetrics) -> anyhow::Result<Client> {
    let mut config = Config::infer()
        .await
        .context("no access to a Kubernetes API server")?;
    config.connect_timeout = Some(KUBERNETES);
    config.read_timeout = Some(KUBERNETES);
    config.write_timeout = Some(KUBERNETES);
    let client = ClientBuilder::try_from(config)?.with_layer(&metrics.layer());
    Ok(client.build())
}

/// Keeps readiness up to date; tells each change once.
async fn look_at_database(store: Store, readiness: Readiness) {
    let mut last = String::new();
    loop {
        let state = match tokio::time::timeout(LOOK, store.ready()).await {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the database does not answer".to_owned(),
        };
        if state.is_empty() {
            readiness.ready();
        } else {
            readiness.waiting(format!("the database: {state}"));
        }
        if state != last {
            match state.as_str() {
                "" => tracing::info!("the database can be used"),
                reason => tracing::warn!(reason, "the database cannot be used"),
            }
            last = state;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}
