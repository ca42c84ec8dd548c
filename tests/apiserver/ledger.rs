//! The ledger of accounts: none is held for ever by a scan whose object went without a word, and
//! none is freed that is held for good reason.

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use prowler_operator::api::{Scan, ScanSchedule};
use prowler_operator::controllers::ledger::Ledger;
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::metrics::queue::Repair;
use serde_json::json;

use crate::support::db::run;
use crate::support::faults::Fault;
use crate::support::operator::{ACCOUNT, Operator, Placed as _, World, scanning};

async fn one_provider(operator: &Operator) -> World {
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    world
}

/// As if nothing had been written for longer than the recount's patience.
pub async fn age(operator: &Operator) {
    let sql = "update scans set updated_at = now() - interval '6 minutes'";
    run(&mut operator.db.admin_conn().await, sql).await;
}

/// Recounts; how much was put right.
async fn recount(operator: &Operator) -> usize {
    repairs(operator).await.len()
}

async fn repairs(operator: &Operator) -> Vec<Repair> {
    Ledger::default().recount(&operator.cx).await.unwrap()
}

async fn held(operator: &Operator) -> i64 {
    operator.count("scans where holds_account").await
}

#[tokio::test]
async fn a_running_scan_whose_object_vanished_is_ended_and_its_account_freed_after_its_pod() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    let job = operator.running_scan(&world, "s", "p").await;
    operator.pod(&job, scanning()).await;
    operator.vanishes::<Scan>(&world.namespace, "s").await;
    // It may only just have gone, or be coming back.
    assert_eq!(recount(&operator).await, 0);
    assert_eq!(operator.count("scans where state = 'executing'").await, 1);
    age(&operator).await;
    assert_eq!(recount(&operator).await, 0);
    assert_eq!(operator.count("scans where state = 'cancelled'").await, 1);
    assert_eq!(operator.jobs(&world).await.len(), 0);
    assert_eq!(held(&operator).await, 1, "a pod is left");
    operator.collect_garbage(&world).await;
    assert_eq!(recount(&operator).await, 1);
    assert_eq!(held(&operator).await, 0);
    assert_eq!(recount(&operator).await, 0);
    operator.scan(&world, "next", "p").await;
    assert_eq!(operator.admit().await, 1);
}

#[tokio::test]
async fn a_waiting_scan_whose_object_vanished_is_never_admitted() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    operator.scan(&world, "s", "p").await;
    operator.vanishes::<Scan>(&world.namespace, "s").await;
    // Of the same name, but another.
    operator.scan(&world, "s", "p").await;
    age(&operator).await;
    assert_eq!(recount(&operator).await, 1);
    assert_eq!(operator.admit().await, 1);
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(
        operator.says::<Scan>(&world.namespace, "s").await,
        "InProgress Starting"
    );
}

#[tokio::test]
async fn scans_whose_objects_are_there_are_left_alone_whatever_the_api_server_s_trouble() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    operator.running_scan(&world, "first", "p").await;
    operator.scan(&world, "second", "p").await;
    age(&operator).await;
    let rows = operator.row_versions().await;
    for fault in [
        Fault::Refuse,
        Fault::Lose,
        Fault::Answer(404),
        Fault::Answer(500),
    ] {
        for n in 1..=2 {
            operator.api.arm(n, fault);
            // The other scan is counted all the same.
            assert_eq!(recount(&operator).await, 0, "{fault:?}");
            assert!(operator.api.fired().is_some(), "{fault:?} at call {n}");
        }
    }
    operator.api.reset();
    assert_eq!(recount(&operator).await, 0);
    assert_eq!(operator.row_versions().await, rows);
}

#[tokio::test]
async fn a_schedule_whose_cluster_was_lost_goes_on() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    let spec = json!({ "interval": "24h", "providerRefs": [{ "name": "p" }] });
    let schedule = async || {
        operator
            .apply::<ScanSchedule>(&world.namespace, "nightly", spec.clone())
            .await;
        operator.schedules_rest(&world).await;
    };
    schedule().await;
    operator.admit().await;
    operator.schedules_rest(&world).await;
    for scan in operator.names::<Scan>(&world.namespace).await {
        operator.vanishes::<Scan>(&world.namespace, &scan).await;
    }
    operator
        .vanishes::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    operator.collect_garbage(&world).await;
    schedule().await;
    age(&operator).await;
    assert_eq!(recount(&operator).await, 1);
    operator.wait(24 * 3600);
    operator.schedules_rest(&world).await;
    assert_eq!(operator.admit().await, 1);
}

#[tokio::test]
async fn a_job_that_is_gone_is_missed_and_its_scan_seen_to() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    let job = operator.running_scan(&world, "s", "p").await;
    age(&operator).await;
    assert_eq!(repairs(&operator).await, [], "it is there");
    operator
        .delete::<Job>(&world.namespace, &job.name_any())
        .await;
    operator.collect_garbage(&world).await;
    let mut ledger = Ledger::default();
    assert_eq!(
        ledger.recount(&operator.cx).await.unwrap(),
        [Repair::JobLost]
    );
    assert_eq!(
        ledger.recount(&operator.cx).await.unwrap(),
        [],
        "counted once"
    );
    let told = operator.told(&world.namespace, "s").await;
    assert!(
        told.iter()
            .any(|told| told.reason == "Recounted"
                && told.note == "Its Job is gone from the cluster."),
        "{told:#?}"
    );
    // The pass that is called finds out, and there is another attempt.
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(held(&operator).await, 0);
    operator.wait(3600);
    assert_eq!(operator.admit().await, 1);
}

#[tokio::test]
async fn an_attempt_without_a_job_and_an_account_that_nobody_freed_are_seen_to() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    operator.scan(&world, "s", "p").await;
    assert_eq!(operator.admit().await, 1);
    age(&operator).await;
    assert_eq!(repairs(&operator).await, [], "its Job may still be made");
    let sql = "update scans set updated_at = now() - interval '12 minutes'";
    run(&mut operator.db.admin_conn().await, sql).await;
    assert_eq!(repairs(&operator).await, [Repair::AttemptWithoutJob]);
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(operator.jobs(&world).await.len(), 1);

    // It ended, and whoever was to free the account died.
    let job = operator.job_of(&world, "s").await;
    operator
        .delete::<Job>(&world.namespace, &job.name_any())
        .await;
    operator.collect_garbage(&world).await;
    let sql = "update scans set state = 'failed', reason = 'PodLost', completed_at = now(),
                 updated_at = now() - interval '6 minutes'";
    run(&mut operator.db.admin_conn().await, sql).await;
    assert_eq!(repairs(&operator).await, [Repair::AccountKept]);
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(held(&operator).await, 0);
    assert_eq!(repairs(&operator).await, []);
}

#[tokio::test]
async fn a_job_that_no_scan_knows_is_deleted_unless_it_is_young_or_somebody_else_s() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    let job = operator.running_scan(&world, "s", "p").await;
    // The database forgets which Job it is.
    let sql = "update scans set job_uid = gen_random_uuid(), job_name = 'another'";
    run(&mut operator.db.admin_conn().await, sql).await;
    // The same by somebody else's hand.
    let mut forged = job.clone();
    forged.metadata = kube::api::ObjectMeta {
        name: Some("forged".to_owned()),
        labels: job.metadata.labels.clone(),
        ..Default::default()
    };
    forged.status = None;
    let spec = forged.spec.as_mut().unwrap();
    (spec.selector, spec.manual_selector) = (None, None);
    let labels = spec
        .template
        .metadata
        .as_mut()
        .and_then(|meta| meta.labels.as_mut());
    labels
        .unwrap()
        .retain(|key, _| !key.contains("job-name") && !key.contains("controller-uid"));
    Job::typed(&operator.client, &world.namespace)
        .create(&kube::api::PostParams::default(), &forged)
        .await
        .unwrap();
    operator.clock.set(SystemClock.now());
    assert_eq!(
        repairs(&operator).await,
        [],
        "it may be recorded in a moment"
    );
    operator.wait(301);
    assert_eq!(repairs(&operator).await, [Repair::JobWithoutScan]);
    let left: Vec<_> = operator
        .jobs(&world)
        .await
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(left, ["forged"]);
}
