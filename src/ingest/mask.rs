//! Secrets that a scanner found in an account are not kept: what a resource's metadata, a verdict or
//! a tag holds of them becomes `[masked]` before anything is hashed or written.
//!
//! * Values of environment variables (of pods, functions, tasks, builds, applications), with their
//!   names left as they are; what only points elsewhere (`valueFrom`) stays.
//! * Scripts with which machines start: `user_data` and its like; and the annotation in which kubectl
//!   keeps a whole object again.
//! * Texts under names that promise a secret, beside such a name (`{"Key": …, "Value": …}`), after such
//!   a flag in a list of arguments.
//! * Within any other text, what has the look of a credential (`domain::redact`).
//!
//! Truth values, nulls and numbers under such names stay, but for variables: checks ask whether there
//! is a password. Uids stay as they are: they are what a finding and its resource are known by. The same text gives the
//! same result always: the digest of a resource that did not change does not change.

use std::borrow::Cow;
use std::ops::Range;

use super::text::{compact, string_end};
use crate::domain::finding::Resource;
use crate::domain::redact::names::{is_nothing, promises};
use crate::domain::redact::{masked, may_hold, may_hold_by_key};

/// What stands for a secret.
const MASK: &str = "[masked]";
const MASK_JSON: &[u8] = b"\"[masked]\"";

/// A text without secrets.
pub(super) fn text(text: Cow<'_, str>) -> Cow<'_, str> {
    match may_hold(&text).then(|| masked(&text, MASK)).flatten() {
        Some(masked) => Cow::Owned(masked),
        None => text,
    }
}

/// What is told of a resource, without secrets; its metadata is masked apart.
pub(super) fn resource<'r>(found: &'r Resource<'_>) -> Resource<'r> {
    let tag = |(key, value): &'r (Cow<'_, str>, Cow<'_, str>)| {
        let hidden = promises(key) && !is_nothing(value);
        let value = if hidden {
            Cow::Borrowed(MASK)
        } else {
            text(Cow::Borrowed(value))
        };
        (text(Cow::Borrowed(key)), value)
    };
    Resource {
        uid: Cow::Borrowed(&found.uid),
        name: text(Cow::Borrowed(&found.name)),
        region: Cow::Borrowed(&found.region),
        service: Cow::Borrowed(&found.service),
        kind: Cow::Borrowed(&found.kind),
        partition: found.partition.as_deref().map(Cow::Borrowed),
        details: text(Cow::Borrowed(&found.details)),
        metadata: found.metadata,
        tags: found.tags.iter().map(tag).collect(),
    }
}

/// JSON without secrets and without the white space between its tokens. What is cut off in its
/// middle stays so.
pub(super) fn json(json: &str) -> String {
    hidden(compact(json))
}

/// The same of JSON that is compact already.
fn hidden(json: String) -> String {
    if !may_hold_by_key(&json) {
        return json;
    }
    let mut walk = Walk {
        json: json.as_bytes(),
        out: Vec::with_capacity(json.len()),
        frames: Vec::new(),
    };
    walk.run();
    // Whole texts were copied; nothing is lost here.
    String::from_utf8(walk.out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The beginning of a record that is set aside: its very bytes, unless they hold a secret. Masked
/// first, to be cut after: half a secret has no shape.
pub(super) fn beginning(record: &[u8]) -> Cow<'_, [u8]> {
    const LOOKED_AT: usize = 16 * 1024;
    let seen = &record[..record.len().min(LOOKED_AT)];
    let plain = compact(&String::from_utf8_lossy(seen));
    let clean = hidden(plain.clone());
    let clean = text(Cow::Borrowed(&clean)).into_owned();
    if clean == plain {
        Cow::Borrowed(seen)
    } else {
        Cow::Owned(clean.into_bytes())
    }
}

/// What stands under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Plain,
    /// A name promises it.
    Secret,
    /// Variables: a map, or a list of pairs.
    Variables,
    /// Whole texts that hold secrets.
    Script,
    /// The halves of a pair.
    Name,
    Value,
}

/// What of an object or a list is hidden, besides what each value says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hides {
    Nothing,
    /// Its texts.
    Texts,
    /// All values of a map of variables.
    All,
    /// The values of the pairs of a list of variables.
    Pairs,
}

/// An object or a list that is open.
struct Frame {
    is_object: bool,
    hides: Hides,
    /// In an object: a key comes next.
    awaits_key: bool,
    key: Key,
    /// In an object: the name of a pair promises a secret. In a list: the text before was a flag
    /// whose value comes next.
    promised: bool,
    /// Where the value of a pair was written.
    value: Option<Range<usize>>,
}

struct Walk<'j> {
    json: &'j [u8],
    out: Vec<u8>,
    frames: Vec<Frame>,
}

impl Walk<'_> {
    fn run(&mut self) {
        let mut at = 0;
        while let Some(&byte) = self.json.get(at) {
            let end = match byte {
                b'"' => string_end(self.json, at),
                b'{' | b'[' => {
                    self.open(byte == b'{');
                    at + 1
                }
                b'}' | b']' => {
                    self.close();
                    at + 1
                }
                b',' | b':' => {
                    if let Some(frame) = self.frames.last_mut() {
                        frame.awaits_key = byte == b',' && frame.is_object;
                    }
                    at + 1
                }
                _ => {
                    let rest = &self.json[at..];
                    let scalar = rest.iter().position(|b| matches!(b, b',' | b'}' | b']'));
                    scalar.map_or(self.json.len(), |length| at + length)
                }
            };
            let token = &self.json[at..end];
            match byte {
                b'"' => self.string(token),
                b'{' | b'[' | b'}' | b']' | b',' | b':' => self.out.push(byte),
                _ => self.scalar(token),
            }
            at = end;
        }
    }

    fn open(&mut self, is_object: bool) {
        let hides = self.frames.last().map_or(Hides::Nothing, |above| {
            match (above.is_object.then_some(above.key), above.hides, is_object) {
                (Some(Key::Variables), _, false) | (None, Hides::Pairs, _) => Hides::Pairs,
                // What a list or a map of variables holds is of it.
                (Some(Key::Variables), _, true) | (Some(Key::Script), ..) | (_, Hides::All, _) => {
                    Hides::All
                }
                (Some(Key::Secret), _, false) => Hides::Texts,
                _ => Hides::Nothing,
            }
        });
        self.frames.push(Frame {
            is_object,
            hides,
            awaits_key: is_object,
            key: Key::Plain,
            promised: false,
            value: None,
        });
    }

    /// A pair is known when both halves are, in whichever order they came.
    fn close(&mut self) {
        if let Some(frame) = self.frames.pop()
            && frame.is_object
            && frame.promised
            && let Some(value) = frame.value
        {
            self.out.splice(value, MASK_JSON.iter().copied());
        }
    }

    fn string(&mut self, token: &[u8]) {
        let raw = token.strip_prefix(b"\"").unwrap_or(token);
        let raw = String::from_utf8_lossy(raw.strip_suffix(b"\"").unwrap_or(raw));
        let hidden = match self.frames.last_mut() {
            Some(frame) if frame.awaits_key => {
                frame.key = key(&raw);
                self.out.extend_from_slice(token);
                return;
            }
            Some(frame) => frame.hides_text(&raw),
            None => false,
        };
        let start = self.out.len();
        if hidden {
            self.out.extend_from_slice(MASK_JSON);
        } else {
            self.visible(token, &raw);
        }
        if let Some(frame) = self.frames.last_mut()
            && frame.is_object
            && frame.key == Key::Value
        {
            frame.value = Some(start..self.out.len());
        }
    }

    /// Copies a text, without what in it looks like a credential.
    fn visible(&mut self, token: &[u8], raw: &str) {
        if may_hold(raw) {
            // One that is cut off is no JSON; its escapes are left as they are.
            let whole: Result<String, _> = serde_json::from_slice(token);
            let meant = whole.as_deref().unwrap_or(raw);
            if let Some(masked) = masked(meant, MASK) {
                let written = serde_json::to_vec(&masked).unwrap_or_else(|_| MASK_JSON.to_vec());
                self.out.extend_from_slice(&written);
                return;
            }
        }
        self.out.extend_from_slice(token);
    }

    /// A number, a truth value or null: told only of variables.
    fn scalar(&mut self, token: &[u8]) {
        let hides = self.frames.last().is_some_and(|frame| {
            frame.hides == Hides::All
                || frame.hides == Hides::Pairs && frame.is_object && frame.key == Key::Value
        });
        let written = if hides && token != b"null" {
            MASK_JSON
        } else {
            token
        };
        self.out.extend_from_slice(written);
    }
}

impl Frame {
    /// Whether a text is hidden for where it stands.
    fn hides_text(&mut self, raw: &str) -> bool {
        if !self.is_object {
            let flagged = std::mem::replace(&mut self.promised, is_flag(raw));
            // `NAME=value` is what `Pairs` has of texts.
            return !is_nothing(raw) && (flagged || self.hides != Hides::Nothing);
        }
        if is_nothing(raw) {
            return false;
        }
        if self.key == Key::Name {
            self.promised = promises(raw) || key(raw) == Key::Script;
            return self.hides == Hides::All;
        }
        match self.hides {
            Hides::All | Hides::Texts => true,
            Hides::Pairs if self.key == Key::Value => true,
            _ => matches!(self.key, Key::Secret | Key::Script),
        }
    }
}

/// `--password`, whose value is the next argument.
fn is_flag(text: &str) -> bool {
    let name = text.trim_start_matches('-');
    text.starts_with('-') && !name.contains('=') && promises(name)
}

fn key(raw: &str) -> Key {
    const VARIABLES: [&str; 6] = [
        "env",
        "envvars",
        "environment",
        "environmentvariables",
        "variables",
        "defaultarguments",
    ];
    const SCRIPTS: [&str; 8] = [
        "userdata",
        "customdata",
        "cloudinit",
        "startupscript",
        "shutdownscript",
        "bootstrapscript",
        "lastappliedconfiguration",
        "protectedsettings",
    ];
    const NAMES: [&str; 6] = [
        "name",
        "key",
        "parameterkey",
        "parametername",
        "outputkey",
        "variablename",
    ];
    const VALUES: [&str; 4] = ["value", "parametervalue", "outputvalue", "variablevalue"];
    let last = raw.rsplit('/').next().unwrap_or(raw);
    // Longer ones are none of these.
    let mut letters = [0; 32];
    let mut length = 0;
    for byte in last.bytes().filter(u8::is_ascii_alphanumeric) {
        if length == letters.len() {
            length = 0;
            break;
        }
        letters[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    let is = |list: &[&str]| list.iter().any(|one| one.as_bytes() == &letters[..length]);
    if is(&NAMES) {
        Key::Name
    } else if is(&VALUES) {
        Key::Value
    } else if is(&VARIABLES) {
        Key::Variables
    } else if is(&SCRIPTS) {
        Key::Script
    } else if promises(raw) {
        Key::Secret
    } else {
        Key::Plain
    }
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;
