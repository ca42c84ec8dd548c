//! The watches: one controller per kind over a pruned stream of its objects, woken also by what
//! it owns, by namespaces, and by calls of the other kinds.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{WatchEvent, WatchParams};
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::controller::{Config, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::read::{self, Read};
use crate::api::{Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant, labels};
use crate::controllers::Context;
use crate::controllers::driver::{Reconcile, pass};
use crate::controllers::wake::Wakes;
use crate::dispatch::job::SCAN_NAME;

/// How the kinds are watched.
pub(super) struct How {
    /// Passes over a kind at once.
    pub(super) concurrency: u16,
    /// How the objects are listed.
    pub(super) lists: watcher::Config,
    /// Turns true when passes may begin; the lists are read meanwhile.
    pub(super) may_pass: watch::Receiver<bool>,
    /// Ends the watches, after the passes under way.
    pub(super) stop: CancellationToken,
}

pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What `kubectl apply` keeps of what it applied: the object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A controller over a pruned watch: managed fields, and the copy that `kubectl apply` keeps, are
/// more than half of an object and never read.
fn controller<K: Reconcile + Wakes>(
    cx: &Arc<Context>,
    how: &How,
) -> Controller<DeserializeGuard<K>> {
    let (reader, writer) = reflector::store();
    let api: Api<Read<K>> = Api::all(cx.client.clone());
    let stream = watcher(api, how.lists.clone())
        .default_backoff()
        .map_ok(read::event)
        .modify(prune)
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
                .concurrency(how.concurrency)
                .debounce(Duration::from_millis(50)),
        )
        .reconcile_on(calls)
}

/// Marks the event after which a watch has shown every object.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// So long a server may take to show that it streams lists.
const STREAM_PATIENCE: Duration = Duration::from_secs(5);

/// How the kinds are listed: as a stream where the API server does that, which shows objects
/// while it still encodes others and needs no page of them in memory; in pages otherwise
/// (`WatchList` is off by default in Kubernetes 1.33).
pub(super) async fn initial_lists(cx: &Context) -> watcher::Config {
    let pages = watcher::Config::default();
    let tenants = Api::<Tenant>::all(cx.client.clone());
    let params = WatchParams::default().initial_events();
    let streams = async {
        let Ok(events) = tenants.watch_metadata(&params, "0").await else {
            return false;
        };
        let mut events = std::pin::pin!(events);
        while let Some(Ok(event)) = events.next().await {
            if let WatchEvent::Bookmark(mark) = event
                && mark.metadata.annotations.contains_key(INITIAL_EVENTS_END)
            {
                return true;
            }
        }
        false
    };
    if matches!(
        tokio::time::timeout(STREAM_PATIENCE, streams).await,
        Ok(true)
    ) {
        return pages.streaming_lists();
    }
    tracing::info!("the API server does not stream lists; reading them in pages");
    pages
}

fn prune<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove(LAST_APPLIED);
    }
}

fn start<K: Reconcile + Wakes>(
    controller: Controller<DeserializeGuard<K>>,
    cx: &Arc<Context>,
    how: &How,
) -> Task {
    let (cx, counting, may) = (cx.clone(), cx.clone(), how.may_pass.clone());
    let stream = controller
        .graceful_shutdown_on(how.stop.clone().cancelled_owned())
        .run(
            move |object, cx| {
                let mut may = may.clone();
                async move {
                    // An error means that nobody holds the passes back any more.
                    let _ = may.wait_for(|may| *may).await;
                    Ok::<_, std::convert::Infallible>(pass(object, cx).await)
                }
            },
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

/// One controller per kind; each ends when told to stop.
pub(super) fn all(cx: &Arc<Context>, how: &How) -> Vec<Task> {
    vec![
        tenants(cx, how),
        providers(cx, how),
        plain::<ProviderGroup>(cx, how),
        plain::<Role>(cx, how),
        plain::<ScanSchedule>(cx, how),
        scans(cx, how),
    ]
}

fn plain<K: Reconcile + Wakes>(cx: &Arc<Context>, how: &How) -> Task {
    // Calls for these come in bursts, one for each provider stored.
    let config = Config::default()
        .concurrency(how.concurrency.min(4))
        .debounce(Duration::from_millis(500));
    start(controller::<K>(cx, how).with_config(config), cx, how)
}

fn providers(cx: &Arc<Context>, how: &How) -> Task {
    start(controller::<Provider>(cx, how), cx, how)
}

fn tenants(cx: &Arc<Context>, how: &How) -> Task {
    let tenants = controller::<Tenant>(cx, how);
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
    start(tenants, cx, how)
}

fn scans(cx: &Arc<Context>, how: &How) -> Task {
    let scans = controller::<Scan>(cx, how)
        .owns_stream(of_scans::<Job>(cx))
        .watches_stream(of_scans::<Pod>(cx), |pod| {
            let name = pod.annotations().get(SCAN_NAME)?;
            Some(ObjectRef::new(name).within(&pod.namespace()?))
        });
    start(scans, cx, how)
}

/// Changes of Jobs or pods of scans, wherever the operator may read them: one watch over all
/// namespaces, or one for each of `rbac.namespaces`.
fn of_scans<K>(
    cx: &Context,
) -> impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send + 'static
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Send + 'static,
    PartialObjectMeta<K>: std::fmt::Debug,
{
    let changes = |api: Api<PartialObjectMeta<K>>| {
        let ours = watcher::Config::default().labels(&format!("{}=scans", labels::QUEUE));
        watcher(api, ours)
            .default_backoff()
            .touched_objects()
            .boxed()
    };
    futures::stream::select_all(cx.reach::<K>().into_iter().map(changes))
}
