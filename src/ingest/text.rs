//! What a record may hold: text that Postgres takes, and numbers that there are.
//!
//! JSON allows more than that, and a scanner that writes it has gone wrong: what such a record says
//! is not guessed at. The whole record is looked at, not only what is stored of it, so that whether
//! it is kept does not depend on which of its fields this version reads.

use std::fmt;

/// A number out of range has an exponent of three digits, or twice as many digits as this.
const MANY_DIGITS: usize = 64;

/// What stands in a record that may not, and at which of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flaw {
    what: &'static str,
    at: usize,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record holds {} at its byte {}", self.what, self.at)
    }
}

/// Whether a record that parses has no [`flaw`], told quickly and of nearly all that have none.
#[expect(
    clippy::needless_bitwise_bool,
    reason = "without branches sixteen bytes are compared at once: 2 µs a record instead of 20"
)]
pub(super) fn is_plain(record: &[u8]) -> bool {
    let mut odd = false;
    for [a, b, c, d, e] in record.array_windows::<5>() {
        let nul = (*c == b'0') & (*d == b'0');
        let surrogate = (*c | 0x20 == b'd') & (*d >= b'8');
        odd |= (*a == b'\\') & (*b == b'u') & (nul | surrogate);
        let digits = a.is_ascii_digit() & d.is_ascii_digit() & e.is_ascii_digit();
        odd |= digits & (*b | 0x20 == b'e') & (c.is_ascii_digit() | (*c == b'+'));
    }
    let is_long = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
    // Of twice as many digits in a row, one of these parts is nothing else.
    !odd && !record.chunks_exact(MANY_DIGITS).any(is_long) && std::str::from_utf8(record).is_ok()
}

/// The first of what no record may hold: bytes that are no UTF-8, a NUL, half of a surrogate pair,
/// a number that no `f64` holds. Where it does not parse either, what comes first of these.
pub(super) fn flaw(record: &[u8]) -> Option<Flaw> {
    if let Err(error) = std::str::from_utf8(record) {
        let (what, at) = ("bytes that are no UTF-8", error.valid_up_to());
        return Some(Flaw { what, at });
    }
    let mut at = 0;
    while let Some(&byte) = record.get(at) {
        let (end, what) = match byte {
            b'"' => {
                let end = string_end(record, at);
                if let Some((what, within)) = string_flaw(&record[at..end]) {
                    let at = at + within;
                    return Some(Flaw { what, at });
                }
                (end, None)
            }
            b'-' | b'0'..=b'9' => number(record, at),
            0 => (at + 1, Some("a NUL character")),
            _ => (at + 1, None),
        };
        if let Some(what) = what {
            return Some(Flaw { what, at });
        }
        at = end;
    }
    None
}

/// JSON text without the white space between its tokens.
pub(super) fn compact(json: &str) -> String {
    let bytes = json.as_bytes();
    let mut out = String::with_capacity(json.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let end = match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {
                at += 1;
                continue;
            }
            b'"' => string_end(bytes, at),
            _ => at + token(&bytes[at..]),
        };
        // What ends a string or a token is ASCII: never the middle of a character.
        out.push_str(json.get(at..end).unwrap_or_default());
        at = end;
    }
    out
}

/// Bytes up to the next string or white space, at least one.
fn token(bytes: &[u8]) -> usize {
    let ends = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b'"');
    bytes.iter().position(ends).unwrap_or(bytes.len()).max(1)
}

/// One past the closing quote of the string that begins at `start`, or the end of input.
pub(super) fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// What no text may hold, and where in the string.
fn string_flaw(string: &[u8]) -> Option<(&'static str, usize)> {
    let mut at = 0;
    while let Some(&byte) = string.get(at) {
        match byte {
            0 => return Some(("a NUL character", at)),
            b'\\' => match escaped_unit(&string[at..]) {
                // Any other escape; its second byte may be a backslash or quote.
                None => at += 2,
                Some(0) => return Some(("a NUL character", at)),
                Some(0xd800..=0xdbff) => match string.get(at + 6..).and_then(escaped_unit) {
                    Some(0xdc00..=0xdfff) => at += 12,
                    _ => return Some(("half of a surrogate pair", at)),
                },
                Some(0xdc00..=0xdfff) => return Some(("half of a surrogate pair", at)),
                Some(_) => at += 6,
            },
            _ => at += 1,
        }
    }
    None
}

/// The UTF-16 unit of an escape `\uXXXX` at the beginning.
fn escaped_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// One past the number that begins at `start`, and what is wrong with it.
fn number(record: &[u8], start: usize) -> (usize, Option<&'static str>) {
    let ends = |byte: &u8| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let length = record[start..].iter().position(ends);
    let end = length.map_or(record.len(), |length| start + length);
    let text = std::str::from_utf8(&record[start..end]).unwrap_or_default();
    let is_beyond = text.parse().is_ok_and(f64::is_infinite);
    (end, is_beyond.then_some("a number out of range"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(record: impl AsRef<[u8]>) -> Option<String> {
        flaw(record.as_ref()).map(|flaw| flaw.to_string())
    }

    #[test]
    fn compacting_keeps_strings_and_drops_white_space_between_tokens() {
        assert_eq!(
            compact("{\n  \"a b\" : [ 1,\t2 ],\r\n \"q\": \"\\\"  \\\\\", \"é\": \"\\u00e9 ü\" }"),
            r#"{"a b":[1,2],"q":"\"  \\","é":"\u00e9 ü"}"#
        );
    }

    #[test]
    fn what_no_record_may_hold_is_named_with_its_place() {
        let long = "9".repeat(309);
        for (record, what) in [
            (r#"{"a": "x\u0000"}"#, "a NUL character at its byte 8"),
            ("{\"a\": \"x\0\"}", "a NUL character at its byte 8"),
            ("{\0}", "a NUL character at its byte 1"),
            (r#"["\ud800x"]"#, "half of a surrogate pair at its byte 2"),
            (r#"["\uDC00"]"#, "half of a surrogate pair at its byte 2"),
            (
                r#"["\ud83d\ud83d\ude00"]"#,
                "half of a surrogate pair at its byte 2",
            ),
            (r#"{"a": 1e999}"#, "a number out of range at its byte 6"),
            (r"[2, -1E+400]", "a number out of range at its byte 4"),
            (&format!("[{long}]"), "a number out of range at its byte 1"),
            (
                &format!("[{}e20]", &long[..290]),
                "a number out of range at its byte 1",
            ),
        ] {
            let expected = format!("the record holds {what}");
            assert_eq!(told(record), Some(expected), "{record}");
            // A NUL as it is does not even parse.
            let quick = is_plain(record.as_bytes()) && !record.contains('\0');
            assert!(!quick, "{record}");
        }
        assert_eq!(
            told(b"{\"a\": \"x\xff\"}").unwrap(),
            "the record holds bytes that are no UTF-8 at its byte 8"
        );
        assert!(!is_plain(b"{\"a\": \"x\xff\"}"));
    }

    #[test]
    fn what_only_looks_like_it_is_none() {
        let digits = "9".repeat(400);
        for record in [
            // A backslash, then the letters u0000.
            r#"["a\\u0000b", "\u00e9", "\ud83d\ude00", "\"\\"]"#,
            r#"["1e999", "-", "\u0001", 1e300, 1e-999, -0.0, 12345678901234567890123]"#,
            &format!("[\"{digits}\", {}]", &digits[..308]),
            "",
        ] {
            assert_eq!(told(record), None, "{record}");
        }
    }

    proptest! {
        #[test]
        fn whatever_json_there_is_stays_the_same_value(text in "\\PC*") {
            let json = serde_json::to_string_pretty(&serde_json::json!({"k": [text, 1, null]})).unwrap();
            let before: serde_json::Value = serde_json::from_str(&json).unwrap();
            let after: serde_json::Value = serde_json::from_str(&compact(&json)).unwrap();
            prop_assert_eq!(before, after);
        }

        #[test]
        fn nothing_makes_looking_panic_and_the_quick_look_is_never_wrong(
            bytes in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b'u'),
                Just(b'd'), Just(b'8'), Just(b'0'), Just(b'e'), Just(b'9'), any::<u8>()], 0..400)) {
            prop_assert!(!is_plain(&bytes) || flaw(&bytes).is_none() || serde_json::from_slice::<serde_json::Value>(&bytes).is_err());
            let _ = compact(&String::from_utf8_lossy(&bytes));
        }
    }
}
