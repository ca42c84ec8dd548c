//! Kubernetes quantities compared: `2Gi` against `3G`, `500m` against `1`.

/// The amount in thousandths, so that `500m` and `0.5` are whole; `None` if it is no quantity.
pub fn thousandths(text: &str) -> Option<i128> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let (factor, divisor) = scale(suffix)?;
    let mut value: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut denominator = divisor;
    // More digits than this say nothing that a limit could turn on.
    for digit in fraction.bytes().take(9) {
        value = value
            .checked_mul(10)?
            .checked_add(i128::from(digit - b'0'))?;
        denominator = denominator.checked_mul(10)?;
    }
    // Rounded up, as Kubernetes does: a wish is never taken for less than it is.
    let value = value.checked_mul(factor)?.checked_mul(1000)?;
    Some(value / denominator + i128::from(value % denominator != 0))
}

/// Whole units (bytes, cores), rounded up.
pub fn units(text: &str) -> Option<i64> {
    let value = thousandths(text)?;
    i64::try_from(value / 1000 + i128::from(value % 1000 != 0)).ok()
}

/// Bytes as people write them, and exactly: `3Gi`, `3584Mi`, or plain bytes where no unit fits.
pub fn shown(bytes: i64) -> String {
    for (suffix, unit) in [("Gi", 1_i64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
        if bytes > 0 && bytes % unit == 0 {
            return format!("{}{suffix}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// Whether `wish` is more than `ceiling`. What cannot be read counts as more: a wish that is
/// not understood is not granted.
pub fn exceeds(wish: &str, ceiling: &str) -> bool {
    match (thousandths(wish), thousandths(ceiling)) {
        (Some(wish), Some(ceiling)) => wish > ceiling,
        _ => true,
    }
}

/// The one that is less; what cannot be read counts as more.
pub fn smaller<'a>(one: &'a str, other: &'a str) -> &'a str {
    if exceeds(one, other) { other } else { one }
}

/// Numerator and denominator of a suffix.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let decimal = |exponent: u32| Some((10_i128.pow(exponent), 1));
    let binary = |exponent: u32| Some((1024_i128.pow(exponent), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => exponent(suffix),
    }
}

fn exponent(suffix: &str) -> Option<(i128, i128)> {
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs().min(30))?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_different_suffixes_compare() {
        assert!(exceeds("2Gi", "2G") && !exceeds("2G", "2Gi"));
        assert!(exceeds("1", "999m") && !exceeds("500m", "0.5"));
        assert!(exceeds("1e3", "999") && !exceeds("1k", "1e3"));
        assert!(exceeds("1Ei", "1E") && !exceeds("100n", "1m"));
        assert_eq!(units("1.5Ki"), Some(1536));
        assert_eq!(units("100m"), Some(1));
    }

    #[test]
    fn what_is_no_quantity_is_never_granted() {
        for text in ["", "Gi", "1.2.3", "-1", "1 Gi", "1Qi", "１"] {
            assert_eq!(thousandths(text), None, "{text}");
            assert!(exceeds(text, "1"), "{text}");
        }
    }
}
