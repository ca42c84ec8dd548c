//! What tests of behaviour do and ask again and again, in the words of the people and programs
//! that act on a cluster: claim, delete, finish a scan, look at a status.

#![allow(
    dead_code,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test; not every test uses all of it"
)]

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use prowler_operator::api::{Scan, ScanSchedule, Tenant};
use prowler_operator::controllers::driver::Reconcile;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::operator::{Operator, Placed, World, scan_ended};

/// What an event told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub type_: String,
    pub action: String,
    pub reason: String,
    pub note: String,
    /// How often it was told.
    pub times: i32,
    /// Name of the object that did the work.
    pub related: Option<String>,
}

impl Operator {
    /// Applies a Tenant with these namespaces and passes over it until it rests.
    pub async fn claim(&self, tenant: &str, namespaces: &[&str]) {
        self.tenant_is(tenant, json!({ "namespaces": namespaces }))
            .await;
    }

    /// Applies a Tenant with this spec and passes over it until it rests.
    pub async fn tenant_is(&self, tenant: &str, spec: Value) {
        self.apply::<Tenant>("", tenant, spec).await;
        self.follow::<Tenant>("", tenant).await;
        self.reload().await;
    }

    /// Makes a namespace with a name of the test's choice.
    pub async fn make_namespace(&self, name: &str) {
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }

    /// The object's status, as JSON.
    pub async fn status<K>(&self, namespace: &str, name: &str) -> Value
    where
        K: Placed + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        let object: K = self.get(namespace, name).await;
        serde_json::to_value(object).unwrap()["status"].take()
    }

    /// Names of the objects of a kind in a namespace, in order.
    pub async fn names<K>(&self, namespace: &str) -> Vec<String>
    where
        K: Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let api = K::typed(&self.client, namespace);
        let list = api.list(&ListParams::default()).await.unwrap();
        let mut names: Vec<_> = list.iter().map(ResourceExt::name_any).collect();
        names.sort();
        names
    }

    /// Applies a spec and passes over the object until it rests; what `Ready` says then.
    pub async fn becomes<K>(&self, namespace: &str, name: &str, spec: Value) -> String
    where
        K: Reconcile + Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        self.apply::<K>(namespace, name, spec).await;
        self.now_says::<K>(namespace, name).await
    }

    /// Passes over the object until it rests; what `Ready` says then.
    pub async fn now_says<K: Reconcile + Placed>(&self, namespace: &str, name: &str) -> String {
        self.follow::<K>(namespace, name).await;
        self.says::<K>(namespace, name).await
    }

    /// Passes over the world's schedules and Scans until they rest. A schedule alone does not: it
    /// makes its Scan again until that is queued.
    pub async fn schedules_rest(&self, world: &World) {
        self.reload().await;
        for _ in 0..10 {
            self.api.reset();
            self.pass_all::<ScanSchedule>(world).await;
            self.pass_all::<Scan>(world).await;
            if self.api.changes().is_empty() {
                return;
            }
        }
        panic!("schedules do not settle: {:?}", self.api.changes());
    }

    /// Deletes the object and passes over it until it is gone.
    pub async fn deletes<K: Reconcile + Placed>(&self, namespace: &str, name: &str) {
        self.delete::<K>(namespace, name).await;
        self.follow::<K>(namespace, name).await;
        assert!(self.is_gone::<K>(namespace, name).await, "{name} stays");
    }

    /// The object is gone and the program was not asked: etcd was lost, or somebody took the
    /// finalizer off.
    pub async fn vanishes<K>(&self, namespace: &str, name: &str)
    where
        K: Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let bare = json!({ "metadata": { "finalizers": null } });
        self.patch::<K>(namespace, name, bare).await;
        K::typed(&self.client, namespace)
            .delete(name, &DeleteParams::background())
            .await
            .unwrap();
        assert!(self.is_gone::<K>(namespace, name).await);
    }

    /// Lets a Scan whose Job runs end well.
    pub async fn complete(&self, world: &World, scan: &str) {
        let job = self.job_of(world, scan).await;
        self.publish(&job).await;
        self.after_the_end(world, scan).await;
    }

    /// Lets `scan` of a Scan whose Job runs end with this code, reason and message.
    pub async fn fails(&self, world: &World, scan: &str, code: i32, reason: &str, message: &str) {
        self.ends(world, scan, scan_ended(code, reason, message))
            .await;
    }

    /// Number and reason of each attempt of a Scan that failed, as its status shows them.
    pub async fn failures(&self, world: &World, scan: &str) -> Vec<String> {
        let shown = self.status::<Scan>(&world.namespace, scan).await;
        let list = shown["attempts"].as_array().cloned().unwrap_or_default();
        list.iter()
            .map(|one| format!("{} {}", one["attempt"], one["reason"].as_str().unwrap()))
            .collect()
    }

    /// The attempt that runs ends with its pod in this state.
    pub async fn ends(&self, world: &World, scan: &str, status: Value) {
        let job = self.job_of(world, scan).await;
        self.pod(&job, status).await;
        // Once to judge it, once to take the Job away.
        self.pass::<Scan>(&world.namespace, scan).await;
        self.pass::<Scan>(&world.namespace, scan).await;
        self.after_the_end(world, scan).await;
    }

    /// What follows the end of an attempt: its Job goes, its pod with it, the account is free.
    async fn after_the_end(&self, world: &World, scan: &str) {
        self.pass::<Scan>(&world.namespace, scan).await;
        self.collect_garbage(world).await;
        self.follow::<Scan>(&world.namespace, scan).await;
        // What the watch would call for: the end of a scan is shown by its Provider.
        self.cx.mirrors.load(&self.cx.admin).await.unwrap();
    }

    /// The database answers again, and the pools have found out which connections were cut.
    pub async fn database_returns(&self) {
        self.sql.set_away(false);
        for _ in 0..10 {
            let _ = self.cx.store.ready().await;
            let _ = self.cx.tenancy.reload(&self.cx.admin).await;
        }
    }

    /// The events about an object, the oldest first; those of a cluster-wide one are in `default`.
    pub async fn told(&self, namespace: &str, name: &str) -> Vec<Told> {
        let events = Api::<Event>::namespaced(self.client.clone(), namespace);
        let mut events = events.list(&ListParams::default()).await.unwrap().items;
        events.retain(|event| {
            let about = event.regarding.as_ref().and_then(|it| it.name.as_deref());
            about == Some(name)
        });
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let told = |event: Event| Told {
            type_: event.type_.unwrap_or_default(),
            action: event.action.unwrap_or_default(),
            reason: event.reason.unwrap_or_default(),
            note: event.note.unwrap_or_default(),
            times: event.series.map_or(1, |series| series.count),
            related: event.related.and_then(|it| it.name),
        };
        events.into_iter().map(told).collect()
    }

    /// The values of a query's one column as text, in order, as `prowler_admin`.
    pub async fn list_of(&self, query: &str) -> Vec<String> {
        let all = format!("select json_agg(x::text) from ({query}) as list (x)");
        let mut list: Vec<String> = serde_json::from_str(&self.sql(&all).await).unwrap_or_default();
        list.sort();
        list
    }

    /// Number of rows, as `prowler_admin`; `from` may have a `where`.
    pub async fn count(&self, from: &str) -> i64 {
        self.sql(&format!("select count(*) from {from}"))
            .await
            .parse()
            .unwrap()
    }
}

impl World {
    /// Another namespace of the same tenant.
    pub fn at(&self, namespace: &str) -> Self {
        Self {
            tenant: self.tenant.clone(),
            namespace: namespace.to_owned(),
        }
    }
}

/// A spec without the fields that are null: in a manifest they are left out.
pub fn given(mut spec: Value) -> Value {
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    spec
}
