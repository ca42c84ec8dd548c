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
}

struct State {
    called: HashSet<Place>,
    /// How many are kept out of the queue until it has room.
    later: usize,
    /// When the passes of this stretch were begun to be counted, and how many have begun.
    since: Instant,
    begun: usize,
    /// How many may wait in the queue.
    room: usize,
}

/// A stretch over which the pace is taken.
const STRETCH: Duration = Duration::from_millis(250);
/// That many may wait in any case.
const LEAST: usize = 64;

/// Namespace and name.
type Place = (Option<String>, String);

fn place<K: Resource>(object: &ObjectRef<K>) -> Place {
    (object.namespace.clone(), object.name.clone())
}

impl Waiting {
    pub(super) fn new(depth: Gauge) -> Self {
        let state = State {
            called: HashSet::new(),
            later: 0,
            since: Instant::now(),
            begun: 0,
            room: LEAST,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            begun: Arc::default(),
            depth,
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

    /// Whether another one may join the queue: what is in it is done in about half a second, at
    /// the pace of late.
    pub(super) fn has_room(&self) -> bool {
        let mut state = self.lock();
        if state.since.elapsed() >= STRETCH {
            state.room = LEAST.max(2 * state.begun);
            state.begun = 0;
            state.since = Instant::now();
        }
        // A stretch that goes faster than the last one need not wait for its end.
        state.called.len() < state.room.max(2 * state.begun)
    }

    /// Waits until a pass begins.
    pub(super) async fn room(&self) {
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
        let waiting = Waiting::new(depth.clone());
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
