//! Objects that are looked at again though nothing of them changed: all of a kind, after each list
//! of its watch. They are fed to the queue in batches of about half a second, so that what a user
//! changes meanwhile waits for one of these and not for ten thousand others.

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
                    () = waiting.begins() => {}
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
    async fn a_list_comes_in_batches_each_when_the_one_before_is_done() {
        const ALL: usize = 1000;
        let (depth, (sender, lists)) = (Gauge::default(), mpsc::unbounded());
        let waiting = Waiting::new(depth.clone(), Duration::ZERO);
        let mut fed = Box::pin(fed(lists, waiting.clone()));
        sender
            .unbounded_send((0..ALL).map(object).collect())
            .unwrap();
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < ALL {
            let mut batch = Vec::new();
            while let Some(Some(object)) = fed.next().now_or_never() {
                batch.push(object);
            }
            let seen: usize = sizes.iter().sum();
            let waits = i64::try_from(ALL - seen).unwrap();
            assert_eq!(depth.get(), waits, "those outside count too");
            let (last, others) = batch.split_last().unwrap();
            for object in others {
                waiting.begun(object);
            }
            // As long as one of them waits no other comes.
            assert!(fed.next().now_or_never().is_none());
            tokio::time::sleep(Duration::from_millis(10)).await;
            waiting.begun(last);
            sizes.push(batch.len());
        }
        // Passes that are quickly done make larger ones.
        assert!(sizes.len() < 6 && sizes[1] > 2 * sizes[0], "{sizes:?}");
    }

    /// The second batch where the first took this long, in a queue with this debounce.
    async fn second_batch(debounce: Duration) -> usize {
        let (sender, lists) = mpsc::unbounded();
        let waiting = Waiting::new(Gauge::default(), debounce);
        let mut fed = Box::pin(fed(lists, waiting.clone()));
        sender
            .unbounded_send((0..200).map(object).collect())
            .unwrap();
        let mut size = 0;
        for _ in 0..2 {
            let mut batch = Vec::new();
            while let Some(Some(object)) = fed.next().now_or_never() {
                batch.push(object);
            }
            size = batch.len();
            tokio::time::sleep(Duration::from_millis(550)).await;
            for object in batch {
                waiting.begun(&object);
            }
        }
        size
    }

    #[tokio::test]
    async fn slow_passes_make_small_batches_and_a_long_debounce_does_not() {
        assert_eq!(second_batch(Duration::from_millis(50)).await, 16);
        assert!(second_batch(Duration::from_millis(500)).await > 50);
    }

    #[tokio::test]
    async fn a_list_that_comes_again_takes_the_place_of_the_one_before() {
        let (sender, lists) = mpsc::unbounded();
        let waiting = Waiting::new(Gauge::default(), Duration::ZERO);
        let mut fed = Box::pin(fed(lists, waiting.clone()));
        sender
            .unbounded_send((0..500).map(object).collect())
            .unwrap();
        while fed.next().now_or_never().is_some() {}
        sender.unbounded_send(vec![object(7)]).unwrap();
        assert!(fed.next().now_or_never().is_none(), "the first is not done");
        for number in 0..500 {
            waiting.begun(&object(number));
        }
        assert_eq!(fed.next().await, Some(object(7)));
        assert!(fed.next().now_or_never().is_none());
    }
}
