//! Watches by the thousand over few connections. What kube's client speaks is HTTP/1.1, where
//! each watch holds a connection of its own, with a handshake and some 50 KiB of buffers; over
//! HTTP/2 a hundred of them share one.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use crate::metrics::kubernetes::KubernetesMetrics;

/// Watches on one connection: as many as every server allows (RFC 9113, section 6.5.2, asks for
/// no fewer). Beyond what it allows a request would wait until another ends, which a watch may
/// never do.
const STREAMS: usize = 100;

/// A connection of which nothing has been heard for so long is asked whether it is still there,
/// and given up when it does not answer: behind it a hundred watches would be silent.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

type Connect = Box<dyn Fn() -> anyhow::Result<Client> + Send + Sync>;

/// Connections for watches, made as they are needed.
pub struct Multiplex {
    /// One watch, one connection: for servers that speak no HTTP/2.
    plain: Client,
    connect: Option<Connect>,
    connections: Mutex<Vec<Place>>,
}

/// A watch's place on a connection, free again when dropped.
#[derive(Clone)]
pub struct Place {
    /// Speaks over that connection.
    pub client: Client,
    taken: Arc<()>,
}

impl fmt::Debug for Multiplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multiplex")
            .field("shared", &self.connect.is_some())
            .finish_non_exhaustive()
    }
}

impl Multiplex {
    /// Every watch speaks as this client does.
    pub fn plain(client: Client) -> Self {
        Self {
            plain: client,
            connect: None,
            connections: Mutex::default(),
        }
    }

    /// Watches share connections if the server speaks HTTP/2, which is tried with one request;
    /// otherwise each speaks as `plain` does. Waits for a server that answers neither way: it is
    /// away, and how it speaks would be guessed.
    pub async fn over(config: Config, metrics: KubernetesMetrics, plain: Client) -> Self {
        let connect = move || client(&config, &metrics);
        let client = match connect() {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "no client that shares connections"
                );
                return Self::plain(plain);
            }
        };
        loop {
            let Err(error) = answers(&client).await else {
                return Self {
                    plain,
                    connect: Some(Box::new(connect)),
                    connections: Mutex::new(vec![Place::on(client)]),
                };
            };
            let Err(away) = answers(&plain).await else {
                tracing::info!(%error, "no HTTP/2 to the API server; each watch has a connection of its own");
                return Self::plain(plain);
            };
            tracing::warn!(error = %away, "the API server does not answer yet; trying again");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    /// A place for one watch.
    pub fn place(&self) -> Place {
        let alone = || Place::on(self.plain.clone());
        let Some(connect) = &self.connect else {
            return alone();
        };
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = connections.iter().find(|place| !place.is_full()) {
            return place.clone();
        }
        match connect() {
            Ok(client) => {
                let place = Place::on(client);
                connections.push(place.clone());
                place
            }
            Err(error) => {
                tracing::warn!(%error, "no further client for watches; going on with another");
                alone()
            }
        }
    }
}

impl Place {
    fn on(client: Client) -> Self {
        Self {
            client,
            taken: Arc::default(),
        }
    }

    fn is_full(&self) -> bool {
        // One of them is the list's own.
        Arc::strong_count(&self.taken) > STREAMS
    }
}

/// Whether there is an answer, and be it a refusal.
async fn answers(client: &Client) -> Result<(), kube::Error> {
    match client.apiserver_version().await {
        Ok(_) | Err(kube::Error::Api(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A client that speaks HTTP/2 over one connection, made when it is first used and again when it
/// is lost.
fn client(config: &Config, metrics: &KubernetesMetrics) -> anyhow::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(config.connect_timeout);
    let mut tls = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_only();
    if let Some(name) = config.tls_server_name.clone() {
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name.try_into()?));
    }
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_only(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_while_idle(true)
        .build(tls.enable_http2().wrap_connector(tcp));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(
        ClientBuilder::new(service, config.default_namespace.clone())
            .with_layer(&metrics.layer())
            .build(),
    )
}
