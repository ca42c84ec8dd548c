//! Years of due times, against another implementation of cron.
//!
//! The other one finds the times of day that the five fields mean, as if no clock ever jumped; what a
//! jump does to them is said here in a few lines, as `docs/scheduling.md` says it to people.

use cronexpr::MakeTimestamp;
use jiff::ToSpan as _;
use jiff::tz::AmbiguousOffset;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const ID: ScheduleId = ScheduleId(Uuid::from_u128(7));

/// Of both hemispheres; with shifts of an hour and of half an hour, at midnight and at two; with none,
/// and with one that is away in Ramadan.
const ZONES: [&str; 9] = [
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Santiago",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Kathmandu",
];

/// Times of day that are fixed: minute and hour are numbers, or lists of them.
const FIXED: [&str; 9] = [
    "30 2 * * *",
    "0 0 * * *",
    "15 0,1,2,3 * * *",
    "0,30 1,2 * * *",
    "59 23 * * sun",
    "0 12 29 2 *",
    "30 1 1-7 * mon",
    "5 3 31 * *",
    "45 2 * mar,apr,sep,oct,nov sat,sun",
];

/// Due at each minute there is that they mean.
const RECURRING: [&str; 6] = [
    "0 * * * *",
    "*/20 * * * *",
    "*/15 2 * * *",
    "30 */5 * * *",
    "10-12 0-3 * * sun",
    "0 1-3 1,15 * *",
];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// All due times from one moment up to and without another, in order.
fn oracle(expression: &str, zone: &str, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    let fixed = FIXED.contains(&expression);
    let civil = cronexpr::parse_crontab(&format!("{expression} UTC")).unwrap();
    // No clock differs by more than a day.
    let start = MakeTimestamp(from - 25.hours());
    let mut all: Vec<Timestamp> = civil
        .iter_after(start)
        .unwrap()
        .map(|due| due.unwrap().datetime())
        .take_while(|due| due.to_zoned(TimeZone::UTC).unwrap().timestamp() < to + 25.hours())
        .flat_map(|due| {
            let moment = zone.to_ambiguous_zoned(due);
            match moment.offset() {
                AmbiguousOffset::Unambiguous { .. } => vec![moment.unambiguous().unwrap()],
                AmbiguousOffset::Fold { .. } => {
                    let first = moment.clone().earlier().unwrap();
                    if fixed {
                        vec![first]
                    } else {
                        vec![first, moment.later().unwrap()]
                    }
                }
                AmbiguousOffset::Gap { .. } if fixed => {
                    let beyond = moment.later().unwrap().timestamp();
                    let jump = zone.preceding(beyond + 1.second()).next().unwrap();
                    vec![jump.timestamp().to_zoned(zone.clone())]
                }
                AmbiguousOffset::Gap { .. } => Vec::new(),
            }
        })
        .map(|due| due.timestamp())
        .filter(|due| (from..to).contains(due))
        .collect();
    all.sort();
    all.dedup();
    all
}

fn all(schedule: &Schedule, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let first = schedule.after(from - 1.second());
    std::iter::successors(first, |due| schedule.after(*due))
        .take_while(|due| *due < to)
        .collect()
}

#[test]
fn a_year_of_due_times_is_that_of_another_implementation_in_every_zone() {
    // With a leap day.
    let (from, to) = (at("2028-01-01T00:00:00Z"), at("2029-01-01T00:00:00Z"));
    for zone in ZONES {
        for expression in FIXED.iter().chain(&RECURRING) {
            let schedule = Schedule::parse(expression, Some(zone), ID).unwrap();
            let (ours, theirs) = (all(&schedule, from, to), oracle(expression, zone, from, to));
            assert!(!theirs.is_empty(), "{expression} {zone}");
            let differ = ours
                .iter()
                .zip(&theirs)
                .find(|(ours, theirs)| ours != theirs);
            assert_eq!(differ, None, "{expression} {zone}");
            assert_eq!(ours.len(), theirs.len(), "{expression} {zone}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// A year in which somebody looks now and then: at once, after hours, after days, with a clock
    /// that steps back and forth, while the schedule rests and while it does not.
    #[test]
    fn in_a_year_every_due_time_of_the_other_implementation_has_one_outcome(
        zone in proptest::sample::select(&ZONES[..]),
        expression in proptest::sample::select([FIXED.as_slice(), RECURRING.as_slice()].concat()),
        deadline in proptest::option::of(0..200_000_i64),
        looks in proptest::collection::vec((
            prop_oneof![6 => 1..7_200_i64, 2 => 7_200..400_000_i64, 1 => -20_000..0_i64],
            proptest::bool::weighted(0.2),
        ), 300),
    ) {
        let begin = at("2028-01-01T00:00:00Z");
        let schedule = Schedule::parse(expression, Some(zone), ID).unwrap();
        let schedule = schedule.with_deadline(deadline);
        let theirs = oracle(expression, zone, begin + 1.second(), begin + (366 * 24).hours());
        let (mut now, mut until) = (begin, begin);
        let mut next = 0;
        for (pause, rests) in looks {
            now += pause.seconds();
            let due = schedule.decide(until, rests, now);
            if let Some(passed) = due.passed {
                let count = usize::try_from(passed.count).unwrap();
                let stretch = theirs.get(next..next + count).unwrap_or_default();
                prop_assert_eq!(stretch.first(), Some(&passed.first));
                prop_assert_eq!(stretch.last(), Some(&passed.last));
                let late = now.duration_since(passed.last).as_secs();
                match passed.fate {
                    Fate::Suspended => prop_assert!(rests && due.claim.is_none()),
                    Fate::Superseded => prop_assert!(!rests && due.claim.is_some()),
                    Fate::Missed => prop_assert!(deadline.is_some_and(|deadline| late > deadline)),
                }
                next += count;
            }
            if let Some(slot) = due.claim {
                prop_assert_eq!(theirs.get(next), Some(&slot));
                prop_assert!(!rests);
                next += 1;
            }
            until = due.until;
            // Nothing that is due is left.
            prop_assert!(theirs.get(next).is_none_or(|left| *left > now));
            prop_assert_eq!(due.next, theirs.get(next).copied().or(due.next));
        }
    }
}
