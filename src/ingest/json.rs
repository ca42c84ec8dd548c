//! JSON read for serde, with a memory.
//!
//! Records of a check repeat four fifths of their bytes, and mostly stand together. What a record
//! keeps as raw text ([`Raw`]) is compared with what the record before had in the same place: where
//! it is the same it is neither parsed nor looked at again. That takes a fifth off the time in which a
//! file is read; `serde_json` still reads whatever is not an object, a list or a plain string.
//!
//! Comparing is enough: a remembered value is whole and ends by itself (a string, an object, a list),
//! so whatever begins with its bytes at the place of a value is that value.
//!
//! Within raw text and what is passed over, bytes that are no UTF-8 are not found here: whoever reads
//! looks at all of [`Memory::fresh`] before anything is kept.

use std::fmt;
use std::ops::Range;

use memchr::memchr2;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;

/// How [`Raw`] asks a deserializer for the text of a value.
const RAW: &str = "prowler-operator raw value";

/// The text of a value, as it stands in the file; UTF-8 only once its record was found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Raw<'a>(pub(super) &'a [u8]);

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_borrowed_bytes<E>(self, text: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Raw(text))
            }

            /// `serde_json`'s own way to the same.
            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Self::Value, D::Error> {
                let value = <&RawValue>::deserialize(deserializer)?;
                Ok(Raw(value.get().as_bytes()))
            }
        }

        deserializer.deserialize_newtype_struct(RAW, Text)
    }
}

/// Why there is no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes end before it does.
    Incomplete,
    /// It is no valid JSON, or not what was asked for.
    Invalid,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incomplete => "it is not complete",
            Self::Invalid => "it is not valid",
        })
    }
}

impl std::error::Error for Stop {}

impl serde::de::Error for Stop {
    /// The words are `serde_json`'s to find, of the few records that have something wrong.
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Invalid
    }
}

impl From<serde_json::Error> for Stop {
    fn from(error: serde_json::Error) -> Self {
        if error.is_eof() {
            Self::Incomplete
        } else {
            Self::Invalid
        }
    }
}

/// What the values before were.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Raw values of the last record that was kept, in their order.
    kept: Vec<Vec<u8>>,
    /// Where those of the value read last are, and whether they are the same.
    met: Vec<(Range<usize>, bool)>,
}

impl Memory {
    /// The value at the beginning of the bytes, and how many of them it takes.
    pub(super) fn read<'de, T: Deserialize<'de>>(
        &mut self,
        bytes: &'de [u8],
    ) -> Result<(T, usize), Stop> {
        self.met.clear();
        let mut json = Json {
            bytes,
            at: 0,
            memory: self,
        };
        let value = T::deserialize(&mut json)?;
        Ok((value, json.at))
    }

    /// Of the bytes of the value read last those that are not the same as before.
    pub(super) fn fresh<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        let same = self.met.iter().filter(|(_, same)| *same);
        let ends = same.map(|(part, _)| (part.start, part.end));
        let mut at = 0;
        ends.chain([(bytes.len(), bytes.len())])
            .map(move |(start, end)| {
                let fresh = &bytes[at..start];
                at = end;
                fresh
            })
    }

    /// Compares the next value with this one, which was read last and is beyond doubt.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.kept.resize_with(self.met.len(), Vec::new);
        for (kept, (part, same)) in self.kept.iter_mut().zip(&self.met) {
            if !same {
                let raw = &bytes[part.clone()];
                kept.clear();
                if matches!(raw.first(), Some(b'"' | b'{' | b'[')) {
                    kept.extend_from_slice(raw);
                }
            }
        }
    }
}

struct Json<'de, 'm> {
    bytes: &'de [u8],
    at: usize,
    memory: &'m mut Memory,
}

impl<'de> Json<'de, '_> {
    fn rest(&self) -> &'de [u8] {
        &self.bytes[self.at..]
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Result<u8, Stop> {
        let is_token = |byte: &u8| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        let blank = self.rest().iter().position(is_token);
        self.at += blank.ok_or(Stop::Incomplete)?;
        Ok(self.bytes[self.at])
    }

    fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.peek()? != byte {
            return Err(Stop::Invalid);
        }
        self.at += 1;
        Ok(())
    }

    /// Passes over a value.
    fn skip(&mut self) -> Result<(), Stop> {
        let rest = self.rest();
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        values.next().ok_or(Stop::Incomplete)??;
        self.at += values.byte_offset();
        Ok(())
    }

    /// The text of a value; of one that is the same as before without reading it.
    fn raw(&mut self) -> Result<&'de [u8], Stop> {
        self.peek()?;
        let start = self.at;
        let before = self.memory.kept.get(self.memory.met.len());
        let same = match before.map(Vec::as_slice) {
            Some(before) if !before.is_empty() && self.rest().starts_with(before) => {
                self.at += before.len();
                true
            }
            _ => {
                self.skip()?;
                false
            }
        };
        self.memory.met.push((start..self.at, same));
        Ok(&self.bytes[start..self.at])
    }

    /// A string, whose first quote is next.
    fn string<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Stop> {
        let start = self.at;
        let mut at = start + 1;
        let mut escaped = false;
        loop {
            let found = memchr2(b'"', b'\\', &self.bytes[at..]).ok_or(Stop::Incomplete)?;
            at += found + 1;
            if self.bytes[at - 1] == b'"' {
                break;
            }
            escaped = true;
            // What is escaped ends nothing.
            at += 1;
            if at > self.bytes.len() {
                return Err(Stop::Incomplete);
            }
        }
        self.at = at;
        let text = &self.bytes[start + 1..at - 1];
        if escaped || text.iter().any(|byte| *byte < b' ') {
            return whole(&self.bytes[start..at], visitor);
        }
        let text = std::str::from_utf8(text).map_err(|_| Stop::Invalid)?;
        visitor.visit_borrowed_str(text)
    }

    /// A number, a truth value or null.
    fn scalar<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Stop> {
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t');
        let length = self.rest().iter().position(ends);
        let scalar = &self.rest()[..length.ok_or(Stop::Incomplete)?];
        self.at += scalar.len();
        whole(scalar, visitor)
    }
}

/// What these bytes are, all of them.
fn whole<'de, V: Visitor<'de>>(bytes: &'de [u8], visitor: V) -> Result<V::Value, Stop> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = json.deserialize_any(visitor);
    // They end where the value does: it will not become complete.
    let value = read.map_err(|_| Stop::Invalid)?;
    json.end().map_err(|_| Stop::Invalid)?;
    Ok(value)
}

impl<'de> Deserializer<'de> for &mut Json<'de, '_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let open = self.peek()?;
        match open {
            b'{' | b'[' => {
                self.at += 1;
                let mut items = Items {
                    json: self,
                    begun: false,
                    ended: false,
                };
                let value = if open == b'{' {
                    visitor.visit_map(&mut items)?
                } else {
                    visitor.visit_seq(&mut items)?
                };
                if items.ended {
                    Ok(value)
                } else {
                    Err(Stop::custom("not all of it was asked for"))
                }
            }
            b'"' => self.string(visitor),
            _ => self.scalar(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        if self.peek()? == b'n' {
            self.scalar(visitor)
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if name == RAW {
            visitor.visit_borrowed_bytes(self.raw()?)
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier
    }
}

/// Members of an object or items of a list.
struct Items<'j, 'de, 'm> {
    json: &'j mut Json<'de, 'm>,
    begun: bool,
    ended: bool,
}

impl Items<'_, '_, '_> {
    /// Goes to the next one; false at the end, however often it is asked.
    fn advance(&mut self, close: u8) -> Result<bool, Stop> {
        if self.ended {
            return Ok(false);
        }
        let next = self.json.peek()?;
        if next == close {
            self.json.at += 1;
            self.ended = true;
            return Ok(false);
        }
        if std::mem::replace(&mut self.begun, true) {
            self.json.expect(b',')?;
            // Nothing but another one follows a comma.
            if self.json.peek()? == close {
                return Err(Stop::Invalid);
            }
        }
        Ok(true)
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de, '_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Stop> {
        if !self.advance(b'}')? {
            return Ok(None);
        }
        if self.json.peek()? != b'"' {
            return Err(Stop::Invalid);
        }
        seed.deserialize(&mut *self.json).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        self.json.expect(b':')?;
        seed.deserialize(&mut *self.json)
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de, '_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Stop> {
        if !self.advance(b']')? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.json).map(Some)
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
