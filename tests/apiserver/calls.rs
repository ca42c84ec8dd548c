//! Passes that must come though nothing calls for them any more: an answer was lost, a watch lags, or
//! what was asked for was given up meanwhile.

use std::time::Duration;

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _};
use kube::ResourceExt as _;
use kube::api::PostParams;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::Event;
use prowler_operator::api::{Provider, Scan, ScanSchedule};
use prowler_operator::controllers::ledger::Ledger;
use prowler_operator::controllers::wake::Wakes;
use prowler_operator::controllers::{admission, driver, due};
use prowler_operator::metrics::queue::Repair;
use serde_json::json;

use super::ledger::age;
use super::run_now::{SCAN_NOW, annotate, rarely};
use super::schedules::{later, scheduled, status};
use crate::support::faults::Fault;
use crate::support::operator::{ACCOUNT, Operator, Placed as _, World, aws};

const QUARTER: i64 = 900;
/// Due times whose Scan is not to be made any more.
const GIVEN_UP: &str = "schedule_slots where state = 'skipped' and reason = 'Deleted'";

/// A schedule with one Provider, and the Scan of its due time, not queued yet.
pub async fn made(operator: &Operator) -> (World, String) {
    let world = scheduled(operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    operator.wait(QUARTER);
    operator
        .pass::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    let name = operator.names::<Scan>(&world.namespace).await.remove(0);
    (world, name)
}

/// The names called so far.
pub async fn called<K: kube::Resource<DynamicType = ()> + 'static>(
    calls: &mut (impl Stream<Item = ObjectRef<K>> + Unpin),
) -> Vec<String> {
    let mut names = Vec::new();
    while let Ok(Some(object)) =
        tokio::time::timeout(Duration::from_millis(200), calls.next()).await
    {
        names.push(object.name);
    }
    names
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_seen_to() {
    let operator = Operator::new().await;
    let world = scheduled(&operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    operator.wait(QUARTER);
    let mut calls = Box::pin(operator.cx.wake.listen::<ScanSchedule>(mpsc::unbounded().0));
    operator.sql.arm_commit(1, Fault::Lose);
    due::claim(&operator.cx).await.unwrap_err();
    operator.sql.reset();
    assert_eq!(called(&mut calls).await, ["nightly"]);
    let claimed = "schedule_slots where state = 'claimed'";
    assert_eq!(operator.count(claimed).await, 1);
    operator.schedules_rest(&world).await;
    assert_eq!(operator.names::<Scan>(&world.namespace).await.len(), 1);
}

#[tokio::test]
async fn an_admission_whose_answer_is_lost_is_seen_to() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    for (provider, account) in [("p", ACCOUNT), ("q", "210987654321")] {
        operator.provider(&world, provider, account).await;
    }
    operator.running_scan(&world, "runs", "q").await;
    operator.scan(&world, "waits", "p").await;
    let cx = &operator.cx;
    let executing = "scans where state = 'executing'";
    for n in 1.. {
        operator.sql.arm_commit(n, Fault::Lose);
        admission::turn(cx, true).await.unwrap_err();
        if operator.count(executing).await == 2 {
            break;
        }
    }
    operator.sql.reset();
    let mut calls = Box::pin(cx.wake.listen::<Scan>(mpsc::unbounded().0));
    admission::turn(cx, true).await.unwrap();
    assert!(called(&mut calls).await.is_empty(), "nobody knows of it");
    admission::turn(cx, false).await.unwrap();
    assert_eq!(called(&mut calls).await, ["waits"]);
}

#[tokio::test]
async fn what_a_lagging_pass_was_content_with_is_looked_at_when_it_is_shown() {
    let operator = Operator::new().await;
    let world = scheduled(&operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    let api = ScanSchedule::guarded(&operator.client, &world.namespace);
    let old = std::sync::Arc::new(api.get("nightly").await.unwrap());
    let pass = async || {
        Box::pin(driver::pass::<ScanSchedule>(
            old.clone(),
            operator.cx.clone(),
        ))
        .await;
    };
    operator.sql.set_away(true);
    for _ in 0..4 {
        pass().await;
    }
    operator.database_returns().await;
    // The watch has not shown what the fourth wrote: there is nothing to write.
    pass().await;
    let now: ScanSchedule = operator.get(&world.namespace, "nightly").await;
    assert_ne!(now.resource_version(), old.resource_version());
    let says = operator.says::<ScanSchedule>(&world.namespace, "nightly");
    assert_eq!(says.await, "InProgress DatabaseUnavailable");
    assert!(!operator.cx.echoes.is_own(&now), "else it said so for ever");
}

#[tokio::test]
async fn whose_scan_is_given_up_hears_of_it_though_the_answer_is_lost() {
    let operator = Operator::new().await;
    let (world, name) = made(&operator).await;
    let cancel = json!({ "spec": { "cancel": true } });
    operator
        .patch::<Scan>(&world.namespace, &name, cancel)
        .await;
    let is_done = async || operator.count(GIVEN_UP).await == 1;
    let heard = lost_in_the_pass_of::<ScanSchedule>(&operator, &world, &name, is_done).await;
    assert_eq!(heard, ["nightly"]);
}

#[tokio::test]
async fn whom_a_scan_replaces_hears_of_it_though_the_answer_is_lost() {
    let operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *", "concurrencyPolicy": "Replace" });
    let world = scheduled(&operator, &["p"], spec).await;
    let namespace = &world.namespace;
    later(&operator, &world, QUARTER).await;
    let old = operator.names::<Scan>(namespace).await.remove(0);
    operator.wait(QUARTER);
    operator.pass::<ScanSchedule>(namespace, "nightly").await;
    let mut new = operator.names::<Scan>(namespace).await;
    new.retain(|name| *name != old);
    let is_done = async || operator.count("scans").await == 2;
    let heard = lost_in_the_pass_of::<Scan>(&operator, &world, &new[0], is_done).await;
    assert_eq!(heard, [old]);
}

/// Passes over a Scan, each with the answer to another commit lost, until one has done it all the
/// same; whom that one called.
async fn lost_in_the_pass_of<K: Wakes>(
    operator: &Operator,
    world: &World,
    name: &str,
    is_done: impl AsyncFn() -> bool,
) -> Vec<String> {
    for n in 1.. {
        let calls = operator.cx.wake.listen::<K>(mpsc::unbounded().0);
        operator.sql.arm_commit(n, Fault::Lose);
        operator.pass::<Scan>(&world.namespace, name).await;
        assert!(operator.sql.fired().is_some(), "none was lost");
        operator.sql.reset();
        if is_done().await {
            return called(&mut Box::pin(calls)).await;
        }
    }
    unreachable!()
}

/// As the watch shows it.
#[tokio::test]
async fn a_schedule_hears_of_its_scan_that_the_ledger_ended() {
    let operator = Operator::new().await;
    let (world, name) = made(&operator).await;
    operator.follow::<Scan>(&world.namespace, &name).await;
    let schedule = ScanSchedule::guarded(&operator.client, &world.namespace);
    let (reader, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Apply(schedule.get("nightly").await.unwrap()));
    operator.cx.wake.remember::<ScanSchedule>(reader);
    operator.vanishes::<Scan>(&world.namespace, &name).await;
    age(&operator).await;
    let calls = operator.cx.wake.listen::<ScanSchedule>(mpsc::unbounded().0);
    let repairs = Ledger::default().recount(&operator.cx).await.unwrap();
    assert_eq!(repairs, [Repair::ScanWithoutObject]);
    assert_eq!(called(&mut Box::pin(calls)).await, ["nightly"]);
}

/// The pass was making Scans when one of them was deleted, and makes it again.
async fn is_made_again_and_not_run(operator: &Operator, namespace: &str, name: &str) {
    let scans = Scan::typed(&operator.client, namespace);
    let mut again = scans.get(name).await.unwrap();
    operator.deletes::<Scan>(namespace, name).await;
    (again.metadata.resource_version, again.metadata.uid) = (None, None);
    again.status = None;
    scans.create(&PostParams::default(), &again).await.unwrap();
    operator.follow::<Scan>(namespace, name).await;
    assert_eq!(operator.count("scans").await, 0);
    let shown = operator.status::<Scan>(namespace, name).await;
    assert_eq!(shown["state"], json!("cancelled"), "{shown:#}");
    let message = operator.message::<Scan>(namespace, name).await;
    assert!(message.contains("was given up"), "{message}");
}

#[tokio::test]
async fn a_scan_that_was_asked_for_and_given_up_is_not_run() {
    let operator = Operator::new().await;
    let world = rarely(&operator, &["p"]).await;
    let namespace = &world.namespace;
    annotate(&operator, &world, &[(SCAN_NOW, "one")]).await;
    // Made, and not known to be: what is, nobody makes again.
    operator.api.arm(1, Fault::Lose);
    operator.pass::<ScanSchedule>(namespace, "nightly").await;
    assert!(operator.api.fired().unwrap().contains("/prowlerscans"));
    operator.api.reset();
    let name = operator.names::<Scan>(namespace).await.remove(0);
    is_made_again_and_not_run(&operator, namespace, &name).await;
    let given_up = "requested_scans where state = 'skipped'";
    assert_eq!(operator.count(given_up).await, 1);
}

#[tokio::test]
async fn a_scan_of_a_slot_that_was_given_up_is_not_run() {
    let operator = Operator::new().await;
    let (world, name) = made(&operator).await;
    is_made_again_and_not_run(&operator, &world.namespace, &name).await;
    assert_eq!(operator.count(GIVEN_UP).await, 1);
    // One that somebody makes is his.
    let by_hand = operator.scan(&world, "by-hand", "p").await;
    assert_eq!(by_hand.status.unwrap().reason, None);
    assert_eq!(operator.count("scans").await, 1);
}

/// A schedule with one Provider, which is kept when it is deleted, and a claimed due time.
async fn kept(operator: &Operator) -> World {
    let world = scheduled(operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    let mut spec = aws(ACCOUNT, "p-keys");
    spec["deletionPolicy"] = json!("Retain");
    operator
        .patch::<Provider>(&world.namespace, "p", json!({ "spec": spec }))
        .await;
    operator.follow::<Provider>(&world.namespace, "p").await;
    operator.wait(QUARTER);
    world
}

#[tokio::test]
async fn a_due_time_of_an_account_that_went_counts_as_nothing_that_is_to_come() {
    let operator = Operator::new().await;
    let world = kept(&operator).await;
    due::claim(&operator.cx).await.unwrap();
    operator.deletes::<Provider>(&world.namespace, "p").await;
    operator.schedules_rest(&world).await;
    assert_eq!(status(&operator, &world).await["active"], json!(0));
    assert_eq!(operator.count(GIVEN_UP).await, 1);

    // The same with the Scan made.
    let operator = Operator::new().await;
    let world = kept(&operator).await;
    let namespace = &world.namespace;
    operator.pass::<ScanSchedule>(namespace, "nightly").await;
    operator.deletes::<Provider>(namespace, "p").await;
    let name = operator.names::<Scan>(namespace).await.remove(0);
    operator.follow::<Scan>(namespace, &name).await;
    let shown = operator.status::<Scan>(namespace, &name).await;
    assert_eq!(shown["reason"], json!("ProviderDeleted"), "{shown:#}");
    operator.schedules_rest(&world).await;
    assert_eq!(status(&operator, &world).await["active"], json!(0));
    assert_eq!(operator.count(GIVEN_UP).await, 1);
}

#[tokio::test]
async fn a_scan_whose_account_went_with_its_slot_waits_for_no_other_of_that_name() {
    let operator = Operator::new().await;
    let (world, name) = made(&operator).await;
    let namespace = &world.namespace;
    operator.deletes::<Provider>(namespace, "p").await;
    assert_eq!(operator.count("schedule_slots").await, 0);
    operator.follow::<Scan>(namespace, &name).await;
    replaces(&operator, namespace).await;
    operator.follow::<Scan>(namespace, &name).await;
    let shown = operator.status::<Scan>(namespace, &name).await;
    assert_eq!(shown["reason"], json!("ProviderDeleted"), "{shown:#}");
    assert_eq!(operator.count("scans").await, 0);

    // The same where its pass comes only when the other one is there.
    let operator = Operator::new().await;
    let (world, name) = made(&operator).await;
    let namespace = &world.namespace;
    operator.deletes::<Provider>(namespace, "p").await;
    replaces(&operator, namespace).await;
    operator.follow::<Scan>(namespace, &name).await;
    let shown = operator.status::<Scan>(namespace, &name).await;
    assert_eq!(shown["reason"], json!("ProviderDeleted"), "{shown:#}");
    assert_eq!(operator.count("scans").await, 0);
}

/// A Provider of the same name for another account, made at a later second: the API server's times
/// know no less.
pub async fn replaces(operator: &Operator, namespace: &str) {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    operator
        .apply::<Provider>(namespace, "p", aws("210987654321", "p-keys"))
        .await;
    operator.follow::<Provider>(namespace, "p").await;
}

#[tokio::test]
async fn a_slot_whose_scan_was_cancelled_while_nobody_could_see_to_it_is_given_up() {
    let operator = Operator::new().await;
    let (world, name) = made(&operator).await;
    let namespace = &world.namespace;
    let cancelled = json!({ "state": "cancelled", "reason": "Cancelled" });
    operator
        .write_status::<Scan>(namespace, &name, cancelled)
        .await;
    operator.schedules_rest(&world).await;
    assert_eq!(operator.count(GIVEN_UP).await, 1);
}
