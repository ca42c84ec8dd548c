//! What an account's findings were when they were last seen: all that delta and first-seen
//! need of the past, in 32 bytes a uid.
//!
//! One entry per finding uid, whichever scan saw it last. Uids are not unique within a scan (they
//! hold the resource's name, not its identity), so an entry keeps the set of verdicts of the last
//! scan, and the worst of them decides: a finding has changed if its verdict is another. But of
//! two resources of equal name, one failing and one passing, the passing one is not "changed" in
//! every scan for ever: a better verdict is none as long as the worst is met too. Where that is not
//! known yet the answer is [`Past::unless`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::finding::{Delta, Status};

/// Bytes of an entry as stored.
const ENTRY: usize = 32;
/// Bytes of one stored chunk.
pub const CHUNK: usize = 1024 * ENTRY;

/// The past of one account's findings, and what the present scan adds to it.
#[derive(Debug, Default)]
pub struct History {
    entries: HashMap<u128, Entry, BuildHasherDefault<AlreadyHashed>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Microseconds of the Unix epoch.
    first_seen: i64,
    /// Seconds of the Unix epoch: latest time of the id of a scan that saw it; so long its findings
    /// are kept.
    last_seen: u32,
    /// Verdicts of the scan that saw it last before this one; 0 if none did.
    before: u8,
    /// Verdicts of the present scan; 0 until it sees it.
    now: u8,
}

/// What is known of a finding from before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// What changed.
    pub delta: Option<Delta>,
    /// Since when it is known: microseconds of the Unix epoch.
    pub first_seen: i64,
    /// Nothing changed after all if this uid [stays] when the whole scan was met.
    ///
    /// [stays]: History::stays
    pub unless: Option<Uid>,
}

/// A uid, as it is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uid(u128);

/// A stored chunk that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of finding states has {0} bytes, which is no multiple of {ENTRY}")]
pub struct Misshapen(usize);

impl History {
    /// Room for this many entries, so that growing does not double the memory in use.
    pub fn with_capacity(entries: usize) -> Self {
        Self {
            entries: HashMap::with_capacity_and_hasher(entries, BuildHasherDefault::default()),
        }
    }

    /// Entries that bytes of a stored length hold.
    pub fn entries_in(bytes: usize) -> usize {
        bytes / ENTRY
    }

    /// Adds a stored chunk, without what was last seen before `forget_before` (seconds): the
    /// findings themselves are gone by then.
    pub fn load(&mut self, chunk: &[u8], forget_before: u32) -> Result<(), Misshapen> {
        let (entries, []) = chunk.as_chunks::<ENTRY>() else {
            return Err(Misshapen(chunk.len()));
        };
        for bytes in entries {
            let (key, entry) = Entry::read(bytes);
            if entry.last_seen >= forget_before {
                self.entries.insert(key, entry);
            }
        }
        Ok(())
    }

    /// Notes a finding of the scan of time `scan_at` (seconds), and says what changed and since
    /// when it is known; `now` is that for a new one (microseconds).
    pub fn meet(&mut self, uid: &str, status: Status, scan_at: u32, now: i64) -> Past {
        let key = key(uid);
        let entry = self.entries.entry(key).or_insert(Entry {
            first_seen: now,
            last_seen: scan_at,
            before: 0,
            now: 0,
        });
        let verdict = bit(status);
        entry.now |= verdict;
        // A scan that waited behind a later one carries an earlier time.
        entry.last_seen = entry.last_seen.max(scan_at);
        let worst = worst(entry.before);
        let (delta, unless) = if entry.before == 0 {
            (Some(Delta::New), None)
        } else if verdict == worst {
            (None, None)
        } else if is_worse(verdict, worst) || entry.before == worst {
            (Some(Delta::Changed), None)
        } else if entry.stays() {
            (None, None)
        } else {
            (Some(Delta::Changed), Some(Uid(key)))
        };
        Past {
            delta,
            first_seen: entry.first_seen,
            unless,
        }
    }

    /// Whether the present scan has met the worst verdict of before.
    pub fn stays(&self, uid: Uid) -> bool {
        self.entries.get(&uid.0).is_some_and(Entry::stays)
    }

    /// How many uids are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no uid is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries to store, to be cut into chunks of [`CHUNK`] bytes; an entry is what the
    /// present scan saw, else what it was.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * ENTRY);
        for (key, entry) in self.entries {
            entry.write(key, &mut bytes);
        }
        bytes
    }
}

impl Entry {
    fn stays(&self) -> bool {
        self.now & worst(self.before) != 0
    }

    fn read(bytes: &[u8; ENTRY]) -> (u128, Self) {
        let entry = Self {
            first_seen: i64::from_le_bytes(part(bytes, 16)),
            last_seen: u32::from_le_bytes(part(bytes, 24)),
            before: bytes[28],
            now: 0,
        };
        (u128::from_le_bytes(part(bytes, 0)), entry)
    }

    fn write(self, key: u128, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.to_le_bytes());
        out.extend_from_slice(&self.first_seen.to_le_bytes());
        out.extend_from_slice(&self.last_seen.to_le_bytes());
        let verdicts = if self.now == 0 { self.before } else { self.now };
        out.extend_from_slice(&[verdicts, 0, 0, 0]);
    }
}

fn part<const N: usize>(bytes: &[u8; ENTRY], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}

/// 128 bits of a cryptographic hash: nobody can choose two uids that share an entry.
fn key(uid: &str) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::hash(uid.as_bytes()).as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}

/// The worst of some verdicts: FAIL, then MANUAL, then PASS; 0 of none.
fn worst(verdicts: u8) -> u8 {
    [Status::Fail, Status::Manual, Status::Pass]
        .map(bit)
        .into_iter()
        .find(|verdict| verdicts & verdict != 0)
        .unwrap_or(0)
}

fn is_worse(verdict: u8, other: u8) -> bool {
    verdict != other && worst(verdict | other) == verdict
}

fn bit(status: Status) -> u8 {
    match status {
        Status::Fail => 1,
        Status::Pass => 2,
        Status::Manual => 4,
    }
}

/// Keys are hashes already.
#[derive(Debug, Default)]
pub(super) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u32 = 86_400;

    fn stored(history: History) -> Vec<Vec<u8>> {
        history
            .into_bytes()
            .chunks(CHUNK)
            .map(<[u8]>::to_vec)
            .collect()
    }

    fn loaded(chunks: &[Vec<u8>], forget_before: u32) -> History {
        let mut history = History::default();
        for chunk in chunks {
            history.load(chunk, forget_before).unwrap();
        }
        history
    }

    /// What is told of a finding whose delta holds.
    fn settled(delta: Option<Delta>, first_seen: i64) -> Past {
        Past {
            delta,
            first_seen,
            unless: None,
        }
    }

    #[test]
    fn a_finding_is_new_then_unchanged_then_changed_and_keeps_its_first_day() {
        let (new, changed) = (Some(Delta::New), Some(Delta::Changed));
        let mut first = History::default();
        assert_eq!(first.meet("a", Status::Fail, DAY, 1), settled(new, 1));
        // The same uid again in the same file: still new.
        assert_eq!(first.meet("a", Status::Fail, DAY, 1), settled(new, 1));

        let mut second = loaded(&stored(first), 0);
        assert_eq!(second.meet("a", Status::Fail, 2 * DAY, 2), settled(None, 1));

        let mut third = loaded(&stored(second), 0);
        assert_eq!(
            third.meet("a", Status::Pass, 3 * DAY, 3),
            settled(changed, 1)
        );
        let mut fourth = loaded(&stored(third), 0);
        assert_eq!(fourth.meet("a", Status::Pass, 4 * DAY, 4), settled(None, 1));
    }

    #[test]
    fn a_scan_that_does_not_see_it_changes_nothing() {
        let mut first = History::default();
        first.meet("a", Status::Fail, DAY, 1);
        first.meet("b", Status::Pass, DAY, 1);
        let mut scoped = loaded(&stored(first), 0);
        scoped.meet("b", Status::Pass, 2 * DAY, 2);
        let mut third = loaded(&stored(scoped), 0);
        assert_eq!(third.meet("a", Status::Fail, 3 * DAY, 3), settled(None, 1));
    }

    /// The deltas of a scan that met these verdicts of one uid, after one that met those.
    fn deltas(before: &[Status], now: &[Status]) -> Vec<Option<Delta>> {
        let mut first = History::default();
        for status in before {
            first.meet("a", *status, DAY, 1);
        }
        let mut second = loaded(&stored(first), 0);
        let met: Vec<_> = now
            .iter()
            .map(|status| second.meet("a", *status, 2 * DAY, 2))
            .collect();
        met.into_iter()
            .map(|past| match past.unless {
                Some(uid) if second.stays(uid) => None,
                _ => past.delta,
            })
            .collect()
    }

    #[test]
    fn the_worst_of_equal_uids_decides_what_changed_next() {
        use Status::{Fail, Manual, Pass};
        let changed = Some(Delta::Changed);
        for (before, now, expected) in [
            // The failing one is gone, or is left.
            (&[Fail, Pass][..], &[Pass][..], vec![changed]),
            (&[Pass, Fail], &[Fail], vec![None]),
            (&[Fail, Manual], &[Manual], vec![changed]),
            (&[Manual, Pass], &[Pass], vec![changed]),
            (&[Manual, Pass], &[Manual], vec![None]),
            (&[Manual, Pass], &[Fail], vec![changed]),
            (&[Pass, Pass], &[Pass], vec![None]),
            // As it was, in any order: nothing changed.
            (&[Fail, Pass], &[Fail, Pass], vec![None, None]),
            (&[Fail, Pass], &[Pass, Fail], vec![None, None]),
            (&[Manual, Pass, Fail], &[Pass, Manual, Fail], vec![None; 3]),
            // One became worse; the other is what it was.
            (
                &[Manual, Pass],
                &[Pass, Manual, Fail],
                vec![None, None, changed],
            ),
            // Another of the name came.
            (&[Fail], &[Fail, Pass], vec![None, changed]),
            (&[Pass], &[Fail, Pass], vec![changed, None]),
        ] {
            assert_eq!(deltas(before, now), expected, "{before:?} {now:?}");
        }
    }

    #[test]
    fn what_no_month_holds_any_more_is_forgotten() {
        let mut first = History::default();
        first.meet("a", Status::Fail, DAY, 1);
        first.meet("b", Status::Fail, 3 * DAY, 1);
        let mut second = loaded(&stored(first), 2 * DAY);
        assert_eq!(second.len(), 1);
        assert_eq!(
            second.meet("a", Status::Fail, 4 * DAY, 9),
            settled(Some(Delta::New), 9)
        );
    }

    #[test]
    fn a_scan_that_waited_behind_a_later_one_makes_nothing_forgotten() {
        let mut later = History::default();
        later.meet("a", Status::Fail, 3 * DAY, 1);
        let mut waited = loaded(&stored(later), 0);
        let met = waited.meet("a", Status::Fail, DAY, 2);
        assert_eq!((met.delta, met.first_seen), (None, 1));
        // The earlier day's findings go; the later one's are still there.
        let mut next = loaded(&stored(waited), 2 * DAY);
        let met = next.meet("a", Status::Fail, 4 * DAY, 3);
        assert_eq!((met.delta, met.first_seen), (None, 1));
    }

    #[test]
    fn chunks_are_bounded_and_misshapen_ones_refused() {
        let mut history = History::default();
        for uid in 0..3000 {
            history.meet(&uid.to_string(), Status::Pass, DAY, 1);
        }
        let chunks = stored(history);
        assert_eq!(
            chunks.iter().map(Vec::len).collect::<Vec<_>>(),
            [32_768, 32_768, 30_464]
        );
        assert_eq!(loaded(&chunks, 0).len(), 3000);
        assert_eq!(
            History::default().load(&[0; 33], 0).unwrap_err(),
            Misshapen(33)
        );
    }
}
