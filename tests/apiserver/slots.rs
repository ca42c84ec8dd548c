//! The ledger of due times: each has one row, whoever looked and whenever, and the row says what came
//! of it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use prowler_operator::api::{Scan, ScanSchedule, Tenant};
use prowler_operator::controllers::{driver, due};
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use serde_json::json;

use super::schedules::{finish_all, later, scheduled, status};
use crate::support::operator::{Operator, Placed as _, World};

const QUARTER: i64 = 900;

/// What each account's due times came to, in order: those of a stretch one by one.
async fn outcomes(operator: &Operator) -> BTreeMap<String, Vec<String>> {
    let rows = operator
        .sql(
            "select string_agg(line, E'\\n' order by at, line) from (
               select p.name || ' ' || to_char(at at time zone 'UTC', 'HH24:MI') || ' ' || s.state
                   || coalesce(' ' || s.reason, '') as line, at
               from schedule_slots s join providers p on p.id = s.provider_id,
                 generate_series(s.due_at, coalesce(s.last_due_at, s.due_at), '15 minutes') at) lines",
        )
        .await;
    let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows.lines() {
        let (provider, outcome) = row.split_once(' ').unwrap();
        let of = outcomes.entry(provider.to_owned()).or_default();
        of.push(outcome.to_owned());
    }
    outcomes
}

/// The same outcome for each quarter of an hour after `since`.
fn each(since: Timestamp, outcomes: &[&str]) -> Vec<String> {
    let due = |n| since + SignedDuration::from_secs(n * QUARTER);
    (1..)
        .zip(outcomes)
        .map(|(n, outcome)| format!("{} {outcome}", due(n).strftime("%H:%M")))
        .collect()
}

#[tokio::test]
async fn what_passed_while_nobody_looked_is_one_row_for_each_account() {
    let mut operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *" });
    let world = scheduled(&operator, &["p", "q"], spec).await;
    let since = operator.clock.now();
    operator.wait(2 * 3600 + 60);
    operator.restart().await;
    operator.schedules_rest(&world).await;
    let mut told = vec!["superseded"; 7];
    told.push("created");
    let all = outcomes(&operator).await;
    assert_eq!(all["p"], each(since, &told));
    assert_eq!(all["q"], each(since, &told));
    assert_eq!(operator.count("schedule_slots").await, 4);
    assert_eq!(
        operator
            .sql("select distinct count from schedule_slots where state = 'superseded'")
            .await,
        "7"
    );
    assert_eq!(status(&operator, &world).await["missedCount"], json!(7));
    // A created slot names its Scan, and each Scan is named once.
    let named = "schedule_slots q join scans s on s.id = q.scan_id and s.object_uid = q.scan_object
         where q.state = 'created'";
    assert_eq!(operator.count(named).await, 2);
}

#[tokio::test]
async fn past_the_deadline_what_passed_is_missed() {
    let mut operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *", "startingDeadlineSeconds": 60 });
    let world = scheduled(&operator, &["p"], spec).await;
    let since = operator.clock.now();
    operator.wait(3600 + 61);
    operator.restart().await;
    operator.schedules_rest(&world).await;
    let all = outcomes(&operator).await;
    assert_eq!(all["p"], each(since, &["missed Deadline"; 4]));
    assert_eq!(operator.count("schedule_slots").await, 1);
    // Never for good.
    later(&operator, &world, QUARTER - 61).await;
    assert!(
        outcomes(&operator).await["p"]
            .last()
            .unwrap()
            .ends_with("created")
    );
}

#[tokio::test]
async fn a_scan_that_still_runs_is_told_and_counted() {
    let operator = Operator::new().await;
    let world = scheduled(&operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    let since = operator.clock.now();
    for _ in 0..3 {
        later(&operator, &world, QUARTER).await;
    }
    let all = outcomes(&operator).await;
    let skipped = "skipped StillActive";
    assert_eq!(all["p"], each(since, &["created", skipped, skipped]));
    assert_eq!(status(&operator, &world).await["skippedCount"], json!(2));
    let told = operator.told(&world.namespace, "nightly").await;
    let told: Vec<_> = told
        .iter()
        .filter(|told| told.reason == "ScanStillActive")
        .collect();
    let first = since + SignedDuration::from_secs(2 * QUARTER);
    let note = format!("Left out the due time {first}, for the last scan has not ended of: p.");
    assert_eq!(
        told.first().map(|told| &*told.note),
        Some(&*note),
        "{told:#?}"
    );
}

/// Lets the clock of all schedules run once, without a pass.
async fn tick(operator: &Operator) -> usize {
    due::claim(&operator.cx).await.unwrap()
}

/// What was changed since the last look: method and kind of each call.
fn changed(operator: &Operator) -> Vec<String> {
    let calls = operator.api.changes();
    operator.api.reset();
    let kinds = ["prowlerscans", "scanschedules", "events"];
    calls
        .iter()
        .map(|call| {
            let method = call.split(' ').next().unwrap_or_default();
            let path = call.split(['?', ' ']).find(|part| part.starts_with('/'));
            let mut parts = path.into_iter().flat_map(|path| path.split('/'));
            let kind = parts.rfind(|part| kinds.contains(part));
            format!("{method} {}", kind.unwrap_or(call))
        })
        .collect()
}

#[tokio::test]
async fn a_due_time_costs_two_passes_and_five_writes() {
    let operator = Operator::new().await;
    let world = scheduled(&operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    operator.wait(QUARTER);
    assert_eq!(tick(&operator).await, 1);
    operator.api.reset();
    operator
        .pass::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    assert_eq!(
        changed(&operator),
        ["POST prowlerscans", "POST events", "PATCH scanschedules"]
    );
    // From its claim on: nobody looks again only to count it.
    assert_eq!(status(&operator, &world).await["active"], json!(1));
    let scans = operator.names::<Scan>(&world.namespace).await;
    operator.pass::<Scan>(&world.namespace, &scans[0]).await;
    assert_eq!(changed(&operator), ["PATCH prowlerscans", "POST events"]);
    assert_eq!(operator.count("scans where state = 'available'").await, 1);
    for _ in 0..2 {
        operator.pass::<Scan>(&world.namespace, &scans[0]).await;
        operator
            .pass::<ScanSchedule>(&world.namespace, "nightly")
            .await;
    }
    assert_eq!(changed(&operator), [""; 0], "all is told");
    assert_eq!(status(&operator, &world).await["active"], json!(1));
}

#[tokio::test]
async fn a_provider_has_due_times_from_when_it_is_stored() {
    let operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *",
        "providerSelector": { "matchExpressions": [{ "key": "team", "operator": "DoesNotExist" }] } });
    let world = scheduled(&operator, &["p"], spec).await;
    let since = operator.clock.now();
    later(&operator, &world, QUARTER).await;
    operator.provider(&world, "q", "210987654321").await;
    operator.schedules_rest(&world).await;
    assert!(!outcomes(&operator).await.contains_key("q"));
    finish_all(&operator, &world).await;
    later(&operator, &world, QUARTER).await;
    let all = outcomes(&operator).await;
    assert_eq!(all["p"], each(since, &["created", "created"]));
    let second = since + SignedDuration::from_secs(QUARTER);
    assert_eq!(all["q"], each(second, &["created"]));
}

/// What is decided stays decided: a schedule whose next year were decided would rest for a year.
#[tokio::test]
async fn a_clock_that_is_a_year_ahead_decides_nothing_of_that_year() {
    let mut operator = Operator::new().await;
    operator.check_clock().await;
    operator.clock.set(SystemClock.now());
    let spec = json!({ "interval": "1h", "startingDeadlineSeconds": 600 });
    let world = scheduled(&operator, &["p"], spec).await;
    for (slots, ahead) in [(2, 365 * 24), (3, 1), (4, 0)] {
        // An hour passes for the database; its clock cannot be moved, so its rows are.
        for shifted in [
            "schedule_slots set due_at = due_at - interval '3601 s'",
            "schedules set inserted_at = inserted_at - interval '3601 s',
               decided_until = decided_until - interval '3601 s',
               last_schedule_time = last_schedule_time - interval '3601 s',
               next_schedule_time = next_schedule_time - interval '3601 s'",
        ] {
            operator.change(&format!("update {shifted}")).await;
        }
        operator
            .clock
            .set(SystemClock.now() + SignedDuration::from_hours(ahead));
        assert_eq!(tick(&operator).await, 1, "{ahead} h ahead");
        operator.schedules_rest(&world).await;
        assert_eq!(
            operator.count("schedule_slots").await,
            slots,
            "{ahead} h ahead"
        );
        for wrong in [
            "schedule_slots where coalesce(last_due_at, due_at) > now() or state = 'missed'",
            "schedules where greatest(decided_until, last_schedule_time) > now()",
            "schedules where next_schedule_time > now() + interval '1 h'",
        ] {
            assert_eq!(operator.count(wrong).await, 0, "{ahead} h ahead: {wrong}");
        }
    }
    assert_eq!(status(&operator, &world).await["missedCount"], json!(null));
}

/// Nobody has compared the clocks since.
#[tokio::test]
async fn a_schedule_stored_after_a_clock_jumped_counts_from_the_time_of_the_database() {
    let mut operator = Operator::new().await;
    operator.check_clock().await;
    operator.clock.set(SystemClock.now());
    for (ahead, times) in [
        (365 * 24, json!({ "schedule": "*/15 * * * *" })),
        (2 * 365 * 24, json!({ "interval": "15m" })),
    ] {
        operator
            .clock
            .set(SystemClock.now() + SignedDuration::from_hours(ahead));
        scheduled(&operator, &["p"], times).await;
    }
    assert_eq!(operator.count("schedules").await, 2);
    let later = "schedules where greatest(decided_until, inserted_at) > now()
         or next_schedule_time > now() + interval '15 m'";
    assert_eq!(operator.count(later).await, 0);
}

#[tokio::test]
async fn who_joins_an_interval_while_its_last_scan_runs_is_left_out_and_told_of() {
    let operator = Operator::new().await;
    let world = scheduled(&operator, &["p", "q"], json!({ "interval": "15m" })).await;
    let refs = async |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
        let spec = json!({ "spec": { "providerRefs": names } });
        operator
            .patch::<ScanSchedule>(&world.namespace, "nightly", spec)
            .await;
        operator.schedules_rest(&world).await;
    };
    refs(&["q"]).await;
    later(&operator, &world, QUARTER).await;
    let due = operator.clock.now();
    refs(&["p", "q"]).await;
    let told = operator.told(&world.namespace, "nightly").await;
    let notes: Vec<_> = told
        .iter()
        .filter(|told| told.reason == "ScanStillActive")
        .map(|told| &*told.note)
        .collect();
    assert!(
        notes.iter().any(|note| note.ends_with("not ended of: p.")),
        "{due}: {notes:#?}"
    );
    operator.schedules_rest(&world).await;
    assert_eq!(status(&operator, &world).await["skippedCount"], json!(2));
}

#[tokio::test]
async fn due_times_of_all_tenants_are_claimed_without_a_pass() {
    let operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *" });
    let one = scheduled(&operator, &["p", "q"], spec.clone()).await;
    let other = scheduled(&operator, &["p"], spec.clone()).await;
    let resting = scheduled(&operator, &["p"], spec).await;
    let suspend = json!({ "spec": { "suspend": true } });
    operator.patch::<Tenant>("", &resting.tenant, suspend).await;
    operator.follow::<Tenant>("", &resting.tenant).await;
    assert_eq!(tick(&operator).await, 0, "nothing is due yet");
    operator.wait(QUARTER);
    assert_eq!(tick(&operator).await, 2);
    assert_eq!(tick(&operator).await, 0, "all is decided");
    assert_eq!(
        operator
            .count("schedule_slots where state = 'claimed'")
            .await,
        3
    );
    // The passes that were called make the Scans, and decide nothing again.
    for world in [&one, &other] {
        operator.schedules_rest(world).await;
    }
    assert_eq!(
        operator
            .count("schedule_slots where state = 'created'")
            .await,
        3
    );
    assert_eq!(operator.count("schedule_slots").await, 3);
    assert_eq!(operator.names::<Scan>(&one.namespace).await.len(), 2);
    assert_eq!(operator.names::<Scan>(&other.namespace).await.len(), 1);
    // Who is suspended is woken with nothing made up for.
    operator.reload().await;
    operator.schedules_rest(&resting).await;
    let suspended = "schedule_slots where state = 'skipped' and reason = 'Suspended'";
    assert_eq!(operator.count(suspended).await, 1);
}

#[tokio::test]
async fn clocks_and_passes_of_two_controllers_at_once_decide_each_due_time_once() {
    const DUE: usize = 6;
    let operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *" });
    let world = scheduled(&operator, &["p", "q"], spec).await;
    let since = operator.clock.now();
    let other = operator.beside(0).await;
    for _ in 0..DUE {
        operator.wait(QUARTER);
        other.wait(QUARTER);
        tokio::join!(
            tick(&operator),
            tick(&other),
            operator.pass::<ScanSchedule>(&world.namespace, "nightly"),
            other.pass::<ScanSchedule>(&world.namespace, "nightly"),
        );
        operator.schedules_rest(&world).await;
        finish_all(&operator, &world).await;
    }
    let all = outcomes(&operator).await;
    for provider in ["p", "q"] {
        assert_eq!(all[provider], each(since, &["created"; DUE]));
    }
    assert_eq!(
        operator.count("scans").await,
        i64::try_from(2 * DUE).unwrap()
    );
}

#[tokio::test]
async fn other_times_count_from_their_change_on_and_the_old_ones_until_then() {
    let mut operator = Operator::new().await;
    let world = scheduled(&operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    let since = operator.clock.now();
    // Nobody looked for an hour; then the times are changed to ones that have passed too.
    operator.wait(3600 + 60);
    operator.restart().await;
    let spec = json!({ "spec": { "schedule": "*/10 * * * *" } });
    operator
        .patch::<ScanSchedule>(&world.namespace, "nightly", spec)
        .await;
    operator.schedules_rest(&world).await;
    let old = ["superseded", "superseded", "superseded", "created"];
    assert_eq!(outcomes(&operator).await["p"], each(since, &old));
    assert_eq!(operator.count("scans").await, 1);
    let next = status(&operator, &world).await["nextScheduleTime"].take();
    let tenth = since + SignedDuration::from_secs(3600 + 600);
    assert_eq!(next.as_str().unwrap().parse::<Timestamp>().unwrap(), tenth);
}

#[tokio::test]
async fn a_pass_over_an_old_copy_changes_nothing_that_is_stored() {
    let operator = Operator::new().await;
    let world = scheduled(&operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    let old = ScanSchedule::guarded(&operator.client, &world.namespace)
        .get("nightly")
        .await
        .unwrap();
    let spec = json!({ "spec": { "schedule": "0 3 * * *", "suspend": true } });
    operator
        .patch::<ScanSchedule>(&world.namespace, "nightly", spec)
        .await;
    operator.schedules_rest(&world).await;
    let stored =
        || operator.sql("select schedule || ' ' || suspend || ' ' || generation from schedules");
    let before = stored().await;
    assert_eq!(before, "0 3 * * * true 2");
    let pass = driver::pass::<ScanSchedule>(std::sync::Arc::new(old), operator.cx.clone());
    Box::pin(pass).await;
    assert_eq!(stored().await, before);
}

/// The schedule's object is gone, and nobody took its row away: the clock does not go on for ever.
#[tokio::test]
async fn a_schedule_whose_object_vanished_is_retired() {
    let operator = Operator::new().await;
    let world: World = scheduled(&operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    operator
        .vanishes::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    operator.wait(QUARTER);
    tick(&operator).await;
    prowler_operator::controllers::ledger::Ledger::default()
        .recount(&operator.cx)
        .await
        .unwrap();
    assert_eq!(operator.count("schedules where is_deleted").await, 1);
    assert_eq!(
        operator
            .count("schedule_slots where state = 'claimed'")
            .await,
        0
    );
    operator.wait(QUARTER);
    assert_eq!(tick(&operator).await, 0);
}
