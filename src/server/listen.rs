//! Connections: TLS, HTTP/1.1, and no patience with the silent.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tls::Certificate;

/// How connections are treated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    /// Most at once.
    pub connections: usize,
    /// How long a client may take for its handshake, and for its headers.
    pub idle: Duration,
}

/// Accepts until told to stop; connections go on in `tasks`, and end after their request.
pub(super) async fn listen(
    listener: TcpListener,
    certificate: Certificate,
    router: Router,
    manners: Manners,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(manners.connections));
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: those in use will come back.
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!("closed a connection: there are too many");
            continue;
        };
        let connection = serve(
            stream,
            certificate.clone(),
            router.clone(),
            manners,
            stop.clone(),
        );
        tasks.spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

async fn serve(
    stream: TcpStream,
    certificate: Certificate,
    router: Router,
    manners: Manners,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let handshake = certificate.acceptor().accept(stream);
    let stream = tokio::select! {
        () = stop.cancelled() => return,
        shaken = tokio::time::timeout(manners.idle, handshake) => match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "a handshake failed"),
            Err(_) => return tracing::debug!("a handshake took too long"),
        },
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(manners.idle)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
