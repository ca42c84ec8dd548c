//! The five fields of a cron expression, read with sentences for what is wrong and with `H`
//! replaced by values drawn from the schedule's id.

use std::ops::RangeInclusive;

use super::frequency;

/// A field: what it is called, which values it takes, and names for some of them.
struct Field {
    name: &'static str,
    range: RangeInclusive<u16>,
    /// Values `H` is drawn from; days that every month has.
    spread: RangeInclusive<u16>,
    names: &'static [&'static str],
    /// Value of the first name.
    first: u16,
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        range: 0..=59,
        spread: 0..=59,
        names: &[],
        first: 0,
    },
    Field {
        name: "hour",
        range: 0..=23,
        spread: 0..=23,
        names: &[],
        first: 0,
    },
    Field {
        name: "day of month",
        range: 1..=31,
        spread: 1..=28,
        names: &[],
        first: 1,
    },
    Field {
        name: "month",
        range: 1..=12,
        spread: 1..=12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
        first: 1,
    },
    Field {
        name: "day of week",
        range: 0..=7,
        spread: 0..=6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        first: 0,
    },
];

/// Days a month has at most.
const LONGEST: [u16; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Five fields with numbers only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    texts: [String; 5],
    /// The minutes and hours, where each is a list of single values.
    times: Option<(Vec<u16>, Vec<u16>)>,
    /// Minutes between the two due times that lie closest together; a day or more counts as a day.
    closest: u16,
}

impl Fields {
    /// Reads an expression. The error completes "schedule cannot be read: …".
    pub(super) fn parse(expression: &str, seed: &[u8]) -> Result<Self, String> {
        let expression = match expression.trim().to_ascii_lowercase().as_str() {
            "@yearly" | "@annually" => "0 0 1 1 *".to_owned(),
            "@monthly" => "0 0 1 * *".to_owned(),
            "@weekly" => "0 0 * * 0".to_owned(),
            "@daily" | "@midnight" => "0 0 * * *".to_owned(),
            "@hourly" => "0 * * * *".to_owned(),
            other => other.to_owned(),
        };
        if expression.contains("tz=") {
            return Err("TZ= and CRON_TZ= are not supported: use timeZone".into());
        }
        let parts: Vec<&str> = expression.split_ascii_whitespace().collect();
        let Ok(parts) = <[&str; 5]>::try_from(parts.as_slice()) else {
            return Err(format!(
                "it has {} fields, not the five: minute, hour, day of month, month, day of week",
                parts.len()
            ));
        };
        let mut texts: [String; 5] = Default::default();
        let mut values: [Vec<u16>; 5] = Default::default();
        for (index, (field, part)) in FIELDS.iter().zip(parts).enumerate() {
            let draw = hash(seed, field.name);
            let mut items = Vec::new();
            for item in part.split(',') {
                let item = Item::parse(field, item, draw)?;
                values[index].extend(item.values());
                items.push(item.text(field));
            }
            texts[index] = items.join(",");
        }
        check_that_a_day_comes(&texts, &values[2], &values[3])?;
        let closest = frequency::closest(&texts, &values);
        let single = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b',')
        };
        let times = (single(&texts[0]) && single(&texts[1])).then(|| {
            let [minutes, hours, ..] = values;
            (minutes, hours)
        });
        Ok(Self {
            texts,
            times,
            closest,
        })
    }

    /// Minutes between the two due times that lie closest together, by a clock that never jumps; a
    /// day or more counts as a day.
    pub(super) fn closest(&self) -> u16 {
        self.closest
    }

    /// The expressions to search. A list of times of day becomes one expression for each, so
    /// that each is a fixed time: run once when the clock goes back, and right after the gap
    /// when it goes forward.
    pub(super) fn expressions(&self) -> Vec<String> {
        let [minute, hour, day, month, weekday] = &self.texts;
        match &self.times {
            Some((minutes, hours)) if minutes.len() * hours.len() <= 48 => hours
                .iter()
                .flat_map(|hour| {
                    minutes
                        .iter()
                        .map(move |minute| format!("{minute} {hour} {day} {month} {weekday}"))
                })
                .collect(),
            _ => vec![format!("{minute} {hour} {day} {month} {weekday}")],
        }
    }
}

/// One item of a field's list: a first and last value and a step.
struct Item {
    all: bool,
    first: u16,
    last: u16,
    step: u16,
}

impl Item {
    fn parse(field: &Field, text: &str, draw: u64) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{}' is no {}: use {} to {}, *, ranges such as 1-5, steps such as */2, lists and H{}",
                text.escape_debug(),
                field.name,
                field.range.start(),
                field.range.end(),
                if field.names.is_empty() {
                    String::new()
                } else {
                    format!(", or names such as {}", field.names[1])
                }
            )
        };
        let (base, step) = match text.split_once('/') {
            None => (text, None),
            Some((base, step)) => {
                let step = number(step).filter(|step| *step >= 1).ok_or_else(wrong)?;
                (base, Some(step))
            }
        };
        if base == "*" || (base == "?" && field.name.starts_with("day")) {
            return Ok(Self {
                all: true,
                first: *field.range.start(),
                last: *field.range.end(),
                step: step.unwrap_or(1),
            });
        }
        if let Some(limits) = base.strip_prefix('h') {
            let (low, high) = match limits {
                "" => (*field.spread.start(), *field.spread.end()),
                limits => limits
                    .strip_prefix('(')
                    .and_then(|limits| limits.strip_suffix(')'))
                    .and_then(|limits| range(field, limits))
                    .ok_or_else(wrong)?,
            };
            let span = step.unwrap_or(u16::MAX).min(high - low + 1);
            let first = low + u16::try_from(draw % u64::from(span)).unwrap_or(0);
            return Ok(Self {
                all: false,
                first,
                last: if step.is_some() { high } else { first },
                step: step.unwrap_or(1),
            });
        }
        let (first, last) = if base.contains('-') {
            range(field, base).ok_or_else(wrong)?
        } else {
            let first = value(field, base).ok_or_else(wrong)?;
            // As other cron programs read it: from there on, each so many.
            (
                first,
                if step.is_some() {
                    *field.range.end()
                } else {
                    first
                },
            )
        };
        Ok(Self {
            all: false,
            first,
            last,
            step: step.unwrap_or(1),
        })
    }

    fn text(&self, field: &Field) -> String {
        let Self {
            all,
            first,
            last,
            step,
        } = *self;
        match (all, step) {
            (true, 1) => "*".into(),
            (true, step) => format!("{}-{}/{step}", field.range.start(), field.spread_end()),
            (false, 1) if first == last => first.to_string(),
            (false, 1) => format!("{first}-{last}"),
            (false, _) if first == last => first.to_string(),
            (false, step) => format!("{first}-{last}/{step}"),
        }
    }

    fn values(&self) -> impl Iterator<Item = u16> + use<> {
        (self.first..=self.last).step_by(usize::from(self.step))
    }
}

impl Field {
    /// Last value a step over the whole field reaches: Sunday is not counted twice.
    fn spread_end(&self) -> u16 {
        if self.first == 0 && !self.names.is_empty() {
            *self.spread.end()
        } else {
            *self.range.end()
        }
    }
}

fn range(field: &Field, text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (value(field, first)?, value(field, last)?);
    // "fri-sun" ends on the other Sunday.
    let last = if last == 0 && first > 0 && !field.names.is_empty() {
        7
    } else {
        last
    };
    (first <= last).then_some((first, last))
}

fn value(field: &Field, text: &str) -> Option<u16> {
    field
        .names
        .iter()
        .position(|name| *name == text)
        .and_then(|index| u16::try_from(index).ok())
        .map(|index| index + field.first)
        .or_else(|| number(text))
        .filter(|value| field.range.contains(value))
}

fn number(text: &str) -> Option<u16> {
    (text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// A day that no month has would be searched for until the end of time.
fn check_that_a_day_comes(texts: &[String; 5], days: &[u16], months: &[u16]) -> Result<(), String> {
    let [_, _, day, _, weekday] = texts;
    let comes = day == "*"
        || weekday != "*"
        || months.iter().any(|month| {
            let longest = LONGEST.get(usize::from(*month).wrapping_sub(1)).copied();
            days.iter().any(|day| Some(*day) <= longest)
        });
    if comes {
        Ok(())
    } else {
        Err("no such day ever comes".into())
    }
}

/// A number drawn from the schedule's id, another for each field, the same each time.
fn hash(seed: &[u8], field: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed).update(field.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn canonical(expression: &str) -> String {
        Fields::parse(expression, b"seed").unwrap().texts.join(" ")
    }

    #[test]
    fn names_macros_and_steps_become_numbers() {
        for (expression, numbers) in [
            ("0 2 * * *", "0 2 * * *"),
            ("0 2 * jan,DEC Mon-Fri", "0 2 * 1,12 1-5"),
            ("0 2 ? * fri-sun", "0 2 * * 5-7"),
            ("*/15 0/6 * * */2", "0-59/15 0-23/6 * * 0-6/2"),
            ("5,35 1-5/2 1 * 7", "5,35 1-5/2 1 * 7"),
            ("@daily", "0 0 * * *"),
            ("@yearly", "0 0 1 1 *"),
            ("  0   2 * * *  ", "0 2 * * *"),
        ] {
            assert_eq!(canonical(expression), numbers, "{expression}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_field() {
        for (expression, part) in [
            ("60 * * * *", "'60' is no minute"),
            ("* 24 * * *", "'24' is no hour"),
            ("* * 0 * *", "'0' is no day of month"),
            ("* * * 13 *", "'13' is no month"),
            ("* * * * 8", "'8' is no day of week"),
            ("5-1 * * * *", "'5-1' is no minute"),
            ("*/0 * * * *", "'*/0' is no minute"),
            ("* * L * *", "'l' is no day of month"),
            ("* * * * 5#2", "'5#2' is no day of week"),
            ("* * 15W * *", "'15w' is no day of month"),
            ("? * * * *", "'?' is no minute"),
            ("* * * *", "it has 4 fields"),
            ("0 0 2 * * *", "it has 6 fields"),
            ("", "it has 0 fields"),
            ("@reboot", "it has 1 fields"),
            ("TZ=UTC 0 2 * * *", "use timeZone"),
            ("0 0 30 2 *", "no such day ever comes"),
            ("0 0 31 2,4,6,9,11 *", "no such day ever comes"),
            ("H(5 * * * *", "'h(5' is no minute"),
            ("1,,2 * * * *", "'' is no minute"),
            ("+1 * * * *", "'+1' is no minute"),
        ] {
            let error = Fields::parse(expression, b"seed").unwrap_err();
            assert!(error.contains(part), "{expression}: {error}");
        }
    }

    #[test]
    fn a_leap_day_comes_and_so_does_any_weekday() {
        assert!(Fields::parse("0 0 29 2 *", b"").is_ok());
        assert!(Fields::parse("0 0 31 2 mon", b"").is_ok());
    }

    #[test]
    fn h_draws_the_same_each_time_and_others_for_other_schedules() {
        assert_eq!(canonical("H H * * *"), canonical("H H * * *"));
        let minutes: BTreeSet<_> = (0..200_u32)
            .map(|seed| {
                Fields::parse("H H * * *", &seed.to_be_bytes())
                    .unwrap()
                    .texts[0]
                    .clone()
            })
            .collect();
        assert!(
            minutes.len() > 50,
            "{} different minutes of 200",
            minutes.len()
        );
    }

    #[test]
    fn h_keeps_to_its_range_and_step() {
        for seed in 0..500_u32 {
            let seed = seed.to_be_bytes();
            let times = |expression: &str| Fields::parse(expression, &seed).unwrap().texts;
            let minute: u16 = times("H(10-19) * * * *")[0].parse().unwrap();
            assert!((10..=19).contains(&minute));
            let day: u16 = times("0 0 H * *")[2].parse().unwrap();
            assert!((1..=28).contains(&day), "a day that every month has");
            let weekday: u16 = times("0 0 * * H")[4].parse().unwrap();
            assert!(weekday <= 6);
            let stepped = times("H/20 * * * *")[0].clone();
            let (first, rest) = stepped.split_once('-').unwrap();
            assert!(first.parse::<u16>().unwrap() < 20);
            assert_eq!(rest, "59/20");
        }
    }

    #[test]
    fn lists_of_times_become_fixed_times() {
        let fields = Fields::parse("0,30 2,14 * * *", b"").unwrap();
        assert_eq!(
            fields.expressions(),
            ["0 2 * * *", "30 2 * * *", "0 14 * * *", "30 14 * * *"]
        );
        assert_eq!(
            Fields::parse("0 1-3 * * *", b"").unwrap().expressions(),
            ["0 1-3 * * *"]
        );
    }
}
