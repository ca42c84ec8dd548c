//! Schedules: when they are due, and that each due time leads to exactly one Scan of each
//! Provider, however many controllers look, and whenever.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use prowler_operator::api::scan::ScanState;
use prowler_operator::api::{Provider, Scan, ScanSchedule};
use prowler_operator::domain::clock::Clock as _;
use serde_json::{Value, json};

use crate::support::behaviour::given;
use crate::support::faults::Fault;
use crate::support::operator::{ACCOUNT, Operator, World, aws};

const OTHER: &str = "210987654321";
const QUARTER: i64 = 900;

/// Applies the schedule's spec; what it says when all rests.
async fn schedule_is(operator: &Operator, world: &World, spec: Value) -> String {
    operator
        .apply::<ScanSchedule>(&world.namespace, "nightly", given(spec))
        .await;
    operator.schedules_rest(world).await;
    operator
        .says::<ScanSchedule>(&world.namespace, "nightly")
        .await
}

/// Lets the clock go on, and looks.
pub async fn later(operator: &Operator, world: &World, seconds: i64) {
    operator.wait(seconds);
    operator.schedules_rest(world).await;
}

/// A tenant with Providers of these names and a schedule of them.
pub async fn scheduled(operator: &Operator, providers: &[&str], mut spec: Value) -> World {
    let world = operator.tenant().await;
    for (name, account) in providers.iter().zip([ACCOUNT, OTHER]) {
        operator.provider(&world, name, account).await;
    }
    if spec["providerSelector"].is_null() {
        let names = providers.iter().map(|name| json!({ "name": name }));
        spec["providerRefs"] = names.collect();
    }
    operator
        .apply::<ScanSchedule>(&world.namespace, "nightly", given(spec))
        .await;
    operator.schedules_rest(&world).await;
    world
}

/// So much later the API server refuses the first Scan that the schedule makes.
pub async fn cannot_make(operator: &Operator, world: &World, seconds: i64) {
    operator.wait(seconds);
    operator.api.arm(1, Fault::Refuse);
    operator
        .pass::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    operator.api.reset();
}

/// The schedule's Scans as (Provider, due time), from the slots that led to them.
pub async fn made(operator: &Operator, world: &World) -> Vec<String> {
    let mut made = Vec::new();
    for name in operator.names::<Scan>(&world.namespace).await {
        let slot = operator
            .sql(&format!(
                "select p.name || ' ' || to_char(s.due_at at time zone 'UTC', 'HH24:MI')
                 from schedule_slots s join providers p on p.id = s.provider_id
                 where s.scan_name = '{name}' and s.state in ('claimed', 'created')"
            ))
            .await;
        made.push(slot);
    }
    made.sort();
    made
}

/// `HH:MM` so many seconds after now.
pub fn clock(operator: &Operator, seconds: i64) -> String {
    let time = operator.clock.now() + SignedDuration::from_secs(seconds);
    time.strftime("%H:%M").to_string()
}

/// Ends every Scan that holds or waits for an account.
pub async fn finish_all(operator: &Operator, world: &World) {
    for _ in 0..10 {
        operator.admit().await;
        for name in operator.names::<Scan>(&world.namespace).await {
            if state(operator, world, &name)
                .await
                .is_some_and(ScanState::is_final)
            {
                continue;
            }
            operator.follow::<Scan>(&world.namespace, &name).await;
            if state(operator, world, &name).await == Some(ScanState::Executing) {
                operator.complete(world, &name).await;
            }
        }
        let open = operator
            .count("scans where state in ('available', 'executing') or holds_account")
            .await;
        if open == 0 {
            return;
        }
    }
    panic!("scans do not end");
}

async fn state(operator: &Operator, world: &World, scan: &str) -> Option<ScanState> {
    let scan: Scan = operator.get(&world.namespace, scan).await;
    scan.status.and_then(|status| status.state)
}

pub async fn status(operator: &Operator, world: &World) -> Value {
    operator
        .status::<ScanSchedule>(&world.namespace, "nightly")
        .await
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn each_due_time_leads_to_one_scan_of_each_provider() {
    let operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *", "scan": { "services": ["s3"] } });
    let world = scheduled(&operator, &["p", "q"], spec).await;
    let begun = operator.clock.now();
    let quarter = |n: i64| begun + SignedDuration::from_secs(n * QUARTER);
    // The moment it is made at is not one of its due times.
    assert_eq!(made(&operator, &world).await, [""; 0]);
    let shown = status(&operator, &world).await;
    assert_eq!(time(&shown["nextScheduleTime"]), quarter(1));
    assert!(shown["lastScheduleTime"].is_null(), "{shown:#}");
    later(&operator, &world, QUARTER - 1).await;
    assert_eq!(made(&operator, &world).await, [""; 0]);

    later(&operator, &world, 1).await;
    let due = clock(&operator, 0);
    let both = [format!("p {due}"), format!("q {due}")];
    assert_eq!(made(&operator, &world).await, both);
    let shown = status(&operator, &world).await;
    assert_eq!(time(&shown["nextScheduleTime"]), quarter(2));
    assert_eq!(time(&shown["lastScheduleTime"]), quarter(1));
    assert_eq!(shown["active"], json!(2));
    assert_eq!(shown["providers"], json!(2));
    assert!(shown["lastSuccessfulTime"].is_null(), "{shown:#}");
    let schedule: ScanSchedule = operator.get(&world.namespace, "nightly").await;
    for name in operator.names::<Scan>(&world.namespace).await {
        assert!(name.starts_with("nightly-"), "{name}");
        let scan: Scan = operator.get(&world.namespace, &name).await;
        assert_eq!(scan.owner_references()[0].uid, schedule.uid().unwrap());
        let spec = serde_json::to_value(&scan.spec).unwrap();
        assert_eq!(spec["trigger"], json!("scheduled"));
        assert_eq!(spec["scan"]["services"], json!(["s3"]));
    }
    // Looking again, also a little later, makes nothing more.
    later(&operator, &world, QUARTER - 1).await;
    assert_eq!(made(&operator, &world).await, both);

    finish_all(&operator, &world).await;
    later(&operator, &world, 1).await;
    assert_eq!(made(&operator, &world).await.len(), 4);
    let shown = status(&operator, &world).await;
    assert_eq!(shown["active"], json!(2));
    assert_eq!(
        shown["lastSuccessfulTime"],
        json!(quarter(2) - SignedDuration::from_secs(1))
    );
    assert!(shown["missedCount"].is_null(), "{shown:#}");
}

#[tokio::test]
async fn a_cron_expression_means_its_time_zone() {
    let operator = Operator::new().await;
    let with = |zone: Value| json!({ "schedule": "0 2 * * *", "timeZone": zone, "providerRefs": [{ "name": "p" }] });
    let world = scheduled(&operator, &["p"], with(json!("Asia/Kolkata"))).await;
    // Half past five hours ahead, all the year round.
    for (zone, says, hour) in [
        (json!("Asia/Kolkata"), "Current Succeeded", Some("20:30")),
        (json!(null), "Current Succeeded", Some("02:00")),
        (json!("Mars/Olympus"), "Failed UnknownTimeZone", None),
        (json!("Etc/UTC"), "Current Succeeded", Some("02:00")),
    ] {
        let now = schedule_is(&operator, &world, with(zone.clone())).await;
        assert_eq!(now, says, "{zone}");
        // A schedule that cannot be read has no next time.
        let next = status(&operator, &world).await["nextScheduleTime"].take();
        let shown = next.as_str().map(|text| text[11..16].to_owned());
        assert_eq!(shown.as_deref(), hour, "{zone}");
    }
}

#[tokio::test]
async fn an_interval_is_due_when_it_is_made_and_whenever_it_has_passed() {
    let operator = Operator::new().await;
    let world = scheduled(&operator, &["p"], json!({ "interval": "24h" })).await;
    let anchor = operator.clock.now();
    let due = clock(&operator, 0);
    assert_eq!(made(&operator, &world).await, [format!("p {due}")]);
    finish_all(&operator, &world).await;
    later(&operator, &world, 24 * 3600 - 1).await;
    assert_eq!(made(&operator, &world).await.len(), 1);
    later(&operator, &world, 1).await;
    assert_eq!(made(&operator, &world).await.len(), 2);
    let shown = status(&operator, &world).await;
    let day = |n: i64| anchor + SignedDuration::from_hours(24 * n);
    assert_eq!(time(&shown["lastScheduleTime"]), day(1));
    assert_eq!(time(&shown["nextScheduleTime"]), day(2));
}

#[tokio::test]
async fn who_joins_an_interval_is_scanned_at_once_unless_it_is_too_late_for_that() {
    for (deadline, scans) in [(json!(null), 2), (json!(600), 1)] {
        let operator = Operator::new().await;
        let spec = json!({ "interval": "24h", "startingDeadlineSeconds": deadline,
                           "providerSelector": { "matchLabels": { "env": "prod" } } });
        let world = scheduled(&operator, &["p", "q"], spec).await;
        for (name, scans) in [("p", 1), ("q", scans)] {
            let label = json!({ "metadata": { "labels": { "env": "prod" } } });
            operator
                .patch::<Provider>(&world.namespace, name, label)
                .await;
            operator.follow::<Provider>(&world.namespace, name).await;
            operator.schedules_rest(&world).await;
            assert_eq!(made(&operator, &world).await.len(), scans, "{deadline}");
            operator.wait(6 * 3600);
        }
        // It was not late: it was not there.
        let shown = status(&operator, &world).await;
        assert!(shown["missedCount"].is_null(), "{deadline}: {shown:#}");
    }
}

#[tokio::test]
async fn a_due_time_is_claimed_before_its_scan_is_made_and_the_scan_made_up_for() {
    let operator = Operator::new().await;
    let world = scheduled(&operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    operator.wait(QUARTER);
    let due = clock(&operator, 0);
    operator.api.arm(1, Fault::Refuse);
    operator
        .pass::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    let refused = operator.api.fired().unwrap();
    assert!(
        refused.starts_with("POST") && refused.contains("/prowlerscans"),
        "{refused}"
    );
    assert_eq!(
        operator
            .count("schedule_slots where state = 'claimed'")
            .await,
        1
    );
    assert_eq!(operator.names::<Scan>(&world.namespace).await, [""; 0]);
    // For hours nothing can be made; then there is one scan, not one for each of them.
    for _ in 0..5 {
        cannot_make(&operator, &world, QUARTER).await;
    }
    operator.schedules_rest(&world).await;
    assert_eq!(made(&operator, &world).await, [format!("p {due}")]);
}

#[tokio::test]
async fn a_scan_whose_making_was_not_answered_is_not_made_twice() {
    let operator = Operator::new().await;
    let world = scheduled(&operator, &["p"], json!({ "schedule": "*/15 * * * *" })).await;
    operator.wait(QUARTER);
    operator.api.arm(1, Fault::Lose);
    operator
        .pass::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    assert!(operator.api.fired().unwrap().starts_with("POST"));
    let before = operator.names::<Scan>(&world.namespace).await;
    operator.schedules_rest(&world).await;
    assert_eq!(operator.names::<Scan>(&world.namespace).await, before);
    assert_eq!(before.len(), 1);
}

/// Two controllers, one with a clock that differs, look at the same time all day long.
async fn two_controllers(skew: i64) {
    const DUE: i64 = 4;
    let operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *", "concurrencyPolicy": "Allow",
                       "successfulScansHistoryLimit": 100 });
    let world = scheduled(&operator, &["p", "q"], spec).await;
    let other = operator.beside(skew).await;
    let namespace = &world.namespace;
    for _ in 0..DUE * 2 {
        operator.wait(QUARTER / 2);
        other.wait(QUARTER / 2);
        tokio::join!(
            operator.pass::<ScanSchedule>(namespace, "nightly"),
            other.pass::<ScanSchedule>(namespace, "nightly"),
        );
        for scan in operator.names::<Scan>(namespace).await {
            tokio::join!(
                operator.pass::<Scan>(namespace, &scan),
                other.pass::<Scan>(namespace, &scan),
            );
        }
        finish_all(&operator, &world).await;
    }
    let scans = operator.names::<Scan>(namespace).await.len();
    let rows = operator.count("scans").await;
    let slots = operator
        .count("schedule_slots where state = 'created'")
        .await;
    // A clock that is ahead sees due times before others do, one that is behind none of its own.
    let due = 2 * (DUE + skew.max(0) / QUARTER);
    assert_eq!(
        (i64::try_from(scans).unwrap(), rows, slots),
        (due, due, due)
    );
    let distinct = "(select distinct provider_id, due_at from scans) slots";
    assert_eq!(operator.count(distinct).await, due);
    assert_eq!(
        operator
            .count("schedule_slots where state <> 'created'")
            .await,
        0
    );
    let shown = status(&operator, &world).await;
    assert!(shown["missedCount"].is_null(), "{shown:#}");
}

#[tokio::test]
async fn two_controllers_at_once_make_each_scan_once() {
    two_controllers(0).await;
}

#[tokio::test]
async fn two_controllers_make_each_scan_once_though_a_clock_is_behind() {
    two_controllers(-20 * 60).await;
}

#[tokio::test]
async fn two_controllers_make_each_scan_once_though_a_clock_is_ahead() {
    two_controllers(20 * 60).await;
}

#[tokio::test]
async fn a_clock_that_jumps_back_makes_no_scan_twice() {
    let operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *", "successfulScansHistoryLimit": 100 });
    let world = scheduled(&operator, &["p"], spec).await;
    for (seconds, scans) in [
        (QUARTER, 1),
        (QUARTER, 2),
        (-3 * QUARTER, 2),
        (QUARTER, 2),
        (QUARTER, 2),
        (QUARTER, 2),
        (QUARTER, 3),
    ] {
        later(&operator, &world, seconds).await;
        finish_all(&operator, &world).await;
        assert_eq!(made(&operator, &world).await.len(), scans, "{seconds}");
    }
}

#[tokio::test]
async fn providers_are_chosen_by_label_and_missing_names_waited_for() {
    let operator = Operator::new().await;
    let world = scheduled(&operator, &["p", "missing"], json!({ "interval": "24h" })).await;
    operator
        .deletes::<Provider>(&world.namespace, "missing")
        .await;
    operator.schedules_rest(&world).await;
    let says = operator
        .says::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    assert_eq!(says, "InProgress ProviderNotFound");
    assert_eq!(
        operator
            .message::<ScanSchedule>(&world.namespace, "nightly")
            .await,
        "No stored Provider here is named missing. The others are scanned."
    );
    let spec = json!({ "interval": "24h", "providerSelector": { "matchLabels": { "env": "x" } } });
    operator
        .delete::<ScanSchedule>(&world.namespace, "nightly")
        .await;
    operator.schedules_rest(&world).await;
    let says = schedule_is(&operator, &world, spec).await;
    assert_eq!(says, "Current Succeeded");
    assert_eq!(status(&operator, &world).await["providers"], json!(0));
    let keys = aws(OTHER, "p-keys");
    let object = json!({ "metadata": { "labels": { "env": "x" } }, "spec": keys });
    operator
        .try_apply::<Provider>(&world.namespace, "q", object)
        .await
        .unwrap();
    operator.follow::<Provider>(&world.namespace, "q").await;
    operator.schedules_rest(&world).await;
    assert_eq!(status(&operator, &world).await["providers"], json!(1));
    let made = made(&operator, &world).await;
    assert_eq!(made.iter().filter(|slot| slot.starts_with("q ")).count(), 1);
}

#[tokio::test]
async fn the_last_result_of_each_provider_is_shown_and_the_newer_takes_the_place_of_the_older() {
    let operator = Operator::new().await;
    let spec = json!({ "schedule": "*/15 * * * *", "concurrencyPolicy": "Allow" });
    let world = scheduled(&operator, &["p", "q"], spec).await;
    assert_eq!(status(&operator, &world).await["lastResults"], Value::Null);
    later(&operator, &world, QUARTER).await;
    finish_all(&operator, &world).await;
    operator.schedules_rest(&world).await;
    let shown = status(&operator, &world).await;
    let results: Vec<_> = shown["lastResults"].as_array().unwrap().clone();
    let told = |one: &Value| format!("{} {}", one["provider"], one["state"]);
    assert_eq!(
        results.iter().map(told).collect::<Vec<_>>(),
        [r#""p" "completed""#, r#""q" "completed""#]
    );
    let first = time(&results[0]["completedAt"]);

    later(&operator, &world, QUARTER).await;
    let cancelled = operator
        .sql(
            "select s.name from scans s join providers p on p.id = s.provider_id
              where p.name = 'q' and s.state = 'available'",
        )
        .await;
    operator
        .patch::<Scan>(
            &world.namespace,
            &cancelled,
            json!({ "spec": { "cancel": true } }),
        )
        .await;
    finish_all(&operator, &world).await;
    operator.schedules_rest(&world).await;
    let shown = status(&operator, &world).await;
    let results = shown["lastResults"].as_array().unwrap();
    // What did not end well comes first.
    assert_eq!(
        results.iter().map(told).collect::<Vec<_>>(),
        [r#""q" "cancelled""#, r#""p" "completed""#]
    );
    assert_eq!(results[0]["reason"], "Cancelled");
    assert!(time(&results[1]["completedAt"]) > first, "{shown:#}");
    assert_eq!(shown["resultsNotShown"], Value::Null);
}
