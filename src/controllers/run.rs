//! The `controller` subcommand: connects, waits for what must be there, and runs one
//! controller per kind beside the admission loop, all under one lease.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_controller::LeaderElection;
use k8s_controller::events::EventRecorder;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::controller::{Config, Controller};
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::driver::{Reconcile, pass};
use super::wake::{Wake, Wakes};
use super::{Context, Settings, admission, installation, mirrors, provider, references, tenancy};
use crate::api::{Kind, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant, labels};
use crate::config::controller::ControllerArgs;
use crate::config::file::FileConfig;
use crate::dispatch::job::SCAN_NAME;
use crate::domain::clock::{Clock, SystemClock};
use crate::metrics::controller::ControllerMetrics;
use crate::server::health::{self, Readiness};
use crate::store::{AdminStore, Store, StoreError, partitions};

/// Longer than a pass may take, shorter than the pod's grace period.
const GRACE: Duration = Duration::from_secs(45);

/// Runs until SIGTERM.
pub async fn run(args: Box<ControllerArgs>) -> anyhow::Result<ExitCode> {
    let config = FileConfig::load(&args.config_file)?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;

    let metrics = Arc::new(ControllerMetrics::default());
    let readiness = Readiness::default();
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
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
        metrics,
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

async fn work(
    args: &ControllerArgs,
    config: FileConfig,
    metrics: Arc<ControllerMetrics>,
    readiness: Readiness,
    leading: Arc<AtomicBool>,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let client = Client::try_default()
        .await
        .context("no access to a Kubernetes API server")?;
    readiness.waiting("the database");
    let (store, admin) = connect(args).await?;
    let identity = installation::identify(&client, &admin, args).await?;
    let installation = identity.id;
    installation::wait_for_lease(&admin, &identity, &readiness).await;
    tokio::spawn(installation::keep_lease(admin.clone(), identity));
    wait_for_kinds(&client, &readiness).await;
    // A follower is ready too: it can take over at once.
    readiness.ready();

    let context = |client: Client| {
        let reporter = Reporter {
            controller: "prowler-operator.dev/controller".to_owned(),
            instance: Some(args.pod_name.clone()),
        };
        Arc::new(Context {
            events: EventRecorder::new(client.clone(), reporter),
            client,
            store,
            admin,
            clock: Arc::new(SystemClock),
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
            wake: Wake::default(),
        })
    };
    let cx = context(client.clone());
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

/// Everything a leader does, until told to stop.
pub async fn lead(
    cx: Arc<Context>,
    concurrency: u16,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    retry("the claims of namespaces", || async {
        cx.tenancy.reload(&cx.admin).await.map(drop)
    })
    .await;
    retry("the stored providers", || cx.mirrors.load(&cx.admin)).await;
    retry("the partitions of findings", || ensure_partitions(&cx)).await;

    let (claimed, claims) = watch::channel(cx.tenancy.namespaces());
    let (ready, mut references_ready) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(references::watch_all(cx.clone(), claims, ready));
    tasks.spawn(follow_tenancy(cx.clone(), claimed));
    tasks.spawn(keep_partitions(cx.clone()));
    tasks.spawn(keep_mirrors(cx.clone()));
    tasks.spawn(admission::run(cx.clone()));
    let _ = references_ready.wait_for(|ready| *ready).await;

    let controllers: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = vec![
        tenants(&cx, concurrency, &stop),
        providers(&cx, concurrency, &stop),
        plain::<ProviderGroup>(&cx, concurrency, &stop),
        plain::<Role>(&cx, concurrency, &stop),
        plain::<ScanSchedule>(&cx, concurrency, &stop),
        scans(&cx, concurrency, &stop),
    ];
    // Each ends when told to stop, after the passes under way.
    futures::future::join_all(controllers).await;
    tasks.shutdown().await;
    Ok(())
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A controller over a pruned watch: managed fields are a third of an object and never read.
fn controller<K: Reconcile + Wakes>(
    cx: &Arc<Context>,
    concurrency: u16,
) -> Controller<DeserializeGuard<K>> {
    let (reader, writer) = reflector::store();
    let api: Api<DeserializeGuard<K>> = Api::all(cx.client.clone());
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .applied_objects();
    cx.wake.remember::<K>(reader.clone());
    let calls = cx.wake.listen::<K>().map(|object| {
        let mut guarded = ObjectRef::<DeserializeGuard<K>>::new(&object.name);
        guarded.namespace = object.namespace;
        guarded
    });
    Controller::for_stream(stream, reader)
        .with_config(
            Config::default()
                .concurrency(concurrency)
                .debounce(Duration::from_millis(50)),
        )
        .reconcile_on(calls)
}

fn start<K: Reconcile + Wakes>(
    controller: Controller<DeserializeGuard<K>>,
    cx: &Arc<Context>,
    stop: &CancellationToken,
) -> Task {
    let (cx, counting) = (cx.clone(), cx.clone());
    let stream = controller
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            |object, cx| async move { Ok::<_, std::convert::Infallible>(pass(object, cx).await) },
            |_, never, _| match *never {},
            cx,
        );
    Box::pin(stream.for_each(move |result| {
        if let Err(error) = result {
            // Failed watches show only here; a missing right would otherwise be silence.
            if !matches!(error, kube::runtime::controller::Error::ObjectNotFound(_)) {
                counting.metrics.watch_failed(K::KIND);
                tracing::warn!(kind = K::KIND, %error, "the watch failed; beginning it anew");
            }
        }
        std::future::ready(())
    }))
}

fn plain<K: Reconcile + Wakes>(
    cx: &Arc<Context>,
    concurrency: u16,
    stop: &CancellationToken,
) -> Task {
    // Calls for these come in bursts, one for each provider stored.
    let config = Config::default()
        .concurrency(concurrency.min(4))
        .debounce(Duration::from_millis(500));
    start(
        controller::<K>(cx, concurrency).with_config(config),
        cx,
        stop,
    )
}

fn providers(cx: &Arc<Context>, concurrency: u16, stop: &CancellationToken) -> Task {
    start(controller::<Provider>(cx, concurrency), cx, stop)
}

fn tenants(cx: &Arc<Context>, concurrency: u16, stop: &CancellationToken) -> Task {
    let tenants = controller::<Tenant>(cx, concurrency);
    let objects = tenants.store();
    // A namespace that appears is bound by the tenant that waits for it.
    let namespaces = watcher(
        Api::<PartialObjectMeta<Namespace>>::all(cx.client.clone()),
        watcher::Config::default(),
    )
    .default_backoff()
    .touched_objects();
    let tenants = tenants.watches_stream(namespaces, move |namespace| {
        let name = namespace.name_any();
        objects
            .state()
            .into_iter()
            .filter(move |tenant| {
                tenant
                    .0
                    .as_ref()
                    .is_ok_and(|t| t.spec.namespaces.contains(&name))
            })
            .map(|tenant| ObjectRef::from_obj(&*tenant))
    });
    start(tenants, cx, stop)
}

fn scans(cx: &Arc<Context>, concurrency: u16, stop: &CancellationToken) -> Task {
    let ours = || watcher::Config::default().labels(&format!("{}=scans", labels::QUEUE));
    let jobs = watcher(
        Api::<PartialObjectMeta<Job>>::all(cx.client.clone()),
        ours(),
    )
    .default_backoff()
    .touched_objects();
    let pods = watcher(
        Api::<PartialObjectMeta<Pod>>::all(cx.client.clone()),
        ours(),
    )
    .default_backoff()
    .touched_objects();
    let scans = controller::<Scan>(cx, concurrency)
        .owns_stream(jobs)
        .watches_stream(pods, |pod| {
            let name = pod.annotations().get(SCAN_NAME)?;
            Some(ObjectRef::new(name).within(&pod.namespace()?))
        });
    start(scans, cx, stop)
}

/// Reads the claims again every half minute: another leader may have written some.
async fn follow_tenancy(cx: Arc<Context>, claimed: watch::Sender<Vec<String>>) {
    let mut interval = tokio::time::interval(Duration::from_secs(30));
    loop {
        tokio::select! {
            _ = interval.tick() => {
                if let Err(error) = provider::retell_namespaces(&cx).await {
                    tracing::warn!(%error, "the claims of namespaces were not read; trying again");
                }
            }
            () = cx.tenancy.changed() => {}
        }
        claimed.send_if_modified(|names| {
            let fresh = cx.tenancy.namespaces();
            let differs = *names != fresh;
            *names = fresh;
            differs
        });
    }
}

async fn ensure_partitions(cx: &Context) -> Result<(), StoreError> {
    let months = u32::try_from(cx.config.partitions.months_ahead.max(1)).unwrap_or(1);
    partitions::ensure_months(&cx.admin, cx.clock.now(), months + 1)
        .await
        .map(drop)
}

async fn keep_partitions(cx: Arc<Context>) {
    loop {
        tokio::time::sleep(Duration::from_hours(1)).await;
        if let Err(error) = ensure_partitions(&cx).await {
            tracing::warn!(%error, "partitions were not made ahead; trying again in an hour");
        }
    }
}

async fn keep_mirrors(cx: Arc<Context>) {
    loop {
        tokio::time::sleep(Duration::from_mins(5)).await;
        if let Err(error) = cx.mirrors.load(&cx.admin).await {
            tracing::warn!(%error, "the stored providers were not read; trying again");
        }
    }
}

/// Tries until it succeeds: what is waited for is a database that comes back.
async fn retry<F, R>(what: &str, mut act: F)
where
    F: FnMut() -> R,
    R: Future<Output = Result<(), StoreError>>,
{
    let mut attempt = 0;
    while let Err(error) = act().await {
        tracing::warn!(%error, "could not read or make {what}; trying again");
        tokio::time::sleep(super::error::backoff(attempt, SystemClock.jitter())).await;
        attempt += 1;
    }
}

/// Connects both roles. A database that is away is waited for; one that is unsafe or of
/// another version ends the program with a sentence.
async fn connect(args: &ControllerArgs) -> anyhow::Result<(Store, AdminStore)> {
    let mut attempt = 0;
    loop {
        let connected = async {
            let admin = AdminStore::connect("controller", &args.admin).await?;
            let store = Store::connect("controller", &args.user).await?;
            Ok::<_, StoreError>((store, admin))
        };
        match connected.await {
            Ok(stores) => return Ok(stores),
            Err(error) if error.is_transient() || matches!(error, StoreError::Schema(_)) => {
                tracing::warn!(%error, "the database cannot be used yet; trying again");
                tokio::time::sleep(super::error::backoff(attempt, SystemClock.jitter())).await;
                attempt = (attempt + 1).min(4);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until every kind can be listed, which needs no right to read definitions.
async fn wait_for_kinds(client: &Client, readiness: &Readiness) {
    wait_for::<Tenant>(client, readiness).await;
    wait_for::<Provider>(client, readiness).await;
    wait_for::<ProviderGroup>(client, readiness).await;
    wait_for::<Role>(client, readiness).await;
    wait_for::<ScanSchedule>(client, readiness).await;
    wait_for::<Scan>(client, readiness).await;
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
