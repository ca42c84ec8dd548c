//! What the reader makes of files, whole and broken, whatever the size of its steps.

use proptest::prelude::*;

use super::*;

/// Gives at most `step` bytes at a time.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let more = self.0.len().min(self.1).min(buffer.len());
        buffer[..more].copy_from_slice(&self.0[..more]);
        self.0 = &self.0[more..];
        Ok(more)
    }
}

/// `uid@offset` of records, `!reason@offset` of broken ones, and how it ended.
fn read_with(file: &[u8], step: usize, max_record: usize) -> (Vec<String>, String) {
    let mut seen = Vec::new();
    let end = Reader::new(Slow(file, step), max_record).each::<ReadError>(|place, element| {
        seen.push(match element {
            Element::Record(record) => {
                format!("{}@{}", record.finding_info.0.uid.as_str(), place.offset)
            }
            Element::Broken(reason) => format!("!{reason}@{}", place.offset),
        });
        Ok(())
    });
    let end = match end {
        Ok(number) => number.to_string(),
        Err(error) => format!("{error:?}"),
    };
    (seen, end)
}

fn read(file: &[u8]) -> (Vec<String>, String) {
    read_with(file, usize::MAX, 10_000)
}

fn record(uid: &str) -> String {
    format!("{{\n  \"finding_info\": {{ \"uid\": \"{uid}\" }}\n}}")
}

#[test]
fn a_whole_file_gives_its_records_with_their_offsets() {
    let file = format!("[{},{}]\n", record("a"), record("b"));
    let second = 2 + record("a").len();
    let expected = (vec!["a@1".to_owned(), format!("b@{second}")], "2".into());
    assert_eq!(read(file.as_bytes()), expected);
}

#[test]
fn an_empty_file_and_an_empty_array_are_told_apart() {
    for (file, end) in [
        ("", "Empty"),
        (" \n", "Empty"),
        ("\u{feff}", "Empty"),
        ("[]", "0"),
        ("\u{feff} [ ] \n", "0"),
    ] {
        assert_eq!(read(file.as_bytes()), (vec![], end.into()), "{file:?}");
    }
}

#[test]
fn a_file_without_its_closing_bracket_is_truncated() {
    let whole = format!("[{}", record("a"));
    for file in [
        "[".to_owned(),
        whole.clone(),
        format!("{whole},"),
        format!("{whole}, {{\"fin"),
        format!("{whole}, {{\"x\": \"half a str"),
        format!("{whole}, \"half"),
    ] {
        let (_, end) = read(file.as_bytes());
        assert_eq!(end, format!("Truncated({})", file.len()), "{file}");
    }
}

#[test]
fn a_file_is_truncated_wherever_it_is_cut() {
    let file = format!(
        "[\n{}, {}, {}\n]",
        record("a"),
        "12, \"x\\\"y\"",
        record("b\\u00e9")
    );
    for cut in 1..file.len() {
        let (_, end) = read(&file.as_bytes()[..cut]);
        assert_eq!(end, format!("Truncated({cut})"), "{}", &file[..cut]);
    }
}

#[test]
fn what_is_no_array_or_goes_on_after_it_is_named_with_its_offset() {
    let one = record("a");
    for (file, end) in [
        (one.clone(), "NotAnArray(0)".to_owned()),
        ("  null".to_owned(), "NotAnArray(2)".to_owned()),
        (format!("[{one}]x"), format!("Trailing({})", one.len() + 2)),
        (format!("[{one}][]"), format!("Trailing({})", one.len() + 2)),
        (
            format!("[{one} {one}]"),
            format!("Malformed({})", one.len() + 2),
        ),
        (
            format!("[{one},,{one}]"),
            format!("Malformed({})", one.len() + 2),
        ),
        ("[}".to_owned(), "Malformed(1)".to_owned()),
    ] {
        assert_eq!(read(file.as_bytes()).1, end, "{file}");
    }
}

#[test]
fn a_comma_before_the_bracket_is_forgiven() {
    let file = format!("[{},]", record("a"));
    assert_eq!(read(file.as_bytes()), (vec!["a@1".into()], "1".into()));
}

#[test]
fn a_broken_element_does_not_cost_the_others() {
    let bad = r#"{"finding_info": {"uid": nope}}"#;
    let file = format!("[{},{bad},12,\"x\",null,[1],{}]", record("a"), record("b"));
    let (seen, end) = read(file.as_bytes());
    assert_eq!(end, "7");
    assert_eq!(seen[0], "a@1");
    assert!(
        seen[1].starts_with("!the record is no valid JSON: "),
        "{seen:?}"
    );
    for element in &seen[2..6] {
        assert!(
            element.starts_with("!the element is no object@"),
            "{element}"
        );
    }
    assert!(seen[6].starts_with("b@"), "{seen:?}");
}

#[test]
fn a_record_that_holds_what_none_may_is_named_and_costs_no_other() {
    let uid = |uid: &[u8]| [b"{\"finding_info\": {\"uid\": \"", uid, b"\"}}"].concat();
    let raw = b"{\"finding_info\": {\"title\": \"a\xffb\"}}".to_vec();
    let ignored = |value: &str| format!("{{\"unread\": {value}}}").into_bytes();
    for (bad, reason) in [
        (uid(b"a\xffb"), "bytes that are no UTF-8 at its byte 27"),
        (uid(b"a\0b"), "a NUL character at its byte 27"),
        (uid(b"\\u0000"), "a NUL character at its byte 26"),
        (uid(b"\\ud800"), "half of a surrogate pair at its byte 26"),
        // Also where nothing has looked yet, and where this version does not look at all.
        (raw, "bytes that are no UTF-8 at its byte 29"),
        (ignored("[\"\\u0000\"]"), "a NUL character at its byte 13"),
        (ignored("-1e999"), "a number out of range at its byte 11"),
    ] {
        let file = [
            b"[".as_slice(),
            record("a").as_bytes(),
            b",",
            &bad,
            b",",
            record("b").as_bytes(),
            b"]",
        ]
        .concat();
        let (seen, end) = read(&file);
        assert_eq!((seen.len(), end.as_str()), (3, "3"));
        assert_eq!(seen[0], "a@1");
        let offset = 2 + record("a").len();
        assert_eq!(seen[1], format!("!the record holds {reason}@{offset}"));
        assert!(seen[2].starts_with("b@"), "{seen:?}");
    }
}

#[test]
fn what_is_nested_beyond_measure_is_unreadable_and_takes_no_stack() {
    let deep = |open: &str, close: &str| open.repeat(1_000_000) + "1" + &close.repeat(1_000_000);
    let one = record("a");
    for (file, at) in [
        (deep("[", "]"), 1),
        (deep("[", ""), 1),
        (format!("[{}]", deep("{\"a\":", "}")), 1),
        (format!("[{{\"unread\": {}}}]", deep("[", "]")), 1),
        (format!("[{{\"unread\": {}", deep("[", "")), 1),
        (
            format!("[{one},{{\"finding_info\": {}}}]", deep("[", "]")),
            2 + one.len(),
        ),
        (
            format!("[{one},{{\"unread\": {}}}]", deep("{\"a\":", "}")),
            2 + one.len(),
        ),
    ] {
        for max_record in [10_000, 64_000_000] {
            let (_, end) = read_with(file.as_bytes(), usize::MAX, max_record);
            assert_eq!(end, format!("TooDeep({at})"));
        }
    }
    // Deeper than a parser that recurs would go, and not beyond all measure.
    for place in ["finding_info", "unread"] {
        let deep = "[".repeat(30_000) + &"]".repeat(30_000);
        let file = format!("[{{\"{place}\": {deep}}}]");
        let (seen, end) = read_with(file.as_bytes(), usize::MAX, 100_000);
        assert_eq!((seen, end), (vec!["@1".to_owned()], "1".to_owned()));
    }
}

#[test]
fn a_record_beyond_the_bound_is_skipped_without_being_held() {
    let large = format!(
        "{{\"x\": \"{}\", \"finding_info\": {{\"uid\": \"l\"}}}}",
        "\\\"]".repeat(2_000_000)
    );
    let file = format!("[{},{large},{}]", record("a"), record("b"));
    for step in [usize::MAX, 70_001] {
        let (seen, end) = read_with(file.as_bytes(), step, 100_000);
        assert_eq!(end, "3");
        assert_eq!(seen[0], "a@1");
        assert!(
            seen[1].starts_with("!the record is larger than 100000 bytes@"),
            "{seen:?}"
        );
        assert!(seen[2].starts_with("b@"), "{seen:?}");
    }
    // Also one that the window happens to hold, to the byte.
    let bound = record("b").len();
    for (more, reason) in [(0, "b@"), (1, "!the record is larger than")] {
        let file = format!("[{}{}]", record("b"), ",{}");
        let (seen, _) = read_with(file.as_bytes(), usize::MAX, bound - more);
        assert!(seen[0].starts_with(reason), "{seen:?}");
    }
    let cut = &file.as_bytes()[..file.len() - 100];
    assert!(
        read_with(cut, usize::MAX, 100_000)
            .1
            .starts_with("Truncated")
    );
}

#[test]
fn records_larger_than_the_window_are_read_whole() {
    let large = format!(
        "{{\"message\": \"{}\", \"finding_info\": {{\"uid\": \"l\"}}}}",
        "x".repeat(3 * WINDOW)
    );
    let file = format!("[{},{large},{}]", record("a"), record("b"));
    let (seen, end) = read_with(file.as_bytes(), usize::MAX, 8 * WINDOW);
    assert_eq!((seen.len(), end.as_str()), (3, "3"));
    assert!(seen[1].starts_with("l@"), "{seen:?}");
}

#[test]
fn failures_of_the_source_are_passed_on() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("disk"))
        }
    }
    let end = Reader::new(Failing, 1000).each::<ReadError>(|_, _| Ok(()));
    assert!(matches!(end, Err(ReadError::Io(_))), "{end:?}");
}

proptest! {
    #[test]
    fn the_size_of_the_steps_changes_nothing(step in 1_usize..50, cut in 0_usize..400) {
        let file = format!(
            "[{}, {},\n7, {{\"a\": [\"}}\\\\\", {{}}]}} , {}]",
            record("a"), record("b\\u00e9"), record("c")
        );
        let file = &file.as_bytes()[..file.len() - cut.min(file.len())];
        prop_assert_eq!(read_with(file, step, 10_000), read(file));
    }

    #[test]
    fn nothing_makes_it_panic_or_hang(bytes in proptest::collection::vec(
        prop_oneof![Just(b'['), Just(b']'), Just(b'{'), Just(b'}'), Just(b'"'), Just(b','),
            Just(b'\\'), Just(b':'), Just(b'1'), any::<u8>()], 0..120), step in 1_usize..40) {
        let mut file = b"[".to_vec();
        file.extend(bytes);
        let _ = read_with(&file, step, 50);
    }
}
