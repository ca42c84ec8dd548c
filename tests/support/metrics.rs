//! Metrics as Prometheus sees them.

#![allow(
    dead_code,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what cannot be read fails the test; not every test uses all of it"
)]

use std::collections::BTreeSet;

use regex::Regex;

use super::command;

/// The names of all labels there are. None can hold an object, a namespace or a tenant.
const LABELS: [&str; 12] = [
    "class", "commit", "kind", "le", "outcome", "part", "pool", "reason", "repair", "result",
    "state", "version",
];

/// Whatever `promtool check metrics` would complain of fails the test; so do a label that is not of
/// the closed list, and any of these words.
pub fn check(text: &str, never: &[&str]) {
    let lint = command::output(command::command(command::promlint(), &[]), text);
    let complaints = String::from_utf8_lossy(&lint.stderr);
    assert!(lint.status.success(), "{complaints}\n{text}");
    let label = Regex::new(r#"[{,]([a-zA-Z_]+)=""#).unwrap();
    let labels: BTreeSet<_> = label
        .captures_iter(text)
        .map(|found| found[1].to_owned())
        .collect();
    for name in labels {
        assert!(LABELS.contains(&name.as_str()), "label {name}\n{text}");
    }
    for word in never {
        assert!(!text.contains(word), "{word}\n{text}");
    }
}

/// A sample's value; `name` with its labels.
pub fn value(text: &str, name: &str) -> Option<f64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value)
}
