//! The stage: a release that tries nothing twice, a tenant, an account for each scan, and all of
//! them run at once.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::meddle;
use crate::actor;
use crate::demo::{Demo, RELEASE, SYSTEM, wait_for};
use crate::node::Asleep;

/// Namespace of most scans, and of those whose pods something there refuses.
pub const NAMESPACE: &str = "ends";
pub const QUOTA: &str = "ends-quota";
pub const RANGE: &str = "ends-range";
pub const ADMISSION: &str = "ends-admission";
pub const SECURITY: &str = "ends-psa";

/// How a scan ended.
pub struct End {
    pub state: String,
    pub reason: String,
    pub message: String,
    /// The whole status, for who looks into a failure.
    pub status: Value,
    /// Seconds from when a hand was laid on it until its status told the end, and until it held
    /// neither account nor slots and had no pod.
    pub told_after: Option<f64>,
    pub free_after: Option<f64>,
}

impl End {
    fn of(status: &Value, told_after: Option<f64>) -> Self {
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        Self {
            state: text("state"),
            reason: text("reason"),
            message: text("message"),
            status: status.clone(),
            told_after,
            free_after: None,
        }
    }
}

/// A scan to be made.
struct Act {
    name: &'static str,
    namespace: &'static str,
    /// Settings beside the services, which say how it ends.
    scan: Value,
    credentials: Value,
}

/// With the keys as variables, and 64 MiB.
fn act(name: &'static str) -> Act {
    Act {
        name,
        namespace: NAMESPACE,
        scan: json!({}),
        credentials: json!({ "type": "static", "secretRef": { "name": "keys" } }),
    }
}

impl Act {
    fn within(mut self, namespace: &'static str) -> Self {
        self.namespace = namespace;
        self
    }

    fn with(mut self, field: &str, value: Value) -> Self {
        self.scan[field] = value;
        self
    }

    fn by_account(mut self, name: &str) -> Self {
        self.credentials = json!({ "serviceAccountName": name });
        self
    }

    fn with_keys(mut self, secret: &str) -> Self {
        self.credentials["secretRef"]["name"] = json!(secret);
        self
    }

    /// The account: its number is its place in the list.
    fn provider(&self, number: usize, image: &str) -> Value {
        let is_cluster = self.name == "ok-no-files";
        let account = format!("{:012}", 100_000_000_000_usize + number);
        let mut scan = json!({
            "image": image,
            "services": [format!("act.{}", self.name), format!("account.{account}")],
            "resources": { "requests": { "cpu": "10m" },
                           "limits": { "memory": "64Mi", "ephemeral-storage": "32Mi" } },
        });
        for (field, value) in self.scan.as_object().unwrap() {
            scan[field] = value.clone();
        }
        json!({
            "apiVersion": "prowler-operator.dev/v1alpha1", "kind": "Provider",
            "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": {
                "provider": if is_cluster { "kubernetes" } else { "aws" },
                "uid": if is_cluster { "ends-cluster".to_owned() } else { account },
                "credentials": self.credentials, "scan": scan,
            },
        })
    }

    fn scan(&self) -> Value {
        json!({
            "apiVersion": "prowler-operator.dev/v1alpha1", "kind": "Scan",
            "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": { "providerRef": { "name": self.name } },
        })
    }
}

/// What something is taken from between their Job and its pod.
const ROBBED: [&str; 3] = ["ok-no-account", "ok-no-variables", "ok-no-files"];
/// What runs while no server is there.
const UNSERVED: [&str; 2] = ["ok-no-server", "ok-upload-oom"];
/// What needs the server.
const SERVED: [&str; 5] = ["ok", "no-file", "truncated", "unreadable", "other-account"];

fn acts() -> Vec<Act> {
    let mut acts: Vec<_> = [
        "ok",
        "no-file",
        "truncated",
        "unreadable",
        "other-account",
        "exit-1",
        "refused-keys",
        "exit-2",
        "exit-3",
        "exit-42",
        "oom",
        "oom-child",
        "fill",
        "wait-drained",
        "wait-preempted",
        "wait-job-deleted",
        "wait-pod-deleted",
        "wait-second-pod",
        "wait-cancelled",
        "sleep-cancelled",
        "ok-upload-oom",
    ]
    .map(act)
    .into();
    acts.extend([
        act("sleep-deadline").with("activeDeadlineSeconds", json!(60)),
        act("ok-no-server").with("activeDeadlineSeconds", json!(60)),
        act("ok-no-image").with("image", json!("registry.invalid/prowler:1")),
        act("ok-too-large").with(
            "resources",
            json!({ "requests": { "cpu": "8" }, "limits": { "cpu": "8", "memory": "64Mi" } }),
        ),
        act("ok-quota").within(QUOTA),
        act("ok-range").within(RANGE),
        act("ok-admission").within(ADMISSION),
        act("ok-psa").within(SECURITY),
        act("ok-no-account").by_account("gone"),
        act("ok-no-variables").with_keys("gone-keys"),
        act("ok-no-files").with_keys("gone-file"),
    ]);
    acts
}

/// What became of the scan of this name.
pub fn end_of(name: &str) -> &'static End {
    static ENDS: OnceLock<Option<BTreeMap<&'static str, End>>> = OnceLock::new();
    // Once also when it fails: the first test says of what.
    let mut failure = None;
    let ends = ENDS.get_or_init(|| match catch_unwind(play) {
        Ok(ends) => Some(ends),
        Err(why) => {
            failure = Some(why);
            None
        }
    });
    if let Some(why) = failure {
        resume_unwind(why);
    }
    let ends = ends.as_ref().unwrap_or_else(|| panic!("the stage failed"));
    ends.get(name).unwrap_or_else(|| panic!("no scan {name}"))
}

fn play() -> BTreeMap<&'static str, End> {
    let mut demo = Demo::up();
    // One attempt each, and all at once.
    let image = actor::release(
        &demo,
        "scanner.schedulingTimeoutSeconds=20,retry.maxAttempts=1,queues.scans.maxConcurrent=50",
    );
    // What a run before may have left.
    clear(&demo);
    let stage = Stage {
        demo: &demo,
        acts: acts(),
    };
    let played = catch_unwind(AssertUnwindSafe(|| stage.play(&image)));
    // Also after a failure: objects that are left would keep `hack/demo down` waiting for ever.
    clear(&demo);
    demo.gone();
    played.unwrap_or_else(|why| resume_unwind(why))
}

fn namespaces() -> BTreeSet<&'static str> {
    acts().iter().map(|act| act.namespace).collect()
}

/// Takes everything away again.
fn clear(demo: &Demo) {
    meddle::let_twin_go(demo);
    let mut args = vec![
        "delete",
        "--ignore-not-found",
        "--timeout=300s",
        "namespace",
    ];
    args.extend(namespaces());
    demo.kubectl(&args);
    demo.kubectl(&[
        "delete",
        "--ignore-not-found",
        "--timeout=180s",
        "prowlertenant",
        NAMESPACE,
    ]);
    meddle::take_away(demo);
}

struct Stage<'a> {
    demo: &'a Demo,
    acts: Vec<Act>,
}

/// What is to be seen of all scans at one moment.
pub struct Seen {
    scans: Vec<Value>,
    pods: Vec<Value>,
}

impl Seen {
    fn now(demo: &Demo) -> Self {
        let objects = demo.list(&["prowlerscans,pods", "--all-namespaces"]);
        let (scans, pods) = objects
            .into_iter()
            .partition(|object| object["kind"] == "Scan");
        Self { scans, pods }
    }

    fn scan(&self, name: &str) -> Option<&Value> {
        self.scans
            .iter()
            .find(|scan| scan["metadata"]["name"] == name)
    }

    /// The pods of the scan, by the id that its status tells.
    pub fn pods(&self, name: &str) -> Vec<&Value> {
        let Some(id) = self
            .scan(name)
            .and_then(|scan| scan["status"]["scanId"].as_str())
        else {
            return Vec::new();
        };
        let is_its = |pod: &&Value| pod["metadata"]["labels"]["prowler-operator.dev/scan"] == id;
        self.pods.iter().filter(is_its).collect()
    }

    /// The pod of the scan in which this container runs.
    pub fn running(&self, name: &str, container: &str) -> Option<&Value> {
        let is_running = |pod: &&Value| {
            ["initContainerStatuses", "containerStatuses"]
                .iter()
                .filter_map(|list| pod["status"][list].as_array())
                .flatten()
                .any(|one| one["name"] == container && one["state"]["running"].is_object())
        };
        self.pods(name).into_iter().find(is_running)
    }

    pub fn is_over(&self, name: &str) -> bool {
        let state = self
            .scan(name)
            .and_then(|scan| scan["status"]["state"].as_str());
        matches!(state, Some("completed" | "failed" | "cancelled"))
    }

    fn are_over(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.is_over(name))
    }
}

impl Stage<'_> {
    fn play(&self, image: &str) -> BTreeMap<&'static str, End> {
        self.set(image);
        self.rob();
        let rest: Vec<_> = self
            .acts
            .iter()
            .filter(|act| !ROBBED.contains(&act.name) && !UNSERVED.contains(&act.name))
            .map(Act::scan)
            .collect();
        self.apply(&rest);
        self.watch()
    }

    /// The release, the tenant, what the namespaces hold, the accounts.
    fn set(&self, image: &str) {
        let mut objects: Vec<Value> = namespaces()
            .into_iter()
            .map(|name| {
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name,
                    "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } })
            })
            .collect();
        objects.push(json!({
            "apiVersion": "prowler-operator.dev/v1alpha1", "kind": "Tenant",
            "metadata": { "name": NAMESPACE },
            "spec": { "namespaces": namespaces(), "limits": { "concurrentScans": 50 } },
        }));
        objects.extend(meddle::props());
        let providers = self.acts.iter().enumerate();
        objects.extend(providers.map(|(number, act)| act.provider(number, image)));
        self.apply(&objects);
        wait_for("the accounts of all ends", 120, || {
            let providers = self.demo.list(&["prowlerproviders", "--all-namespaces"]);
            let ready = providers.iter().filter(|provider| {
                let namespace = provider["metadata"]["namespace"].as_str().unwrap();
                let conditions = provider["status"]["conditions"].as_array();
                namespaces().contains(namespace)
                    && conditions.into_iter().flatten().any(|condition| {
                        condition["type"] == "Ready" && condition["status"] == "True"
                    })
            });
            (ready.count() == self.acts.len()).then_some(())
        });
    }

    fn apply(&self, objects: &[Value]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        self.demo.apply(&list.to_string());
    }

    /// Nobody makes pods of Jobs for a moment; what their pods will need goes meanwhile.
    fn rob(&self) {
        let asleep = Asleep::fall("kube-controller-manager");
        let robbed: Vec<_> = self
            .acts
            .iter()
            .filter(|act| ROBBED.contains(&act.name))
            .map(Act::scan)
            .collect();
        self.apply(&robbed);
        wait_for("the Jobs of those who will be robbed", 60, || {
            let jobs = self.demo.list(&["jobs", "--namespace", NAMESPACE]);
            (jobs.len() == robbed.len()).then_some(())
        });
        for object in [
            ["serviceaccount", "gone"],
            ["secret", "gone-keys"],
            ["secret", "gone-file"],
        ] {
            self.demo
                .kubectl(&[&["delete", "--namespace", NAMESPACE], &object[..]].concat());
        }
        drop(asleep);
    }

    /// Does what is to be done to each when its time has come, until all are over and free.
    fn watch(&self) -> BTreeMap<&'static str, End> {
        let mut hands = meddle::hands();
        let mut told: BTreeMap<&str, Instant> = BTreeMap::new();
        let mut noted = Noted::default();
        let (mut unserved, mut served_again) = (false, false);
        let begun = Instant::now();
        while noted.free.len() < self.acts.len() {
            let names = self.acts.iter().map(|act| act.name);
            let left: Vec<_> = names
                .filter(|name| !noted.free.contains_key(name))
                .collect();
            assert!(
                begun.elapsed() < Duration::from_mins(7),
                "not over, or not free: {left:?}"
            );
            let seen = Seen::now(self.demo);
            hands.retain(|hand| {
                let acted = (hand.act)(self.demo, hand.scan, &seen);
                if acted {
                    told.insert(hand.scan, Instant::now());
                }
                !acted
            });
            if !unserved && seen.are_over(&SERVED) {
                self.scale_server(0);
                let scans: Vec<_> = self
                    .acts
                    .iter()
                    .filter(|act| UNSERVED.contains(&act.name))
                    .map(Act::scan)
                    .collect();
                self.apply(&scans);
                unserved = true;
            }
            if unserved && !served_again && seen.are_over(&UNSERVED) {
                self.scale_server(2);
                served_again = true;
            }
            self.note(&seen, &told, &mut noted);
            std::thread::sleep(Duration::from_millis(500));
        }
        noted.free
    }

    fn scale_server(&self, replicas: i32) {
        let deployment = format!("deployment/{RELEASE}-server");
        let replicas = format!("--replicas={replicas}");
        self.demo
            .kubectl(&["scale", "--namespace", SYSTEM, &deployment, &replicas]);
    }

    /// Notes who is over, and of these who is free by now.
    fn note(&self, seen: &Seen, told: &BTreeMap<&str, Instant>, noted: &mut Noted) {
        let held = "select name from scans where holds_account and namespace like 'ends%'";
        let held = self.demo.sql("admin", None, held);
        for name in self.acts.iter().map(|act| act.name) {
            let since = told.get(name).map(|at| at.elapsed().as_secs_f64());
            if let Some(scan) = seen.scan(name).filter(|_| seen.is_over(name)) {
                let end = || End::of(&scan["status"], since);
                noted.over.entry(name).or_insert_with(end);
            }
            let is_free = !held.iter().any(|row| row[0] == name) && seen.pods(name).is_empty();
            if is_free && let Some(mut end) = noted.over.remove(name) {
                end.free_after = since;
                noted.free.entry(name).or_insert(end);
            }
        }
    }
}

/// How the scans ended so far.
#[derive(Default)]
struct Noted {
    /// That are over, and still hold their account or have a pod.
    over: BTreeMap<&'static str, End>,
    /// That do not any more.
    free: BTreeMap<&'static str, End>,
}
