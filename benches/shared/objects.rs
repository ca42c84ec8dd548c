//! What benchmarks of the controller share: objects to make, a kind of the same schema for the
//! reference, and how what happened is seen.

#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark that cannot go on fails; not every one uses all of it"
)]

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt};
use prowler_operator::api::{FINALIZER, GROUP, Kind as _, Provider, Tenant, VERSION, all_crds};
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::controller::{CONCURRENCY, Memory, Operator, PATIENCE};

/// Group of the kind that only the reference knows.
pub const BARE_GROUP: &str = "bare.example.org";

pub fn namespace(tenant: usize) -> String {
    format!("bench-{tenant}")
}

pub fn name(number: usize) -> String {
    format!("account-{number}")
}

pub fn ours() -> ApiResource {
    let gvk = GroupVersionKind::gvk(GROUP, VERSION, Provider::KIND);
    ApiResource::from_gvk_with_plural(&gvk, Provider::PLURAL)
}

pub fn bare() -> ApiResource {
    let gvk = GroupVersionKind::gvk(BARE_GROUP, VERSION, Provider::KIND);
    ApiResource::from_gvk_with_plural(&gvk, Provider::PLURAL)
}

/// Does something for each number, so many at once.
pub async fn each<T, E: Debug>(
    numbers: impl Iterator<Item = usize>,
    act: impl AsyncFn(usize) -> Result<T, E>,
) {
    futures::stream::iter(numbers)
        .map(|number| act(number))
        .buffer_unordered(CONCURRENCY)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await
        .unwrap();
}

pub async fn make_tenants(client: &Client, tenants: usize) {
    each(0..tenants, async |n| {
        let namespace: Namespace =
            serde_json::from_value(json!({ "metadata": { "name": namespace(n) } })).unwrap();
        Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
    })
    .await;
    each(0..tenants, async |n| {
        let tenant: Tenant = serde_json::from_value(json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": Tenant::KIND,
            "metadata": { "name": format!("tenant-{n}") },
            "spec": { "namespaces": [namespace(n)], "limits": { "providers": 1000 } },
        }))
        .unwrap();
        Api::all(client.clone())
            .create(&PostParams::default(), &tenant)
            .await
    })
    .await;
}

/// A kind with the schema and rules of Providers in another group.
pub async fn make_bare_kind(client: &Client) {
    let plural = Provider::PLURAL;
    let mut crd = all_crds()
        .into_iter()
        .find(|crd| crd.spec.names.plural == plural)
        .unwrap();
    crd.metadata.name = Some(format!("{plural}.{BARE_GROUP}"));
    crd.spec.group = BARE_GROUP.to_owned();
    Api::<CustomResourceDefinition>::all(client.clone())
        .create(&PostParams::default(), &crd)
        .await
        .unwrap();
    let objects = Api::<DynamicObject>::all_with(client.clone(), &bare());
    let started = Instant::now();
    while let Err(error) = objects.list(&ListParams::default()).await {
        assert!(started.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub fn event(object: &DynamicObject, resource: &ApiResource) -> Event {
    let now = SystemClock.now();
    serde_json::from_value(json!({
        "metadata": { "name": format!("{}.{:x}", object.name_any(), now.as_nanosecond()), "namespace": object.namespace() },
        "action": "Reconcile", "reason": "Succeeded", "note": "aws account 000000000000 is stored.",
        "type": "Normal", "eventTime": now.to_string(),
        "regarding": {
            "apiVersion": resource.api_version, "kind": resource.kind, "name": object.name_any(),
            "namespace": object.namespace(), "uid": object.uid(), "resourceVersion": object.resource_version(),
        },
        "reportingController": "bare.example.org/client", "reportingInstance": "bench",
    }))
    .unwrap()
}

/// One unpaged LIST of the Providers, bytes only: what no watch can do without.
pub async fn raw_list(client: &Client) -> Duration {
    let started = Instant::now();
    let path = format!(
        "/apis/{GROUP}/{VERSION}/{}?resourceVersion=0",
        Provider::PLURAL
    );
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let text = client.request_text(request).await.unwrap();
    assert!(text.len() > 1000);
    started.elapsed()
}

/// A Secret of this name for the Providers of a tenant, with the label that allows its use.
pub async fn make_secret(
    client: &Client,
    tenant: usize,
    name: &str,
    keys: impl serde::Serialize,
) -> kube::Result<Secret> {
    let secret: Secret = serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "prowler-operator.dev/credentials": "true" } },
        "stringData": keys,
    }))
    .unwrap();
    Api::namespaced(client.clone(), &namespace(tenant))
        .create(&PostParams::default(), &secret)
        .await
}

/// A Provider, or its like for the reference.
pub async fn make_provider(
    client: &Client,
    resource: &ApiResource,
    tenant: usize,
    name: &str,
    labels: Value,
    spec: Value,
) -> kube::Result<DynamicObject> {
    let provider: DynamicObject = serde_json::from_value(json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        "metadata": { "name": name, "labels": labels }, "spec": spec,
    }))
    .unwrap();
    Api::namespaced_with(client.clone(), &namespace(tenant), resource)
        .create(&PostParams::default(), &provider)
        .await
}

/// A condition as the controller writes it.
pub fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "observedGeneration": 1,
            "lastTransitionTime": "2026-11-23T00:00:00Z", "message": message })
}

/// What the controller writes for a new Provider: finalizer, status, event.
pub const BARE_WRITES: usize = 3;

/// The same by a client that does nothing else.
pub async fn bare_writes(
    client: &Client,
    tenant: usize,
    name: &str,
    conditions: &[Value],
) -> kube::Result<()> {
    let (resource, params) = (bare(), PatchParams::default());
    let namespace = namespace(tenant);
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &resource);
    let finalizers = json!({ "metadata": { "finalizers": [FINALIZER] } });
    api.patch_metadata(name, &params, &Patch::Merge(&finalizers))
        .await?;
    let status = json!({ "status": {
        "observedGeneration": 1, "providerId": "01936f7e-0000-7000-8000-000000000000",
        "tenant": "tenant-0", "conditions": conditions,
    } });
    let object = api
        .patch_status(name, &params, &Patch::Merge(&status))
        .await?;
    Api::<Event>::namespaced(client.clone(), &namespace)
        .create(&PostParams::default(), &event(&object, &resource))
        .await?;
    Ok(())
}

/// How a restart went.
pub struct Restart {
    pub quiet: Duration,
    pub list: Duration,
    pub written: u64,
    pub memory: Memory,
}

impl Restart {
    /// Starts the controller over so many settled Providers, beside a raw LIST of them.
    pub async fn of(operator: &Operator, client: &Client, count: usize) -> Self {
        let list = raw_list(client).await;
        let written = writes(client).await;
        let started = Instant::now();
        let running = operator.start();
        let quiet = operator.until_settled("Provider", count, started).await;
        Self {
            quiet,
            list,
            written: writes(client).await - written,
            memory: running.memory(),
        }
    }

    /// How many times as long as the LIST.
    pub fn ratio(&self) -> f64 {
        self.quiet.as_secs_f64() / self.list.as_secs_f64()
    }
}

/// Names of Providers, and since when each is Ready.
pub type Names = Arc<Mutex<HashMap<String, Instant>>>;

/// The Providers that are Ready, as a watch tells; polling them would slow the server down.
pub fn watch_ready(providers: Api<Provider>) -> Names {
    let ready = Names::default();
    let seen = ready.clone();
    tokio::spawn(async move {
        let mut objects = watcher(providers, watcher::Config::default())
            .default_backoff()
            .applied_objects()
            .boxed();
        while let Some(Ok(provider)) = objects.next().await {
            let is_ready = |c: &prowler_operator::api::common::Condition| {
                c.type_ == "Ready" && c.status == "True"
            };
            if provider.conditions().iter().any(is_ready) {
                let mut seen = seen.lock().unwrap();
                seen.entry(provider.name_any()).or_insert_with(Instant::now);
            }
        }
    });
    ready
}

pub async fn until_ready(
    ready: &Names,
    count: usize,
    started: Instant,
    operator: &Operator,
) -> Duration {
    while ready.lock().unwrap().len() < count {
        assert!(
            started.elapsed() < PATIENCE,
            "not Ready:\n{}",
            operator.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

/// Tenants count their Providers for up to a minute more.
pub async fn until_all_is_written(client: &Client) {
    let (mut written, mut since) = (writes(client).await, Instant::now());
    while since.elapsed() < Duration::from_secs(65) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = writes(client).await;
        if now != written {
            (written, since) = (now, Instant::now());
        }
    }
}

/// Writes that the API server has answered, of all that the controller may write.
pub async fn writes(client: &Client) -> u64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = client.request_text(request).await.unwrap();
    let written = |line: &&str| {
        let ours = format!("group=\"{GROUP}\"");
        [
            "resource=\"events\"",
            "resource=\"rolebindings\"",
            "resource=\"jobs\"",
            &ours,
        ]
        .iter()
        .any(|what| line.contains(*what))
            && ["POST", "PUT", "PATCH", "APPLY", "DELETE"]
                .iter()
                .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    };
    text.lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter(written)
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}
