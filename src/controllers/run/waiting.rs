//! How many objects of a kind wait for a pass. The runtime that queues them does not tell: what
//! goes into it is counted here, and what comes out.
//!
//! An object that is to be looked at again after a pause is not counted while the pause lasts.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The objects of a kind that were called for a pass which has not begun.
#[derive(Clone)]
pub(super) struct Waiting {
    state: Arc<Mutex<State>>,
    begun: Arc<Notify>,
    depth: Gauge,
    /// How long each object rests in the queue, whatever the pace.
    debounce: Duration,
}

struct State {
    called: HashSet<Place>,
    /// How many are kept out of the queue until it has room.
    later: usize,
    /// When the last batch was let in, and how many passes have begun since.
    since: Instant,
    begun: usize,
    /// How many of it may still come.
    batch: usize,
}

/// A batch is what is done in this time at the pace of the one before.
const BATCH: Duration = Duration::from_millis(500);
/// As small as the first one.
const LEAST: usize = 16;
/// What is done sooner says nothing of a pace.
const SHORTEST: Duration = Duration::from_millis(5);
/// Changes that never end do not keep the next batch out for ever.
const LATEST: Duration = Duration::from_secs(2);

/// Namespace and name.
type Place = (Option<String>, String);

fn place<K: Resource>(object: &ObjectRef<K>) -> Place {
    (object.namespace.clone(), object.name.clone())
}

impl Waiting {
    pub(super) fn new(depth: Gauge, debounce: Duration) -> Self {
        let state = State {
            called: HashSet::new(),
            later: 0,
            since: Instant::now(),
            begun: 0,
            batch: LEAST,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            begun: Arc::default(),
            depth,
            debounce,
        }
    }

    /// A pass over the object is due. However often it is called, it waits for one pass.
    pub(super) fn called<K: Resource>(&self, object: &ObjectRef<K>) {
        self.change(|state| state.called.insert(place(object)));
    }

    /// A pass over the object begins; or there is no such object, and none will.
    pub(super) fn begun<K: Resource>(&self, object: &ObjectRef<K>) {
        self.change(|state| {
            state.begun += 1;
            state.called.remove(&place(object))
        });
        self.begun.notify_waiters();
    }

    /// So many wait outside until the queue has room.
    pub(super) fn later(&self, count: usize) {
        self.change(|state| std::mem::replace(&mut state.later, count) != count);
    }

    /// Whether another of those outside may join the queue. They come in batches, each when the
    /// one before is done: the queue has no order that could be relied on, and whoever is in it
    /// when others keep coming may be the last of all.
    pub(super) fn has_room(&self) -> bool {
        let mut state = self.lock();
        let since = state.since.elapsed();
        if state.batch == 0 && (state.called.is_empty() || since > LATEST) {
            let begun = u32::try_from(state.begun).unwrap_or(u32::MAX);
            let worked = since.saturating_sub(self.debounce).max(SHORTEST);
            let next = BATCH.saturating_mul(begun).as_micros() / worked.as_micros();
            state.batch = LEAST.max(usize::try_from(next).unwrap_or(usize::MAX));
            state.begun = 0;
            state.since = Instant::now();
        }
        let has_room = state.batch > 0;
        state.batch = state.batch.saturating_sub(1);
        has_room
    }

    /// Waits until a pass begins.
    pub(super) async fn begins(&self) {
        self.begun.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.lock();
        if change(&mut state) {
            let depth = state.called.len() + state.later;
            self.depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Scan;

    #[test]
    fn an_object_waits_once_however_often_it_is_called() {
        let depth = Gauge::default();
        let waiting = Waiting::new(depth.clone(), Duration::ZERO);
        let of = |name: &str| ObjectRef::<Scan>::new(name).within("n");
        waiting.called(&of("a"));
        waiting.called(&of("b"));
        waiting.called(&of("a"));
        assert_eq!(depth.get(), 2);
        waiting.begun(&of("a"));
        waiting.begun(&of("a"));
        assert_eq!(depth.get(), 1);
        // Of the same name in another namespace.
        waiting.begun(&ObjectRef::<Scan>::new("b").within("m"));
        assert_eq!(depth.get(), 1);
        waiting.begun(&of("b"));
        assert_eq!(depth.get(), 0);
    }
}
