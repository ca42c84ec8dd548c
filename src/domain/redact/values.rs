//! Values beside names that promise a secret: `name=value`, `name: value`, `--name value`,
//! `<name>value</name>`, `("name", "value")`, `name: …, value: …`.

use std::ops::Range;

use super::names::{is_nothing, promises};
use super::pattern::Pattern;
use super::shapes::{ahead, before};
use super::words::{is_odd, is_of_a_sentence, is_ordinary};

/// A name and the sign that says that its value follows.
pub(super) static NAMED: Pattern = Pattern::new(
    r#"(?P<name>[A-Za-z$*][A-Za-z0-9_.$*-]*(?: (?:[Aa]ccess )?[Kk]ey(?: [Ii][Dd])?| [Pp]hrase)?)[\]"'`]{0,3}(?P<sign>\s*(?:=>|->|:=|={1,2}|:)\s*|>)"#,
);
/// A flag and its value.
pub(super) static FLAG: Pattern =
    Pattern::new(r#"(?:^|[\s"'`])--?(?P<name>[a-z][a-z0-9-]*)["'`,]*\s+(?P<value>[^\s-]\S*)"#);
/// A pair.
pub(super) static TUPLE: Pattern = Pattern::new(
    r#"\(\s*b?["'](?P<name>[^"'\n]{1,80})["']\s*,\s*b?(?P<value>"[^"\n]*"|'[^'\n]*')\s*\)"#,
);
/// A variable whose name and value are told apart, in JSON, YAML or as Python shows it.
pub(super) static PAIR: Pattern = Pattern::new(
    r#"(?i)\b(?:name|key)["']?\s*[:=]\s*["']?(?P<name>[\w.-]+)["']?[\s,]+["']?value["']?\s*[:=]\s*(?P<value>"[^"]*"|'[^']*'|[^\s,}]+)"#,
);

/// What opens a quoted value.
pub(super) static OPEN: Pattern =
    Pattern::new(r#"^(?:[A-Za-z_.]{0,30}[(\[]\s*)?[bBuU]?(?:"{3}|'{3}|["'`])"#);
/// What ends a value without quotes.
pub(super) static NEXT: Pattern =
    Pattern::new(r#"\s|[&,;]\s*["']?[A-Za-z_][\w.-]*["']?[=:]|["'][,:}\])]"#);
/// A scheme of authorization before its value.
pub(super) static SCHEME: Pattern =
    Pattern::new(r"(?i)^(?:bearer|basic|digest|negotiate|token|[a-z0-9]+-hmac-[a-z0-9-]+)\s+\S");

/// All that is to be hidden.
pub(super) fn found_in(text: &str) -> Vec<Range<usize>> {
    let mut found = named(text);
    for pattern in [&FLAG, &TUPLE, &PAIR] {
        for groups in pattern.groups(text) {
            if let (Some(name), Some(value)) = (groups.name("name"), groups.name("value"))
                && promises(name.as_str())
                // `--browser-auth` is a choice.
                && !name.as_str().ends_with("-auth")
                && !is_nothing(value.as_str().trim_matches(['"', '\'']))
                && !is_of_a_sentence(value.as_str())
                && value.as_str().contains(char::is_alphanumeric)
            {
                found.push(value.range());
            }
        }
    }
    found
}

fn named(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(groups) = NAMED.groups_from(text, at) {
        let (Some(name), Some(sign)) = (groups.name("name"), groups.name("sign")) else {
            break;
        };
        at = sign.end();
        let tag = sign.as_str() == ">";
        let before = before(text, name.start());
        let word = before
            .rsplit([' ', '\n', '"', '\''])
            .next()
            .unwrap_or(before);
        let in_id = word.starts_with("arn:") || word.starts_with("acs:");
        if tag && !before.ends_with('<') || in_id || !promises(name.as_str()) {
            continue;
        }
        let place = Place {
            text,
            name: name.as_str(),
            begins_line: before
                .rsplit('\n')
                .next()
                .is_none_or(|before| before.bytes().all(|b| b" \t\"'{,-".contains(&b))),
            sign: sign.as_str(),
            at,
        };
        if let Some(value) = place.value() {
            at = value.end;
            found.push(value);
        }
    }
    found
}

/// Where a value begins.
struct Place<'t> {
    text: &'t str,
    name: &'t str,
    begins_line: bool,
    sign: &'t str,
    at: usize,
}

impl Place<'_> {
    /// The value, if there is one that is to be hidden.
    fn value(&self) -> Option<Range<usize>> {
        let rest = &self.text[self.at..];
        if let Some((open, quote)) = opening(rest) {
            return self.quoted(open, quote);
        }
        if self.sign == ">" {
            let end = rest.find('<').unwrap_or(rest.len());
            return (!is_nothing(&rest[..end])).then(|| self.at..self.at + end);
        }
        let line = line(rest);
        if SCHEME.is_in(line) && self.name.to_ascii_lowercase().contains("auth") {
            let end = line.find(['"', '\'']).unwrap_or(line.len());
            return Some(self.at..self.at + end);
        }
        let word = bare(ahead(rest, LONGEST));
        let whole = word.trim_end_matches([',', ';', ')', '}', ']', '>', '"', '\'', '`', '.']);
        if is_nothing(whole) || self.is_elsewhere(whole) || self.is_of_many() && !is_odd(whole) {
            return None;
        }
        let more = line.get(word.len()..).unwrap_or_default();
        let end = if self.is_phrase(line) {
            phrase_end(line)
        } else if self.sign.contains('=') || !is_ordinary(whole) {
            whole.len()
        } else if is_of_a_sentence(whole) && !more.is_empty()
            || is_prose(more)
            || !self.sign.ends_with(char::is_whitespace)
        {
            // `ExpiredToken: The provided token …`, `secretsmanager:GetSecretValue`.
            return None;
        } else {
            whole.len()
        };
        Some(self.at..self.at + end)
    }

    /// Up to the quote that closes it, wherever that is; else the line.
    fn quoted(&self, open: usize, quote: char) -> Option<Range<usize>> {
        let rest = &self.text[self.at + open..];
        let mut escaped = false;
        let close = rest.char_indices().find(|(_, c)| {
            let closes = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        });
        let end = close.map_or_else(|| line(rest).len(), |(close, _)| close);
        let start = self.at + open;
        (!is_nothing(&rest[..end])).then(|| start..start + end)
    }

    /// What is told of secrets in general: `could not be searched for secrets: …`.
    fn is_of_many(&self) -> bool {
        !self.begins_line
            && !self.sign.contains('=')
            && matches!(
                self.name,
                "secrets" | "tokens" | "passwords" | "credentials"
            )
    }

    /// A path or an address says where the secret is; what is in an address is looked at anyway.
    fn is_elsewhere(&self, value: &str) -> bool {
        value.starts_with("arn:")
            || value
                .split_once("://")
                .is_some_and(|(scheme, _)| is_scheme(scheme))
            || value.starts_with("//") && !self.sign.contains('=')
            // The names within count; a place to be filled.
            || value.starts_with(['{', '<']) || value == "["
            || (value.starts_with('/') || value.starts_with("./"))
                && value.split('/').all(|part| part.is_empty() || is_ordinary(part))
    }

    /// Whether the value is made of several words: only what people think up is.
    fn is_phrase(&self, line: &str) -> bool {
        let name = self.name.to_ascii_lowercase();
        let phrase = name.contains("phrase");
        let word = ["pass", "pwd"].iter().any(|part| name.contains(part));
        let words = &line[..phrase_end(line)];
        (phrase || word && self.begins_line && self.sign.contains(':'))
            && words.contains(' ')
            && !words.split_whitespace().any(is_of_a_sentence)
    }
}

/// What is looked at of a line and of a value: a text is looked at from each of its names.
const LINE: usize = 1024;
const LONGEST: usize = 4 * 1024;

fn line(rest: &str) -> &str {
    let near = ahead(rest, LINE);
    near.split('\n').next().unwrap_or(near)
}

/// `https`, `arn` and their like.
fn is_scheme(text: &str) -> bool {
    text.len() <= 10
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'+')
}

/// Whether these words are of a sentence.
fn is_prose(words: &str) -> bool {
    let words: Vec<_> = words.split_whitespace().collect();
    words.iter().any(|word| is_of_a_sentence(word))
        || words.len() > 1 && words.iter().take(6).all(|word| is_ordinary(word))
        || words
            .first()
            .is_some_and(|word| is_ordinary(word) && word.len() > 2)
}

/// Where the words of a value end: before another name with its value, or with the line.
fn phrase_end(line: &str) -> usize {
    let other = NAMED.find(line).map_or(line.len(), |other| other.start);
    let comma = line.find([',', ';', '}', '"', '\'']).unwrap_or(line.len());
    line[..other.min(comma)].trim_end().len()
}

/// How long the opening of a quoted value is, and its quote: also of Python's bytes, and of values
/// wrapped in a call or a list.
fn opening(rest: &str) -> Option<(usize, char)> {
    let open = OPEN.find(rest)?.end;
    Some((open, rest[..open].chars().next_back()?))
}

/// A value without quotes: up to white space, or what ends it in a list, in an address, in JSON.
fn bare(rest: &str) -> &str {
    let end = NEXT.find(rest).map_or(rest.len(), |found| found.start);
    &rest[..end]
}
