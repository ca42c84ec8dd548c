//! Schedules whose due times meet trouble: a scan that still runs, a controller that was away, a
//! suspension, too much history, the schedule's own end.

use jiff::{SignedDuration, Timestamp};
use prowler_operator::api::{Provider, Scan, ScanSchedule, Tenant};
use prowler_operator::domain::clock::Clock as _;
use serde_json::{Value, json};

use super::schedules::{cannot_make, clock, finish_all, later, made, scheduled, status};
use crate::support::faults::Fault;
use crate::support::operator::{Operator, World, scanning};

const QUARTER: i64 = 900;

/// A schedule of one Provider, every quarter of an hour, with more in its spec.
async fn quarterly(operator: &Operator, more: Value) -> World {
    let mut spec = json!({ "schedule": "*/15 * * * *" });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    scheduled(operator, &["p"], spec).await
}

/// States of the slots, by due time.
async fn slots(operator: &Operator) -> String {
    operator
        .sql("select string_agg(state, ' ' order by due_at) from schedule_slots")
        .await
}

/// States of the scans, oldest first.
async fn states(operator: &Operator) -> String {
    operator
        .sql("select string_agg(state, ' ' order by due_at nulls first, id) from scans")
        .await
}

/// Lets the one Scan there is run.
async fn start(operator: &Operator, world: &World) -> k8s_openapi::api::batch::v1::Job {
    operator.admit().await;
    operator.schedules_rest(world).await;
    let running = operator
        .sql("select name from scans where holds_account")
        .await;
    operator.job_of(world, &running).await
}

#[tokio::test]
async fn forbid_leaves_a_due_time_out_while_the_last_scan_runs_or_waits() {
    let operator = Operator::new().await;
    let world = quarterly(&operator, json!({})).await;
    later(&operator, &world, QUARTER).await;
    later(&operator, &world, QUARTER).await;
    assert_eq!(slots(&operator).await, "created skipped");
    start(&operator, &world).await;
    later(&operator, &world, QUARTER).await;
    assert_eq!(slots(&operator).await, "created skipped skipped");
    finish_all(&operator, &world).await;
    // What was left out is not made up for.
    operator.schedules_rest(&world).await;
    assert_eq!(operator.count("scans").await, 1);
    later(&operator, &world, QUARTER).await;
    assert_eq!(slots(&operator).await, "created skipped skipped created");
    assert_eq!(operator.count("scans").await, 2);
}

#[tokio::test]
async fn allow_lets_one_scan_wait_behind_the_one_that_runs() {
    let operator = Operator::new().await;
    let world = quarterly(&operator, json!({ "concurrencyPolicy": "Allow" })).await;
    later(&operator, &world, QUARTER).await;
    start(&operator, &world).await;
    later(&operator, &world, QUARTER).await;
    later(&operator, &world, QUARTER).await;
    assert_eq!(slots(&operator).await, "created created skipped");
    assert_eq!(states(&operator).await, "executing available");
    assert_eq!(operator.admit().await, 0, "one account, one scan");
    assert_eq!(status(&operator, &world).await["active"], json!(2));
}

#[tokio::test]
async fn replace_ends_the_scan_that_runs_and_waits_for_its_pod() {
    let operator = Operator::new().await;
    let world = quarterly(&operator, json!({ "concurrencyPolicy": "Replace" })).await;
    later(&operator, &world, QUARTER).await;
    let job = start(&operator, &world).await;
    operator.pod(&job, scanning()).await;
    operator.wait(QUARTER);
    for _ in 0..3 {
        operator
            .pass::<ScanSchedule>(&world.namespace, "nightly")
            .await;
        operator.pass_all::<Scan>(&world).await;
    }
    assert_eq!(states(&operator).await, "cancelled available");
    assert_eq!(operator.admit().await, 0, "the pod is still there");
    operator.collect_garbage(&world).await;
    operator.schedules_rest(&world).await;
    assert_eq!(operator.admit().await, 1);
    let replaced = operator
        .sql("select name from scans where state = 'cancelled'")
        .await;
    let told = operator.message::<Scan>(&world.namespace, &replaced).await;
    assert_eq!(told, "Replaced by the schedule's next scan.");
    // One that still waits is replaced too: never more than one is left.
    later(&operator, &world, QUARTER).await;
    later(&operator, &world, QUARTER).await;
    assert_eq!(operator.count("scans where state = 'available'").await, 1);
}

#[tokio::test]
async fn replace_leaves_the_old_scan_alone_until_the_new_one_is_queued() {
    let operator = Operator::new().await;
    let world = quarterly(&operator, json!({ "concurrencyPolicy": "Replace" })).await;
    later(&operator, &world, QUARTER).await;
    start(&operator, &world).await;
    operator.wait(QUARTER);
    for _ in 0..2 {
        operator.api.arm(1, Fault::Refuse);
        operator
            .pass::<ScanSchedule>(&world.namespace, "nightly")
            .await;
        operator.pass_all::<Scan>(&world).await;
        assert!(operator.api.fired().unwrap().contains("/prowlerscans"));
        assert_eq!(slots(&operator).await, "created claimed");
        assert_eq!(states(&operator).await, "executing");
    }
    operator.api.reset();
    operator.schedules_rest(&world).await;
    assert_eq!(slots(&operator).await, "created created");
    assert_eq!(states(&operator).await, "cancelled available");
}

#[tokio::test]
async fn a_scan_made_by_hand_is_none_of_the_schedule_s() {
    for policy in ["Forbid", "Allow", "Replace"] {
        let operator = Operator::new().await;
        let world = quarterly(&operator, json!({ "concurrencyPolicy": policy })).await;
        operator.running_scan(&world, "by-hand", "p").await;
        later(&operator, &world, QUARTER).await;
        // It is neither ended nor a reason to leave the due time out: the account is waited for.
        assert_eq!(states(&operator).await, "executing available", "{policy}");
        operator.complete(&world, "by-hand").await;
        assert_eq!(operator.admit().await, 1, "{policy}");
    }
}

#[tokio::test]
async fn after_hours_of_silence_only_the_latest_due_time_is_made_up_for() {
    let mut operator = Operator::new().await;
    let world = quarterly(&operator, json!({})).await;
    operator.wait(3 * 3600);
    operator.restart().await;
    let due = clock(&operator, 0);
    operator.schedules_rest(&world).await;
    assert_eq!(made(&operator, &world).await, [format!("p {due}")]);
    let shown = status(&operator, &world).await;
    assert_eq!(shown["missedCount"], json!(11));
    let missed: Timestamp = shown["lastMissedTime"].as_str().unwrap().parse().unwrap();
    let before = operator.clock.now() - SignedDuration::from_secs(QUARTER);
    assert_eq!(missed, before);
    operator.schedules_rest(&world).await;
    assert_eq!(status(&operator, &world).await["missedCount"], json!(11));
    let told = operator
        .sql("select count(*) from schedules where last_missed_time < last_schedule_time")
        .await;
    assert_eq!(told, "1");
}

#[tokio::test]
async fn past_its_deadline_a_due_time_is_missed_for_good() {
    let operator = Operator::new().await;
    let world = quarterly(&operator, json!({ "startingDeadlineSeconds": 300 })).await;
    later(&operator, &world, QUARTER + 301).await;
    assert_eq!(made(&operator, &world).await, [""; 0]);
    let shown = status(&operator, &world).await;
    assert_eq!(shown["missedCount"], json!(1));
    assert!(shown["lastScheduleTime"].is_null(), "{shown:#}");
    let told = operator.told(&world.namespace, "nightly").await;
    let missed: Vec<_> = told
        .iter()
        .filter(|told| told.reason == "MissedSchedule")
        .collect();
    assert_eq!(missed.len(), 1, "{told:#?}");
    assert_eq!(missed[0].type_, "Warning");
    assert!(
        missed[0].note.starts_with("1 due times up to "),
        "{told:#?}"
    );
    // The next one is late, but not too late.
    later(&operator, &world, QUARTER - 1).await;
    let due = clock(&operator, -300);
    assert_eq!(made(&operator, &world).await, [format!("p {due}")]);
    assert_eq!(status(&operator, &world).await["missedCount"], json!(1));
}

#[tokio::test]
async fn a_claimed_due_time_whose_scan_could_not_be_made_in_time_is_missed() {
    let operator = Operator::new().await;
    let world = quarterly(&operator, json!({ "startingDeadlineSeconds": 60 })).await;
    cannot_make(&operator, &world, QUARTER).await;
    assert_eq!(slots(&operator).await, "claimed");
    later(&operator, &world, QUARTER - 60).await;
    assert_eq!(slots(&operator).await, "missed");
    assert_eq!(operator.names::<Scan>(&world.namespace).await, [""; 0]);
    assert_eq!(status(&operator, &world).await["missedCount"], json!(1));
    let told = operator.told(&world.namespace, "nightly").await;
    let missed = told.iter().find(|event| event.reason == "MissedSchedule");
    let note = &missed.unwrap().note;
    assert!(note.contains("none could be made"), "{note}");
}

#[tokio::test]
async fn a_claimed_due_time_that_came_too_late_takes_the_next_one_with_it_no_more() {
    let operator = Operator::new().await;
    let world = quarterly(&operator, json!({ "startingDeadlineSeconds": 60 })).await;
    cannot_make(&operator, &world, QUARTER).await;
    // Nobody looks until the next is due; which comes in time.
    later(&operator, &world, QUARTER).await;
    assert_eq!(slots(&operator).await, "missed created");
    assert_eq!(operator.count("scans").await, 1);
    let shown = status(&operator, &world).await;
    assert!(shown["skippedCount"].is_null(), "{shown:#}");
    assert_eq!(shown["missedCount"], json!(1));
}

#[tokio::test]
async fn a_claimed_due_time_counts_as_missed_though_later_ones_did_before() {
    let operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *", "startingDeadlineSeconds": 60 });
    let world = scheduled(&operator, &["p", "q"], spec).await;
    cannot_make(&operator, &world, QUARTER).await;
    assert_eq!(slots(&operator).await, "claimed claimed");
    later(&operator, &world, 2 * QUARTER + QUARTER / 2).await;
    let missed = "schedule_slots where state = 'missed'";
    assert_eq!(operator.count(missed).await, 4);
    // Once for each due time, of however many accounts.
    let shown = status(&operator, &world).await;
    assert_eq!(shown["missedCount"], json!(3), "{shown:#}");
    let last = operator
        .sql("select max(last_due_at) = (select last_missed_time from schedules) from schedule_slots")
        .await;
    assert_eq!(last, "true");
}

#[tokio::test]
async fn jitter_puts_each_start_off_by_the_same_time_within_its_bound() {
    const MOST: i64 = 12 * 3600;
    let operator = Operator::new().await;
    let spec = json!({ "interval": "24h", "jitterSeconds": MOST });
    let world = scheduled(&operator, &["p", "q"], spec).await;
    let mut offsets = Vec::new();
    for _ in 0..2 {
        let put_off = operator
            .sql(
                "select string_agg(extract(epoch from next_attempt_at - due_at)::integer::text, ','
                   order by provider_id) from scans where state = 'available'",
            )
            .await;
        offsets.push(put_off);
        assert_eq!(operator.admit().await, 0, "not yet");
        later(&operator, &world, MOST).await;
        finish_all(&operator, &world).await;
        later(&operator, &world, MOST).await;
    }
    assert_eq!(offsets[0], offsets[1]);
    let seconds: Vec<i64> = offsets[0].split(',').map(|n| n.parse().unwrap()).collect();
    assert_eq!(seconds.len(), 2);
    assert!(
        seconds.iter().all(|n| (1..=MOST).contains(n)),
        "{seconds:?}"
    );
}

#[tokio::test]
async fn old_scans_go_beyond_the_history_limits_and_their_rows_stay() {
    let operator = Operator::new().await;
    let limits = json!({ "successfulScansHistoryLimit": 2, "failedScansHistoryLimit": 0 });
    let world = quarterly(&operator, limits).await;
    for n in 0..4 {
        later(&operator, &world, QUARTER).await;
        if n == 1 {
            start(&operator, &world).await;
            let running = operator
                .sql("select name from scans where holds_account")
                .await;
            operator.fails(&world, &running, 2, "Error", "usage").await;
        } else {
            finish_all(&operator, &world).await;
        }
    }
    operator.schedules_rest(&world).await;
    operator.schedules_rest(&world).await;
    let kept = operator
        .sql("select string_agg(name, ',' order by name) from scans where object_uid is not null")
        .await;
    assert_eq!(
        operator.names::<Scan>(&world.namespace).await.join(","),
        kept
    );
    let due = [clock(&operator, -QUARTER), clock(&operator, 0)];
    let mut expected = due.map(|due| format!("p {due}"));
    expected.sort();
    assert_eq!(made(&operator, &world).await, expected);
    assert_eq!(operator.count("scans").await, 4);
}

#[tokio::test]
async fn a_deleted_schedule_ends_its_scans_and_comes_back_with_its_memory() {
    let operator = Operator::new().await;
    let spec = json!({ "interval": "24h", "providerRefs": [{ "name": "p" }] });
    let world = scheduled(&operator, &["p"], spec.clone()).await;
    start(&operator, &world).await;
    let before = status(&operator, &world).await;
    operator
        .deletes::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    operator.collect_garbage(&world).await;
    operator.pass_all::<Scan>(&world).await;
    operator.pass_all::<Scan>(&world).await;
    assert_eq!(operator.names::<Scan>(&world.namespace).await, [""; 0]);
    assert_eq!(states(&operator).await, "cancelled");
    assert_eq!(operator.count("scans where holds_account").await, 0);
    assert_eq!(operator.count("schedules where is_deleted").await, 1);
    // Half an interval later it is declared again: its anchor and its claims are what they were.
    operator.wait(12 * 3600);
    operator
        .apply::<ScanSchedule>(&world.namespace, "nightly", spec)
        .await;
    operator.schedules_rest(&world).await;
    assert_eq!(operator.names::<Scan>(&world.namespace).await, [""; 0]);
    let after = status(&operator, &world).await;
    for field in ["scheduleId", "lastScheduleTime", "nextScheduleTime"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    later(&operator, &world, 12 * 3600).await;
    assert_eq!(operator.names::<Scan>(&world.namespace).await.len(), 1);
}

#[tokio::test]
async fn a_suspended_tenant_or_schedule_is_due_at_no_time() {
    let operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *" });
    let world = scheduled(&operator, &["p"], spec).await;
    let suspend = json!({ "spec": { "suspend": true } });
    let resume = json!({ "spec": { "suspend": false } });
    let says = |who: &str| format!("Nothing is due while {who} suspended.");
    for _ in 0..2 {
        operator
            .patch::<ScanSchedule>(&world.namespace, "nightly", suspend.clone())
            .await;
        later(&operator, &world, 2 * QUARTER).await;
        assert_eq!(made(&operator, &world).await, [""; 0]);
        let shown = status(&operator, &world).await;
        assert!(shown["nextScheduleTime"].is_null(), "{shown:#}");
        assert_eq!(shown["conditions"][0]["message"], says("it is"));
        operator
            .patch::<Tenant>("", &world.tenant, suspend.clone())
            .await;
        operator.follow::<Tenant>("", &world.tenant).await;
        operator.reload().await;
        operator
            .patch::<ScanSchedule>(&world.namespace, "nightly", resume.clone())
            .await;
    }
    operator.schedules_rest(&world).await;
    let shown = status(&operator, &world).await;
    assert_eq!(shown["conditions"][0]["message"], says("its Tenant is"));
    operator.patch::<Tenant>("", &world.tenant, resume).await;
    operator.follow::<Tenant>("", &world.tenant).await;
    operator.reload().await;
    // Nothing is made up for, and all that was left out is one row.
    operator.schedules_rest(&world).await;
    assert_eq!(made(&operator, &world).await, [""; 0]);
    let row = "select state || ' ' || reason || ' ' || count || ' '
         || extract(epoch from last_due_at - due_at)::integer from schedule_slots";
    let left_out = format!("skipped Suspended 4 {}", 3 * QUARTER);
    assert_eq!(operator.sql(row).await, left_out);
    let shown = status(&operator, &world).await;
    assert!(shown["missedCount"].is_null(), "{shown:#}");
    later(&operator, &world, QUARTER).await;
    assert_eq!(made(&operator, &world).await.len(), 1);
}

#[tokio::test]
async fn a_suspended_provider_is_left_out_while_the_others_are_scanned() {
    let operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *", "concurrencyPolicy": "Replace" });
    let world = scheduled(&operator, &["p", "q"], spec).await;
    let suspends = async |suspend: bool| {
        let patch = json!({ "spec": { "suspend": suspend } });
        operator
            .patch::<Provider>(&world.namespace, "p", patch)
            .await;
        operator.follow::<Provider>(&world.namespace, "p").await;
    };
    let slots = async |provider: &str| {
        let slots = format!(
            "select string_agg(concat_ws(' ', state, s.reason, count), ', ' order by due_at)
             from schedule_slots s join providers p on p.id = s.provider_id
             where p.name = '{provider}'"
        );
        operator.sql(&slots).await
    };
    later(&operator, &world, QUARTER).await;
    suspends(true).await;
    for _ in 0..3 {
        later(&operator, &world, QUARTER).await;
    }
    assert_eq!(slots("p").await, "created 1, skipped Suspended 3");
    assert_eq!(
        slots("q").await,
        "created 1, created 1, created 1, created 1"
    );
    let shown = status(&operator, &world).await;
    assert!(shown["skippedCount"].is_null(), "{shown:#}");
    suspends(false).await;
    operator.schedules_rest(&world).await;
    assert_eq!(slots("p").await, "created 1, skipped Suspended 3");
    later(&operator, &world, QUARTER).await;
    assert_eq!(
        slots("p").await,
        "created 1, skipped Suspended 3, created 1"
    );
}
