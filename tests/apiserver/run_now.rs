//! Scans asked for by an annotation: one for each account and token, once and for ever, whoever looks
//! and whatever is lost on the way.

use kube::ResourceExt as _;
use prowler_operator::api::{Provider, Scan, ScanSchedule};
use serde_json::{Value, json};

use super::schedules::{finish_all, later, scheduled};
use crate::support::behaviour::given;
use crate::support::faults::Fault;
use crate::support::operator::{ACCOUNT, Operator, World, aws};

pub const SCAN_NOW: &str = "prowler-operator.dev/scan-now";
const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
const FORCE_AT: &str = "reconcile.fluxcd.io/forceAt";

/// A schedule of these Providers that is not due for a long time.
pub async fn rarely(operator: &Operator, providers: &[&str]) -> World {
    let spec = json!({ "schedule": "0 0 1 1 *", "scan": { "services": ["s3"] } });
    scheduled(operator, providers, spec).await
}

pub async fn annotate(operator: &Operator, world: &World, pairs: &[(&str, &str)]) {
    let pairs: serde_json::Map<_, _> = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let patch = json!({ "metadata": { "annotations": pairs } });
    operator
        .patch::<ScanSchedule>(&world.namespace, "nightly", patch)
        .await;
}

async fn handled(operator: &Operator, world: &World) -> [Value; 3] {
    let mut shown = super::schedules::status(operator, world).await;
    [
        "lastHandledReconcileAt",
        "lastHandledForceAt",
        "lastHandledScanNow",
    ]
    .map(|field| shown[field].take())
}

async fn scans(operator: &Operator, world: &World) -> usize {
    operator.names::<Scan>(&world.namespace).await.len()
}

#[tokio::test]
async fn a_token_leads_to_one_scan_of_each_provider_of_the_schedule() {
    let operator = Operator::new().await;
    let world = rarely(&operator, &["p", "q"]).await;
    annotate(&operator, &world, &[(SCAN_NOW, "one")]).await;
    operator.schedules_rest(&world).await;
    assert_eq!(scans(&operator, &world).await, 2);
    assert_eq!(
        handled(&operator, &world).await,
        [json!(null), json!(null), json!("one")]
    );
    let schedule: ScanSchedule = operator.get(&world.namespace, "nightly").await;
    for name in operator.names::<Scan>(&world.namespace).await {
        assert!(name.starts_with("nightly-now-"), "{name}");
        let scan: Scan = operator.get(&world.namespace, &name).await;
        assert_eq!(scan.owner_references()[0].uid, schedule.uid().unwrap());
        let spec = serde_json::to_value(&scan.spec).unwrap();
        assert_eq!(spec["trigger"], json!("manual"));
        assert_eq!(spec["scan"]["services"], json!(["s3"]));
    }
    // Outside the schedule: no due time is touched, but its history counts them.
    assert_eq!(operator.count("schedule_slots").await, 0);
    let counted = "scans where schedule_id is not null and due_at is null and trigger = 'manual'";
    assert_eq!(operator.count(counted).await, 2);
    finish_all(&operator, &world).await;
    for token in ["one", "two", "two", "one"] {
        annotate(&operator, &world, &[(SCAN_NOW, token)]).await;
        operator.schedules_rest(&world).await;
        finish_all(&operator, &world).await;
    }
    assert_eq!(
        operator.count("scans").await,
        4,
        "each token once, also when it comes back"
    );
}

#[tokio::test]
async fn flux_asks_for_a_pass_by_one_annotation_and_for_a_scan_by_both() {
    let operator = Operator::new().await;
    let world = rarely(&operator, &["p"]).await;
    let null = || json!(null);
    for (requested, force, told, made) in [
        ("t1", None, [json!("t1"), null(), null()], 0),
        // Not the same: a force that is left over from before.
        ("t2", Some("t1"), [json!("t2"), null(), null()], 0),
        ("t3", Some("t3"), [json!("t3"), json!("t3"), null()], 1),
        ("t3", Some("t3"), [json!("t3"), json!("t3"), null()], 1),
        ("t4", Some("t3"), [json!("t4"), json!("t3"), null()], 1),
        ("t5", Some("t5"), [json!("t5"), json!("t5"), null()], 2),
    ] {
        let mut pairs = vec![(REQUESTED_AT, requested)];
        pairs.extend(force.map(|force| (FORCE_AT, force)));
        annotate(&operator, &world, &pairs).await;
        operator.schedules_rest(&world).await;
        assert_eq!(handled(&operator, &world).await, told, "{pairs:?}");
        assert_eq!(scans(&operator, &world).await, made, "{pairs:?}");
    }
}

#[tokio::test]
async fn a_provider_is_scanned_by_its_own_annotation() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    let ask = |token: &str| json!({ "metadata": { "annotations": { SCAN_NOW: token } } });
    for (token, made) in [("one", 1), ("one", 1), ("two", 2)] {
        operator
            .patch::<Provider>(&world.namespace, "p", ask(token))
            .await;
        operator.follow::<Provider>(&world.namespace, "p").await;
        operator.pass_all::<Scan>(&world).await;
        operator.pass_all::<Scan>(&world).await;
        assert_eq!(scans(&operator, &world).await, made, "{token}");
        let status = operator.status::<Provider>(&world.namespace, "p").await;
        assert_eq!(status["lastHandledScanNow"], json!(token));
    }
    finish_all(&operator, &world).await;
    assert_eq!(operator.count("scans where state = 'completed'").await, 2);
    // Seen to, it costs nothing more.
    operator.follow::<Provider>(&world.namespace, "p").await;
    operator.api.reset();
    let before = operator.row_versions().await;
    operator.pass::<Provider>(&world.namespace, "p").await;
    assert!(operator.api.changes().is_empty());
    assert_eq!(operator.row_versions().await, before);
}

#[tokio::test]
async fn what_is_suspended_or_cannot_be_stored_is_asked_in_vain_until_it_is_not() {
    let operator = Operator::new().await;
    let world = rarely(&operator, &["p"]).await;
    let suspend = |value: bool| json!({ "spec": { "suspend": value } });
    operator
        .patch::<ScanSchedule>(&world.namespace, "nightly", suspend(true))
        .await;
    annotate(
        &operator,
        &world,
        &[(SCAN_NOW, "one"), (REQUESTED_AT, "now")],
    )
    .await;
    operator.schedules_rest(&world).await;
    assert_eq!(scans(&operator, &world).await, 0);
    assert_eq!(
        handled(&operator, &world).await,
        [json!("now"), json!(null), json!(null)]
    );
    operator
        .patch::<ScanSchedule>(&world.namespace, "nightly", suspend(false))
        .await;
    operator.schedules_rest(&world).await;
    assert_eq!(scans(&operator, &world).await, 1);

    // A Provider whose Secret is not there yet.
    operator
        .apply::<Provider>(
            &world.namespace,
            "late",
            given(aws("210987654321", "late-keys")),
        )
        .await;
    let ask = json!({ "metadata": { "annotations": { SCAN_NOW: "one" } } });
    operator
        .patch::<Provider>(&world.namespace, "late", ask)
        .await;
    operator.follow::<Provider>(&world.namespace, "late").await;
    assert_eq!(scans(&operator, &world).await, 1);
    operator.aws_secret(&world.namespace, "late-keys").await;
    operator.follow::<Provider>(&world.namespace, "late").await;
    assert_eq!(scans(&operator, &world).await, 2);
}

#[tokio::test]
async fn a_token_runs_once_whatever_is_lost_on_the_way() {
    for fault in [Fault::Refuse, Fault::Lose] {
        for nth in 1..=4 {
            let operator = Operator::new().await;
            let world = rarely(&operator, &["p", "q"]).await;
            let other = operator.beside(0).await;
            annotate(&operator, &world, &[(SCAN_NOW, "one")]).await;
            operator.api.arm(nth, fault);
            tokio::join!(
                operator.pass::<ScanSchedule>(&world.namespace, "nightly"),
                other.pass::<ScanSchedule>(&world.namespace, "nightly"),
            );
            operator.api.reset();
            operator.schedules_rest(&world).await;
            assert_eq!(scans(&operator, &world).await, 2, "{fault:?} {nth}");
            assert_eq!(operator.count("scans").await, 2, "{fault:?} {nth}");
            assert_eq!(
                operator
                    .count("requested_scans r join scans s on s.id = r.scan_id where r.state = 'created'")
                    .await,
                2
            );
            assert_eq!(handled(&operator, &world).await[2], json!("one"));
        }
    }
}

#[tokio::test]
async fn a_scan_under_the_name_of_one_that_is_asked_for_stays_its_maker_s() {
    let operator = Operator::new().await;
    let world = rarely(&operator, &["p"]).await;
    annotate(&operator, &world, &[(SCAN_NOW, "one")]).await;
    operator.api.arm(1, Fault::Refuse);
    operator
        .pass::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    operator.api.reset();
    let name = operator.sql("select scan_name from requested_scans").await;
    operator.scan(&world, &name, "p").await;
    assert_eq!(operator.count("scans where schedule_id is null").await, 1);
    operator.schedules_rest(&world).await;
    assert_eq!(operator.names::<Scan>(&world.namespace).await, [name]);
    assert_eq!(
        operator.sql("select state from requested_scans").await,
        "skipped"
    );
    let told = operator.told(&world.namespace, "nightly").await;
    assert!(
        told.iter().any(|told| told
            .note
            .starts_with("No Scan of Provider p was made: its name")),
        "{told:#?}"
    );
}

#[tokio::test]
async fn what_was_asked_for_goes_with_who_asked_and_counts_in_its_history() {
    let operator = Operator::new().await;
    let world = rarely(&operator, &["p"]).await;
    let limit = json!({ "spec": { "successfulScansHistoryLimit": 1 } });
    operator
        .patch::<ScanSchedule>(&world.namespace, "nightly", limit)
        .await;
    for token in ["one", "two", "three"] {
        annotate(&operator, &world, &[(SCAN_NOW, token)]).await;
        operator.schedules_rest(&world).await;
        finish_all(&operator, &world).await;
    }
    later(&operator, &world, 1).await;
    operator.schedules_rest(&world).await;
    assert_eq!(scans(&operator, &world).await, 1);
    assert_eq!(operator.count("scans").await, 3);
    operator
        .deletes::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    assert_eq!(operator.count("scan_requests").await, 0);
    assert_eq!(operator.count("requested_scans").await, 0);
}

#[tokio::test]
async fn a_schedule_that_is_asked_before_its_provider_is_there_scans_it_when_it_comes() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let spec = json!({ "schedule": "0 0 1 1 *", "providerRefs": [{ "name": "p" }] });
    operator
        .apply::<ScanSchedule>(&world.namespace, "nightly", spec)
        .await;
    annotate(&operator, &world, &[(SCAN_NOW, "one")]).await;
    operator.schedules_rest(&world).await;
    assert_eq!(handled(&operator, &world).await[2], json!(null));
    operator.provider(&world, "p", ACCOUNT).await;
    operator.schedules_rest(&world).await;
    assert_eq!(handled(&operator, &world).await[2], json!("one"));
    operator.schedules_rest(&world).await;
    assert_eq!(scans(&operator, &world).await, 1);
}
