//! Scans that were made and not queued yet when what they were made for went: nobody wants them, and what
//! bears a name by now is another's.

use std::time::Duration;

use futures::channel::mpsc;
use kube::ResourceExt as _;
use kube::api::PostParams;
use prowler_operator::api::{Provider, Scan, ScanSchedule};
use serde_json::json;
use sqlx::Connection as _;

use super::calls::{called, made, replaces};
use super::run_now::{SCAN_NOW, annotate, rarely};
use super::schedules::scheduled;
use crate::support::behaviour::given;
use crate::support::db::run;
use crate::support::operator::{ACCOUNT, Operator, Placed as _, World};

const QUARTER: i64 = 900;

/// The only Scan there is.
async fn only(operator: &Operator, world: &World) -> String {
    let mut names = operator.names::<Scan>(&world.namespace).await;
    assert_eq!(names.len(), 1, "{names:?}");
    names.remove(0)
}

/// A schedule that was asked for a scan, which is not queued yet.
async fn asked(operator: &Operator) -> (World, String) {
    let world = rarely(operator, &["p"]).await;
    annotate(operator, &world, &[(SCAN_NOW, "one")]).await;
    operator
        .pass::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    let name = only(operator, &world).await;
    (world, name)
}

/// A schedule with a Scan that is not queued yet: asked for, or of a due time.
async fn unqueued(operator: &Operator, is_asked_for: bool) -> (World, String) {
    if is_asked_for {
        asked(operator).await
    } else {
        made(operator).await
    }
}

/// The Scan's pass queues nothing and says so.
async fn is_cancelled(operator: &Operator, world: &World, name: &str, reason: &str, why: &str) {
    operator.follow::<Scan>(&world.namespace, name).await;
    let shown = operator.status::<Scan>(&world.namespace, name).await;
    assert_eq!(shown["state"], json!("cancelled"), "{shown:#}");
    assert_eq!(shown["reason"], json!(reason), "{shown:#}");
    let message = operator.message::<Scan>(&world.namespace, name).await;
    assert!(message.contains(why), "{message}");
    assert_eq!(operator.count("scans").await, 0);
}

#[tokio::test]
async fn a_scan_whose_schedule_is_gone_is_not_run() {
    let again = json!({ "schedule": "0 0 1 1 *", "providerRefs": [{ "name": "p" }] });
    for comes_back in [false, true] {
        for is_asked_for in [false, true] {
            let operator = Operator::new().await;
            let (world, name) = unqueued(&operator, is_asked_for).await;
            let namespace = &world.namespace;
            operator.deletes::<ScanSchedule>(namespace, "nightly").await;
            if comes_back {
                operator
                    .apply::<ScanSchedule>(namespace, "nightly", given(again.clone()))
                    .await;
                operator.follow::<ScanSchedule>(namespace, "nightly").await;
            }
            is_cancelled(&operator, &world, &name, "Cancelled", "was given up").await;
        }
    }
}

#[tokio::test]
async fn a_scan_that_a_provider_asked_for_is_no_other_s() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    let ask = json!({ "metadata": { "annotations": { SCAN_NOW: "one" } } });
    operator.patch::<Provider>(&world.namespace, "p", ask).await;
    operator.pass::<Provider>(&world.namespace, "p").await;
    let name = only(&operator, &world).await;
    operator.deletes::<Provider>(&world.namespace, "p").await;
    replaces(&operator, &world.namespace).await;
    let why = "Provider was deleted";
    is_cancelled(&operator, &world, &name, "ProviderDeleted", why).await;
}

/// A pass makes the Scan of a slot that it read before the account went, when another is there already.
#[tokio::test]
async fn a_scan_that_is_made_when_another_account_is_there_is_not_its() {
    for is_asked_for in [false, true] {
        let operator = Operator::new().await;
        let (world, name) = unqueued(&operator, is_asked_for).await;
        let namespace = &world.namespace;
        let scans = Scan::typed(&operator.client, namespace);
        let mut late = scans.get(&name).await.unwrap();
        late.metadata.finalizers = None;
        let late = scans.replace(&name, &PostParams::default(), &late).await;
        let mut late = late.unwrap();
        operator.delete::<Scan>(namespace, &name).await;
        operator.deletes::<Provider>(namespace, "p").await;
        replaces(&operator, namespace).await;
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        (late.metadata.resource_version, late.metadata.uid) = (None, None);
        let late = scans.create(&PostParams::default(), &late).await.unwrap();
        let provider: Provider = operator.get(namespace, "p").await;
        assert!(provider.creation_timestamp() < late.creation_timestamp());
        let why = "Provider was deleted";
        is_cancelled(&operator, &world, &name, "ProviderDeleted", why).await;
    }
}

/// Gives up what the Scan was made for while its pass is about to queue it.
async fn given_up_meanwhile(operator: &Operator, world: &World, name: &str, statement: &str) {
    let mut other = operator.db.admin_conn().await;
    let mut giving_up = other.begin().await.unwrap();
    run(&mut giving_up, statement).await;
    let mut watcher = operator.db.superuser_conn().await;
    let waits = async {
        loop {
            let waiting = "select count(*) from pg_stat_activity
                where datname = current_database() and wait_event_type = 'Lock'";
            let waiting: i64 = sqlx::query_scalar(waiting)
                .fetch_one(&mut watcher)
                .await
                .unwrap();
            if waiting > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        giving_up.commit().await.unwrap();
    };
    let both = futures::future::join(operator.follow::<Scan>(&world.namespace, name), waits);
    let both = tokio::time::timeout(Duration::from_mins(2), both).await;
    assert!(both.is_ok(), "the pass waits for whoever gives it up");
    is_cancelled(operator, world, name, "Cancelled", "was given up").await;
}

#[tokio::test]
async fn what_is_given_up_while_a_pass_is_about_to_queue_it_stays_so() {
    let operator = Operator::new().await;
    let (world, name) = made(&operator).await;
    let lapses = "update schedule_slots set state = 'missed', reason = 'Deadline'";
    given_up_meanwhile(&operator, &world, &name, lapses).await;
    assert_eq!(
        operator
            .count("schedule_slots where state = 'missed'")
            .await,
        1
    );

    let operator = Operator::new().await;
    let (world, name) = asked(&operator).await;
    let skips = "update requested_scans set state = 'skipped'";
    given_up_meanwhile(&operator, &world, &name, skips).await;
    let skipped = "requested_scans where state = 'skipped'";
    assert_eq!(operator.count(skipped).await, 1);
}

/// A due time's Scan is made, and its pass comes only when the next due time was claimed, for it is too
/// late to stand in its way.
#[tokio::test]
async fn of_two_due_times_that_wait_the_later_is_scanned() {
    for policy in ["Forbid", "Allow", "Replace"] {
        for is_first in [true, false] {
            let operator = Operator::new().await;
            let spec = json!({ "schedule": "*/15 * * * *", "startingDeadlineSeconds": 60,
                "concurrencyPolicy": policy });
            let world = scheduled(&operator, &["p"], spec).await;
            let namespace = &world.namespace;
            for due_times in 1..=2 {
                operator.wait(QUARTER);
                operator.pass::<ScanSchedule>(namespace, "nightly").await;
                assert_eq!(operator.names::<Scan>(namespace).await.len(), due_times);
            }
            let mut names = operator.names::<Scan>(namespace).await;
            if !is_first {
                names.reverse();
            }
            let calls = operator.cx.wake.listen::<ScanSchedule>(mpsc::unbounded().0);
            for name in &names {
                operator.follow::<Scan>(namespace, name).await;
            }
            // Its status is to tell of it.
            assert_eq!(called(&mut Box::pin(calls)).await, ["nightly"]);
            let slots = "select string_agg(state, ' ' order by due_at) from schedule_slots";
            let told = format!("{policy}, {is_first}");
            assert_eq!(operator.sql(slots).await, "superseded created", "{told}");
            let scans = "select string_agg(state, ' ') from scans";
            assert_eq!(operator.sql(scans).await, "available", "{told}");
            operator.schedules_rest(&world).await;
            let shown = operator.status::<ScanSchedule>(namespace, "nightly").await;
            assert_eq!(shown["missedCount"], json!(1), "{shown:#}");
            let events = operator.told(namespace, "nightly").await;
            assert!(
                events
                    .iter()
                    .any(|event| event.note.contains("a later one was claimed")),
                "{told}"
            );
        }
    }
}

#[tokio::test]
async fn a_scan_that_was_left_without_its_maker_is_of_no_other_account() {
    let operator = Operator::new().await;
    let (world, name) = made(&operator).await;
    let namespace = &world.namespace;
    // As `kubectl delete --cascade=orphan` does.
    let orphaned = json!({ "metadata": { "ownerReferences": null } });
    operator.patch::<Scan>(namespace, &name, orphaned).await;
    operator.deletes::<ScanSchedule>(namespace, "nightly").await;
    operator.deletes::<Provider>(namespace, "p").await;
    replaces(&operator, namespace).await;
    let why = "Provider was deleted";
    is_cancelled(&operator, &world, &name, "ProviderDeleted", why).await;
}

#[tokio::test]
async fn a_token_that_would_be_used_up_for_nobody_waits() {
    use prowler_operator::domain::ids::{ObjectUid, ProviderId};
    use prowler_operator::store::requests::{Taken, take};
    use uuid::Uuid;

    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    let here = operator.sql("select id::text from providers").await;
    let (here, gone) = (
        (ProviderId(here.parse().unwrap()), "here".to_owned()),
        (ProviderId(Uuid::from_u128(1)), "gone".to_owned()),
    );
    let object = ObjectUid(Uuid::from_u128(2));
    let tenant = operator.tenant_id(&world);
    let taken = async |scans: &[_]| {
        let mut tx = operator.cx.store.tenant(tenant).await.unwrap();
        let taken = take(&mut tx, object, "one", None, scans).await.unwrap();
        if taken != Taken::ForNobody {
            tx.commit().await.unwrap();
        }
        taken
    };
    assert_eq!(taken(std::slice::from_ref(&gone)).await, Taken::ForNobody);
    assert_eq!(taken(&[gone, here.clone()]).await, Taken::Now(1));
    assert_eq!(taken(&[here]).await, Taken::Before);
}
