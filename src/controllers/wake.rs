//! Calls for passes that no watch would bring: one kind's commit changed rows another kind's
//! status speaks of, or a scan was admitted. Lost calls are harmless: the timer's pass comes.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use tokio::sync::broadcast;

use crate::api::{Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant};
use crate::domain::ids::ObjectName;

const CAPACITY: usize = 4096;

/// One channel per kind.
pub struct Wake {
    tenants: Channel<Tenant>,
    providers: Channel<Provider>,
    groups: Channel<ProviderGroup>,
    roles: Channel<Role>,
    schedules: Channel<ScanSchedule>,
    scans: Channel<Scan>,
    /// Rung when a scan may have become admissible.
    pub admission: tokio::sync::Notify,
}

/// Calls for one kind, and the objects of it that the watch has shown.
pub struct Channel<K: Resource<DynamicType = ()> + Clone + 'static> {
    sender: broadcast::Sender<ObjectRef<K>>,
    objects: Arc<OnceLock<Store<DeserializeGuard<K>>>>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Default for Channel<K> {
    fn default() -> Self {
        Self {
            sender: broadcast::channel(CAPACITY).0,
            objects: Arc::default(),
        }
    }
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            tenants: Channel::default(),
            providers: Channel::default(),
            groups: Channel::default(),
            roles: Channel::default(),
            schedules: Channel::default(),
            scans: Channel::default(),
            admission: tokio::sync::Notify::new(),
        }
    }
}

/// A kind that can be called for a pass.
pub trait Wakes: Resource<DynamicType = ()> + Clone + Send + Sync + 'static {
    /// Between two rounds of calls; within one, each object is called once.
    const PAUSE: Duration;

    /// This kind's channel.
    fn channel(wake: &Wake) -> &Channel<Self>;
}

/// A Tenant is called to count anew, by each of its Providers and scans: without a pause ten
/// thousand new Providers would cost as many passes over Tenants.
const TENANTS_PAUSE: Duration = Duration::from_secs(2);

macro_rules! wakes {
    ($($kind:ident => $field:ident, $pause:expr;)*) => {$(
        impl Wakes for $kind {
            const PAUSE: Duration = $pause;

            fn channel(wake: &Wake) -> &Channel<Self> {
                &wake.$field
            }
        }
    )*};
}

wakes! {
    Tenant => tenants, TENANTS_PAUSE;
    Provider => providers, Duration::ZERO;
    ProviderGroup => groups, Duration::ZERO;
    Role => roles, Duration::ZERO;
    ScanSchedule => schedules, Duration::ZERO;
    Scan => scans, Duration::ZERO;
}

impl Wake {
    /// Asks for a pass over this object.
    pub fn call<K: Wakes>(&self, object: ObjectRef<K>) {
        // An error means that nobody listens, which happens only while stopping.
        let _ = K::channel(self).sender.send(object);
    }

    /// Asks for a pass over the object of this name.
    pub fn call_named<K: Wakes>(&self, name: &ObjectName) {
        self.call(ObjectRef::<K>::new(&name.name).within(&name.namespace));
    }

    /// Remembers where the watch keeps the objects of a kind.
    pub fn remember<K: Wakes>(&self, objects: Store<DeserializeGuard<K>>) {
        // A second controller of the kind in one process (tests) leaves the first in place.
        let _ = K::channel(self).objects.set(objects);
    }

    /// The objects of a kind that the watch has shown; none where nothing watches.
    pub fn known<K: Wakes>(&self) -> Option<Vec<Arc<DeserializeGuard<K>>>> {
        K::channel(self).objects.get().map(Store::state)
    }

    /// Asks for a pass over every object of a kind in these namespaces.
    pub fn call_all<K: Wakes>(&self, namespaces: &[String]) {
        let Some(objects) = K::channel(self).objects.get() else {
            return;
        };
        for object in objects.state() {
            if let Some(namespace) = object.namespace().filter(|n| namespaces.contains(n)) {
                self.call(ObjectRef::<K>::new(&object.name_any()).within(&namespace));
            }
        }
    }

    /// Asks for a pass over the objects of a kind for which `wanted` holds.
    pub fn call_where<K: Wakes>(&self, wanted: impl Fn(&K) -> bool) {
        let Some(objects) = K::channel(self).objects.get() else {
            return;
        };
        for object in objects.state() {
            if let Ok(object) = &object.0
                && wanted(object)
            {
                self.call(ObjectRef::from_obj(object));
            }
        }
    }

    /// The calls for one kind, as a stream for its controller: at once, and while its pause
    /// lasts gathered for the next round.
    pub fn listen<K: Wakes>(&self) -> impl Stream<Item = ObjectRef<K>> + Send + 'static {
        self.calls().ready_chunks(CAPACITY).flat_map(|round| {
            let called: HashSet<ObjectRef<K>> = round.into_iter().collect();
            let pause = stream::once(tokio::time::sleep(K::PAUSE));
            stream::iter(called).chain(pause.filter_map(|()| std::future::ready(None)))
        })
    }

    /// Every single call. A listener that fell behind does not know whom it missed, so that
    /// every object of the kind is called instead.
    fn calls<K: Wakes>(&self) -> impl Stream<Item = ObjectRef<K>> + Send + 'static {
        let channel = K::channel(self);
        let state = (
            channel.sender.subscribe(),
            channel.objects.clone(),
            Vec::new(),
        );
        futures::stream::unfold(state, |(mut receiver, objects, mut missed)| async move {
            loop {
                if let Some(object) = missed.pop() {
                    return Some((object, (receiver, objects, missed)));
                }
                match receiver.recv().await {
                    Ok(object) => return Some((object, (receiver, objects, missed))),
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        missed = objects.get().map(references).unwrap_or_default();
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
    }
}

fn references<K: Wakes>(objects: &Store<DeserializeGuard<K>>) -> Vec<ObjectRef<K>> {
    let reference = |object: &DeserializeGuard<K>| {
        let mut reference = ObjectRef::<K>::new(&object.name_any());
        reference.namespace = object.namespace();
        reference
    };
    objects.state().iter().map(|o| reference(o)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenant_called_often_gets_one_call_a_round() {
        let wake = Wake::default();
        let mut calls = std::pin::pin!(wake.listen::<Tenant>());
        let tenant = ObjectRef::<Tenant>::new("t");
        for _ in 0..100 {
            wake.call(tenant.clone());
        }
        assert_eq!(calls.next().await, Some(tenant.clone()));
        wake.call(tenant);
        let second = tokio::time::timeout(Duration::from_millis(50), calls.next());
        assert!(second.await.is_err());
    }
}
