//! Faults between the program and its two servers: the n-th call fails before it is sent, or
//! is done and its answer lost, or is the last thing the program does before it ends.
//!
//! [`Faults`] is a layer of kube's client; [`SqlProxy`] stands between sqlx and Postgres and
//! understands just enough of the protocol to count what is sent. Neither imitates a server.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test; not every test uses all of it"
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Request, Response};
use http_body_util::{Either, Full};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tower::{BoxError, Layer, Service};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails before the server sees it.
    Refuse,
    /// The server does not see it; the answer has this status. For SQL the same as `Refuse`.
    Answer(u16),
    /// The server acts on it, the answer is lost.
    Lose,
    /// The server acts on it, the answer never comes: as for a program that ends there.
    Hang,
    /// The server acts on it, the answer takes its time.
    Delay(Duration),
}

/// Which call is to suffer, and what was called so far.
#[derive(Debug, Default)]
pub struct Plan {
    state: Mutex<State>,
    hit: Notify,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<String>,
    changes: Vec<String>,
    armed: Option<(usize, Fault)>,
    /// Only what ends a transaction well counts for that.
    commits: bool,
    fired: Option<String>,
    hung: bool,
}

impl Plan {
    /// Begins to count anew; the `n`-th call from here on, counted from 1, meets `fault`.
    pub fn arm(&self, n: usize, fault: Fault) {
        *self.state.lock().unwrap() = State {
            armed: Some((n, fault)),
            ..State::default()
        };
    }

    /// Begins to count anew; the `n`-th commit from here on, counted from 1, meets `fault`.
    pub fn arm_commit(&self, n: usize, fault: Fault) {
        *self.state.lock().unwrap() = State {
            armed: Some((n, fault)),
            commits: true,
            ..State::default()
        };
    }

    /// Begins to count anew; nothing fails.
    pub fn reset(&self) {
        *self.state.lock().unwrap() = State::default();
    }

    /// Calls since the count began.
    pub fn calls(&self) -> usize {
        self.state.lock().unwrap().calls.len()
    }

    /// The same, one by one.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    /// Calls that may change something.
    pub fn changes(&self) -> Vec<String> {
        self.state.lock().unwrap().changes.clone()
    }

    /// The call that suffered, if one did.
    pub fn fired(&self) -> Option<String> {
        self.state.lock().unwrap().fired.clone()
    }

    /// Waits until a call hangs: the moment to give up who made it.
    pub async fn hung(&self) {
        // What hung may have been nobody's any more, such as the end of a transaction that was
        // given up: by then the count has begun anew, and nobody is to die of it.
        while !std::mem::take(&mut self.state.lock().unwrap().hung) {
            self.hit.notified().await;
        }
    }

    fn hang(&self) {
        let mut state = self.state.lock().unwrap();
        // Counting may have begun anew while the server was answering.
        state.hung = state.fired.is_some();
        self.hit.notify_one();
    }

    fn count(&self, call: String, changes: bool) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        if changes {
            state.changes.push(call.clone());
        }
        state.calls.push(call.clone());
        let (n, fault) = state.armed?;
        let commits = state.commits;
        let counts = |call: &&String| !commits || call.to_lowercase().starts_with("commit");
        if !counts(&&call) || state.calls.iter().filter(counts).count() != n {
            return None;
        }
        state.armed = None;
        state.fired = Some(call);
        Some(fault)
    }
}

/// Counts the calls of the clients made with it, watches aside, and hits one of them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Plan>);

impl std::ops::Deref for Faults {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.0
    }
}

impl Faults {
    /// Nothing goes wrong; for counting.
    pub fn none() -> Self {
        Self::default()
    }

    /// The `n`-th call from here on, counted from 1, meets `fault`.
    pub fn nth(n: usize, fault: Fault) -> Self {
        let faults = Self::default();
        faults.arm(n, fault);
        faults
    }

    /// A client whose calls pass through here.
    pub fn client(&self, config: Config) -> Client {
        ClientBuilder::try_from(config)
            .unwrap()
            .with_layer(self)
            .build()
    }
}

impl<S> Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty {
            inner,
            plan: self.0.clone(),
        }
    }
}

/// A service behind [`Faults`].
#[derive(Debug, Clone)]
pub struct Faulty<S> {
    inner: S,
    plan: Arc<Plan>,
}

/// What the server answered, or what the test did.
type Answered<B> = Response<Either<B, Full<Bytes>>>;

impl<S, B> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Answered<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answered<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watches = request.uri().query().is_some_and(|q| q.contains("watch="));
        let fault = if watches {
            None
        } else {
            let path = request.uri().path_and_query().map_or("", |p| p.as_str());
            let call = format!("{} {path}", request.method());
            self.plan.count(call, *request.method() != Method::GET)
        };
        match fault {
            Some(Fault::Refuse) => {
                return Box::pin(async { Err("refused by the test".into()) });
            }
            Some(Fault::Answer(code)) => {
                return Box::pin(async move { Ok(trouble(code).map(Either::Right)) });
            }
            _ => {}
        }
        let answer = self.inner.call(request);
        let plan = self.plan.clone();
        Box::pin(async move {
            let answer = answer.await;
            match fault {
                Some(Fault::Lose) => return Err("answer lost by the test".into()),
                Some(Fault::Hang) => {
                    plan.hang();
                    std::future::pending::<()>().await;
                }
                Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
                _ => {}
            }
            Ok(answer?.map(Either::Left))
        })
    }
}

/// What an API server in trouble says.
fn trouble(code: u16) -> Response<Full<Bytes>> {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "the test answered", "reason": reason, "code": code,
    });
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(Full::from(status.to_string()))
        .unwrap()
}

/// A proxy between sqlx and Postgres. A unit is what the server answers as one: a simple query,
/// or everything up to a Sync. What logging in takes is not counted.
pub struct SqlProxy {
    plan: Arc<Plan>,
    port: u16,
    away: watch::Sender<bool>,
}

impl std::ops::Deref for SqlProxy {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.plan
    }
}

impl SqlProxy {
    /// A proxy on a port of its own, for as long as the test's runtime lives.
    pub async fn start(postgres: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::new(Plan::default());
        let (away, is_away) = watch::channel(false);
        let counting = plan.clone();
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                if *is_away.borrow() {
                    continue;
                }
                let (plan, mut is_away) = (counting.clone(), is_away.clone());
                tokio::spawn(async move {
                    let away = async move {
                        let _ = is_away.wait_for(|away| *away).await;
                    };
                    tokio::select! {
                        _ = carry(client, postgres, plan) => {}
                        () = away => {}
                    }
                });
            }
        });
        Self { plan, port, away }
    }

    /// The URL through the proxy.
    pub fn url(&self, url: &str) -> String {
        let (head, tail) = url.split_once("@127.0.0.1:").unwrap();
        let (_, database) = tail.split_once('/').unwrap();
        format!("{head}@127.0.0.1:{}/{database}", self.port)
    }

    /// Cuts every connection and refuses new ones, until told otherwise.
    pub fn set_away(&self, away: bool) {
        self.away.send_replace(away);
    }
}

/// One connection. Ends, cutting both sides, when either ends or a fault asks for it.
async fn carry(mut client: TcpStream, postgres: u16, plan: Arc<Plan>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", postgres)).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let mut frontend = Frontend::default();
    let mut backend = Backend::default();
    let mut input = BytesMut::with_capacity(64 * 1024);
    let mut output = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            read = client.read_buf(&mut input) => {
                if read? == 0 {
                    return Ok(());
                }
                while let Some(message) = frontend.take(&mut input) {
                    let unit = match message {
                        Message::NoEncryption => {
                            client.write_all(b"N").await?;
                            continue;
                        }
                        Message::Plain(bytes) => {
                            server.write_all(&bytes).await?;
                            continue;
                        }
                        Message::Unit(unit) => unit,
                    };
                    let fault = plan.count(unit.text, true);
                    if matches!(fault, Some(Fault::Refuse | Fault::Answer(_))) {
                        return Ok(());
                    }
                    server.write_all(&unit.bytes).await?;
                    if let Some(Fault::Delay(time)) = fault {
                        tokio::time::sleep(time).await;
                    } else if let Some(fault) = fault {
                        // Done for sure: the server says that it is ready for the next.
                        while !backend.ready {
                            let read = server.read(&mut output).await?;
                            if read == 0 {
                                return Ok(());
                            }
                            backend.follow(&output[..read]);
                        }
                        if fault == Fault::Hang {
                            plan.hang();
                            // Whoever waits for the answer is gone before the connection is.
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        return Ok(());
                    }
                    backend.ready = false;
                }
            }
            read = server.read(&mut output) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                backend.follow(&output[..read]);
                client.write_all(&output[..read]).await?;
            }
        }
    }
}

enum Message {
    /// A request for TLS, which the proxy declines.
    NoEncryption,
    /// To be handed on at once.
    Plain(Bytes),
    /// To be counted.
    Unit(Unit),
}

struct Unit {
    bytes: Bytes,
    text: String,
}

/// What the client sends, cut into messages.
#[derive(Default)]
struct Frontend {
    started: bool,
    /// Messages of the unit so far.
    unit: BytesMut,
    text: String,
}

impl Frontend {
    fn take(&mut self, input: &mut BytesMut) -> Option<Message> {
        const NO_TLS: [u32; 2] = [80_877_103, 80_877_104];
        if !self.started {
            let length = usize::try_from(peek(input, 0)?).unwrap();
            if input.len() < length {
                return None;
            }
            if NO_TLS.contains(&peek(input, 4)?) {
                input.advance(length);
                return Some(Message::NoEncryption);
            }
            self.started = true;
            return Some(Message::Plain(input.split_to(length).freeze()));
        }
        let length = usize::try_from(peek(input, 1)?).unwrap() + 1;
        if input.len() < length {
            return None;
        }
        let message = input.split_to(length);
        match message[0] {
            b'Q' => {
                let text = words(&message[5..]);
                Some(Message::Unit(Unit {
                    bytes: message.freeze(),
                    text,
                }))
            }
            b'S' => {
                self.unit.extend_from_slice(&message);
                Some(Message::Unit(Unit {
                    bytes: self.unit.split().freeze(),
                    text: std::mem::take(&mut self.text),
                }))
            }
            b'P' | b'B' | b'D' | b'E' | b'C' => {
                if message[0] == b'P' {
                    // Name, then query.
                    let name = message[5..].iter().position(|b| *b == 0).unwrap_or(0);
                    self.text.push_str(&words(&message[5 + name + 1..]));
                } else if message[0] == b'B' && self.text.is_empty() {
                    self.text.push_str("(prepared)");
                }
                self.unit.extend_from_slice(&message);
                self.take(input)
            }
            // Passwords, copied data, the end.
            _ => Some(Message::Plain(message.freeze())),
        }
    }
}

fn peek(input: &[u8], at: usize) -> Option<u32> {
    let bytes = input.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().unwrap()))
}

fn words(text: &[u8]) -> String {
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    let text = String::from_utf8_lossy(&text[..end]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Follows what the server sends, to know when it is ready for the next unit.
#[derive(Default)]
struct Backend {
    header: Vec<u8>,
    left: usize,
    ready: bool,
}

impl Backend {
    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = self.left.min(bytes.len());
                self.left -= step;
                bytes.advance(step);
            } else {
                self.header.push(bytes.get_u8());
                if self.header.len() == 5 {
                    self.left = usize::try_from(peek(&self.header, 1).unwrap()).unwrap() - 4;
                    if self.header[0] == b'Z' {
                        self.ready = true;
                    }
                    self.header.clear();
                }
            }
        }
    }
}
