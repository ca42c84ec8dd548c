//! Calls for passes that no watch would bring: one kind's commit changed rows another kind's
//! status speaks of, or a scan was admitted. Lost calls are harmless: the timer's pass comes.

use futures::Stream;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::{Mutex, broadcast};

use crate::api::{Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant};
use crate::domain::ids::ObjectName;

const CAPACITY: usize = 4096;

/// One channel per kind.
#[derive(Debug)]
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

#[derive(Debug)]
struct Channel<K: Resource<DynamicType = ()>> {
    sender: broadcast::Sender<ObjectRef<K>>,
    // Kept so that sending before the controller listens is not an error.
    _receiver: Mutex<broadcast::Receiver<ObjectRef<K>>>,
}

impl<K: Resource<DynamicType = ()>> Default for Channel<K> {
    fn default() -> Self {
        let (sender, receiver) = broadcast::channel(CAPACITY);
        Self { sender, _receiver: Mutex::new(receiver) }
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
    #[doc(hidden)]
    fn sender(wake: &Wake) -> &broadcast::Sender<ObjectRef<Self>>;
}

macro_rules! wakes {
    ($($kind:ident => $field:ident),*) => {$(
        impl Wakes for $kind {
            fn sender(wake: &Wake) -> &broadcast::Sender<ObjectRef<Self>> {
                &wake.$field.sender
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
        let _ = K::sender(self).send(object);
    }

    /// Asks for a pass over the object of this name.
    pub fn call_named<K: Wakes>(&self, name: &ObjectName) {
        self.call(ObjectRef::<K>::new(&name.name).within(&name.namespace));
    }

    /// The calls for one kind, as a stream for its controller. A listener that fell behind
    /// goes on with the newest calls; the timer's pass makes up for the rest.
    pub fn listen<K: Wakes>(&self) -> impl Stream<Item = ObjectRef<K>> + Send + 'static {
        futures::stream::unfold(K::sender(self).subscribe(), |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(object) => return Some((object, receiver)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
    }
}
