//! The reconcilers on real servers, one pass at a time, with faults between them and the
//! servers; and what else acts on a cluster: users, the Job controller, the kubelet, the
//! garbage collector, the ingest server. Those write real objects and rows by hand.

#![allow(
    dead_code,
    clippy::panic,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a harness that cannot go on fails the test; not every test uses all of it"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use jiff::{SignedDuration, Timestamp};
use k8s_controller::events::EventRecorder;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::Reporter;
use kube::{Api, Client, Resource, ResourceExt};
use prowler_operator::api::{
    Integration, MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant,
};
use prowler_operator::config::file::FileConfig;
use prowler_operator::controllers::driver::{self, Reconcile};
use prowler_operator::controllers::{self, Context, Settings, admission};
use prowler_operator::domain::clock::{CheckedClock, Clock, ManualClock, SystemClock};
use prowler_operator::domain::ids::{InstallationId, TenantId};

use prowler_operator::store::{AdminStore, Store};
use regex::Regex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::apiserver::ApiServer;
use super::db::{Db, admin_args, user_args};
use super::faults::{Faults, SqlProxy};

/// Namespace the operator itself would live in.
pub const OWN_NAMESPACE: &str = "prowler-operator-system";
/// An AWS account.
pub const ACCOUNT: &str = "123456789012";

/// A controller taken apart: its context, and everything around it.
pub struct Operator {
    pub server: &'static ApiServer,
    pub db: Db,
    /// Faults in calls of the API server.
    pub api: Faults,
    /// Faults in calls of the database.
    pub sql: SqlProxy,
    pub clock: Arc<ManualClock>,
    pub cx: Arc<Context>,
    /// A client of the test's own, which never fails.
    pub client: Client,
    config: FileConfig,
    dead: AtomicBool,
    /// A connection as `prowler_admin` that never fails.
    admin: tokio::sync::Mutex<PgConnection>,
    /// Tables with rows of tenants, each with the column that names the tenant.
    tables: Vec<(String, String)>,
}

/// A tenant and its namespace.
#[derive(Debug, Clone)]
pub struct World {
    pub tenant: String,
    pub namespace: String,
}

/// Where objects of a kind are, seen from a client.
pub trait Placed: Resource<DynamicType = ()> + Sized {
    fn guarded(client: &Client, namespace: &str) -> Api<DeserializeGuard<Self>>;
    fn typed(client: &Client, namespace: &str) -> Api<Self>;
}

macro_rules! placed {
    ($($kind:ty),*) => {$(
        impl Placed for $kind {
            fn guarded(client: &Client, namespace: &str) -> Api<DeserializeGuard<Self>> {
                Api::namespaced(client.clone(), namespace)
            }
            fn typed(client: &Client, namespace: &str) -> Api<Self> {
                Api::namespaced(client.clone(), namespace)
            }
        }
    )*};
}

placed!(
    Provider,
    ProviderGroup,
    Role,
    ScanSchedule,
    Scan,
    Integration,
    MuteRule,
    Job,
    Pod,
    Secret,
    ServiceAccount,
    RoleBinding,
    NetworkPolicy
);

impl Placed for Tenant {
    fn guarded(client: &Client, _: &str) -> Api<DeserializeGuard<Self>> {
        Api::all(client.clone())
    }
    fn typed(client: &Client, _: &str) -> Api<Self> {
        Api::all(client.clone())
    }
}

/// The configuration that the chart's default values lead to, with a small retry pause.
pub fn config() -> FileConfig {
    config_with(json!({}))
}

/// The same with changes.
pub fn config_with(changes: Value) -> FileConfig {
    let mut config = json!({
        "scanner": { "image": "prowler:test", "allowedImages": ["prowler:other", "mirror.example/*"] },
        "upload": { "image": "operator:test" },
        "tenancy": { "deniedNamespaces": ["denied-*"] },
    });
    merge(&mut config, changes);
    serde_json::from_value(config).unwrap()
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes,
    }
}

impl Operator {
    /// On the shared API server, with a database of its own.
    pub async fn new() -> Self {
        Self::on(ApiServer::shared().await, Db::new().await, config()).await
    }

    /// The same with a configuration of one's own.
    pub async fn configured(changes: Value) -> Self {
        let server = ApiServer::shared().await;
        Self::on(server, Db::new().await, config_with(changes)).await
    }

    pub async fn on(server: &'static ApiServer, db: Db, config: FileConfig) -> Self {
        Self::at(start_of_clock(), server, db, config).await
    }

    /// Another controller on the same servers, whose clock differs by so many seconds.
    pub async fn beside(&self, skew: i64) -> Self {
        // The millisecond keeps the ids of the two apart, as their random parts do in real life.
        let skew = SignedDuration::from_millis(skew * 1000 + 1);
        let now = self.clock.now() + skew;
        let other = Self::at(now, self.server, self.db.clone(), self.config.clone()).await;
        other.reload().await;
        other
    }

    async fn at(now: Timestamp, server: &'static ApiServer, db: Db, config: FileConfig) -> Self {
        let api = Faults::default();
        let postgres = db.user_url();
        let port = postgres.split_once("@127.0.0.1:").unwrap().1;
        let port = port.split_once('/').unwrap().0.parse().unwrap();
        let sql = SqlProxy::start(port).await;
        let clock = Arc::new(ManualClock::new(now));
        let (user_args, admin_args) = (
            user_args(&sql.url(&db.user_url())),
            admin_args(&sql.url(&db.admin_url())),
        );
        let store = Store::connect("test", &user_args).await.unwrap();
        let owner = AdminStore::connect("test", &admin_args).await.unwrap();
        let cx = context(
            api.client(server.config_as("admin", &["system:masters"])),
            store,
            owner,
            clock.clone(),
            config.clone(),
        );
        let client = server.client();
        let mut admin = db.admin_conn().await;
        let tables = tables(&mut admin).await;
        Self {
            server,
            db,
            api,
            sql,
            clock,
            cx,
            client,
            config,
            dead: AtomicBool::new(false),
            admin: tokio::sync::Mutex::new(admin),
            tables,
        }
    }

    /// Whether a call was the last thing the program did; it does nothing until `restart`.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Runs a part of the program, unless it is dead; none if it died of a fault.
    pub async fn alive<T>(&self, part: impl Future<Output = T>) -> Option<T> {
        if self.is_dead() {
            return None;
        }
        tokio::select! {
            done = part => return Some(done),
            () = self.api.hung() => {}
            () = self.sql.hung() => {}
        }
        self.dead.store(true, Ordering::SeqCst);
        None
    }

    /// As a controller that died and was started again: nothing remembered but what is stored.
    pub async fn restart(&mut self) {
        self.dead.store(false, Ordering::SeqCst);
        let old = &self.cx;
        self.cx = context(
            old.client.clone(),
            old.store.clone(),
            old.admin.clone(),
            self.clock.clone(),
            self.config.clone(),
        );
        self.reload().await;
        self.cx.mirrors.load(&self.cx.admin).await.unwrap();
    }

    /// Starts again with a clock that is held against the database's, as the program's is.
    pub async fn check_clock(&mut self) {
        let old = &self.cx;
        self.cx = context(
            old.client.clone(),
            old.store.clone(),
            old.admin.clone(),
            Arc::new(CheckedClock::new(self.clock.clone())),
            self.config.clone(),
        );
        self.reload().await;
    }

    /// Starts again with another configuration.
    pub async fn reconfigure(&mut self, changes: Value) {
        self.config = config_with(changes);
        self.restart().await;
    }

    /// Reads the claims again, as the loop does.
    pub async fn reload(&self) {
        // A fault may hit this too; the loop tries again, as here the next round does.
        let _ = self.alive(self.cx.tenancy.reload(&self.cx.admin)).await;
    }

    /// Moves the clock on.
    pub fn wait(&self, seconds: i64) {
        let now = self.clock.now();
        self.clock.set(now + SignedDuration::from_secs(seconds));
    }

    /// One pass over the object as it is now; none if there is no such object, or the pass died.
    pub async fn pass<K: Reconcile + Placed>(&self, namespace: &str, name: &str) -> Option<Action> {
        let api = K::guarded(&self.client, namespace);
        let object = api.get_opt(name).await.unwrap()?;
        // Boxed, as kube does: a pass is a large future.
        let pass = Box::pin(driver::pass::<K>(Arc::new(object), self.cx.clone()));
        self.alive(pass).await
    }

    /// Passes until two in a row wrote nothing; how many it took.
    pub async fn converge<K: Reconcile + Placed>(&self, namespace: &str, name: &str) -> usize {
        let mut quiet = 0;
        for n in 1..=30 {
            self.reload().await;
            self.api.reset();
            let before = self.row_versions().await;
            if self.pass::<K>(namespace, name).await.is_none() {
                return n;
            }
            let wrote = !self.api.changes().is_empty() || self.row_versions().await != before;
            quiet = if wrote { 0 } else { quiet + 1 };
            if quiet == 2 {
                return n - 2;
            }
        }
        panic!(
            "{} {name} does not settle: {:#}",
            K::KIND,
            serde_json::to_value(K::typed(&self.client, namespace).get(name).await.unwrap())
                .unwrap()
        );
    }

    /// Passes until one made no call that may change something; for what is not tested itself.
    pub async fn follow<K: Reconcile + Placed>(&self, namespace: &str, name: &str) {
        self.reload().await;
        for _ in 0..10 {
            self.api.reset();
            self.pass::<K>(namespace, name).await;
            if self.api.changes().is_empty() {
                return;
            }
        }
        panic!("{} {name} does not settle", K::KIND);
    }

    /// Passes over every object of the world until a whole round wrote nothing.
    pub async fn settle(&self, world: &World) {
        for _ in 0..30 {
            self.api.reset();
            let before = self.row_versions().await;
            self.round(world).await;
            assert!(!self.is_dead(), "the dead do not settle anything");
            if self.api.changes().is_empty() && self.row_versions().await == before {
                return;
            }
        }
        panic!(
            "the world does not settle: {:#?} {:#}",
            self.api.changes(),
            self.objects(world).await
        );
    }

    /// One pass over every object of the world, and one admission.
    pub async fn round(&self, world: &World) {
        self.reload().await;
        self.pass::<Tenant>("", &world.tenant).await;
        self.reload().await;
        self.pass_all::<Provider>(world).await;
        self.pass_all::<ProviderGroup>(world).await;
        self.pass_all::<Role>(world).await;
        self.pass_all::<ScanSchedule>(world).await;
        self.pass_all::<Scan>(world).await;
        self.pass_all::<Integration>(world).await;
        self.pass_all::<MuteRule>(world).await;
        self.admit().await;
    }

    /// One pass over every object of a kind in the world's namespace.
    pub async fn pass_all<K: Reconcile + Placed>(&self, world: &World) {
        let api = K::guarded(&self.client, &world.namespace);
        let mut names: Vec<_> = api
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        names.sort();
        for name in names {
            self.pass::<K>(&world.namespace, &name).await;
        }
    }

    /// Admits what may start, as the admission loop does.
    pub async fn admit(&self) -> usize {
        match self.alive(admission::admit(&self.cx)).await {
            Some(Ok(count)) => count,
            _ => 0,
        }
    }

    /// A Tenant that holds a namespace of its own.
    pub async fn tenant(&self) -> World {
        self.tenant_with(json!({})).await
    }

    /// The same with more in its spec.
    pub async fn tenant_with(&self, spec: Value) -> World {
        let world = World {
            tenant: unique("tenant"),
            namespace: self.server.namespace().await,
        };
        let mut whole = json!({ "namespaces": [world.namespace] });
        merge(&mut whole, spec);
        self.apply::<Tenant>("", &world.tenant, whole).await;
        self.follow::<Tenant>("", &world.tenant).await;
        self.reload().await;
        world
    }

    /// What `kubectl apply` does with a manifest of this spec.
    pub async fn apply<K>(&self, namespace: &str, name: &str, spec: Value) -> K
    where
        K: Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        self.try_apply(namespace, name, json!({ "spec": spec }))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The same with metadata and an answer.
    pub async fn try_apply<K>(
        &self,
        namespace: &str,
        name: &str,
        mut object: Value,
    ) -> kube::Result<K>
    where
        K: Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        object["apiVersion"] = json!(K::api_version(&()));
        object["kind"] = json!(K::kind(&()));
        object["metadata"]["name"] = json!(name);
        K::typed(&self.client, namespace)
            .patch(
                name,
                &PatchParams::apply("test").force(),
                &Patch::Apply(&object),
            )
            .await
    }

    /// The object as it is.
    pub async fn get<K>(&self, namespace: &str, name: &str) -> K
    where
        K: Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        K::typed(&self.client, namespace).get(name).await.unwrap()
    }

    /// Whether there is no such object.
    pub async fn is_gone<K>(&self, namespace: &str, name: &str) -> bool
    where
        K: Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let found = K::typed(&self.client, namespace).get_opt(name).await;
        found.unwrap().is_none()
    }

    /// What `kubectl delete --wait=false` does.
    pub async fn delete<K>(&self, namespace: &str, name: &str)
    where
        K: Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        K::typed(&self.client, namespace)
            .delete(name, &DeleteParams::background())
            .await
            .unwrap();
    }

    /// (status, reason, message) of a condition, if the object has it.
    pub async fn condition<K: Reconcile + Placed>(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
    ) -> Option<(String, String, String)> {
        let object: K = self.get(namespace, name).await;
        let conditions = prowler_operator::api::Kind::conditions(&object);
        let found = conditions.iter().find(|c| c.type_ == kind)?;
        Some((
            found.status.clone(),
            found.reason.clone(),
            found.message.clone(),
        ))
    }

    /// Reason of `Ready`, with what kstatus makes of the object before it: `Current`,
    /// `InProgress` or `Failed`.
    pub async fn says<K: Reconcile + Placed>(&self, namespace: &str, name: &str) -> String {
        let object: K = self.get(namespace, name).await;
        let value = serde_json::to_value(&object).unwrap();
        format!("{} {}", kstatus(&value), ready(&value, "reason"))
    }

    /// Message of `Ready`.
    pub async fn message<K: Reconcile + Placed>(&self, namespace: &str, name: &str) -> String {
        let object: K = self.get(namespace, name).await;
        ready(&serde_json::to_value(&object).unwrap(), "message")
    }

    /// A Secret with the label that allows its use and what an AWS account needs.
    pub async fn aws_secret(&self, namespace: &str, name: &str) {
        self.secret(
            namespace,
            name,
            true,
            &[
                ("aws_access_key_id", "AKIAEXAMPLE"),
                ("aws_secret_access_key", "very-secret-value"),
            ],
        )
        .await;
    }

    pub async fn secret(&self, namespace: &str, name: &str, labelled: bool, data: &[(&str, &str)]) {
        let label = labelled.then_some("true");
        let data: serde_json::Map<_, _> = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        let secret: Secret = serde_json::from_value(json!({
            "metadata": { "name": name, "labels":
                label.map(|value| json!({ "prowler-operator.dev/credentials": value })) },
            "stringData": data,
        }))
        .unwrap();
        Secret::typed(&self.client, namespace)
            .create(&PostParams::default(), &secret)
            .await
            .unwrap();
    }

    pub async fn service_account(&self, namespace: &str, name: &str, annotated: bool) {
        let annotations = annotated.then(|| json!({ "prowler-operator.dev/scanner": "true" }));
        let account: ServiceAccount = serde_json::from_value(json!({
            "metadata": { "name": name, "annotations": annotations },
        }))
        .unwrap();
        ServiceAccount::typed(&self.client, namespace)
            .create(&PostParams::default(), &account)
            .await
            .unwrap();
    }

    /// A merge patch as a user makes it.
    pub async fn patch<K>(&self, namespace: &str, name: &str, patch: Value) -> K
    where
        K: Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        K::typed(&self.client, namespace)
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap()
    }

    /// An AWS Provider `name` of this account with a Secret of its own, settled.
    pub async fn provider(&self, world: &World, name: &str, uid: &str) -> Provider {
        let secret = format!("{name}-keys");
        self.aws_secret(&world.namespace, &secret).await;
        self.apply::<Provider>(&world.namespace, name, aws(uid, &secret))
            .await;
        self.follow::<Provider>(&world.namespace, name).await;
        self.get(&world.namespace, name).await
    }

    /// A Scan of a Provider, queued.
    pub async fn scan(&self, world: &World, name: &str, provider: &str) -> Scan {
        let spec = json!({ "providerRef": { "name": provider } });
        self.apply::<Scan>(&world.namespace, name, spec).await;
        self.follow::<Scan>(&world.namespace, name).await;
        self.get(&world.namespace, name).await
    }

    /// A Scan whose Job has been made.
    pub async fn running_scan(&self, world: &World, name: &str, provider: &str) -> Job {
        self.scan(world, name, provider).await;
        self.admit().await;
        self.follow::<Scan>(&world.namespace, name).await;
        self.job_of(world, name).await
    }

    /// The Job that a Scan's status names.
    pub async fn job_of(&self, world: &World, scan: &str) -> Job {
        let scan: Scan = self.get(&world.namespace, scan).await;
        let name = scan.status.unwrap().job_name.unwrap();
        self.get(&world.namespace, &name).await
    }

    /// All Jobs of the world.
    pub async fn jobs(&self, world: &World) -> Vec<Job> {
        let api = Job::typed(&self.client, &world.namespace);
        api.list(&ListParams::default()).await.unwrap().items
    }

    /// Makes the Job's pod, as the Job controller does, with a status as the kubelet writes it.
    pub async fn pod(&self, job: &Job, status: Value) -> Pod {
        let namespace = job.namespace().unwrap();
        let template = job.spec.as_ref().unwrap().template.clone();
        let mut meta = template.metadata.unwrap_or_default();
        meta.name = Some(unique(&job.name_any()));
        meta.labels.get_or_insert_default().insert(
            "batch.kubernetes.io/controller-uid".into(),
            job.uid().unwrap(),
        );
        meta.owner_references = job.controller_owner_ref(&()).map(|owner| vec![owner]);
        let mut spec = template.spec.unwrap();
        // As admission does, which this API server leaves out.
        spec.service_account_name
            .get_or_insert("default".to_owned());
        let pod = Pod {
            metadata: meta,
            spec: Some(spec),
            status: None,
        };
        let api = Pod::typed(&self.client, &namespace);
        let pod = api.create(&PostParams::default(), &pod).await.unwrap();
        self.pod_status(&pod, status).await;
        pod
    }

    /// How many pods the Job owns.
    pub async fn pods_of(&self, job: &Job) -> usize {
        let selector = format!("batch.kubernetes.io/controller-uid={}", job.uid().unwrap());
        let params = ListParams::default().labels(&selector);
        let api = Pod::typed(&self.client, &job.namespace().unwrap());
        api.list(&params).await.unwrap().items.len()
    }

    /// Writes an object's status behind the program's back.
    pub async fn write_status<K>(&self, namespace: &str, name: &str, status: Value) -> K
    where
        K: Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let patch = Patch::Merge(json!({ "status": status }));
        K::typed(&self.client, namespace)
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap()
    }

    /// Writes a pod's status, as the kubelet does.
    pub async fn pod_status(&self, pod: &Pod, status: Value) {
        self.write_status::<Pod>(&pod.namespace().unwrap(), &pod.name_any(), status)
            .await;
    }

    /// Writes a Job's status, as the Job controller does when its pod failed.
    pub async fn job_failed(&self, job: &Job, reason: &str) {
        let now = SystemClock.now().to_string();
        let condition = |kind: &str| {
            json!({ "type": kind, "status": "True", "reason": reason, "message": "m",
                    "lastTransitionTime": now, "lastProbeTime": now })
        };
        Job::typed(&self.client, &job.namespace().unwrap())
            .patch_status(
                &job.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&json!({ "status": {
                    "startTime": now, "failed": 1,
                    "conditions": [condition("FailureTarget"), condition("Failed")] } })),
            )
            .await
            .unwrap();
    }

    /// What the garbage collector does: whatever's owner is gone goes too.
    pub async fn collect_garbage(&self, world: &World) {
        let namespace = &world.namespace;
        let schedules = self.uids::<ScanSchedule>(namespace).await;
        self.collect::<Scan>(namespace, "ScanSchedule", &schedules)
            .await;
        let scans = self.uids::<Scan>(namespace).await;
        self.collect::<Job>(namespace, "Scan", &scans).await;
        let jobs = self.uids::<Job>(namespace).await;
        self.collect::<Pod>(namespace, "Job", &jobs).await;
    }

    async fn uids<K>(&self, namespace: &str) -> Vec<String>
    where
        K: Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let api = K::typed(&self.client, namespace);
        let list = api.list(&ListParams::default()).await.unwrap();
        list.items.iter().filter_map(ResourceExt::uid).collect()
    }

    async fn collect<K>(&self, namespace: &str, owner: &str, live: &[String])
    where
        K: Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let api = K::typed(&self.client, namespace);
        for object in api.list(&ListParams::default()).await.unwrap() {
            let orphaned = object
                .owner_references()
                .iter()
                .any(|o| o.kind == owner && !live.contains(&o.uid));
            if orphaned && object.meta().deletion_timestamp.is_none() {
                let params = DeleteParams::default().grace_period(0);
                api.delete(&object.name_any(), &params).await.unwrap();
            }
        }
    }

    /// What the ingest server does with a good file of the attempt that runs as this Job.
    pub async fn publish(&self, job: &Job) {
        let counts = json!({ "total": 5, "pass": 2, "fail": 3, "manual": 0, "muted": 0, "new": 5,
            "changed": 0, "critical": 1, "high": 2, "medium": 0, "low": 0, "informational": 0 });
        let done = sqlx::query(
            "update scans set state = 'completed', published_attempt = attempt, counts = $2,
               unique_resource_count = 4, completed_at = $3, duration = 60, reason = null,
               message = null, updated_at = now()
             where job_uid = $1::text::uuid and state = 'executing'",
        )
        .bind(job.uid().unwrap())
        .bind(counts)
        .bind(jiff_sqlx::ToSqlx::to_sqlx(self.clock.now()))
        .execute(&mut *self.admin.lock().await)
        .await
        .unwrap();
        assert_eq!(done.rows_affected(), 1, "the attempt is over");
    }

    /// One value of a query as text, as `prowler_admin`.
    pub async fn sql(&self, query: &str) -> String {
        let rows = sqlx::query(AssertSqlSafe(format!("select ({query})::text")))
            .fetch_all(&mut *self.admin.lock().await)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        let texts: Vec<Option<String>> = rows.iter().map(|row| row.get(0)).collect();
        texts
            .into_iter()
            .map(Option::unwrap_or_default)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Changes rows behind the program's back, as `prowler_admin`.
    pub async fn change(&self, statement: &str) {
        sqlx::query(AssertSqlSafe(statement.to_owned()))
            .execute(&mut *self.admin.lock().await)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// The id of a tenant's row.
    pub fn tenant_id(&self, world: &World) -> TenantId {
        self.cx.installation.tenant(&world.tenant)
    }

    /// Every row's version: equal before and after means that nothing was written in between.
    pub async fn row_versions(&self) -> Vec<String> {
        let queries: Vec<_> = self
            .tables
            .iter()
            .map(|(table, _)| {
                format!("select '{table} ' || ctid::text || ' ' || xmin::text from {table}")
            })
            .collect();
        let mut versions: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(queries.join(" union all ")))
                .fetch_all(&mut *self.admin.lock().await)
                .await
                .unwrap();
        versions.sort_unstable();
        versions
    }

    /// All rows of a tenant, by table.
    pub async fn rows(&self, tenant: TenantId) -> serde_json::Map<String, Value> {
        let mut conn = self.admin.lock().await;
        let mut dump = serde_json::Map::new();
        for (table, key) in &self.tables {
            let rows: Vec<Value> = sqlx::query_scalar(AssertSqlSafe(format!(
                "select to_jsonb(t) from {table} t where {key} = '{tenant}'"
            )))
            .fetch_all(&mut *conn)
            .await
            .unwrap();
            if !rows.is_empty() {
                dump.insert(table.clone(), Value::Array(rows));
            }
        }
        dump
    }

    /// Every object of the world that the operator writes.
    pub async fn objects(&self, world: &World) -> Value {
        let namespace = &world.namespace;
        let tenant = Tenant::typed(&self.client, "")
            .get_opt(&world.tenant)
            .await
            .unwrap();
        json!({
            "Tenant": tenant.map(bare),
            "Provider": self.list::<Provider>(namespace).await,
            "ProviderGroup": self.list::<ProviderGroup>(namespace).await,
            "Role": self.list::<Role>(namespace).await,
            "ScanSchedule": self.list::<ScanSchedule>(namespace).await,
            "Scan": self.list::<Scan>(namespace).await,
            "Integration": self.list::<Integration>(namespace).await,
            "MuteRule": self.list::<MuteRule>(namespace).await,
            "Job": self.list::<Job>(namespace).await,
            "RoleBinding": self.list::<RoleBinding>(namespace).await,
        })
    }

    async fn list<K>(&self, namespace: &str) -> Vec<Value>
    where
        K: Placed + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        let api = K::typed(&self.client, namespace);
        let list = api.list(&ListParams::default()).await.unwrap();
        list.items.into_iter().map(bare).collect()
    }

    /// Takes a world's Tenant and rows away, so that it holds no place in any queue and no later
    /// Tenant is compared with it.
    pub async fn forget(&self, world: &World) {
        sqlx::query("delete from tenants where id = $1")
            .bind(self.tenant_id(world).0)
            .execute(&mut *self.admin.lock().await)
            .await
            .unwrap();
        let tenants = Tenant::typed(&self.client, "");
        let bare = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        // Either fails if there is nothing left of it.
        let _ = tenants
            .patch(&world.tenant, &PatchParams::default(), &bare)
            .await;
        let _ = tenants
            .delete(&world.tenant, &DeleteParams::background())
            .await;
    }

    /// The whole end state of a world as text in which runs can be compared: times and ids say
    /// only whether they are the same as others in it.
    pub async fn end_state(&self, world: &World) -> String {
        let state = json!({
            "objects": self.objects(world).await,
            "rows": self.rows(self.tenant_id(world)).await,
        });
        normalised(state, world)
    }
}

/// An AWS account with static keys.
pub fn aws(uid: &str, secret: &str) -> Value {
    json!({ "provider": "aws", "uid": uid,
            "credentials": { "type": "static", "secretRef": { "name": secret } } })
}

/// A name that no other test has.
pub fn unique(head: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{head}-n{number}")
}

/// Pod status while the `scan` container runs.
pub fn scanning() -> Value {
    json!({ "phase": "Pending", "startTime": "2026-11-23T02:00:00Z",
            "initContainerStatuses": [container("scan", json!({ "running": {} }))] })
}

/// Pod status after `scan` ended.
pub fn scan_ended(code: i32, reason: &str, message: &str) -> Value {
    let ended = json!({ "terminated": { "exitCode": code, "reason": reason, "message": message } });
    json!({ "phase": if code == 0 { "Pending" } else { "Failed" },
            "startTime": "2026-11-23T02:00:00Z",
            "initContainerStatuses": [container("scan", ended)] })
}

/// Pod status after both containers ended, `upload` with this code.
pub fn upload_ended(code: i32) -> Value {
    let mut status = scan_ended(0, "Completed", "");
    let ended = json!({ "terminated": { "exitCode": code, "reason": "Completed" } });
    status["phase"] = json!(if code == 0 { "Succeeded" } else { "Failed" });
    status["containerStatuses"] = json!([container("upload", ended)]);
    status
}

/// Pod status after a connection check said this.
pub fn check_said(line: &Value) -> Value {
    let ended = json!({ "terminated": { "exitCode": 0, "message": line.to_string() } });
    json!({ "phase": "Succeeded", "containerStatuses": [container("check", ended)] })
}

/// Status of one container.
pub fn container(name: &str, state: Value) -> Value {
    json!({ "name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": state })
}

/// The clocks of tests begin at a full hour after the real time, so that every object was made
/// before.
fn start_of_clock() -> Timestamp {
    let hours = SystemClock.now().as_second() / 3600 + 1;
    Timestamp::from_second(hours * 3600).unwrap()
}

fn context(
    client: Client,
    store: Store,
    admin: AdminStore,
    clock: Arc<dyn Clock>,
    config: FileConfig,
) -> Arc<Context> {
    let reporter = Reporter {
        controller: "prowler-operator.dev/controller".to_owned(),
        instance: Some("test".to_owned()),
    };
    Arc::new(Context {
        events: EventRecorder::new(client.clone(), reporter),
        multiplex: controllers::multiplex::Multiplex::plain(client.clone()),
        client,
        store,
        admin,
        clock,
        installation: InstallationId(uuid::Uuid::from_u128(0x5eed)),
        config,
        settings: Settings {
            namespace: OWN_NAMESPACE.to_owned(),
            server_url: "https://prowler-operator-server.prowler-operator-system.svc:8443"
                .to_owned(),
            server_ca_file: ca_file(),
            secret_reader_role: "prowler-operator-secret-reader".to_owned(),
            service_account: "prowler-operator-controller".to_owned(),
        },
        metrics: Arc::default(),
        attempts: driver::Attempts::default(),
        tenancy: controllers::tenancy::Tenancy::default(),
        references: controllers::references::References::default(),
        mirrors: controllers::mirrors::Mirrors::default(),
        isolation: controllers::isolation::Isolation::default(),
        echoes: controllers::echoes::Echoes::default(),
        open_namespaces: controllers::network::Open::default(),
        workloads: controllers::kueue::Workloads::default(),
        line: admission::Line::default(),
        wake: controllers::wake::Wake::default(),
    })
}

fn ca_file() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = std::env::temp_dir().join(format!("prowler-test-ca-{}.crt", std::process::id()));
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nserver's\n").unwrap();
        file
    })
    .clone()
}

/// Partitions are read through their parents.
async fn tables(conn: &mut PgConnection) -> Vec<(String, String)> {
    let rows = sqlx::query(
        "select c.relname::text, a.attname::text from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attname =
           case when c.relname = 'tenants' then 'id' else 'tenant_id' end
         where c.relnamespace = 'prowler'::regnamespace and c.relkind in ('r', 'p')
           and not c.relispartition
         order by 1",
    )
    .fetch_all(conn)
    .await
    .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The object without what differs from run to run by itself.
fn bare<K: Serialize>(object: K) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    let meta = value["metadata"].as_object_mut().unwrap();
    for field in ["resourceVersion", "creationTimestamp", "managedFields"] {
        meta.remove(field);
    }
    value
}

/// A state as text that is the same for states that differ in names of ids and in the order of
/// lists only.
fn normalised(state: Value, world: &World) -> String {
    let ids = Regex::new(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    let mut state: Value = serde_json::from_str(&blank(&state.to_string(), world)).unwrap();
    let kinds = coloured(&state, &ids);
    // Lists of rows and objects have no order of their own: by what they say and refer to.
    sort_lists(&mut state, |row| {
        ids.replace_all(row, |found: &regex::Captures<'_>| {
            kinds[&found[0]].to_string()
        })
        .into_owned()
    });
    // Ids in order of appearance.
    let mut seen: Vec<String> = Vec::new();
    let text = state.to_string();
    let text = ids.replace_all(&text, |found: &regex::Captures<'_>| {
        let id = found[0].to_owned();
        let place = seen.iter().position(|known| *known == id);
        let place = place.unwrap_or_else(|| {
            seen.push(id);
            seen.len() - 1
        });
        format!("<id {place}>")
    });
    // Rows that differ by ids alone, which by now say the same in every run.
    let mut state: Value = serde_json::from_str(&text).unwrap();
    sort_lists(&mut state, str::to_owned);
    serde_json::to_string_pretty(&state).unwrap()
}

fn sort_lists(state: &mut Value, key: impl Fn(&str) -> String) {
    for part in ["objects", "rows"] {
        for list in state[part].as_object_mut().unwrap().values_mut() {
            if let Some(list) = list.as_array_mut() {
                list.sort_by_cached_key(|row| key(&row.to_string()));
            }
        }
    }
}

/// Each id with a number that tells where it stands, in what, and beside which other ids: two
/// rows that say the same of different accounts are told apart by what else is said of these.
fn coloured(state: &Value, ids: &Regex) -> BTreeMap<String, u64> {
    let items: Vec<String> = ["objects", "rows"]
        .iter()
        .flat_map(|part| state[part].as_object().unwrap())
        .flat_map(|(list, items)| {
            let items = items.as_array().cloned().unwrap_or(vec![items.clone()]);
            items.into_iter().map(move |item| format!("{list} {item}"))
        })
        .collect();
    let mut colours: BTreeMap<String, u64> = items
        .iter()
        .flat_map(|item| ids.find_iter(item))
        .map(|found| (found.as_str().to_owned(), 0))
        .collect();
    for _ in 0..4 {
        let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for item in &items {
            for id in ids.find_iter(item).map(|found| found.as_str()) {
                let seen = ids.replace_all(item, |other: &regex::Captures<'_>| {
                    if &other[0] == id {
                        "<this>".to_owned()
                    } else {
                        colours[&other[0]].to_string()
                    }
                });
                places.entry(id).or_default().push(seen.into_owned());
            }
        }
        colours = places
            .into_iter()
            .map(|(id, mut places)| {
                places.sort_unstable();
                let mut hasher = DefaultHasher::new();
                places.hash(&mut hasher);
                (id.to_owned(), hasher.finish())
            })
            .collect();
    }
    colours
}

fn blank(text: &str, world: &World) -> String {
    static SHAPES: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let shapes = SHAPES.get_or_init(|| {
        [
            (
                r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)",
                "<time>",
            ),
            (r#""(fingerprint|subject)":-?\d+"#, r#""$1":"<hash>""#),
            (r#"spec-hash":"[0-9a-f]{32}""#, r#"spec-hash":"<hash>""#),
            (r"-\d{10}-[0-9a-f]{16}\b", "-<slot>"),
            (
                r#""(duration|durationSeconds|slot|queue_slot)":\d+"#,
                r#""$1":"<number>""#,
            ),
        ]
        .map(|(shape, instead)| (Regex::new(shape).unwrap(), instead))
        .into()
    });
    let mut text = text.replace(&world.tenant, "<tenant>");
    let namespace = Regex::new(&format!(r"\b{}\b", world.namespace)).unwrap();
    text = namespace.replace_all(&text, "<namespace>").into_owned();
    for (shape, instead) in shapes {
        text = shape.replace_all(&text, *instead).into_owned();
    }
    text
}

/// What kstatus makes of an object.
pub fn kstatus(object: &Value) -> &'static str {
    let is_true = |kind: &str| {
        object["status"]["conditions"]
            .as_array()
            .is_some_and(|list| {
                list.iter()
                    .any(|c| c["type"] == kind && c["status"] == "True")
            })
    };
    if !object["metadata"]["deletionTimestamp"].is_null() {
        "Terminating"
    } else if object["status"]["observedGeneration"] != object["metadata"]["generation"]
        || is_true("Reconciling")
    {
        "InProgress"
    } else if is_true("Stalled") {
        "Failed"
    } else if is_true("Ready") {
        "Current"
    } else {
        "InProgress"
    }
}

fn ready(object: &Value, field: &str) -> String {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "Ready")
        .and_then(|c| c[field].as_str())
        .unwrap_or_default()
        .to_owned()
}
