//! A JSON array as a stream of its elements, over a sliding window of the file.
//!
//! The common record is parsed where it lies, without a copy. What does not parse, or holds what no
//! record may, is measured by its brackets and handed over as broken; a record beyond the bound is
//! skipped without being held. So one bad record never costs the others, and the memory used does
//! not depend on the file.

use std::io::Read;

use super::extent::{Extent, NESTING_MAX};
use super::json::{Memory, Stop};
use super::lenient::Object;
use super::record::Record;
use super::text::{flaw, is_plain};

/// Bytes read at once, and the window's size as long as records fit.
const WINDOW: usize = 1024 * 1024;
/// Bytes of a record beyond the bound that are handed over.
const KEPT: usize = 16 * 1024;
/// A record with fewer bytes is not nested too deep, or it would not parse.
const SHALLOW: usize = 2 * NESTING_MAX as usize;

/// One element of the array.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "made one at a time, and nearly all are records"
)]
pub(super) enum Element<'a> {
    /// A record.
    Record(Record<'a>),
    /// An element that is none; what is wrong, without quoting it.
    Broken(String),
}

/// Where an element lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// Its number, from 0.
    pub number: u64,
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Its bytes, or their beginning.
    pub bytes: &'a [u8],
}

/// Why the file is not a whole array.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// There is nothing but white space.
    #[error("the file is empty")]
    Empty,
    /// It begins with something else than a bracket.
    #[error("the file is no JSON array: unexpected character at byte {0}")]
    NotAnArray(u64),
    /// It ends before the closing bracket.
    #[error("the file ends at byte {0} without its closing bracket")]
    Truncated(u64),
    /// Something stands between two elements that does not belong there.
    #[error("the file is no JSON array: unexpected character at byte {0}")]
    Malformed(u64),
    /// It holds brackets within brackets that no finding has.
    #[error("the record at byte {0} is nested deeper than {NESTING_MAX} levels")]
    TooDeep(u64),
    /// Something follows the closing bracket.
    #[error("something follows the end of the array at byte {0}")]
    Trailing(u64),
    /// The bytes could not be read.
    #[error("the file could not be read: {0}")]
    Io(#[from] std::io::Error),
}

/// A reader over its source.
#[derive(Debug)]
pub(super) struct Reader<R> {
    source: R,
    window: Vec<u8>,
    /// First byte not consumed.
    start: usize,
    /// Offset of the window's first byte in the file.
    base: u64,
    ended: bool,
    /// Most bytes of a record.
    max_record: usize,
    memory: Memory,
}

/// What parsing at the window's start led to.
#[expect(
    clippy::large_enum_variant,
    reason = "made one at a time, and nearly all are records"
)]
enum Parsed<'a> {
    Record(Record<'a>, usize),
    Incomplete,
    Unacceptable,
}

/// What follows from it.
enum Step {
    Consumed(usize),
    ReadMore,
    Examine,
}

impl<R: Read> Reader<R> {
    /// A reader that holds at most about `max_record` bytes.
    pub(super) fn new(source: R, max_record: usize) -> Self {
        Self {
            source,
            window: Vec::with_capacity(WINDOW),
            start: 0,
            base: 0,
            ended: false,
            max_record,
            memory: Memory::default(),
        }
    }

    /// Calls `visit` for every element in turn, and says how many there were.
    pub(super) fn each<E: From<ReadError>>(
        mut self,
        mut visit: impl FnMut(Place<'_>, Element<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        // A byte order mark is no white space, but harmless.
        self.fill_to(3).map_err(ReadError::Io)?;
        if self.rest().starts_with(b"\xef\xbb\xbf") {
            self.start += 3;
        }
        match self.token().map_err(ReadError::Io)? {
            None => return Err(ReadError::Empty.into()),
            Some(b'[') => self.start += 1,
            Some(_) => return Err(ReadError::NotAnArray(self.offset()).into()),
        }
        let mut number = 0;
        loop {
            match self.token().map_err(ReadError::Io)? {
                None => return Err(ReadError::Truncated(self.offset()).into()),
                // After a comma too: Prowler's comma before the bracket is a known slip.
                Some(b']') => break,
                Some(b',' | b':' | b'}') => {
                    return Err(ReadError::Malformed(self.offset()).into());
                }
                Some(_) => {
                    self.element(number, &mut visit)?;
                    number += 1;
                }
            }
            match self.token().map_err(ReadError::Io)? {
                None => return Err(ReadError::Truncated(self.offset()).into()),
                Some(b',') => self.start += 1,
                Some(b']') => break,
                Some(_) => return Err(ReadError::Malformed(self.offset()).into()),
            }
        }
        self.start += 1;
        match self.token().map_err(ReadError::Io)? {
            None => Ok(number),
            Some(_) => Err(ReadError::Trailing(self.offset()).into()),
        }
    }

    fn element<E: From<ReadError>>(
        &mut self,
        number: u64,
        visit: &mut impl FnMut(Place<'_>, Element<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let offset = self.offset();
            let rest = &self.window[self.start..];
            let step = match parse(rest, &mut self.memory) {
                Parsed::Record(record, length)
                    if length <= self.max_record && is_sound(&rest[..length], &self.memory) =>
                {
                    let bytes = &rest[..length];
                    self.memory.keep(bytes);
                    let place = Place {
                        number,
                        offset,
                        bytes,
                    };
                    visit(place, Element::Record(record))?;
                    Step::Consumed(length)
                }
                Parsed::Incomplete if rest.len() < self.max_record => Step::ReadMore,
                Parsed::Record(..) | Parsed::Incomplete | Parsed::Unacceptable => Step::Examine,
            };
            match step {
                Step::Consumed(length) => {
                    self.start += length;
                    return Ok(());
                }
                Step::ReadMore => {
                    if self.refill().map_err(ReadError::Io)? == 0 {
                        return self.unacceptable(number, visit);
                    }
                }
                Step::Examine => return self.unacceptable(number, visit),
            }
        }
    }

    /// An element that cannot be accepted: finds its end, and says why.
    fn unacceptable<E: From<ReadError>>(
        &mut self,
        number: u64,
        visit: &mut impl FnMut(Place<'_>, Element<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let offset = self.offset();
        let mut extent = Extent::default();
        let mut scanned = 0;
        loop {
            let end = extent.end(&self.rest()[scanned..]);
            if extent.is_too_deep() {
                return Err(ReadError::TooDeep(offset).into());
            }
            if let Some(more) = end {
                scanned += more;
                break;
            }
            scanned = self.rest().len();
            if scanned >= self.max_record {
                return self.oversized(number, offset, extent, visit);
            }
            // What is incomplete at the end of the file never becomes complete.
            if self.refill().map_err(ReadError::Io)? == 0 {
                return Err(ReadError::Truncated(self.end()).into());
            }
        }
        let bytes = &self.rest()[..scanned];
        let place = Place {
            number,
            offset,
            bytes,
        };
        let reason = if scanned > self.max_record {
            self.too_large()
        } else {
            fault(bytes)
        };
        visit(place, Element::Broken(reason))?;
        self.start += scanned;
        Ok(())
    }

    /// A record that is too large to be held: keeps its beginning, skips the rest.
    fn oversized<E: From<ReadError>>(
        &mut self,
        number: u64,
        offset: u64,
        mut extent: Extent,
        visit: &mut impl FnMut(Place<'_>, Element<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let kept = self.rest()[..KEPT.min(self.rest().len())].to_vec();
        loop {
            // All of the window has been scanned.
            self.start = self.window.len();
            if self.refill().map_err(ReadError::Io)? == 0 {
                return Err(ReadError::Truncated(self.end()).into());
            }
            let end = extent.end(self.rest());
            if extent.is_too_deep() {
                return Err(ReadError::TooDeep(offset).into());
            }
            if let Some(end) = end {
                self.start += end;
                break;
            }
        }
        let place = Place {
            number,
            offset,
            bytes: &kept,
        };
        visit(place, Element::Broken(self.too_large()))
    }

    fn too_large(&self) -> String {
        format!("the record is larger than {} bytes", self.max_record)
    }

    /// The next byte that is no white space, not consumed.
    fn token(&mut self) -> Result<Option<u8>, std::io::Error> {
        loop {
            let blank = self
                .rest()
                .iter()
                .position(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
            if let Some(blank) = blank {
                self.start += blank;
                return Ok(self.rest().first().copied());
            }
            self.start = self.window.len();
            if self.refill()? == 0 {
                return Ok(None);
            }
        }
    }

    fn fill_to(&mut self, bytes: usize) -> Result<(), std::io::Error> {
        while self.rest().len() < bytes && self.refill()? > 0 {}
        Ok(())
    }

    /// Drops what was consumed and reads more; 0 at the end of the file.
    fn refill(&mut self) -> Result<usize, std::io::Error> {
        if self.ended {
            return Ok(0);
        }
        self.base += self.start as u64;
        self.window.drain(..self.start);
        self.start = 0;
        let held = self.window.len();
        // Doubling keeps the number of tries at a large record logarithmic.
        let wanted = held.max(WINDOW - held.min(WINDOW)).max(WINDOW / 2);
        self.window.reserve(wanted);
        let mut source = Read::by_ref(&mut self.source).take(wanted as u64);
        let read = source.read_to_end(&mut self.window)?;
        self.ended = read < wanted;
        Ok(read)
    }

    fn rest(&self) -> &[u8] {
        &self.window[self.start..]
    }

    fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    fn end(&self) -> u64 {
        self.base + self.window.len() as u64
    }
}

/// Parses the record at the beginning of the bytes.
fn parse<'w>(bytes: &'w [u8], memory: &mut Memory) -> Parsed<'w> {
    if bytes.first() != Some(&b'{') {
        return Parsed::Unacceptable;
    }
    match memory.read(bytes) {
        Ok((record, length)) => Parsed::Record(record, length),
        Err(Stop::Incomplete) => Parsed::Incomplete,
        Err(Stop::Invalid) => Parsed::Unacceptable,
    }
}

/// Whether there is nothing in a record that parses which may not be there. What is the same as in
/// a record before has been looked at.
fn is_sound(record: &[u8], memory: &Memory) -> bool {
    if record.len() >= SHALLOW {
        let mut extent = Extent::default();
        extent.end(record);
        if extent.is_too_deep() {
            return false;
        }
    }
    memory.fresh(record).all(is_plain) || flaw(record).is_none()
}

/// Why the element is no record; words that quote no value.
fn fault(bytes: &[u8]) -> String {
    if bytes.first() != Some(&b'{') {
        return "the element is no object".to_owned();
    }
    if let Some(flaw) = flaw(bytes) {
        return flaw.to_string();
    }
    match serde_json::from_slice::<Object<Record<'_>>>(bytes) {
        Ok(_) => "the record cannot be read".to_owned(),
        Err(error) => format!("the record is no valid JSON: {error}"),
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
