//! What is stored of each provider, held in memory: a settled pass compares and is done, so
//! that ten thousand settled objects cost one query at start and not ten thousand.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::domain::ids::{ObjectUid, ProviderId};
use crate::store::admin::ownership::{self, Mirror};
use crate::store::{AdminStore, StoreError};

/// What is stored of each provider, by object: a settled pass compares and is done.
#[derive(Debug, Default)]
pub struct Mirrors(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rows: HashMap<ObjectUid, Mirror>,
    /// Rows written since a reload began: the reload's answer is older than these.
    written: HashMap<ObjectUid, Option<Mirror>>,
}

impl Mirrors {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Reads all rows again.
    pub async fn load(&self, admin: &AdminStore) -> Result<(), StoreError> {
        self.lock().written.clear();
        let fresh = ownership::mirrors(admin).await?;
        let mut state = self.lock();
        state.rows = fresh
            .into_iter()
            .map(|mirror| (mirror.object, mirror))
            .collect();
        for (object, mirror) in std::mem::take(&mut state.written) {
            match mirror {
                Some(mirror) => state.rows.insert(object, mirror),
                None => state.rows.remove(&object),
            };
        }
        Ok(())
    }

    pub(super) fn get(&self, object: ObjectUid) -> Option<Mirror> {
        self.lock().rows.get(&object).copied()
    }

    pub(super) fn set(&self, mirror: Mirror) {
        let mut state = self.lock();
        state.rows.insert(mirror.object, mirror);
        state.written.insert(mirror.object, Some(mirror));
    }

    /// The next pass over this object reads the rows: its last scan changed.
    pub(super) fn forget(&self, object: ObjectUid) {
        let mut state = self.lock();
        state.rows.remove(&object);
        state.written.insert(object, None);
    }

    /// The same for whichever object stands for this row.
    pub(super) fn forget_row(&self, provider: ProviderId) {
        let objects: Vec<_> = self
            .lock()
            .rows
            .values()
            .filter(|mirror| mirror.provider == provider)
            .map(|mirror| mirror.object)
            .collect();
        for object in objects {
            self.forget(object);
        }
    }
}
