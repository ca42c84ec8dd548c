//! Text that Postgres takes: what JSON allows and the database does not is replaced by U+FFFD,
//! never refused. A finding must not be lost for a strange byte in a tag.

use std::borrow::Cow;

/// What stands where something could not.
const REPLACEMENT: char = '\u{fffd}';
const REPLACEMENT_ESCAPE: &[u8] = b"\\ufffd";

/// Without NUL characters, which `text` cannot hold.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The first `bytes` bytes as text that can be stored.
pub(super) fn head(record: &[u8], bytes: usize) -> String {
    let cut = &record[..record.len().min(bytes)];
    String::from_utf8_lossy(cut)
        .replace('\0', "\u{fffd}")
        .trim_end_matches(REPLACEMENT)
        .to_owned()
}

/// JSON text without the white space between its tokens, and without escapes of characters
/// that do not exist (`\u0000` counts as such: neither `text` nor `jsonb` can hold it).
pub(super) fn compact(json: &str) -> String {
    let bytes = json.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            b'"' => {
                let end = string_end(bytes, at);
                copy_string(&bytes[at..end], &mut out);
                at = end;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    into_text(out)
}

/// A record that JSON refuses, made acceptable: invalid UTF-8, control characters inside
/// strings and surrogates without their half are replaced. What is broken otherwise stays so.
pub(super) fn repair(record: &[u8]) -> String {
    let text = String::from_utf8_lossy(record);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'"' {
            let end = string_end(bytes, at);
            copy_string(&bytes[at..end], &mut out);
            at = end;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    into_text(out)
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

/// Copies a string with its quotes, replacing what no string may hold.
fn copy_string(string: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(&byte) = string.get(at) {
        if byte == b'\\' {
            let Some(unit) = escaped_unit(&string[at..]) else {
                // Any other escape; its second byte may be a backslash or quote.
                out.extend_from_slice(&string[at..string.len().min(at + 2)]);
                at += 2;
                continue;
            };
            let low = string.get(at + 6..).and_then(escaped_unit);
            match (unit, low) {
                (0xd800..=0xdbff, Some(0xdc00..=0xdfff)) => {
                    out.extend_from_slice(&string[at..at + 12]);
                    at += 12;
                }
                (0 | 0xd800..=0xdfff, _) => {
                    out.extend_from_slice(REPLACEMENT_ESCAPE);
                    at += 6;
                }
                _ => {
                    out.extend_from_slice(&string[at..at + 6]);
                    at += 6;
                }
            }
        } else if byte < 0x20 {
            out.extend_from_slice(REPLACEMENT_ESCAPE);
            at += 1;
        } else {
            out.push(byte);
            at += 1;
        }
    }
}

/// The UTF-16 unit of an escape `\uXXXX` at the beginning.
fn escaped_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn into_text(bytes: Vec<u8>) -> String {
    // Whole characters were copied; nothing is lost here.
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn compacting_keeps_strings_and_drops_white_space_between_tokens() {
        assert_eq!(
            compact("{\n  \"a b\" : [ 1,\t2 ],\r\n \"q\": \"\\\"  \\\\\" }"),
            r#"{"a b":[1,2],"q":"\"  \\"}"#
        );
    }

    #[test]
    fn escapes_of_characters_that_do_not_exist_are_replaced() {
        let cases = [
            (r#""a\u0000b""#, r#""a\ufffdb""#),
            // A backslash, then the letters u0000.
            (r#""a\\u0000b""#, r#""a\\u0000b""#),
            (r#""\ud800x""#, r#""\ufffdx""#),
            (r#""\udc00""#, r#""\ufffd""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\u00e9""#, r#""\u00e9""#),
        ];
        for (json, expected) in cases {
            assert_eq!(compact(json), expected);
        }
    }

    #[test]
    fn what_json_refuses_is_repaired() {
        let mut record = br#"{"a": "x"#.to_vec();
        record.extend([0xff, 0, b'\n']);
        record.extend(br#"y \ud800 "}"#);
        let repaired = repair(&record);
        let value: serde_json::Value = serde_json::from_str(&repaired).unwrap();
        assert_eq!(value["a"], "x\u{fffd}\u{fffd}\u{fffd}y \u{fffd} ");
    }

    #[test]
    fn heads_are_cut_at_characters() {
        assert_eq!(head("aé".as_bytes(), 2), "a");
        assert_eq!(head(b"a\0b", 10), "a\u{fffd}b");
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
        fn nothing_makes_repairing_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = repair(&bytes);
            let _ = head(&bytes, 20);
        }
    }
}
