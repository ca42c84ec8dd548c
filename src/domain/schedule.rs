//! When a schedule is due: which slot is to be claimed now, and when to look again.
//!
//! Slots that were missed collapse into the latest: after three days of silence each account is
//! scanned once. A due time that the clock skips in spring comes right after the gap; one that
//! comes twice in autumn counts once.

mod fields;
mod frequency;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::fmt::friendly::{Spacing, SpanPrinter};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, Unit};

use super::ids::ScheduleId;
use super::reason::Reason;
use super::violation::Violation;
use fields::Fields;

/// Shortest interval.
pub const SHORTEST_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// Missed slots are counted up to this many in one go.
const MOST_COUNTED: u64 = 1_000;

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

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Claim this due time.
    Fire {
        /// The due time.
        slot: Timestamp,
    },
    /// Nothing is due; look again then.
    WaitUntil(Timestamp),
    /// Nothing will ever be due again.
    Never,
}

/// Due times that passed without a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The latest of them.
    pub last: Timestamp,
    /// How many; at most 1,000 are counted.
    pub count: u64,
}

/// A decision and what to show of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// What to do now.
    pub decision: Decision,
    /// Due times left out since the last one: older than the slot, or past the deadline. Once
    /// they are recorded, the latest of them is the `last` of the next decision.
    pub missed: Option<Missed>,
    /// First due time after now.
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
        match duration(interval) {
            Some(interval) if interval >= SHORTEST_INTERVAL => {
                let anchor = whole_seconds(anchor);
                Ok(Self {
                    times: Times::Every { anchor, interval },
                    deadline: None,
                })
            }
            _ => Err(vec![Violation::new(
                Reason::InvalidSchedule,
                "spec.interval",
                "the interval must be hours, minutes and seconds, at least 1m, for example 24h or 1h30m",
            )]),
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
                words(closest),
                words(least)
            ),
        ))
    }

    /// Due times older than this are missed for good. None: never.
    #[must_use]
    pub fn with_deadline(mut self, seconds: Option<i64>) -> Self {
        self.deadline = seconds.map(SignedDuration::from_secs);
        self
    }

    /// What to do at `now`. `last` is the last due time that was claimed or recorded as missed,
    /// whichever is later; before the first, `since` is when the schedule came to be.
    pub fn decide(&self, last: Option<Timestamp>, since: Timestamp, now: Timestamp) -> Due {
        let now = whole_seconds(now);
        let next = self.after(now);
        let waits = next.map_or(Decision::Never, Decision::WaitUntil);
        let after = last.unwrap_or_else(|| self.before_first(since));
        let Some(slot) = self.latest(now).filter(|slot| *slot > after) else {
            return Due {
                decision: waits,
                missed: None,
                next,
            };
        };
        let in_time = self
            .deadline
            .is_none_or(|deadline| now.duration_since(slot) <= deadline);
        let (decision, passed_by) = if in_time {
            (
                Decision::Fire { slot },
                self.latest(slot - SignedDuration::from_secs(1)),
            )
        } else {
            (waits, Some(slot))
        };
        let missed = passed_by.filter(|last| *last > after).map(|last| Missed {
            last,
            count: self.count(after, last),
        });
        Due {
            decision,
            missed,
            next,
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

    /// A time before the first due time of a schedule that came to be at `since`: an interval
    /// is due at its anchor, a cron expression not before.
    fn before_first(&self, since: Timestamp) -> Timestamp {
        match self.times {
            Times::Cron { .. } => since,
            Times::Every { anchor, .. } => anchor - SignedDuration::from_secs(1),
        }
    }

    /// How many due times lie after `after`, up to and with `last`.
    fn count(&self, after: Timestamp, last: Timestamp) -> u64 {
        if let Times::Every { interval, .. } = self.times {
            // `after` may lie between two due times.
            let span = last.duration_since(after).as_secs();
            let count = (span + interval.as_secs() - 1) / interval.as_secs();
            return u64::try_from(count).unwrap_or(0).min(MOST_COUNTED);
        }
        let mut count = 0;
        let mut time = after;
        while count < MOST_COUNTED {
            match self.after(time) {
                Some(due) if due <= last => {
                    count += 1;
                    time = due;
                }
                _ => break,
            }
        }
        count
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

/// Hours, minutes and seconds as [`duration`] reads them.
fn words(length: SignedDuration) -> String {
    const PRINTER: SpanPrinter = SpanPrinter::new().spacing(Spacing::None);
    PRINTER.duration_to_string(&length)
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

fn whole_seconds(time: Timestamp) -> Timestamp {
    time.round(
        jiff::TimestampRound::new()
            .smallest(Unit::Second)
            .mode(jiff::RoundMode::Floor),
    )
    .unwrap_or(time)
}

#[cfg(test)]
mod tests;
