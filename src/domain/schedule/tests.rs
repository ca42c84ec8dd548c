use jiff::ToSpan;
use jiff::civil::Weekday;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const ID: ScheduleId = ScheduleId(Uuid::from_u128(7));

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(expression: &str, zone: &str) -> Schedule {
    Schedule::parse(expression, Some(zone), ID).unwrap()
}

impl Schedule {
    /// The due times from `first` on, which is one, up to and with `last`.
    fn between(&self, first: Timestamp, last: Timestamp) -> Vec<Timestamp> {
        std::iter::successors(Some(first), |time| self.after(*time))
            .take_while(|time| *time <= last)
            .collect()
    }
}

fn dues(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
    let mut time = at(from);
    (0..count)
        .map(|_| {
            time = schedule.after(time).unwrap();
            time.to_string()
        })
        .collect()
}

#[test]
fn a_schedule_that_is_due_too_often_is_refused_with_both_times() {
    let least = SignedDuration::from_secs(5400);
    let every = |interval| Schedule::every(interval, at("2026-03-01T12:00:00Z")).unwrap();
    assert!(every("1h30m").check_frequency(least).is_ok());
    for (schedule, field, closest) in [
        (every("1h29m59s"), "spec.interval", "1h29m59s"),
        (cron("0 * * * *", "Etc/UTC"), "spec.schedule", "1h"),
        (cron("*/2 * * * *", "Etc/UTC"), "spec.schedule", "2m"),
    ] {
        let refused = schedule.check_frequency(least).unwrap_err();
        assert_eq!(refused.reason(), Reason::TooFrequent);
        let told = format!(
            "{field}: due times are {closest} apart, and this installation allows none closer than 1h30m (schedules.minimumInterval)."
        );
        assert_eq!(refused.to_string(), told);
    }
}

/// What is due at `now`, all up to `until` being decided.
fn due(schedule: &Schedule, until: &str, now: &str) -> Due {
    schedule.decide(at(until), false, at(now))
}

fn passed(first: &str, last: &str, count: u64, fate: Fate) -> Passed {
    Passed {
        first: at(first),
        last: at(last),
        count,
        fate,
    }
}

#[test]
fn nothing_is_claimed_before_the_first_due_time() {
    let daily = cron("0 2 * * *", "Etc/UTC");
    let due = due(&daily, "2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z");
    assert_eq!((due.claim, due.passed), (None, None));
    assert_eq!(due.until, at("2026-03-01T12:00:00Z"));
    assert_eq!(due.next, Some(at("2026-03-02T02:00:00Z")));
}

#[test]
fn a_due_time_is_claimed_at_its_second_and_not_before() {
    let daily = cron("0 2 * * *", "Etc/UTC");
    let since = "2026-03-01T12:00:00Z";
    let slot = at("2026-03-02T02:00:00Z");
    let before = due(&daily, since, "2026-03-02T01:59:59.999Z");
    assert_eq!((before.claim, before.next), (None, Some(slot)));
    for now in [
        "2026-03-02T02:00:00Z",
        "2026-03-02T02:00:00.5Z",
        "2026-03-02T17:00:00Z",
    ] {
        let due = due(&daily, since, now);
        assert_eq!((due.claim, due.until), (Some(slot), slot), "{now}");
        assert_eq!(due.next, Some(at("2026-03-03T02:00:00Z")));
    }
    let after = daily.decide(slot, false, at("2026-03-02T02:00:01Z"));
    assert_eq!(after.claim, None);
    assert_eq!(after.next, Some(at("2026-03-03T02:00:00Z")));
}

#[test]
fn what_passed_unseen_is_superseded_by_the_latest() {
    let daily = cron("0 2 * * *", "Etc/UTC");
    let due = due(&daily, "2026-03-02T02:00:00Z", "2026-03-06T09:00:00Z");
    assert_eq!(due.claim, Some(at("2026-03-06T02:00:00Z")));
    let others = passed(
        "2026-03-03T02:00:00Z",
        "2026-03-05T02:00:00Z",
        3,
        Fate::Superseded,
    );
    assert_eq!(due.passed, Some(others));
    assert_eq!(Some(due.until), due.claim);
}

#[test]
fn past_the_deadline_due_times_are_missed_and_the_next_awaited() {
    let daily = cron("0 2 * * *", "Etc/UTC").with_deadline(Some(600));
    let until = "2026-03-02T02:00:00Z";
    let in_time = due(&daily, until, "2026-03-03T02:10:00Z");
    assert_eq!(in_time.claim, Some(at("2026-03-03T02:00:00Z")));
    assert_eq!(in_time.passed, None);
    let late = due(&daily, until, "2026-03-04T02:10:01Z");
    assert_eq!(
        (late.claim, late.next),
        (None, Some(at("2026-03-05T02:00:00Z")))
    );
    let missed = passed(
        "2026-03-03T02:00:00Z",
        "2026-03-04T02:00:00Z",
        2,
        Fate::Missed,
    );
    assert_eq!(late.passed, Some(missed));
    let again = daily.decide(late.until, false, at("2026-03-04T03:00:00Z"));
    assert_eq!(again.passed, None, "what was recorded is not missed twice");
}

#[test]
fn while_a_schedule_rests_its_due_times_are_left_out_and_none_is_made_up_for() {
    let daily = cron("0 2 * * *", "Etc/UTC").with_deadline(Some(600));
    let now = at("2026-03-04T02:00:01Z");
    let due = daily.decide(at("2026-03-02T02:00:00Z"), true, now);
    let left_out = passed(
        "2026-03-03T02:00:00Z",
        "2026-03-04T02:00:00Z",
        2,
        Fate::Suspended,
    );
    assert_eq!((due.claim, due.passed), (None, Some(left_out)));
    let woken = daily.decide(due.until, false, now);
    assert_eq!((woken.claim, woken.passed), (None, None));
}

#[test]
fn a_clock_that_jumps_back_claims_nothing_again() {
    let hourly = cron("0 * * * *", "Etc/UTC");
    let until = "2026-03-02T02:00:00Z";
    for now in ["2026-03-02T00:30:00Z", "2026-03-02T01:30:00Z", until] {
        let due = due(&hourly, until, now);
        assert_eq!((due.claim, due.passed), (None, None), "{now}");
        assert_eq!(due.next, Some(at("2026-03-02T03:00:00Z")), "{now}");
    }
}

#[test]
fn an_interval_is_first_due_at_its_anchor() {
    let anchor = at("2026-03-01T12:00:00.7Z");
    let daily = Schedule::every("24h", anchor).unwrap();
    let first = at("2026-03-01T12:00:00Z");
    let due = daily.decide(daily.undecided_since(anchor), false, anchor);
    assert_eq!((due.claim, due.passed), (Some(first), None));
    let due = daily.decide(first, false, at("2026-03-02T11:59:59Z"));
    assert_eq!(
        (due.claim, due.next),
        (None, Some(at("2026-03-02T12:00:00Z")))
    );
    let due = daily.decide(first, false, at("2026-03-05T13:00:00Z"));
    assert_eq!(due.claim, Some(at("2026-03-05T12:00:00Z")));
    let others = passed(
        "2026-03-02T12:00:00Z",
        "2026-03-04T12:00:00Z",
        3,
        Fate::Superseded,
    );
    assert_eq!(due.passed, Some(others));
}

#[test]
fn in_spring_a_skipped_due_time_comes_right_after_the_gap() {
    // Europe/Berlin goes from 02:00 to 03:00 on 29 March 2026.
    for expression in ["30 2 * * *", "30 2,14 * * *"] {
        let schedule = cron(expression, "Europe/Berlin");
        let dues = dues(&schedule, "2026-03-28T20:00:00Z", 1);
        assert_eq!(dues, ["2026-03-29T01:00:00Z"], "{expression}");
    }
    let daily = cron("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        dues(&daily, "2026-03-28T00:00:00Z", 3),
        [
            "2026-03-28T01:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z"
        ]
    );
    let due = due(&daily, "2026-03-28T20:00:00Z", "2026-03-29T05:00:00Z");
    assert_eq!(due.claim, Some(at("2026-03-29T01:00:00Z")));
}

#[test]
fn in_autumn_a_due_time_that_comes_twice_counts_once() {
    // Europe/Berlin goes from 03:00 back to 02:00 on 25 October 2026.
    let daily = cron("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        dues(&daily, "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    let twice_a_day = cron("30 2,14 * * *", "Europe/Berlin");
    assert_eq!(
        dues(&twice_a_day, "2026-10-24T20:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-25T13:30:00Z"]
    );
    let slot = at("2026-10-25T00:30:00Z");
    let due = daily.decide(slot, false, at("2026-10-25T01:30:00Z"));
    assert_eq!(
        (due.claim, due.next),
        (None, Some(at("2026-10-26T01:30:00Z")))
    );
}

#[test]
fn every_hour_means_every_hour_also_when_the_clock_changes() {
    let hourly = cron("0 * * * *", "Europe/Berlin");
    assert_eq!(
        dues(&hourly, "2026-10-24T23:30:00Z", 3),
        [
            "2026-10-25T00:00:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T02:00:00Z"
        ]
    );
    assert_eq!(
        dues(&hourly, "2026-03-29T00:00:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]
    );
}

#[test]
fn a_leap_day_is_waited_for() {
    let leap = cron("0 0 29 2 *", "Etc/UTC");
    assert_eq!(
        dues(&leap, "2026-01-01T00:00:00Z", 1),
        ["2028-02-29T00:00:00Z"]
    );
}

#[test]
fn day_of_month_or_day_of_week_when_both_are_given() {
    let either = cron("0 0 13 * fri", "Etc/UTC");
    let mut time = at("2026-01-01T00:00:00Z");
    for _ in 0..60 {
        time = either.after(time).unwrap();
        let day = time.to_zoned(TimeZone::UTC);
        assert!(day.day() == 13 || day.weekday() == Weekday::Friday, "{day}");
    }
}

#[test]
fn both_errors_are_told_at_once() {
    let violations = Schedule::parse("99 * * * *", Some("Europe/Atlantis"), ID).unwrap_err();
    let reasons: Vec<_> = violations.iter().map(Violation::reason).collect();
    assert_eq!(reasons, [Reason::InvalidSchedule, Reason::UnknownTimeZone]);
    assert!(violations[0].message().contains("'99' is no minute"));
    for zone in ["Local", "", "../etc/passwd", "Europe", "+01:00"] {
        assert!(
            Schedule::parse("0 0 * * *", Some(zone), ID).is_err(),
            "{zone}"
        );
    }
}

#[test]
fn intervals_are_read_as_the_definition_writes_them() {
    for (text, seconds) in [
        ("24h", 86_400),
        ("1h30m", 5400),
        ("90s", 90),
        ("1h0m1s", 3601),
    ] {
        assert_eq!(
            duration(text),
            Some(SignedDuration::from_secs(seconds)),
            "{text}"
        );
    }
    for text in [
        "",
        "24",
        "h",
        "1d",
        "30m1h",
        "1.5h",
        "-1h",
        "1h ",
        "+1h",
        "99999999h",
    ] {
        assert_eq!(duration(text), None, "{text}");
    }
    assert!(Schedule::every("59s", at("2026-01-01T00:00:00Z")).is_err());
}

#[test]
fn jitter_is_the_same_each_time_and_spreads_accounts() {
    let offsets: std::collections::BTreeSet<_> = (0..500_u32)
        .map(|account| jitter(ID, &account.to_be_bytes(), 3600))
        .inspect(|offset| assert!((0..=3600).contains(&offset.as_secs())))
        .collect();
    assert!(offsets.len() > 400, "{}", offsets.len());
    assert_eq!(jitter(ID, b"a", 3600), jitter(ID, b"a", 3600));
    assert_eq!(jitter(ID, b"a", 0), SignedDuration::ZERO);
    assert_eq!(jitter(ID, b"a", -5), SignedDuration::ZERO);
}

fn expressions() -> impl Strategy<Value = String> {
    let minute = prop_oneof![
        Just("*"),
        Just("*/7"),
        Just("0"),
        Just("30"),
        Just("0,15,30,45"),
        Just("10-20"),
        Just("H")
    ];
    let hour = prop_oneof![
        Just("*"),
        Just("*/5"),
        Just("2"),
        Just("2,3"),
        Just("1-3"),
        Just("0,23"),
        Just("H(1-4)")
    ];
    let day = prop_oneof![Just("*"), Just("1"), Just("29"), Just("*/3")];
    let weekday = prop_oneof![Just("*"), Just("sun"), Just("1-5")];
    (minute, hour, day, weekday).prop_map(|(m, h, d, w)| format!("{m} {h} {d} * {w}"))
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let zones = prop_oneof![
        Just("Etc/UTC"),
        Just("Europe/Berlin"),
        Just("America/New_York"),
        Just("Australia/Lord_Howe"),
        Just("Asia/Kathmandu"),
        Just("Africa/Casablanca"),
    ];
    prop_oneof![
        4 => (expressions(), zones).prop_map(|(expression, zone)| cron(&expression, zone)),
        1 => (60..200_000_i64).prop_map(|seconds| {
            Schedule::every(&format!("{}m{}s", seconds / 60, seconds % 60), at("2026-01-15T00:00:00Z")).unwrap()
        }),
    ]
}

/// Any second of 2026, or close to a change of clocks.
fn moments() -> impl Strategy<Value = Timestamp> {
    let year = at("2026-01-01T00:00:00Z");
    prop_oneof![
        (0..31_536_000_i64).prop_map(move |seconds| year + seconds.seconds()),
        (0..14_400_i64).prop_map(|seconds| at("2026-03-28T23:00:00Z") + seconds.seconds()),
        (0..14_400_i64).prop_map(|seconds| at("2026-10-24T23:00:00Z") + seconds.seconds()),
        (0..14_400_i64).prop_map(|seconds| at("2026-11-01T04:00:00Z") + seconds.seconds()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn looking_back_finds_what_looking_forward_passed(schedule in schedules(), start in moments()) {
        let mut time = start;
        for _ in 0..20 {
            let Some(due) = schedule.after(time) else { break };
            prop_assert!(due > time);
            prop_assert_eq!(schedule.latest(due), Some(due), "at the due time");
            if let Some(following) = schedule.after(due) {
                let before = following - SignedDuration::from_secs(1);
                prop_assert_eq!(schedule.latest(before), Some(due), "until the next");
            }
            time = due;
        }
    }

    #[test]
    fn every_due_time_is_decided_once_however_the_clock_jumps(
        schedule in schedules(), start in moments(), deadline in proptest::option::of(0..100_000_i64),
        looks in proptest::collection::vec((-50_000..100_000_i64, any::<bool>()), 1..20),
    ) {
        let schedule = schedule.with_deadline(deadline);
        let before = schedule.undecided_since(start);
        let (mut now, mut until) = (start, before);
        let mut decided = Vec::new();
        for (jump, rests) in looks {
            now += jump.seconds();
            let due = schedule.decide(until, rests, now);
            prop_assert!(due.until >= until && due.until <= now.max(until));
            prop_assert!(due.next.is_none_or(|next| next > now && next > due.until));
            if let Some(passed) = due.passed {
                prop_assert_eq!(passed.fate == Fate::Suspended, rests);
                let stretch = schedule.between(passed.first, passed.last);
                prop_assert_eq!(passed.count, u64::try_from(stretch.len()).unwrap());
                decided.extend(stretch);
            }
            if let Some(slot) = due.claim {
                prop_assert!(!rests && slot <= now);
                prop_assert!(schedule.after(slot).is_none_or(|next| next > now), "the latest");
                prop_assert!(deadline.is_none_or(|most| now.duration_since(slot).as_secs() <= most));
                decided.push(slot);
            }
            until = due.until;
            let again = schedule.decide(until, rests, now);
            prop_assert_eq!((again.claim, again.passed, again.until), (None, None, until));
        }
        let all = schedule.after(before).map(|first| schedule.between(first, until));
        prop_assert_eq!(decided, all.unwrap_or_default());
    }

    #[test]
    fn reading_never_panics(expression in "[-0-9*/,hHLW#?@() a-z]{0,30}", zone in "\\PC{0,12}") {
        let _ = Schedule::parse(&expression, Some(&zone), ID);
        let _ = duration(&expression);
    }
}
