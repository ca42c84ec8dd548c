//! The same as `serde_json` reads, whatever was read before.

use proptest::prelude::*;

use super::super::record::Record;
use super::super::text::{flaw, is_plain};
use super::*;

const RECORD: &str = r#"{
    "message": "m", "status_code": "FAIL", "status": "New", "severity": 7, "unread": [1, {"a": "]}"}],
    "metadata": {"event_code": "c\u00fc", "tenant_uid": null, "product": {"uid": "x"}},
    "finding_info": {"uid": "u", "title": "A title", "desc": "Says \"it\"", "types": ["a", "b"]},
    "resources": [{"uid": "r", "labels": ["k:v", true], "data": {"details": "", "metadata": {"a": [1]}}}, {}],
    "cloud": {"account": {"uid": "1"}, "region": "é"}, "risk_details": "Bad",
    "unmapped": {"compliance": {"CIS": ["1"]}, "notes": 12, "depends_on": [], "categories": "one"},
    "remediation": {"desc": "Do", "references": ["u"]}}"#;

/// What `serde_json` makes of the record at the beginning of the bytes.
fn reference(bytes: &[u8]) -> Result<(String, usize), Stop> {
    let mut records = serde_json::Deserializer::from_slice(bytes).into_iter::<Record<'_>>();
    let record = records.next().ok_or(Stop::Incomplete)??;
    Ok((format!("{record:?}"), records.byte_offset()))
}

fn read(memory: &mut Memory, bytes: &[u8]) -> Result<(String, usize), Stop> {
    let (record, length) = memory.read::<Record<'_>>(bytes)?;
    Ok((format!("{record:?}"), length))
}

/// Knows this record.
fn memory(record: &str) -> Memory {
    let mut memory = Memory::default();
    memory.read::<Record<'_>>(record.as_bytes()).unwrap();
    memory.keep(record.as_bytes());
    memory
}

fn fresh(memory: &Memory, record: &str) -> String {
    let parts: Vec<_> = memory.fresh(record.as_bytes()).collect();
    String::from_utf8(parts.concat()).unwrap()
}

#[test]
fn what_is_the_same_as_before_is_not_looked_at_again() {
    let mut memory = Memory::default();
    memory.read::<Record<'_>>(RECORD.as_bytes()).unwrap();
    assert_eq!(fresh(&memory, RECORD), RECORD);
    memory.keep(RECORD.as_bytes());
    let next = RECORD
        .replace("\"u\", \"title\"", "\"another\", \"title\"")
        .replace("Do", "Do not")
        .replace("Bad", "Bad\\u0000");
    let expected = reference(next.as_bytes());
    assert_eq!(read(&mut memory, next.as_bytes()), expected);
    let looked_at = fresh(&memory, &next);
    for part in ["another", "Do not", "Bad\\u0000", "event_code", "12"] {
        assert!(looked_at.contains(part), "{part} in {looked_at}");
    }
    for part in ["A title", "it\\\"", "[\"a\", \"b\"]", "CIS", "{\"a\": [1]}"] {
        assert!(!looked_at.contains(part), "{part} in {looked_at}");
    }
    // It was read and not kept: what is new in it stays new.
    assert_eq!(read(&mut memory, next.as_bytes()), expected);
    assert_eq!(fresh(&memory, &next), looked_at);
}

#[test]
fn a_value_that_only_begins_as_the_one_before_is_another() {
    for (before, now) in [("12", "123"), ("\"a\"", "\"a\\\"\""), ("[]", "[ ]")] {
        let of = |notes: &str| format!("{{\"unmapped\": {{\"notes\": {notes}}}}}");
        let record = of(now);
        let read = read(&mut memory(&of(before)), record.as_bytes());
        assert_eq!(read, reference(record.as_bytes()), "{before} {now}");
        assert!(read.unwrap().0.contains(&format!("{:?}", now.as_bytes())));
    }
    // What is broken right behind it is broken.
    let broken = "{\"unmapped\": {\"notes\": \"a\"x}}";
    let before = "{\"unmapped\": {\"notes\": \"a\"}}";
    let read = read(&mut memory(before), broken.as_bytes());
    assert_eq!(read, Err(Stop::Invalid));
}

#[test]
fn a_record_that_has_not_arrived_yet_is_incomplete_wherever_it_is_cut() {
    for known in [Memory::default(), memory(RECORD)] {
        let mut known = known;
        for cut in 1..RECORD.len() {
            let begun = &RECORD.as_bytes()[..cut];
            assert_eq!(read(&mut known, begun), Err(Stop::Incomplete), "{cut}");
        }
    }
}

#[test]
fn what_is_no_json_is_none_here_either() {
    for record in [
        "{\"a\": 1,}",
        "{,}",
        "{\"a\" 1}",
        "{\"a\": 1 \"b\": 2}",
        "{1: 2}",
        "{\"status\": 01}",
        "{\"status\": nul}",
        "{\"status\": \"\t\"}",
        "{\"status\": \"\\x\"}",
        "{\"resources\": [{},]}",
        "{\"resources\": [,]}",
        "{\"resources\": [{} {}]}",
        "{\"resources\": []{}]}",
        "{\"status\": \"a\", \"status\": \"b\"}",
        "{\"risk_details\": [}",
    ] {
        let read = read(&mut Memory::default(), record.as_bytes());
        assert_eq!(read, Err(Stop::Invalid), "{record}");
        assert_eq!(reference(record.as_bytes()), read, "{record}");
    }
}

/// A second's worth; with `SOAK=1` some minutes'.
fn cases() -> u32 {
    match std::env::var_os("SOAK") {
        Some(_) => 1_000_000,
        None => 2_000,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]
    #[test]
    fn whatever_is_changed_in_a_record_it_is_read_as_serde_json_does(
        changes in proptest::collection::vec((0..RECORD.len(), 0_usize..4, prop_oneof![
            Just("\""), Just("\\"), Just("{"), Just("}"), Just("["), Just("]"), Just(","), Just(":"),
            Just("1"), Just(" "), Just("null"), Just("\\u0041"), Just("\n"), Just("x"), Just("\u{fc}")
        ]), 0..4), known in any::<bool>()) {
        let mut bytes = RECORD.as_bytes().to_vec();
        for (at, gone, more) in changes {
            let at = at.min(bytes.len());
            let end = (at + gone).min(bytes.len());
            bytes.splice(at..end, more.bytes());
        }
        let mut memory = if known { memory(RECORD) } else { Memory::default() };
        let (ours, theirs) = (read(&mut memory, &bytes), reference(&bytes));
        // Raw text is not looked into here: what no record may hold, its reader finds.
        let ours = ours.ok().filter(|(_, length)| {
            let record = &bytes[..*length];
            memory.fresh(record).all(is_plain) || flaw(record).is_none()
        });
        let theirs = theirs.ok().filter(|(_, length)| flaw(&bytes[..*length]).is_none());
        // Where both refuse it, either may be first to see that the end is missing.
        prop_assert_eq!(ours, theirs);
    }
}
