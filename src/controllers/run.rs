//! The `controller` subcommand: connects, waits for what must be there, and runs one
//! controller per kind ([`watches`]) beside the admission loop and what is done by the clock
//! ([`upkeep`]), all under one lease.

mod backlog;
mod read;
mod upkeep;
mod waiting;
mod watches;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use k8s_controller::LeaderElection;
use k8s_controller::events::EventRecorder;
use kube::api::ListParams;
use kube::client::ClientBuilder;
use kube::core::PartialObjectMeta;
use kube::runtime::events::Reporter;
use kube::{Api, Client, Config};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::multiplex::Multiplex;
use super::patience::patiently;
use super::wake::Wake;
use super::{
    Context, Settings, admission, checks, clock, due, echoes, installation, isolation, kueue,
    mirrors, network, references, tenancy,
};
use crate::api::{
    Integration, Kind, MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant,
};
use crate::config::controller::ControllerArgs;
use crate::config::file::FileConfig;
use crate::domain::clock::{CheckedClock, SystemClock};
use crate::metrics::controller::ControllerMetrics;
use crate::metrics::database::{DATABASE, Pools};
use crate::metrics::{self, kubernetes::KubernetesMetrics};
use crate::server::health::{self, Readiness};
use crate::store::{AdminStore, Store, StoreError};

/// Longer than a pass may take, shorter than the pod's grace period.
const GRACE: Duration = Duration::from_secs(45);

/// Runs until SIGTERM.
pub async fn run(args: Box<ControllerArgs>) -> anyhow::Result<ExitCode> {
    args.check().map_err(anyhow::Error::msg)?;
    let config = FileConfig::load(&args.config_file)?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;

    let counted = Counted::default();
    let readiness = Readiness::default();
    let mut registry = Registry::default();
    counted.register(&mut registry);
    let health = tokio::spawn(health::serve(
        args.health_addr,
        registry,
        readiness.clone(),
        stop.clone(),
    ));

    let leading = Arc::new(AtomicBool::new(false));
    let mut work = std::pin::pin!(work(
        &args,
        config,
        counted,
        readiness,
        leading.clone(),
        stop.clone()
    ));
    let code = tokio::select! {
        done = &mut work => done?,
        () = stop.cancelled() => {
            // A leader ends its passes and hands the lease over; anybody else just ends.
            if leading.load(Ordering::Relaxed) {
                tokio::time::timeout(GRACE, work).await.unwrap_or(Ok(ExitCode::SUCCESS))?
            } else {
                ExitCode::SUCCESS
            }
        }
    };
    stop.cancel();
    let _ = health.await;
    Ok(code)
}

/// All that the controller counts.
#[derive(Default)]
struct Counted {
    passes: Arc<ControllerMetrics>,
    kubernetes: KubernetesMetrics,
    pools: Pools,
}

impl Counted {
    fn register(&self, registry: &mut Registry) {
        metrics::build::register(registry);
        self.passes.register(registry);
        self.kubernetes.register(registry);
        DATABASE.register(&self.pools, registry);
    }
}

async fn work(
    args: &ControllerArgs,
    config: FileConfig,
    counted: Counted,
    readiness: Readiness,
    leading: Arc<AtomicBool>,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let metrics = counted.passes.clone();
    readiness.waiting("the API server");
    let (client, multiplex) = kubernetes(&counted.kubernetes).await?;
    readiness.waiting("the database");
    let (store, admin) = connect(args).await?;
    store.watch(&counted.pools);
    admin.watch(&counted.pools);
    let identity = installation::identify(&client, &admin, args, &readiness).await?;
    let installation = identity.id;
    installation::wait_for_lease(&admin, &identity, &readiness).await;
    tokio::spawn(installation::keep_lease(admin.clone(), identity));
    wait_for_kinds(&client, &readiness).await;
    // A follower is ready too: it can take over at once.
    readiness.ready();

    let context = |client: Client, multiplex: Multiplex| {
        let reporter = Reporter {
            controller: "prowler-operator.dev/controller".to_owned(),
            instance: Some(args.pod_name.clone()),
        };
        Arc::new(Context {
            events: EventRecorder::new(client.clone(), reporter),
            client,
            multiplex,
            store,
            admin,
            clock: Arc::new(CheckedClock::new(SystemClock)),
            installation,
            config,
            settings: Settings {
                namespace: args.pod_namespace.clone(),
                server_url: args.server_url.clone(),
                server_ca_file: args.server_ca_file.clone(),
                secret_reader_role: args.secret_reader_role.clone(),
                service_account: args.service_account.clone(),
            },
            metrics: metrics.clone(),
            attempts: super::driver::Attempts::default(),
            tenancy: tenancy::Tenancy::default(),
            references: references::References::default(),
            mirrors: mirrors::Mirrors::default(),
            isolation: isolation::Isolation::default(),
            echoes: echoes::Echoes::default(),
            open_namespaces: network::Open::default(),
            workloads: kueue::Workloads::default(),
            line: admission::Line::default(),
            wake: Wake::default(),
        })
    };
    let cx = context(client.clone(), multiplex);
    if args.no_leader_election {
        metrics.set_leader(true);
        leading.store(true, Ordering::Relaxed);
        lead(cx, args.concurrency, stop).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let election = LeaderElection::new(
        client,
        &args.pod_namespace,
        &args.lease_name,
        &args.pod_name,
    );
    tracing::info!(lease = %args.lease_name, "waiting for the lease");
    let led = election
        .with_lease(async {
            metrics.set_leader(true);
            leading.store(true, Ordering::Relaxed);
            tracing::info!("holding the lease");
            lead(cx, args.concurrency, stop.clone()).await
        })
        .await;
    metrics.set_leader(false);
    match led {
        Some(result) => result.map(|()| ExitCode::SUCCESS),
        // A commit in flight cannot be called back; ending the process is the way to be sure
        // that nothing of this leader goes on.
        None => anyhow::bail!(
            "the lease was lost; ending so that Kubernetes starts this controller anew"
        ),
    }
}

async fn kubernetes(metrics: &KubernetesMetrics) -> anyhow::Result<(Client, Multiplex)> {
    let what = "no access to a Kubernetes API server";
    let config = Config::infer().await.context(what)?;
    let client = ClientBuilder::try_from(config.clone()).context(what)?;
    let client = client.with_layer(&metrics.layer()).build();
    let multiplex = Multiplex::over(config, metrics.clone(), client.clone()).await;
    Ok((client, multiplex))
}

/// Everything a leader does, until told to stop.
pub async fn lead(
    cx: Arc<Context>,
    concurrency: u16,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // Nothing can be done without these, whatever stands in the way.
    let always = |_: &StoreError| true;
    patiently("the time of the database was not read", always, || {
        clock::compare_now(&cx)
    })
    .await?;
    patiently("the claims of namespaces were not read", always, || {
        cx.tenancy.reload(&cx.admin)
    })
    .await?;
    patiently("the stored providers were not read", always, || {
        cx.mirrors.load(&cx.admin)
    })
    .await?;
    patiently("the partitions of findings were not made", always, || {
        upkeep::ensure_partitions(&cx)
    })
    .await?;

    let (claimed, claims) = watch::channel(cx.tenancy.namespaces());
    let (listed, references_listed) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(references::watch_all(cx.clone(), claims, listed));
    tasks.spawn(upkeep::follow_tenancy(cx.clone(), claimed));
    tasks.spawn(upkeep::keep_partitions(cx.clone()));
    tasks.spawn(upkeep::keep_mirrors(cx.clone()));
    tasks.spawn(upkeep::cast_net(cx.clone()));
    tasks.spawn(upkeep::count_scans(cx.clone()));
    tasks.spawn(isolation::run(cx.clone()));
    tasks.spawn(admission::run(cx.clone()));
    tasks.spawn(checks::run(cx.clone()));
    tasks.spawn(due::run(cx.clone()));
    tasks.spawn(clock::watch(cx.clone()));

    let watching = watches::Watching {
        concurrency,
        references_listed,
        stop,
    };
    let mut kinds: JoinSet<()> = watches::all(&cx, &watching).into_iter().collect();
    // Each ends when told to stop, after the passes under way. What panicked ends the program:
    // a leader that does part of its work would keep others from doing all of it.
    loop {
        let ended = tokio::select! {
            ended = kinds.join_next() => match ended {
                Some(ended) => ended,
                None => break,
            },
            Some(ended) = tasks.join_next() => ended,
        };
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    tasks.shutdown().await;
    Ok(())
}

/// Connects both roles. A database that is away is waited for; one that is unsafe or of
/// another version ends the program with a sentence.
async fn connect(args: &ControllerArgs) -> anyhow::Result<(Store, AdminStore)> {
    let waits = |error: &StoreError| error.is_transient() || matches!(error, StoreError::Schema(_));
    let stores = patiently("the database cannot be used yet", waits, || async {
        let admin = AdminStore::connect("controller", &args.admin).await?;
        let store = Store::connect("controller", &args.user).await?;
        Ok::<_, StoreError>((store, admin))
    });
    Ok(stores.await?)
}

/// Waits until every kind can be listed, which needs no right to read definitions.
async fn wait_for_kinds(client: &Client, readiness: &Readiness) {
    wait_for::<Tenant>(client, readiness).await;
    wait_for::<Provider>(client, readiness).await;
    wait_for::<ProviderGroup>(client, readiness).await;
    wait_for::<Role>(client, readiness).await;
    wait_for::<ScanSchedule>(client, readiness).await;
    wait_for::<Scan>(client, readiness).await;
    wait_for::<Integration>(client, readiness).await;
    wait_for::<MuteRule>(client, readiness).await;
}

async fn wait_for<K: Kind>(client: &Client, readiness: &Readiness) {
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    while let Err(error) = api.list(&ListParams::default().limit(1)).await {
        readiness.waiting(format!("the custom resource definition of {}", K::KIND));
        tracing::warn!(kind = K::KIND, %error, "the kind cannot be listed yet; trying again");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// One watcher of signals for everything.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(())
}
