//! The resources of one account: which are known, which the present scan saw, which changed,
//! and how many failures each has.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use uuid::Uuid;

use super::history::AlreadyHashed;

/// 128 bits of a hash over all that a resource's row holds.
pub type Digest = [u8; 16];

type ById<T> = HashMap<u128, T, BuildHasherDefault<AlreadyHashed>>;

/// The account's resources.
#[derive(Debug, Default)]
pub struct Inventory {
    entries: ById<Entry>,
    /// Distinct pairs of resource and region, hashed.
    places: HashSet<u64, BuildHasherDefault<AlreadyHashed>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    digest: Digest,
    /// Failures as stored.
    before: i32,
    /// Failures of the present scan.
    failed: i32,
    /// What the present scan made of it.
    seen: Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Not,
    AsStored,
    /// New or changed: its row is written.
    Written,
}

/// A resource whose stored failures differ from those of the scan, or whose row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// The resource.
    pub id: Uuid,
    /// Its unmuted failures.
    pub failed: i32,
}

impl Inventory {
    /// Room for this many resources.
    pub fn with_capacity(resources: usize) -> Self {
        Self {
            entries: ById::with_capacity_and_hasher(resources, BuildHasherDefault::default()),
            places: HashSet::default(),
        }
    }

    /// Adds a stored resource.
    pub fn load(&mut self, id: Uuid, digest: Digest, failed: i32) {
        self.entries.insert(
            id.as_u128(),
            Entry {
                digest,
                before: failed,
                failed: 0,
                seen: Seen::Not,
            },
        );
    }

    /// Notes a resource of the scan. True: its row must be written. Only the first record of a
    /// resource counts; `digest` is not asked for again.
    pub fn meet(&mut self, id: Uuid, region: &str, digest: impl FnOnce() -> Digest) -> bool {
        self.places.insert(place(id, region));
        let entry = self.entries.entry(id.as_u128()).or_insert(Entry {
            // No content has this digest; `before` of a row that is not there is never compared.
            digest: [0; 16],
            before: 0,
            failed: 0,
            seen: Seen::Not,
        });
        if entry.seen != Seen::Not {
            return false;
        }
        let digest = digest();
        let same = entry.digest == digest;
        entry.seen = if same { Seen::AsStored } else { Seen::Written };
        entry.digest = digest;
        !same
    }

    /// Counts an unmuted failure.
    pub fn fail(&mut self, id: Uuid) {
        if let Some(entry) = self.entries.get_mut(&id.as_u128()) {
            entry.failed = entry.failed.saturating_add(1);
        }
    }

    /// Distinct pairs of resource and region, as the original counts resources.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// What must be told of failures: every written row, and every seen one whose number changed.
    pub fn tallies(&self) -> impl Iterator<Item = Tally> {
        self.entries.iter().filter_map(|(id, entry)| {
            let told = match entry.seen {
                Seen::Not => false,
                Seen::AsStored => entry.before != entry.failed,
                Seen::Written => true,
            };
            told.then_some(Tally {
                id: Uuid::from_u128(*id),
                failed: entry.failed,
            })
        })
    }
}

fn place(id: Uuid, region: &str) -> u64 {
    let mut hash = blake3::Hasher::new();
    hash.update(id.as_bytes());
    hash.update(region.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    #[test]
    fn a_row_is_written_when_it_is_new_or_changed_and_only_once() {
        let mut inventory = Inventory::default();
        inventory.load(id(1), [1; 16], 0);
        inventory.load(id(2), [2; 16], 0);
        assert!(!inventory.meet(id(1), "r", || [1; 16]));
        assert!(inventory.meet(id(2), "r", || [9; 16]));
        assert!(!inventory.meet(id(2), "r", || [2; 16]));
        assert!(inventory.meet(id(3), "r", || [3; 16]));
    }

    #[test]
    fn only_numbers_that_changed_and_written_rows_are_told() {
        let mut inventory = Inventory::default();
        for (n, failed) in [(1, 1), (2, 1), (3, 4)] {
            inventory.load(id(n), [1; 16], failed);
        }
        for n in [1, 2, 4] {
            inventory.meet(id(n), "r", || [1; 16]);
        }
        inventory.fail(id(1));
        let mut told: Vec<_> = inventory.tallies().map(|t| (t.id, t.failed)).collect();
        told.sort();
        // 1 is as before, 3 was not seen: a scoped scan says nothing of it.
        assert_eq!(told, [(id(2), 0), (id(4), 0)]);
    }

    #[test]
    fn a_resource_in_two_regions_counts_twice() {
        let mut inventory = Inventory::default();
        inventory.meet(id(1), "a", || [1; 16]);
        inventory.meet(id(1), "b", || [1; 16]);
        inventory.meet(id(1), "a", || [1; 16]);
        assert_eq!(inventory.places(), 2);
    }
}
