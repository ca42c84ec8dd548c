//! How often a cron expression is due, told from its fields.

const HOUR: u16 = 60;
const DAY: u16 = 24 * HOUR;

/// Minutes between the two due times that lie closest together, at most a day. `texts` are the fields
/// of the expression, `values` what each of them may be.
pub(super) fn closest(texts: &[String; 5], values: &[Vec<u16>; 5]) -> u16 {
    let [minutes, hours, ..] = values;
    let mut times: Vec<u16> = hours
        .iter()
        .flat_map(|hour| minutes.iter().map(move |minute| hour * HOUR + minute))
        .collect();
    times.sort_unstable();
    times.dedup();
    let apart = times.windows(2).map(|pair| pair[1] - pair[0]).min();
    let overnight = match (times.first(), times.last()) {
        (Some(first), Some(last)) if days_follow(texts, values) => Some(first + DAY - last),
        _ => None,
    };
    apart.into_iter().chain(overnight).min().unwrap_or(DAY)
}

/// Whether two days that follow one another may both be due.
fn days_follow(texts: &[String; 5], values: &[Vec<u16>; 5]) -> bool {
    let [_, _, day, _, weekday] = texts;
    let [_, _, days, _, weekdays] = values;
    match (day == "*", weekday == "*") {
        // Also the end of a month and the first of the next.
        (false, true) => {
            days.iter().any(|day| days.contains(&(day + 1)))
                || days.contains(&1) && days.iter().any(|day| *day >= 28)
        }
        // Sunday is 0 and 7.
        (true, false) => weekdays
            .iter()
            .any(|day| weekdays.iter().any(|next| next % 7 == (day + 1) % 7)),
        // Either of them makes a day due.
        (false, false) | (true, true) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::Fields;

    #[test]
    fn the_closest_due_times_are_known() {
        for (expression, minutes) in [
            ("* * * * *", 1),
            ("*/5 * * * *", 5),
            ("*/7 * * * *", 4),
            ("0,58 * * * *", 2),
            ("0,30 2,14 * * *", 30),
            ("59 2,4 * * *", 120),
            ("0 * * * *", 60),
            ("0 2 * * *", 1440),
            // Over midnight, if the next day is due too.
            ("1,58 0,23 * * *", 3),
            ("1,58 0,23 * * 1", 57),
            ("1,58 0,23 * * 1,2", 3),
            ("1,58 0,23 * * 0,6", 3),
            ("1,58 0,23 * * 6-7", 3),
            ("1,58 0,23 15 * *", 57),
            ("1,58 0,23 1,31 * *", 3),
            ("1,58 0,23 15,16 * *", 3),
            ("1,58 0,23 15 * 1", 3),
            ("0 0 29 2 *", 1440),
        ] {
            let closest = Fields::parse(expression, b"seed").unwrap().closest();
            assert_eq!(closest, minutes, "{expression}");
        }
    }
}
