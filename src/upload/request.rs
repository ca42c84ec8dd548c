//! One try: connect, send the file compressed while it is read, take the answer.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, StatusCode, Uri, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Limited, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// Fast, and findings shrink to a fiftieth all the same.
const LEVEL: i32 = 3;
/// Bytes of the body sent at once.
const PART: usize = 64 * 1024;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(15);
/// Most bytes of an answer.
const ANSWER: usize = 64 * 1024;

/// Where to send to.
#[derive(Debug)]
pub(super) struct Server {
    host: String,
    port: u16,
    uri: Uri,
    name: ServerName<'static>,
    tls: TlsConnectorDebug,
}

/// The connector has no words for logs.
struct TlsConnectorDebug(TlsConnector);

impl std::fmt::Debug for TlsConnectorDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsConnector")
    }
}

/// Why the server's address or CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("the address is no URL: {0}")]
    Url(#[from] http::uri::InvalidUri),
    #[error("the address must begin with https:// and name a host: a token is sent there")]
    NotHttps,
    #[error("the host is no name that a certificate could have")]
    Name,
    #[error("the CA is no PEM of certificates")]
    Ca,
}

/// What the server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("there is no answer: {0}")]
    Connection(String),
    #[error("there was no answer in time")]
    TooSlow,
    #[error("the token cannot be read: {0}")]
    Token(std::io::Error),
    #[error("the file cannot be read: {0}")]
    File(std::io::Error),
}

type Body = BoxBody<Bytes, std::io::Error>;

impl Server {
    /// From an `https` URL and the PEM of its CA, the only one that is trusted.
    pub(super) fn new(url: &str, ca: &str) -> Result<Self, Unusable> {
        let url: Uri = url.parse()?;
        let (Some("https"), Some(host)) = (url.scheme_str(), url.host()) else {
            return Err(Unusable::NotHttps);
        };
        // An IPv6 address stands in brackets.
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| Unusable::Name)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            let certificate = certificate.map_err(|_| Unusable::Ca)?;
            roots.add(certificate).map_err(|_| Unusable::Ca)?;
        }
        if roots.is_empty() {
            return Err(Unusable::Ca);
        }
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let base = url.path().trim_end_matches('/');
        Ok(Self {
            port: url.port_u16().unwrap_or(443),
            uri: format!("{base}/v1/upload").parse()?,
            host,
            name,
            tls: TlsConnectorDebug(TlsConnector::from(Arc::new(config))),
        })
    }

    /// Sends the file with the token. A missing file is sent as an empty body.
    pub(super) async fn send(&self, file: &Path, token: &Path) -> Result<Answer, Failure> {
        let token = std::fs::read_to_string(token).map_err(Failure::Token)?;
        let body = body(file)?;
        let request = Request::post(self.uri.clone())
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_ENCODING, "zstd")
            .body(body)
            // A token with a line break in it, for example. Its text stays out of the words.
            .map_err(|_| Failure::Connection("the token is no header value".to_owned()))?;
        self.exchange(request).await
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Answer, Failure> {
        let connection = tokio::time::timeout(CONNECT, async {
            let stream = TcpStream::connect((&*self.host, self.port)).await?;
            stream.set_nodelay(true)?;
            self.tls.0.connect(self.name.clone(), stream).await
        });
        let stream = connection
            .await
            .map_err(|_| Failure::Connection("connecting took too long".to_owned()))?
            .map_err(broken)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(broken)?;
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER)
            .collect()
            .await
            .map(|body| body.to_bytes().to_vec())
            .unwrap_or_default();
        connection.abort();
        Ok(Answer {
            status,
            retry_after,
            body,
        })
    }
}

/// The file as a body that is compressed while it is sent.
fn body(file: &Path) -> Result<Body, Failure> {
    let file = match std::fs::File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Empty::new()
                .map_err(|never: Infallible| match never {})
                .boxed());
        }
        Err(error) => return Err(Failure::File(error)),
    };
    let (parts, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = compress(file, &parts) {
            // A connection that is gone takes nothing more.
            let _ = parts.blocking_send(Err(error));
        }
    });
    let parts = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|part| (part, receiver))
    });
    let parts = StreamBody::new(parts.map(|part: std::io::Result<Bytes>| part.map(Frame::data)));
    Ok(BoxBody::new(parts))
}

fn compress(
    mut file: std::fs::File,
    parts: &mpsc::Sender<std::io::Result<Bytes>>,
) -> std::io::Result<()> {
    let out = Parts {
        sender: parts,
        part: Vec::with_capacity(PART),
    };
    let mut encoder = zstd::stream::write::Encoder::new(out, LEVEL)?;
    encoder.include_checksum(true)?;
    let mut read = vec![0; 4 * PART];
    let mut whole = 0_u64;
    loop {
        let more = file.read(&mut read)?;
        if more == 0 {
            break;
        }
        whole += more as u64;
        encoder.write_all(&read[..more])?;
    }
    // Of nothing nothing is sent: an empty file is as good as none.
    if whole > 0 {
        encoder.finish()?.send()?;
    }
    Ok(())
}

/// Collects bytes into parts of a body.
struct Parts<'a> {
    sender: &'a mpsc::Sender<std::io::Result<Bytes>>,
    part: Vec<u8>,
}

impl Parts<'_> {
    fn send(&mut self) -> std::io::Result<()> {
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        self.sender
            .blocking_send(Ok(part.into()))
            .map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Parts<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn broken(error: impl std::error::Error) -> Failure {
    // The causes tell more than the outermost words; none of them knows the request's headers.
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    Failure::Connection(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_with_a_ca_is_spoken() {
        let ca = rcgen::generate_simple_self_signed(["a".to_owned()])
            .unwrap()
            .cert
            .pem();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = Server::new("https://a.example:8443/base/", &ca).unwrap();
        assert_eq!((&*server.host, server.port), ("a.example", 8443));
        assert_eq!(server.uri, "/base/v1/upload");
        assert!(Server::new("https://[::1]:8443", &ca).is_ok());
        for (url, ca) in [
            ("http://a.example", &*ca),
            ("a.example", &ca),
            ("https://a.example", ""),
            ("https://a.example", "no PEM"),
        ] {
            assert!(Server::new(url, ca).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_body_is_the_file_compressed_and_a_missing_file_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[1, 2]".repeat(100_000);
        let path = dir.path().join("f");
        std::fs::write(&path, &text).unwrap();
        let sent = body(&path).unwrap().collect().await.unwrap().to_bytes();
        assert!(sent.len() < text.len() / 20);
        assert_eq!(zstd::decode_all(&sent[..]).unwrap(), text.as_bytes());

        std::fs::write(&path, "").unwrap();
        for path in [path, dir.path().join("none")] {
            let sent = body(&path).unwrap().collect().await.unwrap().to_bytes();
            assert!(sent.is_empty());
        }
    }
}
