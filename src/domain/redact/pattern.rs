//! Patterns that are part of the program: compiled when first asked for, never refused.

use std::ops::Range;
use std::sync::OnceLock;

use regex::{Captures, Regex};

/// A pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    text: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub(super) const fn new(text: &'static str) -> Self {
        Self {
            text,
            compiled: OnceLock::new(),
        }
    }

    /// None if it is no pattern; a test looks at each.
    pub(super) fn regex(&self) -> Option<&Regex> {
        self.compiled
            .get_or_init(|| Regex::new(self.text).ok())
            .as_ref()
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        self.regex().is_some_and(|regex| regex.is_match(text))
    }

    pub(super) fn find(&self, text: &str) -> Option<Range<usize>> {
        Some(self.regex()?.find(text)?.range())
    }

    pub(super) fn all<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        let found = self.regex().map(|regex| regex.find_iter(text));
        found.into_iter().flatten().map(|found| found.range())
    }

    pub(super) fn groups<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Captures<'t>> + 't {
        let found = self.regex().map(|regex| regex.captures_iter(text));
        found.into_iter().flatten()
    }

    pub(super) fn groups_from<'t>(&self, text: &'t str, at: usize) -> Option<Captures<'t>> {
        self.regex()?.captures_at(text, at)
    }
}
