//! Objects that are looked at again though nothing of them changed: all of a kind, after each list
//! of its watch. They are fed to the queue a little at a time, so that what a user changes
//! meanwhile waits half a second and not for ten thousand others.

use std::collections::VecDeque;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use kube::Resource;
use kube::runtime::reflector::ObjectRef;

use super::waiting::Waiting;

/// The net under a begin of a pass that nobody told of.
const AT_LEAST_EVERY: Duration = Duration::from_millis(50);

/// The objects of `lists`, each as soon as the queue has room for it.
pub(super) fn fed<K>(
    lists: impl Stream<Item = Vec<ObjectRef<K>>> + Send + 'static,
    waiting: Waiting,
) -> impl Stream<Item = ObjectRef<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    let state = (Box::pin(lists), VecDeque::new(), waiting);
    stream::unfold(state, async |(mut lists, mut pending, waiting)| {
        loop {
            if pending.is_empty() {
                pending.extend(lists.next().await?);
            } else if waiting.has_room() {
                let object: ObjectRef<K> = pending.pop_front()?;
                waiting.called(&object);
                waiting.later(pending.len());
                return Some((object, (lists, pending, waiting)));
            } else {
                tokio::select! {
                    Some(more) = lists.next() => {
                        // All of the kind again: those that still wait are among them.
                        pending = more.into();
                    }
                    () = waiting.room() => {}
                    () = tokio::time::sleep(AT_LEAST_EVERY) => {}
                }
            }
            waiting.later(pending.len());
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::channel::mpsc;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;
    use crate::api::Provider;

    fn object(number: usize) -> ObjectRef<Provider> {
        ObjectRef::new(&format!("p-{number}")).within("n")
    }

    #[tokio::test]
    async fn a_list_is_fed_as_fast_as_passes_begin_and_counted_from_the_first() {
        const ALL: usize = 1000;
        let (depth, (sender, lists)) = (Gauge::default(), mpsc::unbounded());
        let waiting = Waiting::new(depth.clone());
        let mut fed = Box::pin(fed(lists, waiting.clone()));
        sender
            .unbounded_send((0..ALL).map(object).collect())
            .unwrap();
        let mut queued = Vec::new();
        while let Some(Some(object)) = fed.next().now_or_never() {
            queued.push(object);
        }
        assert!((10..200).contains(&queued.len()), "{}", queued.len());
        assert_eq!(depth.get(), 1000, "those that wait outside count too");
        let first = queued.len();
        // Slow passes: no more come in than begin.
        for object in queued.drain(..10) {
            waiting.begun(&object);
        }
        while let Ok(Some(object)) =
            tokio::time::timeout(Duration::from_millis(1), fed.next()).await
        {
            queued.push(object);
        }
        assert_eq!(queued.len(), first);
        // Fast ones: the queue grows with them.
        let mut seen = first + 10;
        let mut rounds = 0;
        while seen < ALL {
            for object in queued.drain(..) {
                waiting.begun(&object);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            while let Some(Some(object)) = fed.next().now_or_never() {
                queued.push(object);
                seen += 1;
            }
            rounds += 1;
            assert!(rounds < 12, "{seen} after {rounds} rounds");
        }
    }

    #[tokio::test]
    async fn a_list_that_comes_again_takes_the_place_of_the_one_before() {
        let (sender, lists) = mpsc::unbounded();
        let waiting = Waiting::new(Gauge::default());
        let mut fed = Box::pin(fed(lists, waiting.clone()));
        sender
            .unbounded_send((0..500).map(object).collect())
            .unwrap();
        while fed.next().now_or_never().is_some() {}
        sender.unbounded_send(vec![object(7)]).unwrap();
        drop(sender);
        let mut last = None;
        for number in 0..500 {
            waiting.begun(&object(number));
        }
        while let Ok(Some(object)) = tokio::time::timeout(Duration::from_secs(1), fed.next()).await
        {
            last = Some(object);
        }
        assert_eq!(last, Some(object(7)));
    }
}
