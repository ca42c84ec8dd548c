//! When a schedule is due: which slot is to be claimed now, and when to look again.
//!
//! Slots that were missed collapse into the latest: after three days of silence each account is
//! scanned once. A due time that the clock skips in spring comes right after the gap; one that
//! comes twice in autumn counts once.

mod fields;
mod frequency;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, Unit};

use super::ids::ScheduleId;
use super::reason::Reason;
use super::violation::Violation;
use super::wording::span;
use fields::Fields;

/// Shortest interval.
pub const SHORTEST_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// Due times of a cron expression that passed are counted up to this many in one go.
const MOST_COUNTED: u64 = 100_000;

/// When scans are due.
#[derive(Debug, Clone)]
pub struct Schedule {
    times: Times,
    deadline: Option<SignedDuration>,
}

#[derive(Debug, Clone)]
enum Times {
    /// At the times of cron expressions, in a time zone.
    Cron {
        crons: Vec<Cron>,
        zone: TimeZone,
        closest: SignedDuration,
    },
    /// Each so often from an anchor on; the anchor is the first.
    Every {
        anchor: Timestamp,
        interval: SignedDuration,
    },
}

/// Due times that passed and lead to no scan, as one stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// The earliest of them.
    pub first: Timestamp,
    /// The latest of them.
    pub last: Timestamp,
    /// How many; of a cron expression at most 100,000 are counted.
    pub count: u64,
    /// What became of them.
    pub fate: Fate,
}

/// What became of due times that lead to no scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody looked in time, and a later one took their place.
    Superseded,
    /// Nobody looked until the deadline of the latest had passed.
    Missed,
    /// Nothing was to be started then.
    Suspended,
}

/// What is to be done about a schedule now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The due time to be claimed.
    pub claim: Option<Timestamp>,
    /// Those that were left out on the way.
    pub passed: Option<Passed>,
    /// Every due time up to this one is decided now.
    pub until: Timestamp,
    /// First due time after now that is not decided.
    pub next: Option<Timestamp>,
}

impl Schedule {
    /// Reads a cron expression of five fields and the name of a time zone (default UTC). `H`
    /// is drawn from the schedule's id.
    pub fn parse(
        expression: &str,
        zone: Option<&str>,
        id: ScheduleId,
    ) -> Result<Self, Vec<Violation>> {
        let mut violations = Vec::new();
        let (crons, closest) = match crons(expression, id) {
            Ok(found) => found,
            Err(why) => {
                violations.push(Violation::new(
                    Reason::InvalidSchedule,
                    "spec.schedule",
                    format!("the schedule cannot be read: {why}"),
                ));
                (Vec::new(), SignedDuration::ZERO)
            }
        };
        let zone = match zone {
            None => TimeZone::UTC,
            // The zones that come with the program: the same everywhere it runs.
            Some(name) => TimeZoneDatabase::bundled().get(name).unwrap_or_else(|_| {
                violations.push(Violation::new(
                    Reason::UnknownTimeZone,
                    "spec.timeZone",
                    format!(
                        "there is no time zone '{}': use a name such as Europe/Berlin or Etc/UTC",
                        name.escape_debug()
                    ),
                ));
                TimeZone::UTC
            }),
        };
        if violations.is_empty() {
            Ok(Self {
                times: Times::Cron {
                    crons,
                    zone,
                    closest,
                },
                deadline: None,
            })
        } else {
            Err(violations)
        }
    }

    /// Reads an interval such as `24h` or `1h30m`, counted from `anchor`.
    pub fn every(interval: &str, anchor: Timestamp) -> Result<Self, Vec<Violation>> {
        duration(interval)
            .and_then(|interval| Self::each(interval, anchor))
            .ok_or_else(|| {
                vec![Violation::new(
                    Reason::InvalidSchedule,
                    "spec.interval",
                    "the interval must be hours, minutes and seconds, at least 1m, for example 24h or 1h30m",
                )]
            })
    }

    /// Due times so far apart, the first at `anchor`; none if that is too close.
    fn each(interval: SignedDuration, anchor: Timestamp) -> Option<Self> {
        let anchor = whole_seconds(anchor);
        (interval >= SHORTEST_INTERVAL).then_some(Self {
            times: Times::Every { anchor, interval },
            deadline: None,
        })
    }

    /// What a row says: a cron expression and its zone, or an interval. None: it cannot be read.
    pub fn stored(
        expression: Option<&str>,
        interval_seconds: Option<i64>,
        zone: Option<&str>,
        id: ScheduleId,
        anchor: Timestamp,
    ) -> Option<Self> {
        match (expression, interval_seconds) {
            (Some(expression), _) => Self::parse(expression, zone, id).ok(),
            (None, Some(seconds)) => Self::each(SignedDuration::from_secs(seconds), anchor),
            (None, None) => None,
        }
    }

    /// Refuses a schedule of which two due times lie closer together than this. Of a cron expression
    /// that is looked at by a clock that never jumps.
    pub fn check_frequency(&self, least: SignedDuration) -> Result<(), Violation> {
        let (field, closest) = match &self.times {
            Times::Cron { closest, .. } => ("spec.schedule", *closest),
            Times::Every { interval, .. } => ("spec.interval", *interval),
        };
        if closest >= least {
            return Ok(());
        }
        Err(Violation::new(
            Reason::TooFrequent,
            field,
            format!(
                "due times are {} apart, and this installation allows none closer than {} (schedules.minimumInterval)",
                span(closest),
                span(least)
            ),
        ))
    }

    /// Due times older than this are missed for good. None: never.
    #[must_use]
    pub fn with_deadline(mut self, seconds: Option<i64>) -> Self {
        self.deadline = seconds.map(SignedDuration::from_secs);
        self
    }

    /// What to do at `now` about the due times after `until`, up to which all are decided. Of those
    /// that passed the latest is claimed, unless its deadline has passed too; none of them while the
    /// schedule rests. A clock that shows a time before `until` finds nothing to do until then.
    pub fn decide(&self, until: Timestamp, rests: bool, now: Timestamp) -> Due {
        let now = whole_seconds(now);
        let mut due = Due {
            claim: None,
            passed: None,
            until,
            next: self.after(now.max(until)),
        };
        let Some(latest) = self.latest(now).filter(|latest| *latest > until) else {
            return due;
        };
        due.until = latest;
        let in_time = self
            .deadline
            .is_none_or(|deadline| now.duration_since(latest) <= deadline);
        let (passed_by, fate) = if rests {
            (Some(latest), Fate::Suspended)
        } else if in_time {
            due.claim = Some(latest);
            let before = self.latest(latest - SignedDuration::from_secs(1));
            (before, Fate::Superseded)
        } else {
            (Some(latest), Fate::Missed)
        };
        due.passed = passed_by
            .filter(|last| *last > until)
            .and_then(|last| self.stretch(until, last, fate));
        due
    }

    /// Before its first due time, for a schedule that came to be at `since`: an interval is due at
    /// its anchor, a cron expression not before.
    pub fn undecided_since(&self, since: Timestamp) -> Timestamp {
        match self.times {
            Times::Cron { .. } => since,
            Times::Every { anchor, .. } => anchor - SignedDuration::from_secs(1),
        }
    }

    /// The first due time after `time`.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Cron { crons, zone, .. } => {
                let time = whole_seconds(time).to_zoned(zone.clone());
                crons
                    .iter()
                    .filter_map(|cron| cron.find_next_occurrence(&time, false).ok())
                    .map(|due| due.timestamp())
                    .min()
            }
            Times::Every { anchor, interval } => {
                if time < *anchor {
                    return Some(*anchor);
                }
                let passed = time.duration_since(*anchor).as_secs() / interval.as_secs();
                nth(*anchor, *interval, passed + 1)
            }
        }
    }

    /// The last due time not after `time`.
    fn latest(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Cron { crons, zone, .. } => {
                let zoned = time.to_zoned(zone.clone());
                crons
                    .iter()
                    .filter_map(|cron| cron.find_previous_occurrence(&zoned, true).ok())
                    .map(|due| due.timestamp())
                    .filter(|due| *due <= time)
                    .max()
            }
            Times::Every { anchor, interval } => {
                let passed = time.duration_since(*anchor).as_secs();
                (passed >= 0)
                    .then(|| nth(*anchor, *interval, passed / interval.as_secs()))
                    .flatten()
            }
        }
    }

    /// The due times after `after`, up to and with `last`.
    fn stretch(&self, after: Timestamp, last: Timestamp, fate: Fate) -> Option<Passed> {
        let first = self.after(after)?;
        let count = if let Times::Every { interval, .. } = self.times {
            let span = last.duration_since(first).as_secs() / interval.as_secs();
            u64::try_from(span).unwrap_or(0).saturating_add(1)
        } else {
            let mut count = 1;
            let mut time = first;
            while count < MOST_COUNTED
                && let Some(due) = self.after(time).filter(|due| *due <= last)
            {
                count += 1;
                time = due;
            }
            count
        };
        Some(Passed {
            first,
            last,
            count,
            fate,
        })
    }
}

/// How long after its due time an account is scanned, so that not all start at once: drawn from
/// the ids, the same each time, from nothing up to `most` seconds.
pub fn jitter(schedule: ScheduleId, account: &[u8], most: i64) -> SignedDuration {
    let Ok(most @ 1..) = u64::try_from(most) else {
        return SignedDuration::ZERO;
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(schedule.0.as_bytes()).update(account);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    let drawn = u64::from_be_bytes(first) % (most + 1);
    SignedDuration::from_secs(i64::try_from(drawn).unwrap_or(0))
}

/// Reads hours, minutes and seconds such as `1h30m`, as the definitions write them.
pub fn duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut seconds: i64 = 0;
    for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, tail)) = rest.split_once(unit)
            && (1..=6).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit())
        {
            seconds += number.parse::<i64>().ok()? * length;
            rest = tail;
        }
    }
    (rest.is_empty() && !text.is_empty()).then(|| SignedDuration::from_secs(seconds))
}

/// Expressions to search, and how close together two due times may lie.
fn crons(expression: &str, id: ScheduleId) -> Result<(Vec<Cron>, SignedDuration), String> {
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    let fields = Fields::parse(expression, id.0.as_bytes())?;
    let crons = fields
        .expressions()
        .iter()
        .map(|expression| parser.parse(expression).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    Ok((crons, SignedDuration::from_mins(fields.closest().into())))
}

fn nth(anchor: Timestamp, interval: SignedDuration, n: i64) -> Option<Timestamp> {
    let seconds = interval.as_secs().checked_mul(n)?;
    anchor.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// The second that the time lies in.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    time.round(
        jiff::TimestampRound::new()
            .smallest(Unit::Second)
            .mode(jiff::RoundMode::Floor),
    )
    .unwrap_or(time)
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
