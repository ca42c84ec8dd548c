//! Scans: from the queue over a Job to results, one at a time for each account and no more than
//! the limits allow, and how each end is told.

use k8s_openapi::api::batch::v1::Job;
use prowler_operator::api::{Provider, Scan, Tenant};
use prowler_operator::domain::clock::Clock as _;
use serde_json::{Value, json};

use crate::support::behaviour::given;
use crate::support::operator::{
    ACCOUNT, Operator, World, aws, scan_ended, scanning, unique, upload_ended,
};

const OTHER: &str = "210987654321";

async fn one_provider(operator: &Operator) -> World {
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    world
}

async fn says(operator: &Operator, world: &World, scan: &str) -> String {
    operator.says::<Scan>(&world.namespace, scan).await
}

async fn message(operator: &Operator, world: &World, scan: &str) -> String {
    operator.message::<Scan>(&world.namespace, scan).await
}

async fn status(operator: &Operator, world: &World, scan: &str) -> Value {
    operator.status::<Scan>(&world.namespace, scan).await
}

/// One pass over the Scan; what it says then.
async fn pass(operator: &Operator, world: &World, scan: &str) -> String {
    operator.pass::<Scan>(&world.namespace, scan).await;
    says(operator, world, scan).await
}

/// Status and reason of the Provider's `Connected`.
async fn connected(operator: &Operator, world: &World) -> Option<String> {
    operator.follow::<Provider>(&world.namespace, "p").await;
    let found = operator
        .condition::<Provider>(&world.namespace, "p", "Connected")
        .await;
    found.map(|(status, reason, _)| format!("{status} {reason}"))
}

/// The command line of Prowler in the Job.
fn command(job: &Job) -> String {
    let pod = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let scan = &pod.init_containers.as_ref().unwrap()[0];
    let words = [&scan.command, &scan.args].map(|list| list.clone().unwrap_or_default());
    words.concat().join(" ")
}

async fn active(operator: &Operator, world: &World) -> Value {
    operator.follow::<Tenant>("", &world.tenant).await;
    operator.status::<Tenant>("", &world.tenant).await["activeScans"].take()
}

#[tokio::test]
async fn a_scan_goes_from_the_queue_to_its_results_and_its_provider_shows_them() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    let unchecked = connected(&operator, &world).await;
    assert_eq!(unchecked.as_deref(), Some("Unknown Progressing"));
    operator.scan(&world, "s", "p").await;
    assert_eq!(says(&operator, &world, "s").await, "InProgress Queued");
    let shown = status(&operator, &world, "s").await;
    for (field, value) in [
        ("state", json!("available")),
        ("stage", json!("Queued")),
        ("attempt", json!(0)),
        ("tenant", json!(world.tenant)),
        ("provider", json!("aws")),
        ("uid", json!(ACCOUNT)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(operator.admit().await, 1);
    assert_eq!(pass(&operator, &world, "s").await, "InProgress Starting");
    assert_eq!(active(&operator, &world).await, json!(1));
    let job = operator.job_of(&world, "s").await;
    let pod = operator.pod(&job, scanning()).await;
    assert_eq!(pass(&operator, &world, "s").await, "InProgress Scanning");
    operator.wait(60);
    operator
        .pod_status(&pod, scan_ended(0, "Completed", ""))
        .await;
    assert_eq!(pass(&operator, &world, "s").await, "InProgress Ingesting");
    operator.publish(&job).await;
    operator.pod_status(&pod, upload_ended(0)).await;
    assert_eq!(pass(&operator, &world, "s").await, "Current Completed");
    assert_eq!(
        message(&operator, &world, "s").await,
        "5 findings, 3 of them failed."
    );
    let shown = status(&operator, &world, "s").await;
    for (field, value) in [
        ("state", json!("completed")),
        ("stage", json!("Done")),
        ("attempt", json!(1)),
        ("reason", json!("Completed")),
        ("durationSeconds", json!(60)),
        ("resources", json!(4)),
        ("quarantined", json!(0)),
        (
            "findings",
            json!({ "total": 5, "pass": 2, "fail": 3, "manual": 0, "muted": 0, "new": 5, "changed": 0 }),
        ),
        (
            "failedBySeverity",
            json!({ "critical": 1, "high": 2, "medium": 0, "low": 0, "informational": 0 }),
        ),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert!(shown["startedAt"].is_string() && shown["completedAt"].is_string());
    assert!(shown["attempts"].is_null(), "{shown:#}");
    // The pod is still there: the account is held, whatever the state.
    assert_eq!(operator.count("scans where holds_account").await, 1);
    operator.collect_garbage(&world).await;
    pass(&operator, &world, "s").await;
    assert_eq!(operator.count("scans where holds_account").await, 0);
    assert_eq!(operator.jobs(&world).await.len(), 0);
    assert_eq!(active(&operator, &world).await, json!(0));

    operator.cx.mirrors.load(&operator.cx.admin).await.unwrap();
    assert_eq!(
        connected(&operator, &world).await.unwrap(),
        "True Succeeded"
    );
    let provider = operator.status::<Provider>(&world.namespace, "p").await;
    let last = &provider["lastScan"];
    assert_eq!(
        json!([
            last["name"],
            last["state"],
            last["fail"],
            last["total"],
            last["id"]
        ]),
        json!(["s", "completed", 3, 5, shown["scanId"]])
    );
    assert_eq!(last["completedAt"], shown["completedAt"]);
}

#[tokio::test]
async fn the_second_scan_of_an_account_waits_and_says_for_whom() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    operator.running_scan(&world, "first", "p").await;
    operator.scan(&world, "second", "p").await;
    assert_eq!(operator.admit().await, 0);
    assert_eq!(pass(&operator, &world, "second").await, "InProgress Queued");
    assert_eq!(
        message(&operator, &world, "second").await,
        format!(
            "First in line of Tenant {}; Scan first holds the account since {}.",
            world.tenant,
            operator.clock.now()
        )
    );
    operator.complete(&world, "first").await;
    assert_eq!(operator.admit().await, 1);
    assert_eq!(
        pass(&operator, &world, "second").await,
        "InProgress Starting"
    );
}

#[tokio::test]
async fn a_tenant_runs_as_many_scans_as_it_may_and_the_urgent_first() {
    let operator = Operator::new().await;
    let limits = json!({ "limits": { "concurrentScans": 1 } });
    let world = operator.tenant_with(limits).await;
    for (n, name) in ["a", "b", "c"].iter().enumerate() {
        operator.provider(&world, name, &format!("{n:012}")).await;
        let priority = if *name == "c" { 10 } else { 0 };
        let spec = json!({ "providerRef": { "name": name }, "priority": priority });
        operator.apply::<Scan>(&world.namespace, name, spec).await;
        operator.follow::<Scan>(&world.namespace, name).await;
    }
    for running in ["c", "a", "b"] {
        assert_eq!(operator.admit().await, 1);
        assert_eq!(operator.admit().await, 0, "the limit is reached");
        assert_eq!(
            pass(&operator, &world, running).await,
            "InProgress Starting"
        );
        if running == "c" {
            pass(&operator, &world, "a").await;
            assert_eq!(
                message(&operator, &world, "a").await,
                format!(
                    "First in line of Tenant {0}, which runs 1 of 1 scans: c.",
                    world.tenant
                )
            );
        }
        operator.complete(&world, running).await;
    }
}

#[tokio::test]
async fn two_controllers_never_let_more_scans_in_than_the_limits_allow() {
    let operator =
        Operator::configured(json!({ "queues": { "scans": { "maxConcurrent": 3 } } })).await;
    let limits = || json!({ "limits": { "concurrentScans": 2 } });
    let worlds = [
        operator.tenant_with(limits()).await,
        operator.tenant_with(limits()).await,
    ];
    for world in &worlds {
        for n in 0..4 {
            let name = format!("p-{n}");
            operator.provider(world, &name, &format!("{n:012}")).await;
            operator.scan(world, &format!("{name}-1"), &name).await;
            operator.scan(world, &format!("{name}-2"), &name).await;
        }
    }
    let other = operator.beside(0).await;
    let mut most = 0;
    for _ in 0..20 {
        let rounds = (0..3).map(|_| async { tokio::join!(operator.admit(), other.admit()) });
        futures::future::join_all(rounds).await;
        let held = operator.count("scans where holds_account").await;
        most = most.max(held);
        assert!(held <= 3, "over all: {held}");
        for (key, limit) in [("tenant_id", 2), ("provider_id", 1)] {
            let crowded = format!(
                "(select from scans where holds_account group by {key} having count(*) > {limit}) c"
            );
            assert_eq!(operator.count(&crowded).await, 0, "{key}");
        }
        for world in &worlds {
            let running = operator
                .sql(&format!(
                    "select string_agg(name, ',') from scans where holds_account and namespace = '{}'",
                    world.namespace
                ))
                .await;
            for scan in running.split(',').filter(|name| !name.is_empty()) {
                tokio::join!(
                    operator.pass::<Scan>(&world.namespace, scan),
                    other.pass::<Scan>(&world.namespace, scan),
                );
                operator.complete(world, scan).await;
            }
        }
        if operator.count("scans where state <> 'completed'").await == 0 {
            assert_eq!(most, 3, "the limit was used");
            return;
        }
    }
    panic!("the queue does not empty");
}

#[tokio::test]
async fn a_running_scan_keeps_the_spec_it_was_admitted_with() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    let with = |region: &str| {
        let mut spec = aws(ACCOUNT, "p-keys");
        spec["scan"] = json!({ "regions": [region] });
        spec
    };
    operator
        .becomes::<Provider>(&world.namespace, "p", with("eu-west-1"))
        .await;
    operator.scan(&world, "s", "p").await;
    operator.admit().await;
    // Edited between admission and Job.
    operator
        .becomes::<Provider>(&world.namespace, "p", with("us-east-1"))
        .await;
    pass(&operator, &world, "s").await;
    let job = operator.job_of(&world, "s").await;
    assert!(
        command(&job).contains("--region eu-west-1"),
        "{}",
        command(&job)
    );
    operator.complete(&world, "s").await;
    let job = operator.running_scan(&world, "next", "p").await;
    assert!(
        command(&job).contains("--region us-east-1"),
        "{}",
        command(&job)
    );
}

#[tokio::test]
async fn a_scan_s_own_scope_takes_the_place_of_its_provider_s() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    let mut spec = aws(ACCOUNT, "p-keys");
    spec["scan"] = json!({ "regions": ["eu-west-1"], "services": ["s3"] });
    operator
        .becomes::<Provider>(&world.namespace, "p", spec)
        .await;
    let spec = json!({ "providerRef": { "name": "p" }, "scan": { "checks": ["ec2_ebs_public_snapshot"] } });
    operator.apply::<Scan>(&world.namespace, "s", spec).await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    operator.admit().await;
    pass(&operator, &world, "s").await;
    let command = command(&operator.job_of(&world, "s").await);
    for part in ["--region eu-west-1", "ec2_ebs_public_snapshot"] {
        assert!(command.contains(part), "{command}");
    }
    assert!(!command.contains("s3"), "{command}");
}

#[tokio::test]
async fn a_scan_of_a_provider_that_is_not_ready_says_what_that_one_waits_for() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator
        .becomes::<Provider>(&world.namespace, "p", aws(ACCOUNT, "keys"))
        .await;
    operator.scan(&world, "s", "p").await;
    assert_eq!(
        says(&operator, &world, "s").await,
        "InProgress DependencyNotReady"
    );
    assert_eq!(
        message(&operator, &world, "s").await,
        "Provider p is not ready: SecretNotFound."
    );
    operator.aws_secret(&world.namespace, "keys").await;
    operator.follow::<Provider>(&world.namespace, "p").await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world, "s").await, "InProgress Queued");
}

#[tokio::test]
async fn a_scan_of_an_unknown_provider_waits_for_it() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.scan(&world, "s", "p").await;
    assert_eq!(
        says(&operator, &world, "s").await,
        "InProgress ProviderNotFound"
    );
    assert_eq!(
        message(&operator, &world, "s").await,
        "No stored Provider here is named p."
    );
    assert_eq!(operator.count("scans").await, 0);
    operator.provider(&world, "p", ACCOUNT).await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world, "s").await, "InProgress Queued");
    assert_eq!(operator.admit().await, 1);
}

#[tokio::test]
async fn a_scan_in_nobody_s_namespace_waits_for_a_tenant() {
    let operator = Operator::new().await;
    let world = World {
        tenant: unique("tenant"),
        namespace: operator.server.namespace().await,
    };
    operator.scan(&world, "s", "p").await;
    assert_eq!(
        says(&operator, &world, "s").await,
        "InProgress TenantNotFound"
    );
    operator.claim(&world.tenant, &[&world.namespace]).await;
    operator.provider(&world, "p", ACCOUNT).await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world, "s").await, "InProgress Queued");
}

#[tokio::test]
async fn a_finished_scan_goes_when_its_time_has_come_and_its_row_stays() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    operator.provider(&world, "q", OTHER).await;
    for (scan, provider, ttl) in [("short", "p", json!(60)), ("long", "q", json!(null))] {
        let spec = json!({ "providerRef": { "name": provider }, "ttlSecondsAfterFinished": ttl });
        operator
            .apply::<Scan>(&world.namespace, scan, given(spec))
            .await;
        operator.follow::<Scan>(&world.namespace, scan).await;
        operator.admit().await;
        operator.follow::<Scan>(&world.namespace, scan).await;
        operator.complete(&world, scan).await;
    }
    let day = 24 * 3600;
    // What a user set, and a week for what nobody said anything of.
    for (seconds, left) in [
        (59, &["long", "short"][..]),
        (1, &["long"][..]),
        (7 * day - 61, &["long"][..]),
        (1, &[][..]),
    ] {
        operator.wait(seconds);
        for _ in 0..2 {
            operator.pass_all::<Scan>(&world).await;
        }
        assert_eq!(operator.names::<Scan>(&world.namespace).await, left);
    }
    assert_eq!(operator.count("scans where state = 'completed'").await, 2);
}

#[tokio::test]
async fn a_suspended_provider_starts_nothing() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    operator.scan(&world, "s", "p").await;
    for (suspend, admitted) in [(true, 0), (false, 1)] {
        let patch = json!({ "spec": { "suspend": suspend } });
        operator
            .patch::<Provider>(&world.namespace, "p", patch)
            .await;
        operator.follow::<Provider>(&world.namespace, "p").await;
        assert_eq!(operator.admit().await, admitted);
        if suspend {
            pass(&operator, &world, "s").await;
            assert_eq!(
                message(&operator, &world, "s").await,
                "Its Provider is suspended."
            );
        }
    }
}

#[tokio::test]
async fn records_set_aside_are_a_condition_of_the_scan_and_of_no_other() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    let refused =
        "state = 'failed', reason = 'OutputPoisoned', message = 'Too many.', counts = null";
    for (scan, change, says_at_last, told) in [
        ("clean", "quarantined = 0", "Current Completed", None),
        ("some", "quarantined = 3", "Current Completed", Some("3 ")),
        (
            "most",
            &format!("quarantined = 70, {refused}"),
            "Failed OutputPoisoned",
            Some("70 "),
        ),
    ] {
        operator.scan(&world, scan, "p").await;
        assert_eq!(operator.admit().await, 1);
        pass(&operator, &world, scan).await;
        let job = operator.job_of(&world, scan).await;
        operator.publish(&job).await;
        operator
            .change(&format!("update scans set {change} where name = '{scan}'"))
            .await;
        pass(&operator, &world, scan).await;
        operator.collect_garbage(&world).await;
        assert_eq!(pass(&operator, &world, scan).await, says_at_last);
        let kind = "RecordsQuarantined";
        let found = operator
            .condition::<Scan>(&world.namespace, scan, kind)
            .await;
        let Some(number) = told else {
            assert_eq!(found, None);
            continue;
        };
        let (status, reason, message) = found.unwrap();
        assert_eq!((&*status, &*reason), ("True", kind));
        assert!(message.starts_with(number), "{message}");
        let id = operator
            .sql(&format!("select id from scans where name = '{scan}'"))
            .await;
        assert!(message.contains("quarantined_findings") && message.contains(&id));
    }
}
