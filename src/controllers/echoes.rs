//! The watch's echo of what a pass wrote itself: it says nothing that the pass did not know.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::{Resource, ResourceExt};

/// The version of each object that the last status of ours made.
#[derive(Debug, Default)]
pub struct Echoes(Mutex<HashMap<String, String>>);

impl Echoes {
    /// A status of ours was written, and this is the object as it is since.
    pub fn wrote<K: Resource>(&self, object: &K) {
        if let (Some(uid), Some(version)) = (object.uid(), object.resource_version()) {
            self.written().insert(uid, version);
        }
    }

    /// A pass over this copy had nothing to write. Where a later version is ours, the copy was older
    /// than that: what it says is to be looked at when it is shown.
    pub fn looked_at<K: Resource>(&self, object: &K) {
        let uid = object.uid().unwrap_or_default();
        let mut written = self.written();
        if written
            .get(&uid)
            .is_some_and(|version| Some(version) != object.resource_version().as_ref())
        {
            written.remove(&uid);
        }
    }

    /// The object is gone: nothing of it will be shown again.
    pub fn forget<K: Resource>(&self, object: &K) {
        let uid = object.uid().unwrap_or_default();
        self.written().remove(&uid);
    }

    fn written(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the object is as our own writing left it. Asked once: an object that a later list
    /// shows so is looked at.
    pub fn is_own<K: Resource>(&self, object: &K) -> bool {
        let mut written = self.written();
        let uid = object.uid().unwrap_or_default();
        let own = written
            .get(&uid)
            .is_some_and(|version| Some(version) == object.resource_version().as_ref());
        if own {
            written.remove(&uid);
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Tenant;

    fn tenant(version: &str) -> Tenant {
        let meta = json!({ "name": "t", "uid": "u", "resourceVersion": version });
        serde_json::from_value(json!({ "metadata": meta, "spec": {} })).unwrap()
    }

    #[test]
    fn only_what_was_written_last_is_an_echo_and_only_once() {
        let echoes = Echoes::default();
        assert!(!echoes.is_own(&tenant("1")));
        echoes.wrote(&tenant("2"));
        assert!(!echoes.is_own(&tenant("1")), "somebody else's, seen late");
        assert!(!echoes.is_own(&tenant("3")), "somebody else's, after ours");
        assert!(echoes.is_own(&tenant("2")));
        assert!(!echoes.is_own(&tenant("2")), "shown again: looked at");
        echoes.wrote(&tenant("4"));
        echoes.looked_at(&tenant("2"));
        assert!(
            !echoes.is_own(&tenant("4")),
            "a pass over an older copy was content with that"
        );
        echoes.wrote(&tenant("4"));
        echoes.looked_at(&tenant("4"));
        assert!(
            echoes.is_own(&tenant("4")),
            "shown again, while a list is read"
        );
        echoes.wrote(&tenant("4"));
        echoes.forget(&tenant("5"));
        assert!(
            echoes.written().is_empty(),
            "nothing is kept of what is gone"
        );
    }
}
