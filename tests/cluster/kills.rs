//! Parts of the whole killed at random moments of a scan: it ends right or is tried again, its
//! account is free in time, and its findings are there exactly once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prowler_operator::domain::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::actor;
use crate::demo::{Demo, SYSTEM, condition, wait_for};
use crate::node::{self, Asleep};
use crate::support::command::{command, kubectl, output, succeed};

const NAMESPACE: &str = "kills";
const PROVIDER: &str = "account";
const ACCOUNT: &str = "200000000000";
/// Findings that the actor writes.
const FINDINGS: i64 = 5001;
/// Within these milliseconds of a scan's beginning something is killed: a scan takes about as long.
const MOMENTS: u64 = 5_000;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Controller,
    Server,
    Shim,
    Kubelet,
    Postgres,
}

const VICTIMS: [Victim; 5] = [
    Victim::Controller,
    Victim::Server,
    Victim::Shim,
    Victim::Kubelet,
    Victim::Postgres,
];

/// The release with short pauses, a tenant and an account.
fn set(demo: &Demo) {
    let image = actor::release(demo, "retry.backoffSeconds=2,retry.maxAttempts=5");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE,
            "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } },
        { "apiVersion": "prowler-operator.dev/v1alpha1", "kind": "Tenant",
            "metadata": { "name": NAMESPACE }, "spec": { "namespaces": [NAMESPACE] } },
        { "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keys", "namespace": NAMESPACE,
            "labels": { "prowler-operator.dev/credentials": "true" } },
            "stringData": { "aws_access_key_id": "AKIAACTOR", "aws_secret_access_key": "an-actor-has-none" } },
        { "apiVersion": "prowler-operator.dev/v1alpha1", "kind": "Provider",
            "metadata": { "name": PROVIDER, "namespace": NAMESPACE },
            "spec": { "provider": "aws", "uid": ACCOUNT,
                "credentials": { "type": "static", "secretRef": { "name": "keys" } },
                "scan": { "image": image,
                    "resources": { "requests": { "cpu": "10m" }, "limits": { "memory": "64Mi" } } } } },
    ]});
    demo.apply(&list.to_string());
}

/// Takes everything away again when it is dropped, also after a failure: objects that are left would
/// keep `hack/demo down` waiting for ever.
struct Cleared<'a>(&'a Demo);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        for object in [["namespace", NAMESPACE], ["prowlertenant", NAMESPACE]] {
            let delete = ["delete", "--ignore-not-found", "--timeout=300s"];
            let args = [&delete[..], &object[..]].concat();
            output(self.0.command(kubectl(), &args), "");
        }
    }
}

fn scan(demo: &Demo, name: &str, act: &str) {
    let scan = json!({
        "apiVersion": "prowler-operator.dev/v1alpha1", "kind": "Scan",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "providerRef": { "name": PROVIDER },
                  "scan": { "services": [format!("act.{act}"), format!("account.{ACCOUNT}")] } },
    });
    demo.apply(&scan.to_string());
}

/// What kubectl shows, if anybody answers.
fn get(demo: &Demo, args: &[&str]) -> Option<Value> {
    let args = [&["get"], args, &["--output", "json"]].concat();
    let shown = output(demo.command(kubectl(), &args), "");
    serde_json::from_slice(&shown.stdout).ok()
}

/// Pods of a namespace by label.
fn pods(demo: &Demo, namespace: &str, selector: &str) -> Vec<Value> {
    get(
        demo,
        &["pods", "--namespace", namespace, "--selector", selector],
    )
    .and_then(|list| list["items"].as_array().cloned())
    .unwrap_or_default()
}

/// The processes of a part of the release: of the pod that leads, where one does.
fn processes_of(demo: &Demo, component: &str) -> Vec<String> {
    let selector = format!("app.kubernetes.io/component={component}");
    let leader = get(demo, &["lease", "--namespace", SYSTEM])
        .and_then(|list| {
            list["items"][0]["spec"]["holderIdentity"]
                .as_str()
                .map(str::to_owned)
        })
        .unwrap_or_default();
    let mut pods = pods(demo, SYSTEM, &selector);
    pods.sort_by_key(|pod| !leader.contains(pod["metadata"]["name"].as_str().unwrap_or("?")));
    pods.first()
        .and_then(|pod| pod["status"]["containerStatuses"][0]["containerID"].as_str())
        .map_or_else(Vec::new, node::processes)
}

/// Kills it, if it is there; its process ids.
fn kill(demo: &Demo, victim: Victim) -> Vec<String> {
    let processes = match victim {
        Victim::Controller => processes_of(demo, "controller"),
        Victim::Server => processes_of(demo, "server"),
        Victim::Postgres => processes_of(demo, "postgres"),
        Victim::Kubelet => vec![node::process("kubelet")],
        Victim::Shim => pods(demo, NAMESPACE, "prowler-operator.dev/queue=scans")
            .iter()
            .flat_map(|pod| {
                ["initContainerStatuses", "containerStatuses"]
                    .into_iter()
                    .filter_map(|list| pod["status"][list].as_array().cloned())
                    .flatten()
                    .filter(|one| one["state"]["running"].is_object())
                    .filter_map(|one| one["containerID"].as_str().map(str::to_owned))
                    .collect::<Vec<_>>()
            })
            .flat_map(|id| node::processes(&id))
            .take(1)
            .filter_map(|process| node::parent(&process))
            .collect(),
    };
    if !processes.is_empty() {
        let args: Vec<&str> = ["-KILL"]
            .into_iter()
            .chain(processes.iter().map(String::as_str))
            .collect();
        // One of them may have ended by itself.
        output(command("kill", &args), "");
    }
    if victim == Victim::Kubelet {
        // Nobody else starts it again.
        succeed(command("hack/local-cluster", &["up"]));
    }
    processes
}

/// The scan, if it is over.
fn ended(demo: &Demo, name: &str) -> Option<Value> {
    let scan = get(demo, &["prowlerscan", name, "--namespace", NAMESPACE])?;
    let state = scan["status"]["state"].as_str()?;
    matches!(state, "completed" | "failed" | "cancelled").then_some(scan)
}

fn is_over(demo: &Demo, name: &str) -> bool {
    ended(demo, name).is_some()
}

/// The scan once it is over and free.
fn await_end(demo: &Demo, name: &str) -> Value {
    let scan = wait_for("a scan to end whatever was killed", 300, || {
        ended(demo, name)
    });
    wait_for("the account to be free", 130, || {
        let held = format!("scans where holds_account and namespace = '{NAMESPACE}'");
        let held = demo.try_sql("admin", None, &format!("select count(*) from {held}"))?;
        (held[0][0] == "0").then_some(())
    });
    scan
}

/// Numbers that look like chance and come again with the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn seed() -> u64 {
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
    };
    std::env::var("KILLS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| now().as_secs())
}

#[test]
fn whatever_is_killed_a_scan_ends_right_once_and_its_account_is_free() {
    let mut demo = Demo::up();
    let cleared = Cleared(&demo);
    set(&demo);
    let rounds = if std::env::var_os("SOAK").is_some() {
        30
    } else {
        VICTIMS.len()
    };
    let seed = seed();
    let mut chance = Chance(seed);
    eprintln!("KILLS_SEED={seed}");
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..rounds {
        let victim = VICTIMS[round % VICTIMS.len()];
        let name = format!("round-{round}");
        let moment = chance.next(MOMENTS);
        let begun = Instant::now();
        scan(&demo, &name, "many");
        std::thread::sleep(Duration::from_millis(moment).saturating_sub(begun.elapsed()));
        let mut killed = kill(&demo, victim);
        // Its pod may not be there yet, or not any more.
        while killed.is_empty() && !is_over(&demo, &name) {
            std::thread::sleep(Duration::from_millis(200));
            killed = kill(&demo, victim);
        }
        let moment = begun.elapsed().as_millis();
        let scan = await_end(&demo, &name);
        let status = &scan["status"];
        let failures: Vec<_> = status["attempts"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| one["reason"].as_str().unwrap_or_default().to_owned())
            .collect();
        eprintln!(
            "round {round}: {victim:?} after {moment} ms ({} processes), {} in attempt {} {failures:?}, over and free after {:.0} s",
            killed.len(),
            status["state"],
            status["attempt"],
            begun.elapsed().as_secs_f64()
        );
        // Nothing that was killed is a reason to fail for good.
        assert_eq!(
            status["state"], "completed",
            "{victim:?} after {moment} ms: {status}"
        );
        assert_eq!(status["findings"]["total"], FINDINGS, "{status}");
        let id = status["scanId"].as_str().unwrap();
        let rows = demo.sql(
            "user",
            Some(NAMESPACE),
            &format!("select count(*), count(distinct uid), count(distinct id) from findings where scan_id = '{id}'"),
        );
        assert_eq!(
            rows,
            [[
                FINDINGS.to_string(),
                FINDINGS.to_string(),
                FINDINGS.to_string()
            ]]
        );
        *hits.entry(format!("{victim:?}")).or_default() += usize::from(!killed.is_empty());
    }
    // All scans together hold what they published, and nothing else.
    let all = demo.sql(
        "user",
        Some(NAMESPACE),
        "select count(*), count(distinct scan_id) from findings",
    );
    let expected = FINDINGS * i64::try_from(rounds).unwrap();
    assert_eq!(all, [[expected.to_string(), rounds.to_string()]]);
    eprintln!("killed: {hits:?}");
    assert!(
        hits.values().sum::<usize>() * 2 > rounds,
        "too few were there to be killed: {hits:?}"
    );
    drop(cleared);
    demo.gone();
}

/// Seconds since the node's last heartbeat.
fn since_heartbeat(demo: &Demo) -> i64 {
    let lease = get(demo, &["lease", "node1", "--namespace", "kube-node-lease"]).unwrap();
    let last: jiff::Timestamp = lease["spec"]["renewTime"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    SystemClock.now().duration_since(last).as_secs()
}

#[test]
fn a_kubelet_stops_and_the_account_is_free_within_120_seconds_of_its_last_heartbeat() {
    let mut demo = Demo::up();
    let cleared = Cleared(&demo);
    set(&demo);
    scan(&demo, "lost", "sleep");
    wait_for("the scan to run", 60, || {
        let scan = get(&demo, &["prowlerscan", "lost", "--namespace", NAMESPACE])?;
        (scan["status"]["stage"] == "Scanning").then_some(())
    });
    let asleep = Asleep::fall("kubelet");
    let status = |field: fn(&Value) -> Option<()>| {
        let scan = get(&demo, &["prowlerscan", "lost", "--namespace", NAMESPACE])?;
        field(&scan["status"])
    };
    wait_for("the attempt to be given up", 130, || {
        status(|status| {
            let reason = status["attempts"][0]["reason"].as_str()?;
            assert_eq!(reason, "NodeLost", "{status}");
            Some(())
        })
    });
    let fenced = since_heartbeat(&demo);
    // The next attempt is let in when the account is free. No pod of this node can be asked, and
    // so not the database either.
    wait_for("the account to be free", 130, || {
        status(|status| (status["attempt"] == 2).then_some(()))
    });
    let free = since_heartbeat(&demo);
    eprintln!(
        "the attempt was given up {fenced} s after the node's last heartbeat, its account free after {free} s"
    );
    assert!(free <= 120);
    drop(asleep);
    demo.cancel(NAMESPACE, "lost");
    wait_for("the node to come back", 120, || {
        let nodes = demo.list(&["nodes"]);
        (condition(&nodes[0], "Ready") == "True").then_some(())
    });
    wait_for("the release to be whole again", 180, || {
        let deployments = demo.list(&["deployments", "--namespace", SYSTEM]);
        deployments
            .iter()
            .all(|one| one["status"]["availableReplicas"] == one["spec"]["replicas"])
            .then_some(())
    });
    drop(cleared);
    demo.gone();
}
