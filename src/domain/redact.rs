//! Takes what looks like a credential out of text that a scanner, a pod or an SDK wrote, before
//! people see it or a row keeps it.
//!
//! The operator does not know the values of a Secret when it shows such a text, so it goes by shape
//! and by name:
//!
//! * shapes that say what they are (`shapes`): PEM, access key ids, tokens with a prefix, JSON Web
//!   Tokens, user and password in an address;
//! * values beside a name that promises a secret (`names`, `values`), whatever they look like;
//! * long runs that no person would make up (`words`): Base64, hexadecimal;
//! * each of these also across line breaks, with what loggers and tables put there, and with
//!   escapes of addresses and of JSON undone (`view`).
//!
//! **What no rule can tell**: a short value that stands alone, without its name, and looks like any
//! other: the private key of MongoDB Atlas is a UUID, as a subscription's id is; a password may be a
//! word. Such a value is hidden when a name that promises a secret stands right before it.

pub mod names;
mod pattern;
mod screen;
mod shapes;
mod values;
mod view;
mod words;

use std::ops::Range;

use self::pattern::Pattern;
use self::view::View;

/// A name and its value are longer.
const SHORTEST: usize = 8;
/// Longest tail shown, in bytes.
pub const MAX_TAIL: usize = 600;
/// The kubelet keeps so much of a log: its last bytes, its last lines.
const KEPT_BYTES: usize = 2048;
const KEPT_LINES: usize = 80;

/// The text without credentials: each becomes `[redacted]`.
pub fn redact(text: &str) -> String {
    let text = legible(text);
    masked(&text, "[redacted]").unwrap_or(text)
}

/// The text with `mask` where a credential was; none if there was none.
pub fn masked(text: &str, mask: &str) -> Option<String> {
    let hidden = hidden(text);
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    for part in &hidden {
        clean.push_str(&text[at..part.start]);
        clean.push_str(mask);
        at = part.end;
    }
    clean.push_str(&text[at..]);
    (!hidden.is_empty()).then_some(clean)
}

/// Whether [`masked`] may find something: quick, and rarely yes where there is nothing. Of what a
/// line break or an escape parts it sees less.
pub fn may_hold(text: &str) -> bool {
    if text.len() < SHORTEST {
        return false;
    }
    let seen = screen::look(text, &screen::TEXTS);
    seen.random
        || seen.held
            && (shapes::MARKS.is_in(text)
                || shapes::PROMISED.is_in(text)
                || seen.odd && shapes::NEAR.is_in(text))
}

/// Whether JSON may have something in it that is to be masked, by its keys too.
pub fn may_hold_by_key(json: &str) -> bool {
    let seen = screen::look(json, &screen::JSON);
    seen.held || seen.random
}

/// The end of a log as one line for a status: redacted first, cut after, so that no half of a
/// credential is left at the edge.
///
/// Of a long log the kubelet has kept only the end: it may begin within a word, which is left out
/// because it may be half a credential.
pub fn tail(text: &str) -> String {
    // Characters that were cut are longer now than the bytes that were left of them.
    let cut = text.len() + 8 >= KEPT_BYTES || text.lines().count() >= KEPT_LINES;
    let clean = redact(text);
    let begun = match clean.trim_start().split_once(char::is_whitespace) {
        Some((_, whole)) if cut => whole,
        None if cut => "",
        _ => &clean,
    };
    let line = begun
        .split('\n')
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect::<Vec<_>>()
        .join(" | ");
    if line.len() <= MAX_TAIL {
        return line;
    }
    let mut start = line.len() - MAX_TAIL;
    while !line.is_char_boundary(start) {
        start += 1;
    }
    format!("…{}", &line[start..])
}

/// Colours and places of terminals.
static TERMINAL: Pattern =
    Pattern::new(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)");

/// Without what nobody sees and what may stand within a token therefore.
fn legible(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    let ends = TERMINAL.all(text).map(|found| (found.start, found.end));
    for (end, next) in ends.chain([(text.len(), text.len())]) {
        clean.extend(text[at..end].chars().filter(|c| {
            let unseen = matches!(
                c,
                '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}'
            );
            !unseen && (!c.is_control() || matches!(c, '\n' | '\t'))
        }));
        at = next;
    }
    clean
}

/// Where credentials stand, in order and apart.
fn hidden(text: &str) -> Vec<Range<usize>> {
    let plain = View::plain(text);
    let unfolded = View::unfolded(text);
    let mut views = vec![plain.decoded(), unfolded.as_ref().and_then(View::decoded)];
    views.extend([Some(plain), unfolded]);
    let mut found: Vec<Range<usize>> = Vec::new();
    for view in views.into_iter().flatten() {
        let inside = shapes::found_in(&view.text).into_iter();
        found.extend(
            inside
                .filter(|part| !part.is_empty())
                .map(|part| view.original(part.start, part.end)),
        );
    }
    found.sort_by_key(|part| part.start);
    found.dedup_by(|next, before| {
        let together = next.start <= before.end;
        if together {
            before.end = before.end.max(next.end);
        }
        together
    });
    found
}

#[cfg(test)]
mod tests;
