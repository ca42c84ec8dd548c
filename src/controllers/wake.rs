//! Calls for passes that no watch would bring: one kind's commit changed rows another kind's
//! status speaks of, or a scan was admitted. Lost calls are harmless: every
//! object is called once in an hour ([`Wake::call_share`]).

mod paced;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _, stream};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use tokio::sync::broadcast;

pub use self::paced::Pause;
use self::paced::paced;
use crate::api::{
    Integration, MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant,
};
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
    integrations: Channel<Integration>,
    mute_rules: Channel<MuteRule>,
    /// Rung when a scan may have become admissible.
    pub admission: tokio::sync::Notify,
    /// Rung when a schedule may be due earlier than any before.
    pub due: tokio::sync::Notify,
    /// Rung when a connection check may have become due, or a place free.
    pub checks: tokio::sync::Notify,
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
            integrations: Channel::default(),
            mute_rules: Channel::default(),
            admission: tokio::sync::Notify::new(),
            due: tokio::sync::Notify::new(),
            checks: tokio::sync::Notify::new(),
        }
    }
}

/// A kind that can be called for a pass.
pub trait Wakes: Resource<DynamicType = ()> + Clone + Send + Sync + 'static {
    /// Between two calls for one object; `None`: no pause.
    const PAUSE: Option<Pause>;

    /// This kind's channel.
    fn channel(wake: &Wake) -> &Channel<Self>;
}

/// A Tenant is called to count anew by each of its Providers and scans, and shows only how many
/// there are: without a pause ten thousand new Providers would cost as many passes over Tenants.
/// With one for each Tenant alone, ten thousand of a thousand Tenants would cost nearly as many.
const TENANTS: Pause = Pause {
    least: Duration::from_secs(2),
    most: Duration::from_mins(1),
    each: Duration::from_millis(100),
};

/// A schedule is called by each of its scans, and its pass waits until calls have ceased for a moment:
/// without a pause, scans that end one after the other would keep it from making those that are due.
const SCHEDULES: Pause = Pause {
    least: Duration::from_secs(1),
    most: Duration::from_secs(2),
    each: Duration::ZERO,
};

macro_rules! wakes {
    ($($kind:ident => $field:ident, $pause:expr;)*) => {$(
        impl Wakes for $kind {
            const PAUSE: Option<Pause> = $pause;

            fn channel(wake: &Wake) -> &Channel<Self> {
                &wake.$field
            }
        }
    )*};
}

wakes! {
    Tenant => tenants, Some(TENANTS);
    Provider => providers, None;
    ProviderGroup => groups, None;
    Role => roles, None;
    ScanSchedule => schedules, Some(SCHEDULES);
    Scan => scans, None;
    Integration => integrations, None;
    MuteRule => mute_rules, None;
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
        self.call_those::<K>(|object| {
            let namespace = &object.meta().namespace;
            namespace.as_ref().is_some_and(|n| namespaces.contains(n))
        });
    }

    /// Asks for a pass over the objects of a kind for which `wanted` holds.
    pub fn call_where<K: Wakes>(&self, wanted: impl Fn(&K) -> bool) {
        self.call_those::<K>(|object| object.0.as_ref().is_ok_and(&wanted));
    }

    /// Asks for passes over one of `shares` shares of the objects of every kind.
    pub fn call_share(&self, share: u64, shares: u64) {
        self.call_share_of::<Tenant>(share, shares);
        self.call_share_of::<Provider>(share, shares);
        self.call_share_of::<ProviderGroup>(share, shares);
        self.call_share_of::<Role>(share, shares);
        self.call_share_of::<ScanSchedule>(share, shares);
        self.call_share_of::<Scan>(share, shares);
        self.call_share_of::<Integration>(share, shares);
        self.call_share_of::<MuteRule>(share, shares);
    }

    fn call_share_of<K: Wakes>(&self, share: u64, shares: u64) {
        // Also those that do not decode: their status is to say so.
        self.call_those::<K>(|object| {
            let mut hash = DefaultHasher::new();
            object.meta().uid.hash(&mut hash);
            hash.finish() % shares == share
        });
    }

    fn call_those<K: Wakes>(&self, wanted: impl Fn(&DeserializeGuard<K>) -> bool) {
        for object in self.known::<K>().unwrap_or_default() {
            if wanted(&object) {
                self.call(reference(&*object));
            }
        }
    }

    /// The calls for one kind, as a stream for its controller: the first for an object at once,
    /// those that come while its pause lasts as one at its end. A listener that fell behind does
    /// not know whom it missed: it is told so by `missed`, and to call every object of the kind.
    pub fn listen<K: Wakes>(
        &self,
        missed: mpsc::UnboundedSender<()>,
    ) -> impl Stream<Item = ObjectRef<K>> + Send + 'static {
        let calls = self.calls(missed);
        match K::PAUSE {
            None => calls.left_stream(),
            Some(pause) => paced(calls, pause).right_stream(),
        }
    }

    /// Every single call.
    fn calls<K: Wakes>(
        &self,
        missed: mpsc::UnboundedSender<()>,
    ) -> impl Stream<Item = ObjectRef<K>> + Send + 'static {
        let state = (K::channel(self).sender.subscribe(), missed);
        stream::unfold(state, async |(mut receiver, missed)| {
            loop {
                match receiver.recv().await {
                    Ok(object) => return Some((object, (receiver, missed))),
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        // An error means that nobody listens, which happens only while stopping.
                        let _ = missed.unbounded_send(());
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
    }
}

fn reference<K: Wakes>(object: &DeserializeGuard<K>) -> ObjectRef<K> {
    let mut reference = ObjectRef::<K>::new(&object.name_any());
    reference.namespace = object.namespace();
    reference
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;

    use super::*;

    #[tokio::test]
    async fn the_shares_call_every_object_once() {
        let (reader, mut writer) = reflector::store();
        for number in 0..100 {
            let object = serde_json::json!({
                "metadata": { "name": format!("p{number}"), "namespace": "n", "uid": format!("uid-{number}") },
                // Some do not decode.
                "spec": if number % 2 == 0 { serde_json::json!({}) } else { serde_json::Value::Null },
            });
            let object: DeserializeGuard<Provider> = serde_json::from_value(object).unwrap();
            writer.apply_watcher_event(&Event::Apply(object));
        }
        let wake = Wake::default();
        wake.remember::<Provider>(reader);
        let mut calls = std::pin::pin!(wake.listen::<Provider>(mpsc::unbounded().0));
        let mut called = Vec::new();
        for share in 0..7 {
            wake.call_share(share, 7);
            let before = called.len();
            while let Some(Some(object)) = calls.next().now_or_never() {
                called.push(object.name);
            }
            assert!((5..30).contains(&(called.len() - before)), "even shares");
        }
        called.sort();
        called.dedup();
        assert_eq!(called.len(), 100);
    }
}
