//! Watches of all objects of a kind, whose list is read as a stream where the API server does that:
//! it shows objects while it still encodes others, needs no page of them in memory, and is one
//! request with the watch that follows. `WatchList` is off by default in Kubernetes 1.33 and before 1.32.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{Stream, StreamExt as _, future};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// How this API server lists.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    /// It has refused to stream.
    in_pages: Arc<AtomicBool>,
}

impl Lists {
    /// The objects of a watch: listed as a stream, or in pages from the moment on that the API
    /// server refuses that.
    pub fn watch<K>(
        &self,
        api: Api<K>,
        config: watcher::Config,
    ) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let in_pages = self.in_pages.clone();
        let pages = watcher(api.clone(), config.clone());
        if in_pages.load(Ordering::Relaxed) {
            return pages.left_stream();
        }
        let streamed = watcher(api, config.streaming_lists()).take_while(move |event| {
            let refused = event.as_ref().is_err_and(is_refusal);
            if refused && !in_pages.swap(true, Ordering::Relaxed) {
                tracing::info!("the API server does not stream lists; reading them in pages");
            }
            future::ready(!refused)
        });
        streamed.chain(pages).right_stream()
    }
}

/// Whether the API server has refused to stream a list.
fn is_refusal(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 422)
}
