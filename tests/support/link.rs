//! A link that fails: carries bytes between the program and a server, and on command loses every
//! answer, is late with it, or breaks off.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test; not every test uses all of it"
)]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Whatever is sent arrives.
    Fair,
    /// What the server says arrives so much later.
    Late(Duration),
    /// The server hears everything, and nothing that it says arrives.
    Deaf,
}

pub struct Link {
    port: u16,
    server: u16,
    weather: watch::Sender<Weather>,
    /// Counts the breaks.
    broken: watch::Sender<u64>,
}

impl Link {
    /// To this port of this machine, from a port of its own.
    pub async fn to(server: u16) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            server,
            weather: watch::channel(Weather::Fair).0,
            broken: watch::channel(0).0,
        });
        let this = link.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (weather, mut broken) = (this.weather.subscribe(), this.broken.subscribe());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
                        return;
                    };
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::select! {
                        _ = carry(from_client, to_server, None) => {}
                        _ = carry(from_server, to_client, Some(weather)) => {}
                        _ = broken.changed() => {}
                    }
                });
            }
        });
        link
    }

    /// A text that names the server, with the link in its place.
    pub fn instead(&self, text: &str) -> String {
        let named = |port| format!("127.0.0.1:{port}");
        let changed = text.replace(&named(self.server), &named(self.port));
        assert_ne!(changed, text, "the server is named");
        changed
    }

    pub fn weather(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        self.broken.send_modify(|breaks| *breaks += 1);
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    weather: Option<watch::Receiver<Weather>>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        let now = weather
            .as_ref()
            .map_or(Weather::Fair, |weather| *weather.borrow());
        match now {
            Weather::Fair => {}
            Weather::Late(late) => tokio::time::sleep(late).await,
            // Until the connection is cut.
            Weather::Deaf => continue,
        }
        to.write_all(&bytes[..count]).await?;
    }
}
