//! How many objects of a kind wait for a pass. The runtime that queues them does not tell: what
//! goes into it is counted here, and what comes out.
//!
//! An object that is to be looked at again after a pause is not counted while the pause lasts.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use prometheus_client::metrics::gauge::Gauge;

/// The objects of a kind that were called for a pass which has not begun.
#[derive(Clone)]
pub(super) struct Waiting {
    called: Arc<Mutex<HashSet<Place>>>,
    depth: Gauge,
}

/// Namespace and name.
type Place = (Option<String>, String);

fn place<K: Resource>(object: &ObjectRef<K>) -> Place {
    (object.namespace.clone(), object.name.clone())
}

impl Waiting {
    pub(super) fn new(depth: Gauge) -> Self {
        Self {
            called: Arc::default(),
            depth,
        }
    }

    /// A pass over the object is due. However often it is called, it waits for one pass.
    pub(super) fn called<K: Resource>(&self, object: &ObjectRef<K>) {
        self.change(|called| called.insert(place(object)));
    }

    /// A pass over the object begins; or there is no such object, and none will.
    pub(super) fn begun<K: Resource>(&self, object: &ObjectRef<K>) {
        self.change(|called| called.remove(&place(object)));
    }

    fn change(&self, change: impl FnOnce(&mut HashSet<Place>) -> bool) {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut called) {
            let depth = i64::try_from(called.len()).unwrap_or(i64::MAX);
            self.depth.set(depth);
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
