//! Calls for passes that no watch would bring: one kind's commit changed rows another kind's
//! status speaks of, or a scan was admitted. Lost calls are harmless: the timer's pass comes.

use std::sync::OnceLock;

use futures::Stream;
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
    objects: OnceLock<Store<DeserializeGuard<K>>>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Default for Channel<K> {
    fn default() -> Self {
        Self {
            sender: broadcast::channel(CAPACITY).0,
            objects: OnceLock::new(),
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
pub trait Wakes: Resource<DynamicType = ()> + Clone + Send + 'static {
    /// This kind's channel.
    fn channel(wake: &Wake) -> &Channel<Self>;
}

macro_rules! wakes {
    ($($kind:ident => $field:ident),*) => {$(
        impl Wakes for $kind {
            fn channel(wake: &Wake) -> &Channel<Self> {
                &wake.$field
            }
        }
    )*};
}

wakes!(Tenant => tenants, Provider => providers, ProviderGroup => groups, Role => roles,
       ScanSchedule => schedules, Scan => scans);

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

    /// The calls for one kind, as a stream for its controller. A listener that fell behind
    /// goes on with the newest calls; the timer's pass makes up for the rest.
    pub fn listen<K: Wakes>(&self) -> impl Stream<Item = ObjectRef<K>> + Send + 'static {
        futures::stream::unfold(
            K::channel(self).sender.subscribe(),
            |mut receiver| async move {
                loop {
                    match receiver.recv().await {
                        Ok(object) => return Some((object, receiver)),
                        Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return None,
                    }
                }
            },
        )
    }
}
