//! The watches: one controller per kind over a pruned stream of its objects, woken also by what
//! it owns, by namespaces, and by calls of the other kinds.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::controller::{Config, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::api::{Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant, labels};
use crate::controllers::Context;
use crate::controllers::driver::{Reconcile, pass};
use crate::controllers::wake::Wakes;
use crate::dispatch::job::SCAN_NAME;

pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

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

/// One controller per kind; each ends when told to stop.
pub(super) fn all(cx: &Arc<Context>, concurrency: u16, stop: &CancellationToken) -> Vec<Task> {
    vec![
        tenants(cx, concurrency, stop),
        providers(cx, concurrency, stop),
        plain::<ProviderGroup>(cx, concurrency, stop),
        plain::<Role>(cx, concurrency, stop),
        plain::<ScanSchedule>(cx, concurrency, stop),
        scans(cx, concurrency, stop),
    ]
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
    let scans = controller::<Scan>(cx, concurrency)
        .owns_stream(of_scans::<Job>(cx))
        .watches_stream(of_scans::<Pod>(cx), |pod| {
            let name = pod.annotations().get(SCAN_NAME)?;
            Some(ObjectRef::new(name).within(&pod.namespace()?))
        });
    start(scans, cx, stop)
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
