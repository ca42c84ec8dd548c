//! Every call fails once: what users do ends the same whatever goes wrong on the way.
//!
//! A scenario is something a user does and the passes that follow from it. It runs undisturbed,
//! and then once for every call the program makes in it, with that call failing, its answer
//! lost, or the program ending there; the end must be the same. `SOAK=1` tries each fault at
//! each call; without it a run takes a sample, but for two scenarios, and loses the answers to
//! commits: what is done and not known to be is what goes wrong most. A sample ends with its time,
//! and each commit of the project takes another (`FAULTS_SEED` takes one again), so that in the
//! long run every call has its turn.

use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use prowler_operator::api::{
    Integration, MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant,
};
use prowler_operator::controllers::checks;
use serde_json::json;

use crate::support::faults::{Fault, Plan};
use crate::support::operator::{
    ACCOUNT, Operator, World, aws, check_said, scan_ended, scanning, unique, upload_ended,
};

/// Rounds after which a scenario must have come to rest.
const ROUNDS: usize = 40;

#[derive(Debug, Clone, Copy)]
enum Side {
    Api,
    Sql,
}

fn plan(operator: &Operator, side: Side) -> &Plan {
    match side {
        Side::Api => &operator.api,
        Side::Sql => &operator.sql,
    }
}

/// What a user does, and the passes that follow.
struct Scenario<P, A, R> {
    /// What is there before; undisturbed.
    prepare: P,
    /// What the user does.
    act: A,
    /// One round of passes, and of what the rest of the cluster does meanwhile.
    round: R,
}

/// Lost answers to commits by which a scenario is disturbed in each run, and other faults, each
/// spread evenly over its calls; `SOAK=1` takes every fault at every call.
const COMMITS: usize = 16;
const OTHERS: usize = 8;
/// Time for the sample of a scenario, and faults that meet a call in it whatever they take.
const BUDGET: Duration = Duration::from_secs(7);
const LEAST: usize = 6;

/// Scenarios whose every call is disturbed in each run, whatever it takes.
const ALWAYS: [&str; 2] = ["a_new_provider", "a_provider_that_changes"];

/// How a run of a scenario went.
struct Ran {
    end: String,
    /// Calls of the API server and of the database on the way there.
    calls: (usize, usize),
    /// Which of the latter were commits.
    commits: Vec<usize>,
    /// The call that met a fault.
    fired: Option<String>,
}

impl<P, A, R> Scenario<P, A, R>
where
    P: AsyncFn(&Operator) -> World,
    A: AsyncFn(&Operator, &World),
    R: AsyncFn(&Operator, &World),
{
    /// The end when the `n`-th call meets a fault, and that call, if it came so far.
    async fn run(&self, operator: &mut Operator, fault: Option<(Side, usize, Fault)>) -> Ran {
        let world = (self.prepare)(operator).await;
        (self.act)(operator, &world).await;
        operator.api.reset();
        operator.sql.reset();
        if let Some((side, n, fault)) = fault {
            plan(operator, side).arm(n, fault);
        }
        let mut quiet = 0;
        for round in 0.. {
            assert!(
                round < ROUNDS,
                "{fault:?}: no rest: {:#}",
                operator.objects(&world).await
            );
            let before = (operator.api.changes().len(), operator.row_versions().await);
            (self.round)(operator, &world).await;
            if operator.is_dead() {
                operator.restart().await;
                quiet = 0;
                continue;
            }
            let after = (operator.api.changes().len(), operator.row_versions().await);
            quiet = if before == after { quiet + 1 } else { 0 };
            if quiet == 2 {
                break;
            }
        }
        let calls = (operator.api.calls(), operator.sql.calls());
        let commits = (1..)
            .zip(operator.sql.log())
            .filter_map(|(n, call)| (call == "COMMIT").then_some(n))
            .collect();
        let fired = fault.and_then(|(side, ..)| plan(operator, side).fired());
        operator.api.reset();
        operator.sql.reset();
        operator.settle(&world).await;
        let end = operator.end_state(&world).await;
        operator.forget(&world).await;
        Ran {
            end,
            calls,
            commits,
            fired,
        }
    }

    /// The end is the same whichever call meets a fault.
    async fn survives(self) {
        let mut operator = Operator::new().await;
        let undisturbed = self.run(&mut operator, None).await;
        let soak = std::env::var_os("SOAK").is_some();
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let seed = seed();
        let all = soak || ALWAYS.iter().any(|name| test.ends_with(name));

        let commits: Vec<_> = undisturbed
            .commits
            .iter()
            .map(|n| (Side::Sql, *n, Fault::Lose))
            .collect();
        let mut planned = faults(undisturbed.calls, if soak { usize::MAX } else { 2 });
        if !all {
            planned = spread(planned, OTHERS, seed);
        }
        // The long form has them among the others.
        if !soak {
            planned.extend(spread(commits, COMMITS, seed));
        }
        // Where the time ends is another place each time, among both.
        planned.sort_by_key(|(_, n, _)| (n * 31 + seed) % 97);
        let begun = Instant::now();
        let (mut runs, mut tried) = (0, 0);
        for fault @ (side, n, kind) in planned.iter().copied() {
            if !all && runs >= LEAST && begun.elapsed() > BUDGET {
                break;
            }
            tried += 1;
            let ran = self.run(&mut operator, Some(fault)).await;
            // A fault that changes the way may leave a later call unmade.
            let Some(call) = ran.fired else { continue };
            runs += 1;
            assert!(
                ran.end == undisturbed.end,
                "FAULTS_SEED={seed}: {kind:?} at {side:?} call {n}: {call}\n{}",
                difference(&undisturbed.end, &ran.end)
            );
        }
        println!(
            "{runs} of {tried} faults met a call, {} planned (FAULTS_SEED={seed})",
            planned.len()
        );
        // A fault earlier on the way may make it shorter, but not as a rule.
        assert!(
            runs * 3 > tried,
            "too few faults met a call for this to show anything: {runs} of {tried}"
        );
    }
}

/// At most this many of them, evenly chosen; the seed says which of the neighbours.
fn spread<T>(all: Vec<T>, most: usize, seed: usize) -> Vec<T> {
    let step = all.len().div_ceil(most).max(1);
    all.into_iter().skip(seed % step).step_by(step).collect()
}

/// The same throughout a commit of the project, another in the next.
fn seed() -> usize {
    let given = std::env::var("FAULTS_SEED").ok();
    let of_commit = || {
        let commit = std::process::Command::new("git")
            .args(["rev-parse", "--short=7", "HEAD"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        // Without a history there is no next commit either.
        let hash = commit.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        usize::from_str_radix(hash.unwrap_or_default().trim(), 16).unwrap_or(0)
    };
    given.map_or_else(of_commit, |seed| seed.parse().unwrap())
}

/// Each call of both servers with this many kinds of fault, taking turns.
fn faults((api, sql): (usize, usize), sweeps: usize) -> Vec<(Side, usize, Fault)> {
    const API: &[Fault] = &[
        Fault::Refuse,
        Fault::Lose,
        Fault::Answer(500),
        Fault::Hang,
        Fault::Answer(429),
        Fault::Answer(409),
    ];
    const SQL: &[Fault] = &[Fault::Refuse, Fault::Lose, Fault::Hang];
    let mut all = Vec::new();
    for (side, calls, kinds) in [(Side::Api, api, API), (Side::Sql, sql, SQL)] {
        for sweep in 0..sweeps.min(kinds.len()) {
            all.extend((1..=calls).map(|n| (side, n, kinds[(n + sweep) % kinds.len()])));
        }
    }
    all
}

/// The lines in which two ends differ, with those around them.
fn difference(expected: &str, end: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let output = std::process::Command::new("diff")
        .arg("-U4")
        .arg(file("expected", expected))
        .arg(file("end", end))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A round of passes over one kind.
macro_rules! passes {
    ($kind:ty) => {
        async |operator: &Operator, world: &World| {
            operator.reload().await;
            operator.pass_all::<$kind>(world).await;
        }
    };
}

/// A tenant with two Providers, a group, a Role, a schedule and a finished Scan.
async fn furnished(operator: &Operator) -> World {
    let world = operator.tenant().await;
    let namespace = &world.namespace;
    operator.provider(&world, "production", ACCOUNT).await;
    operator.provider(&world, "staging", "210987654321").await;
    let spec = json!({ "providerRefs": [{ "name": "production" }],
                       "selector": { "matchLabels": { "env": "prod" } } });
    operator
        .apply::<ProviderGroup>(namespace, "group", spec)
        .await;
    let spec = json!({ "permissions": ["MANAGE_SCANS"], "providerGroupRefs": [{ "name": "group" }],
                       "subjects": [{ "kind": "User", "name": "ada" }] });
    operator.apply::<Role>(namespace, "auditor", spec).await;
    let spec = json!({ "schedule": "0 2 * * *", "providerRefs": [{ "name": "production" }] });
    operator
        .apply::<ScanSchedule>(namespace, "nightly", spec)
        .await;
    let job = operator.running_scan(&world, "past", "production").await;
    operator.publish(&job).await;
    operator.settle(&world).await;
    operator.collect_garbage(&world).await;
    operator.settle(&world).await;
    world
}

async fn only_a_tenant(operator: &Operator) -> World {
    operator.tenant().await
}

#[tokio::test]
async fn a_new_provider() {
    Scenario {
        prepare: only_a_tenant,
        act: async |operator: &Operator, world: &World| {
            operator.aws_secret(&world.namespace, "keys").await;
            operator
                .apply::<Provider>(&world.namespace, "p", aws(ACCOUNT, "keys"))
                .await;
        },
        round: passes!(Provider),
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_provider_that_changes() {
    Scenario {
        prepare: async |operator: &Operator| {
            let world = operator.tenant().await;
            operator.provider(&world, "p", ACCOUNT).await;
            world
        },
        act: async |operator: &Operator, world: &World| {
            let mut spec = aws(ACCOUNT, "p-keys");
            spec["alias"] = json!("Produktion");
            spec["scan"] = json!({ "regions": ["eu-west-1"] });
            let change = json!({ "metadata": { "labels": { "env": "prod" } }, "spec": spec });
            operator
                .try_apply::<Provider>(&world.namespace, "p", change)
                .await
                .unwrap();
        },
        round: passes!(Provider),
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_provider_that_goes() {
    Scenario {
        prepare: furnished,
        act: async |operator: &Operator, world: &World| {
            operator
                .delete::<Provider>(&world.namespace, "production")
                .await;
        },
        round: passes!(Provider),
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_provider_that_goes_while_its_scan_runs() {
    Scenario {
        prepare: async |operator: &Operator| {
            let world = operator.tenant().await;
            operator.provider(&world, "p", ACCOUNT).await;
            let job = operator.running_scan(&world, "s", "p").await;
            operator.pod(&job, scanning()).await;
            world
        },
        act: async |operator: &Operator, world: &World| {
            operator.delete::<Provider>(&world.namespace, "p").await;
        },
        round: async |operator: &Operator, world: &World| {
            operator.reload().await;
            operator.pass_all::<Provider>(world).await;
            operator.pass_all::<Scan>(world).await;
            operator.collect_garbage(world).await;
        },
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_new_tenant() {
    Scenario {
        prepare: async |operator: &Operator| World {
            tenant: unique("tenant"),
            namespace: operator.server.namespace().await,
        },
        act: async |operator: &Operator, world: &World| {
            let spec = json!({ "namespaces": [world.namespace, format!("{}-not-there", world.namespace)] });
            operator.apply::<Tenant>("", &world.tenant, spec).await;
        },
        round: round_of_tenant,
    }
    .survives()
    .await;
}

async fn round_of_tenant(operator: &Operator, world: &World) {
    operator.reload().await;
    operator.pass::<Tenant>("", &world.tenant).await;
    operator.collect_garbage(world).await;
}

#[tokio::test]
async fn a_tenant_that_changes() {
    Scenario {
        prepare: furnished,
        act: async |operator: &Operator, world: &World| {
            let spec = json!({ "namespaces": [world.namespace, format!("{}-more", world.namespace)],
                "displayName": "Team B", "limits": { "concurrentScans": 2, "providers": 7 } });
            operator.apply::<Tenant>("", &world.tenant, spec).await;
        },
        round: round_of_tenant,
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_tenant_that_gives_a_namespace_back() {
    Scenario {
        prepare: furnished,
        act: async |operator: &Operator, world: &World| {
            let spec = json!({ "namespaces": [format!("{}-other", world.namespace)] });
            operator.apply::<Tenant>("", &world.tenant, spec).await;
        },
        round: round_of_tenant,
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_tenant_that_goes() {
    Scenario {
        prepare: furnished,
        act: async |operator: &Operator, world: &World| {
            operator.delete::<Tenant>("", &world.tenant).await;
        },
        round: round_of_tenant,
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_group_that_comes_changes_and_goes() {
    let with = |label: &str| {
        json!({ "providerRefs": [{ "name": "staging" }],
                "selector": { "matchLabels": { "env": label } } })
    };
    Scenario {
        prepare: furnished,
        act: async |operator: &Operator, world: &World| {
            operator
                .apply::<ProviderGroup>(&world.namespace, "new", with("prod"))
                .await;
        },
        round: passes!(ProviderGroup),
    }
    .survives()
    .await;
    Scenario {
        prepare: furnished,
        act: async |operator: &Operator, world: &World| {
            operator
                .apply::<ProviderGroup>(&world.namespace, "group", with("test"))
                .await;
        },
        round: passes!(ProviderGroup),
    }
    .survives()
    .await;
    Scenario {
        prepare: furnished,
        act: async |operator: &Operator, world: &World| {
            operator
                .delete::<ProviderGroup>(&world.namespace, "group")
                .await;
        },
        round: passes!(ProviderGroup),
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_role_that_comes_changes_and_goes() {
    let role = || {
        json!({ "permissions": ["MANAGE_PROVIDERS", "MANAGE_SCANS"],
                "providerGroupRefs": [{ "name": "group" }, { "name": "missing" }],
                "subjects": [{ "kind": "Group", "name": "auditors" },
                             { "kind": "ServiceAccount", "namespace": "ci", "name": "bot" }] })
    };
    Scenario {
        prepare: furnished,
        act: async |operator: &Operator, world: &World| {
            operator
                .apply::<Role>(&world.namespace, "new", role())
                .await;
        },
        round: passes!(Role),
    }
    .survives()
    .await;
    Scenario {
        prepare: furnished,
        act: async |operator: &Operator, world: &World| {
            operator
                .apply::<Role>(&world.namespace, "auditor", role())
                .await;
        },
        round: passes!(Role),
    }
    .survives()
    .await;
    Scenario {
        prepare: furnished,
        act: async |operator: &Operator, world: &World| {
            operator.delete::<Role>(&world.namespace, "auditor").await;
        },
        round: passes!(Role),
    }
    .survives()
    .await;
}

#[tokio::test]
async fn mute_rules_survive_any_fault() {
    let rule = |reason| json!({ "reason": reason, "findingUids": ["a", "b"] });
    let prepare = async |operator: &Operator| {
        let world = operator.tenant().await;
        operator
            .becomes::<MuteRule>(&world.namespace, "old", rule("accepted"))
            .await;
        world
    };
    Scenario {
        prepare,
        act: async |operator: &Operator, world: &World| {
            operator
                .apply::<MuteRule>(&world.namespace, "new", rule("accepted"))
                .await;
        },
        round: passes!(MuteRule),
    }
    .survives()
    .await;
    Scenario {
        prepare,
        act: async |operator: &Operator, world: &World| {
            operator
                .apply::<MuteRule>(&world.namespace, "old", rule("known"))
                .await;
        },
        round: passes!(MuteRule),
    }
    .survives()
    .await;
    Scenario {
        prepare,
        act: async |operator: &Operator, world: &World| {
            operator.delete::<MuteRule>(&world.namespace, "old").await;
        },
        round: passes!(MuteRule),
    }
    .survives()
    .await;
}

#[tokio::test]
async fn integrations_survive_any_fault() {
    let hub = |provider| {
        json!({ "type": "aws_security_hub", "providerRefs": [{ "name": provider }],
                "credentials": { "secretRef": { "name": "keys" } } })
    };
    let prepare = async |operator: &Operator| {
        let world = operator.tenant().await;
        operator.provider(&world, "p", ACCOUNT).await;
        operator.provider(&world, "q", "210987654321").await;
        operator.aws_secret(&world.namespace, "keys").await;
        operator
            .becomes::<Integration>(&world.namespace, "old", hub("p"))
            .await;
        world
    };
    Scenario {
        prepare,
        act: async |operator: &Operator, world: &World| {
            operator
                .apply::<Integration>(&world.namespace, "new", hub("q"))
                .await;
        },
        round: passes!(Integration),
    }
    .survives()
    .await;
    Scenario {
        prepare,
        act: async |operator: &Operator, world: &World| {
            operator
                .apply::<Integration>(&world.namespace, "old", hub("q"))
                .await;
        },
        round: passes!(Integration),
    }
    .survives()
    .await;
    Scenario {
        prepare,
        act: async |operator: &Operator, world: &World| {
            operator
                .delete::<Integration>(&world.namespace, "old")
                .await;
        },
        round: passes!(Integration),
    }
    .survives()
    .await;
}

async fn round_of_schedule(operator: &Operator, world: &World) {
    operator.reload().await;
    operator.pass_all::<ScanSchedule>(world).await;
    operator.pass_all::<Scan>(world).await;
}

#[tokio::test]
async fn a_new_schedule_whose_first_due_time_is_now() {
    Scenario {
        prepare: async |operator: &Operator| {
            let world = operator.tenant().await;
            operator.provider(&world, "p", ACCOUNT).await;
            operator.provider(&world, "q", "210987654321").await;
            world
        },
        act: async |operator: &Operator, world: &World| {
            let spec =
                json!({ "interval": "24h", "providerRefs": [{ "name": "p" }, { "name": "q" }] });
            operator
                .apply::<ScanSchedule>(&world.namespace, "s", spec)
                .await;
        },
        round: round_of_schedule,
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_schedule_that_changes_and_one_that_goes() {
    Scenario {
        prepare: furnished,
        act: async |operator: &Operator, world: &World| {
            let spec = json!({ "schedule": "30 3 * * 1", "timeZone": "Europe/Berlin",
                "providerRefs": [{ "name": "staging" }], "concurrencyPolicy": "Allow",
                "jitterSeconds": 60 });
            operator
                .apply::<ScanSchedule>(&world.namespace, "nightly", spec)
                .await;
        },
        round: round_of_schedule,
    }
    .survives()
    .await;
    Scenario {
        prepare: async |operator: &Operator| {
            let world = operator.tenant().await;
            operator.provider(&world, "p", ACCOUNT).await;
            let spec = json!({ "interval": "24h", "providerRefs": [{ "name": "p" }] });
            operator
                .apply::<ScanSchedule>(&world.namespace, "s", spec)
                .await;
            operator.settle(&world).await;
            world
        },
        act: async |operator: &Operator, world: &World| {
            operator.delete::<ScanSchedule>(&world.namespace, "s").await;
        },
        round: async |operator: &Operator, world: &World| {
            round_of_schedule(operator, world).await;
            operator.collect_garbage(world).await;
        },
    }
    .survives()
    .await;
}

/// What becomes of an attempt's pod.
#[derive(Debug, Clone, Copy)]
enum End {
    Published,
    Failed(i32, &'static str),
}

/// The rest of the cluster: pods come to Jobs and end as `ends` says, attempt by attempt; the
/// clock moves on while a retry is waited for.
async fn cluster(operator: &Operator, world: &World, ends: &[End]) {
    for job in operator.jobs(world).await {
        let uid = kube::ResourceExt::uid(&job).unwrap();
        let attempt = operator
            .sql(&format!(
                "select attempt from scans where job_uid = '{uid}' and state = 'executing'"
            ))
            .await;
        // As long as the row does not know the Job, the server would ask `upload` to wait.
        let Ok(attempt) = attempt.parse::<usize>() else {
            continue;
        };
        match ends[(attempt - 1).min(ends.len() - 1)] {
            End::Published => {
                operator.pod(&job, upload_ended(0)).await;
                operator.publish(&job).await;
            }
            End::Failed(code, reason) => {
                if operator.pods_of(&job).await == 0 {
                    operator.pod(&job, scan_ended(code, reason, "boom")).await;
                }
            }
        }
    }
    operator.collect_garbage(world).await;
    let waiting = operator
        .sql("select count(*) from scans where state = 'available' and not holds_account and next_attempt_at is not null")
        .await;
    if waiting != "0" {
        operator.wait(3600);
    }
}

async fn one_provider(operator: &Operator) -> World {
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    world
}

async fn scan_is_made(operator: &Operator, world: &World) {
    let spec = json!({ "providerRef": { "name": "p" } });
    operator.apply::<Scan>(&world.namespace, "s", spec).await;
}

async fn scan_survives(ends: &[End]) {
    Scenario {
        prepare: one_provider,
        act: scan_is_made,
        round: async |operator: &Operator, world: &World| {
            operator.reload().await;
            operator.pass_all::<Scan>(world).await;
            operator.admit().await;
            cluster(operator, world, ends).await;
        },
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_scan_that_is_published() {
    scan_survives(&[End::Published]).await;
}

#[tokio::test]
async fn a_scan_that_fails_once_and_is_published() {
    scan_survives(&[End::Failed(1, "Error"), End::Published]).await;
}

#[tokio::test]
async fn a_scan_that_fails_for_good() {
    scan_survives(&[End::Failed(2, "Error")]).await;
}

#[tokio::test]
async fn a_connection_that_is_checked() {
    Scenario {
        prepare: one_provider,
        act: async |_: &Operator, _: &World| {},
        round: async |operator: &Operator, world: &World| {
            operator.reload().await;
            let _ = operator.alive(checks::admit(&operator.cx)).await;
            operator.pass_all::<Provider>(world).await;
            let running = "connection_checks where slot is not null";
            let over = operator.count(running).await == 0;
            for job in operator.jobs(world).await {
                if over {
                    // One that was left behind goes when its time to live is over.
                    operator
                        .delete::<Job>(&world.namespace, &job.name_any())
                        .await;
                } else if operator.pods_of(&job).await == 0 {
                    let said = check_said(&json!({ "connected": true }));
                    operator.pod(&job, said).await;
                }
            }
            operator.collect_garbage(world).await;
        },
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_running_scan_that_is_cancelled() {
    Scenario {
        prepare: async |operator: &Operator| {
            let world = one_provider(operator).await;
            let job = operator.running_scan(&world, "s", "p").await;
            operator.pod(&job, scanning()).await;
            operator.converge::<Scan>(&world.namespace, "s").await;
            world
        },
        act: async |operator: &Operator, world: &World| {
            let cancel = json!({ "spec": { "cancel": true } });
            operator.patch::<Scan>(&world.namespace, "s", cancel).await;
        },
        round: async |operator: &Operator, world: &World| {
            operator.reload().await;
            operator.pass_all::<Scan>(world).await;
            operator.collect_garbage(world).await;
        },
    }
    .survives()
    .await;
}

#[tokio::test]
async fn a_running_scan_that_is_deleted() {
    Scenario {
        prepare: async |operator: &Operator| {
            let world = one_provider(operator).await;
            let job = operator.running_scan(&world, "s", "p").await;
            operator.pod(&job, scanning()).await;
            world
        },
        act: async |operator: &Operator, world: &World| {
            operator.delete::<Scan>(&world.namespace, "s").await;
        },
        round: async |operator: &Operator, world: &World| {
            operator.reload().await;
            operator.pass_all::<Scan>(world).await;
            operator.collect_garbage(world).await;
        },
    }
    .survives()
    .await;
}
