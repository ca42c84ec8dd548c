//! Faults between a client and the API server: the n-th call is refused, or its answer is lost
//! or held back. Everything else passes.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test; not every test uses all of it"
)]

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::sync::Notify;
use tower::{BoxError, Layer, Service};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails before the server sees it.
    Refuse,
    /// The server acts on it, the answer is lost.
    Lose,
    /// The server acts on it, the answer never comes: as for a program that ends there.
    Hang,
    /// The server acts on it, the answer takes its time.
    Delay(Duration),
}

/// Counts the calls of the clients made with it, and hits one of them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<State>);

#[derive(Debug, Default)]
struct State {
    calls: AtomicUsize,
    plan: Mutex<Option<(usize, Fault)>>,
    hit: Notify,
}

impl Faults {
    /// Nothing goes wrong; for counting.
    pub fn none() -> Self {
        Self::default()
    }

    /// The `n`-th call from here on, counted from 1, meets `fault`.
    pub fn nth(n: usize, fault: Fault) -> Self {
        let faults = Self::default();
        *faults.0.plan.lock().unwrap() = Some((n, fault));
        faults
    }

    /// Calls made so far.
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Waits until a call hangs: the moment to give up who made it.
    pub async fn hung(&self) {
        self.0.hit.notified().await;
    }

    /// A client whose calls pass through here.
    pub fn client(&self, config: Config) -> Client {
        ClientBuilder::try_from(config)
            .unwrap()
            .with_layer(self)
            .build()
    }

    fn next(&self) -> Option<Fault> {
        let call = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        match *self.0.plan.lock().unwrap() {
            Some((n, fault)) if n == call => Some(fault),
            _ => None,
        }
    }
}

impl<S> Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty {
            inner,
            faults: self.clone(),
        }
    }
}

/// A service behind [`Faults`].
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S, B> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let fault = self.faults.next();
        if fault == Some(Fault::Refuse) {
            return Box::pin(async { Err("refused by the test".into()) });
        }
        let answer = self.inner.call(request);
        let state = Arc::clone(&self.faults.0);
        Box::pin(async move {
            let answer = answer.await;
            match fault {
                None | Some(Fault::Refuse) => answer,
                Some(Fault::Lose) => Err("answer lost by the test".into()),
                Some(Fault::Hang) => {
                    state.hit.notify_one();
                    std::future::pending().await
                }
                Some(Fault::Delay(time)) => {
                    tokio::time::sleep(time).await;
                    answer
                }
            }
        })
    }
}
