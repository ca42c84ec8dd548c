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
    /// Rows written since a reload began, while it lasts: its answer is older than these.
    written: Option<HashMap<ObjectUid, Option<Mirror>>>,
}

impl State {
    fn put(&mut self, object: ObjectUid, mirror: Option<Mirror>) {
        match mirror {
            Some(mirror) => self.rows.insert(object, mirror),
            None => self.rows.remove(&object),
        };
        if let Some(written) = &mut self.written {
            written.insert(object, mirror);
        }
    }
}

impl Mirrors {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Reads all rows again.
    pub async fn load(&self, admin: &AdminStore) -> Result<(), StoreError> {
        self.lock().written = Some(HashMap::new());
        let fresh = ownership::mirrors(admin).await;
        let mut state = self.lock();
        let written = state.written.take().unwrap_or_default();
        state.rows = fresh?
            .into_iter()
            .map(|mirror| (mirror.object, mirror))
            .collect();
        for (object, mirror) in written {
            state.put(object, mirror);
        }
        Ok(())
    }

    pub(super) fn get(&self, object: ObjectUid) -> Option<Mirror> {
        self.lock().rows.get(&object).copied()
    }

    pub(super) fn set(&self, mirror: Mirror) {
        self.lock().put(mirror.object, Some(mirror));
    }

    /// The next pass over this object reads the rows: its last scan changed.
    pub(super) fn forget(&self, object: ObjectUid) {
        self.lock().put(object, None);
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
