//! Calls in a measure that passes can keep up with: few for one object, and few in sum.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;
use tokio_util::time::DelayQueue;

use super::Wakes;

/// Time between two calls for one object, which doubles as long as calls keep coming, and between
/// two calls for any.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    /// After a call that came out of silence.
    pub(super) least: Duration,
    /// In a flood of calls.
    pub(super) most: Duration,
    /// Between the calls for all objects of the kind; the first few come as they are made.
    pub(super) each: Duration,
}

/// Calls that come as they are made, however many objects they are for.
const AT_ONCE: u32 = 20;

/// At most one call for an object in each pause, and one for any in `each`.
pub(super) fn paced<K: Wakes>(
    calls: impl Stream<Item = ObjectRef<K>> + Send + 'static,
    pause: Pause,
) -> impl Stream<Item = ObjectRef<K>> + Send + 'static {
    let pacing = Pacing {
        calls: Box::pin(calls),
        pause,
        resting: HashMap::new(),
        pauses: DelayQueue::new(),
        due: VecDeque::new(),
        next: Instant::now(),
    };
    stream::unfold(pacing, async |mut pacing| {
        pacing.next().await.map(|object| (object, pacing))
    })
}

struct Pacing<S, K: Wakes> {
    calls: Pin<Box<S>>,
    pause: Pause,
    /// Objects that wait for their turn, or whose pause lasts.
    resting: HashMap<ObjectRef<K>, Resting>,
    pauses: DelayQueue<ObjectRef<K>>,
    /// In the order of their turns.
    due: VecDeque<ObjectRef<K>>,
    /// When there may be a call, were it not for [`AT_ONCE`].
    next: Instant,
}

struct Resting {
    pause: Duration,
    called_again: bool,
}

impl<S: Stream<Item = ObjectRef<K>>, K: Wakes> Pacing<S, K> {
    async fn next(&mut self) -> Option<ObjectRef<K>> {
        loop {
            // Of a silence no more is kept than this.
            let early = self.pause.each * (AT_ONCE - 1);
            let turn = self.next.checked_sub(early).unwrap_or(self.next);
            tokio::select! {
                // Whatever was called so far is what the next turn is for.
                biased;
                called = self.calls.next() => self.called(called?),
                Some(over) = self.pauses.next() => self.rested(over.into_inner()),
                () = tokio::time::sleep_until(turn), if !self.due.is_empty() => {
                    let Some(object) = self.due.pop_front() else { continue };
                    self.next = self.next.max(Instant::now()) + self.pause.each;
                    if let Some(resting) = self.resting.get_mut(&object) {
                        resting.called_again = false;
                        self.pauses.insert(object.clone(), resting.pause);
                    }
                    return Some(object);
                }
            }
        }
    }

    fn called(&mut self, object: ObjectRef<K>) {
        if let Some(resting) = self.resting.get_mut(&object) {
            resting.called_again = true;
            return;
        }
        self.is_due(object, self.pause.least);
    }

    fn rested(&mut self, object: ObjectRef<K>) {
        if let Some(rested) = self.resting.remove(&object)
            && rested.called_again
        {
            self.is_due(object, self.pause.most.min(rested.pause * 2));
        }
    }

    fn is_due(&mut self, object: ObjectRef<K>, pause: Duration) {
        let resting = Resting {
            pause,
            called_again: false,
        };
        self.resting.insert(object.clone(), resting);
        self.due.push_back(object);
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;

    use super::*;
    use crate::api::Tenant;
    use crate::controllers::wake::Wake;

    #[tokio::test]
    async fn a_tenant_called_often_gets_one_call_in_each_pause() {
        let pause = Pause {
            least: Duration::from_millis(500),
            most: Duration::from_secs(1),
            each: Duration::ZERO,
        };
        let wake = Wake::default();
        let mut calls = std::pin::pin!(paced(wake.calls::<Tenant>(mpsc::unbounded().0), pause));
        let (often, once) = (ObjectRef::new("often"), ObjectRef::new("once"));
        for _ in 0..100 {
            wake.call::<Tenant>(often.clone());
        }
        wake.call(once.clone());
        assert_eq!(calls.next().await, Some(often.clone()), "at once");
        wake.call::<Tenant>(often.clone());
        assert_eq!(calls.next().await, Some(once), "others do not wait");
        assert_eq!(calls.next().await, Some(often.clone()), "after its pause");
        wake.call(often.clone());
        let soon = tokio::time::timeout(pause.least, calls.next());
        assert!(soon.await.is_err(), "its pause has doubled");
        assert_eq!(calls.next().await, Some(often.clone()));
        let more = tokio::time::timeout(pause.most * 2, calls.next());
        assert!(more.await.is_err(), "nobody called again");
        wake.call(often.clone());
        assert_eq!(calls.next().await, Some(often), "rested");
    }

    #[tokio::test]
    async fn the_first_tenants_are_called_at_once_and_the_others_in_turn() {
        let pause = |each| Pause {
            least: Duration::from_millis(500),
            most: Duration::from_secs(1),
            each,
        };
        let tenant = |n| ObjectRef::<Tenant>::new(&format!("t{n}"));
        let wake = Wake::default();
        let long = pause(Duration::from_mins(1));
        let mut calls = std::pin::pin!(paced(wake.calls::<Tenant>(mpsc::unbounded().0), long));
        for n in 0..=AT_ONCE {
            wake.call(tenant(n));
        }
        for n in 0..AT_ONCE {
            assert_eq!(calls.next().await, Some(tenant(n)), "at once");
        }
        let soon = tokio::time::timeout(long.most, calls.next());
        assert!(soon.await.is_err(), "the others wait for their turns");

        let short = pause(Duration::from_millis(200));
        let wake = Wake::default();
        let mut calls = std::pin::pin!(paced(wake.calls::<Tenant>(mpsc::unbounded().0), short));
        for n in 0..AT_ONCE + 3 {
            wake.call(tenant(n));
            // Until its turn comes it is one call, however often it is called.
            wake.call(tenant(n));
        }
        for n in 0..AT_ONCE + 3 {
            assert_eq!(calls.next().await, Some(tenant(n)));
        }
        let more = tokio::time::timeout(short.most, calls.next());
        assert!(
            more.await.is_err(),
            "what was called before its turn had it"
        );
    }
}
