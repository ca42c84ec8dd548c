//! The watches: one controller per kind over a pruned stream of its objects, woken also by what
//! it owns, by namespaces, and by calls of the other kinds.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _, TryStreamExt as _, future, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::controller::{Config, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backlog;
use super::read::{self, Read};
use super::waiting::Waiting;
use crate::api::{
    Integration, MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant, labels,
};
use crate::controllers::Context;
use crate::controllers::driver::{Reconcile, pass};
use crate::controllers::wake::Wakes;
use crate::dispatch::check;
use crate::dispatch::job::{self, SCAN_NAME};

/// How the kinds are watched.
pub(super) struct Watching {
    /// Passes over a kind at once.
    pub(super) concurrency: u16,
    /// Turns true when Secrets and service accounts are known; no pass begins before.
    pub(super) references_listed: watch::Receiver<bool>,
    /// Ends the watches, after the passes under way.
    pub(super) stop: CancellationToken,
}

pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An object rests so long before its pass, so that changes which come together are looked at
/// together.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// The same for kinds that are called in bursts, once for each Provider stored.
const LONG_DEBOUNCE: Duration = Duration::from_millis(500);
/// Changes that wait at once to be known as our own or not.
const ECHOES: usize = 256;

/// What `kubectl apply` keeps of what it applied: the object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A controller over a pruned watch: managed fields, and the copy that `kubectl apply` keeps, are
/// more than half of an object and never read.
fn controller<K: Reconcile + Wakes>(
    cx: &Arc<Context>,
    watching: &Watching,
    waiting: &Waiting,
) -> Controller<DeserializeGuard<K>> {
    let (reader, writer) = reflector::store();
    let events = objects::<K>(cx)
        .default_backoff()
        .map_ok(read::event)
        .modify(prune)
        .reflect(writer);
    let forgetting = cx.clone();
    let events = events.inspect_ok(move |event| {
        if let Event::Delete(object) = event {
            forgetting.echoes.forget(object);
        }
    });
    let (changed, lists) = triggers(events);
    cx.wake.remember::<K>(reader.clone());
    let (one, called, heard) = (waiting.clone(), waiting.clone(), cx.clone());
    let objects = reader.clone();
    let changed = if K::IGNORES_ECHO {
        // What was written may be shown before the answer to the write is read.
        let late = changed.map(async |event| {
            tokio::time::sleep(DEBOUNCE).await;
            event
        });
        late.buffered(ECHOES)
            .try_filter(move |object| future::ready(!heard.echoes.is_own(object)))
            .left_stream()
    } else {
        changed.right_stream()
    };
    let changed = changed.inspect_ok(move |object| one.called(&ObjectRef::from_obj(object)));
    let (missed, all_called) = mpsc::unbounded();
    let everything = stream::select(lists, all_called).map(move |()| {
        let all = objects.state();
        all.iter()
            .map(|object| ObjectRef::from_obj(&**object))
            .collect()
    });
    let calls = cx.wake.listen::<K>(missed).map(move |object| {
        called.called(&object);
        let mut guarded = ObjectRef::<DeserializeGuard<K>>::new(&object.name);
        guarded.namespace = object.namespace;
        guarded
    });
    Controller::for_stream(changed, reader)
        .with_config(
            Config::default()
                .concurrency(watching.concurrency)
                .debounce(DEBOUNCE),
        )
        .reconcile_on(backlog::fed(everything, waiting.clone()))
        .reconcile_on(calls)
}

/// The objects of a kind: listed as a stream where the API server does that, which shows objects
/// while it still encodes others and needs no page of them in memory; in pages from the moment
/// on that it refuses (`WatchList` is off by default in Kubernetes 1.33).
fn objects<K: Reconcile>(
    cx: &Context,
) -> impl Stream<Item = Result<Event<Read<K>>, watcher::Error>> + Send + 'static {
    let api: Api<Read<K>> = Api::all(cx.client.clone());
    let pages = watcher::Config::default();
    let streamed = watcher(api.clone(), pages.clone().streaming_lists()).take_while(|event| {
        let refused = event.as_ref().is_err_and(does_not_stream);
        if refused {
            tracing::info!(
                kind = K::KIND,
                "the API server does not stream lists; reading them in pages"
            );
        }
        future::ready(!refused)
    });
    streamed.chain(watcher(api, pages))
}

/// Whether the API server has refused to stream a list.
fn does_not_stream(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 422)
}

/// The objects of which a pass is due, and a call for all of them after each list. While it is
/// being listed an object is not in the store yet: a pass would find the copy before, or none.
fn triggers<K: Send + 'static>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
) -> (
    impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
    impl Stream<Item = ()> + Send + 'static,
) {
    let (listed, lists) = futures::channel::mpsc::unbounded();
    let changed = events.filter_map(move |event| {
        future::ready(match event {
            Ok(Event::Apply(object)) => Some(Ok(object)),
            Ok(Event::InitDone) => {
                // An error means that nobody listens, which happens only while stopping.
                let _ = listed.unbounded_send(());
                None
            }
            Ok(Event::Init | Event::InitApply(_) | Event::Delete(_)) => None,
            Err(error) => Some(Err(error)),
        })
    });
    (changed, lists)
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
    watching: &Watching,
    waiting: Waiting,
) -> Task {
    let (cx, counting) = (cx.clone(), cx.clone());
    let listed = watching.references_listed.clone();
    let begins = waiting.clone();
    let stream = controller
        .graceful_shutdown_on(watching.stop.clone().cancelled_owned())
        .run(
            move |object, cx| {
                let (mut listed, begins) = (listed.clone(), begins.clone());
                async move {
                    // An error means that nobody holds the passes back any more.
                    let _ = listed.wait_for(|listed| *listed).await;
                    begins.begun(&ObjectRef::from_obj(&*object));
                    Ok::<_, std::convert::Infallible>(pass(object, cx).await)
                }
            },
            |_, never, _| match *never {},
            cx,
        );
    Box::pin(stream.for_each(move |result| {
        if let Err(error) = result {
            // Failed watches show only here; a missing right would otherwise be silence.
            if let kube::runtime::controller::Error::ObjectNotFound(object) = &error {
                waiting.begun(object);
            } else {
                counting.metrics.watch_failed(K::KIND);
                tracing::warn!(kind = K::KIND, %error, "the watch failed; beginning it anew");
            }
        }
        std::future::ready(())
    }))
}

/// One controller per kind; each ends when told to stop.
pub(super) fn all(cx: &Arc<Context>, watching: &Watching) -> Vec<Task> {
    vec![
        tenants(cx, watching),
        providers(cx, watching),
        plain::<ProviderGroup>(cx, watching),
        plain::<Role>(cx, watching),
        // Thousands may be due at once.
        in_bursts::<ScanSchedule>(cx, watching, watching.concurrency),
        scans(cx, watching),
        plain::<Integration>(cx, watching),
        plain::<MuteRule>(cx, watching),
    ]
}

fn plain<K: Reconcile + Wakes>(cx: &Arc<Context>, watching: &Watching) -> Task {
    in_bursts::<K>(cx, watching, watching.concurrency.min(4))
}

fn in_bursts<K: Reconcile + Wakes>(
    cx: &Arc<Context>,
    watching: &Watching,
    concurrency: u16,
) -> Task {
    let config = Config::default()
        .concurrency(concurrency)
        .debounce(LONG_DEBOUNCE);
    let waiting = waiting::<K>(cx, LONG_DEBOUNCE);
    let controller = controller::<K>(cx, watching, &waiting).with_config(config);
    start(controller, cx, watching, waiting)
}

fn waiting<K: Reconcile>(cx: &Context, debounce: Duration) -> Waiting {
    Waiting::new(cx.metrics.queue_depth(K::KIND), debounce)
}

fn providers(cx: &Arc<Context>, watching: &Watching) -> Task {
    let waiting = waiting::<Provider>(cx, DEBOUNCE);
    let providers = controller::<Provider>(cx, watching, &waiting);
    let providers = with_pods(providers, cx, &waiting, check::QUEUE, check::PROVIDER_NAME);
    start(providers, cx, watching, waiting)
}

fn tenants(cx: &Arc<Context>, watching: &Watching) -> Task {
    let waiting = waiting::<Tenant>(cx, DEBOUNCE);
    let called = waiting.clone();
    let tenants = controller::<Tenant>(cx, watching, &waiting);
    let objects = tenants.store();
    // A namespace that appears is bound by the tenant that waits for it.
    let namespaces = watcher(
        Api::<PartialObjectMeta<Namespace>>::all(cx.client.clone()),
        watcher::Config::default(),
    )
    .default_backoff()
    .touched_objects();
    let tenancy = cx.clone();
    let tenants = tenants.watches_stream(namespaces, move |namespace| {
        let name = namespace.name_any();
        let named = namespace.labels().get(labels::TENANT).cloned();
        // One whose label was taken off is the concern of whoever holds it.
        let holder = tenancy.tenancy.of(&name).map(|view| view.name.clone());
        let called = called.clone();
        objects
            .state()
            .into_iter()
            .filter(move |tenant| {
                let tenant = tenant.0.as_ref();
                tenant.is_ok_and(|tenant| {
                    let own = Some(tenant.name_any());
                    own == named || own == holder || tenant.spec.namespaces.contains(&name)
                })
            })
            .map(|tenant| ObjectRef::from_obj(&*tenant))
            .inspect(move |tenant| called.called(tenant))
    });
    start(tenants, cx, watching, waiting)
}

fn scans(cx: &Arc<Context>, watching: &Watching) -> Task {
    let waiting = waiting::<Scan>(cx, DEBOUNCE);
    let scans = controller::<Scan>(cx, watching, &waiting);
    let scans = with_pods(scans, cx, &waiting, job::QUEUE, SCAN_NAME);
    start(scans, cx, watching, waiting)
}

/// Has a change of a Job of this queue call for a pass over its owner, and one of its pod over the
/// object that the annotation names.
fn with_pods<K: Reconcile + Wakes>(
    controller: Controller<DeserializeGuard<K>>,
    cx: &Context,
    waiting: &Waiting,
    queue: &'static str,
    annotation: &'static str,
) -> Controller<DeserializeGuard<K>> {
    let (of_jobs, of_pods) = (waiting.clone(), waiting.clone());
    let jobs = of_queue::<Job>(cx, queue).inspect_ok(move |job| {
        let namespace = job.namespace();
        for owner in job.owner_references() {
            let owner = ObjectRef::<K>::from_owner_ref(namespace.as_deref(), owner, ());
            if let Some(owner) = owner {
                of_jobs.called(&owner);
            }
        }
    });
    controller
        .owns_stream(jobs)
        .watches_stream(of_queue::<Pod>(cx, queue), move |pod| {
            let name = pod.annotations().get(annotation)?;
            let object = ObjectRef::new(name).within(&pod.namespace()?);
            of_pods.called(&object);
            Some(object)
        })
}

/// Changes of Jobs or pods of scans or checks, wherever the operator may read them: one watch over all
/// namespaces, or one for each of `rbac.namespaces`.
fn of_queue<K>(
    cx: &Context,
    queue: &'static str,
) -> impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send + 'static
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Send + 'static,
    PartialObjectMeta<K>: std::fmt::Debug,
{
    let changes = move |api: Api<PartialObjectMeta<K>>| {
        let ours = watcher::Config::default().labels(&format!("{}={queue}", labels::QUEUE));
        watcher(api, ours)
            .default_backoff()
            .touched_objects()
            .boxed()
    };
    futures::stream::select_all(cx.reach::<K>().into_iter().map(changes))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn namespace(version: &str) -> PartialObjectMeta<Namespace> {
        let object = serde_json::json!({
            "metadata": { "name": "n", "resourceVersion": version },
        });
        serde_json::from_value(object).unwrap()
    }

    #[tokio::test]
    async fn a_list_calls_for_passes_only_when_the_store_has_it() {
        let (reader, writer) = reflector::store::<PartialObjectMeta<Namespace>>();
        let (sender, events) = mpsc::unbounded();
        let (changed, lists) = triggers(events.reflect(writer));
        let (mut changed, mut lists) = (Box::pin(changed), Box::pin(lists));
        let version = || reader.state()[0].metadata.resource_version.clone().unwrap();
        let send = |event| sender.unbounded_send(Ok(event)).unwrap();

        for (round, what) in ["first", "again"].iter().enumerate() {
            send(Event::Init);
            send(Event::InitApply(namespace(&format!("{round}"))));
            assert!(changed.next().now_or_never().is_none(), "{what}");
            assert!(lists.next().now_or_never().is_none(), "{what}");
            send(Event::InitDone);
            assert!(changed.next().now_or_never().is_none(), "{what}");
            assert_eq!(lists.next().now_or_never(), Some(Some(())), "{what}");
            assert_eq!(version(), format!("{round}"), "{what}");
        }
        send(Event::Apply(namespace("7")));
        assert!(changed.next().now_or_never().is_some());
        assert_eq!(version(), "7");
        assert!(lists.next().now_or_never().is_none());
    }

    #[test]
    fn managed_fields_and_what_kubectl_applied_are_not_kept() {
        let mut object = namespace("1");
        object.metadata.managed_fields = Some(Vec::new());
        object
            .annotations_mut()
            .insert(LAST_APPLIED.to_owned(), "{}".to_owned());
        object
            .annotations_mut()
            .insert("kept".to_owned(), "yes".to_owned());
        prune(&mut object);
        assert!(object.metadata.managed_fields.is_none());
        assert_eq!(object.annotations().keys().collect::<Vec<_>>(), ["kept"]);
    }
}
