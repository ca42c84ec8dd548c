//! Names of the Scans that schedules make: no two due times lead to one Scan, and a Scan that
//! somebody else made under such a name stays his own.

use prowler_operator::api::{Scan, ScanSchedule};
use serde_json::json;

use super::schedules::{later, scheduled, status};
use crate::support::faults::Fault;
use crate::support::operator::{ACCOUNT, Operator, World};

const OTHER: &str = "210987654321";
const QUARTER: i64 = 900;

/// A world with a schedule of the Provider `p` and another Provider `q`. A due time is claimed, but
/// its Scan, whose name this is, could not be made yet.
async fn claimed(operator: &Operator) -> (World, String) {
    let world = scheduled(operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    operator.provider(&world, "q", OTHER).await;
    operator.wait(QUARTER);
    operator.api.arm(1, Fault::Refuse);
    operator
        .pass::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    let refused = operator.api.fired().unwrap();
    assert!(refused.starts_with("POST"), "{refused}");
    operator.api.reset();
    let name = operator.sql("select scan_name from schedule_slots").await;
    (world, name)
}

/// Provider and trigger of each queued scan.
async fn queued(operator: &Operator) -> String {
    operator
        .sql(
            "select string_agg(p.name || ' ' || s.trigger, ', ' order by s.trigger, p.name)
             from scans s join providers p on p.id = s.provider_id",
        )
        .await
}

/// States of the slots, by due time.
async fn slots(operator: &Operator) -> String {
    operator
        .sql("select string_agg(state, ' ' order by due_at) from schedule_slots")
        .await
}

#[tokio::test]
async fn schedules_whose_long_names_begin_alike_make_scans_of_their_own() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    let spec = json!({ "interval": "24h", "providerRefs": [{ "name": "p" }] });
    for tail in ["a", "b"] {
        let name = format!("{}-{tail}", "s".repeat(200));
        operator
            .apply::<ScanSchedule>(&world.namespace, &name, spec.clone())
            .await;
    }
    operator.schedules_rest(&world).await;
    assert_eq!(operator.names::<Scan>(&world.namespace).await.len(), 2);
    let distinct = "(select distinct schedule_id from scans) led";
    assert_eq!(operator.count(distinct).await, 2);
    assert_eq!(slots(&operator).await, "created created");
}

#[tokio::test]
async fn a_scan_made_by_hand_under_a_due_time_s_name_runs_on_its_own_provider() {
    let operator = Operator::new().await;
    let (world, name) = claimed(&operator).await;
    operator.scan(&world, &name, "q").await;
    assert_eq!(queued(&operator).await, "q manual");
    // The due time ends as missed, and the ones that follow are claimed as ever.
    operator.schedules_rest(&world).await;
    assert_eq!(slots(&operator).await, "missed");
    assert_eq!(status(&operator, &world).await["missedCount"], json!(1));
    assert_eq!(operator.names::<Scan>(&world.namespace).await, [name]);
    later(&operator, &world, QUARTER).await;
    assert_eq!(slots(&operator).await, "missed created");
    assert_eq!(queued(&operator).await, "q manual, p scheduled");
    assert_eq!(status(&operator, &world).await["missedCount"], json!(1));
}

#[tokio::test]
async fn a_scan_made_by_hand_is_not_the_schedule_s_though_it_is_of_the_same_provider() {
    let operator = Operator::new().await;
    let (world, name) = claimed(&operator).await;
    operator.scan(&world, &name, "p").await;
    operator.schedules_rest(&world).await;
    assert_eq!(queued(&operator).await, "p manual");
    assert_eq!(slots(&operator).await, "missed");
}

#[tokio::test]
async fn a_scan_made_by_hand_that_goes_in_time_leaves_its_name_to_the_due_time() {
    let operator = Operator::new().await;
    let (world, name) = claimed(&operator).await;
    operator.scan(&world, &name, "q").await;
    operator.deletes::<Scan>(&world.namespace, &name).await;
    assert_eq!(slots(&operator).await, "claimed");
    operator.schedules_rest(&world).await;
    assert_eq!(operator.names::<Scan>(&world.namespace).await, [name]);
    assert_eq!(queued(&operator).await, "q manual, p scheduled");
    assert!(
        status(&operator, &world).await["missedCount"].is_null(),
        "nothing was missed"
    );
}
