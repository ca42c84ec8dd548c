//! Sends a scan's findings to the server; runs inside scan pods, with a token for us and
//! nothing else.
//!
//! The file is compressed while it is sent, so that neither memory nor scratch space grows with
//! it. Whatever waiting can cure is tried again until the deadline; what the server refused for
//! good is in the scan's row by then, and this program only says so and ends.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::mpsc;

use crate::config::upload::UploadArgs;
use crate::domain::clock::{Clock, SystemClock};

/// The server refused for good; the scan's row says why.
const REFUSED: u8 = 3;
/// The deadline came first (`EX_TEMPFAIL` of sysexits).
const GAVE_UP: u8 = 75;
/// Size of the pieces sent; a few of them are in memory at once.
const CHUNK: usize = 64 * 1024;
/// Level 3 is zstd's own choice: 40 times smaller at hundreds of megabytes a second.
const LEVEL: i32 = 3;
/// Last words longer than this are cut by the kubelet.
const LAST_WORDS: usize = 2048;

type Body = BoxBody<Bytes, std::io::Error>;

/// How one try ended.
enum Try {
    Done,
    Refused(String),
    Again {
        why: String,
        after: Option<Duration>,
    },
}

/// Sends the file; see the exit codes above.
pub async fn run(args: UploadArgs) -> anyhow::Result<ExitCode> {
    let client = client(&args.server_ca)?;
    let url = format!("{}/v1/upload", args.server_url.trim_end_matches('/'));
    let deadline = Instant::now() + Duration::from_secs(args.deadline_seconds);
    let mut attempt = 0_u32;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let outcome = match tokio::time::timeout(left, send(&client, &url, &args)).await {
            Ok(outcome) => outcome,
            Err(_) => Try::Again {
                why: "no answer before the deadline".to_owned(),
                after: None,
            },
        };
        match outcome {
            Try::Done => {
                tracing::info!("the findings are published");
                return Ok(ExitCode::SUCCESS);
            }
            Try::Refused(why) => {
                tracing::error!(answer = %why, "the server refused the findings");
                last_words(&args.termination_log, &why);
                return Ok(ExitCode::from(REFUSED));
            }
            Try::Again { why, after } => {
                let pause = after.unwrap_or_else(|| pause(attempt, SystemClock.jitter()));
                if Instant::now() + pause >= deadline {
                    tracing::error!(%why, "giving up at the deadline");
                    last_words(&args.termination_log, &why);
                    return Ok(ExitCode::from(GAVE_UP));
                }
                tracing::warn!(%why, seconds = pause.as_secs(), "not sent; trying again");
                tokio::time::sleep(pause).await;
                attempt += 1;
            }
        }
    }
}

/// 1 s doubling to 60 s, spread by a quarter, so that the pods of a cluster that waited for a
/// server do not all return at once.
fn pause(attempt: u32, jitter: f64) -> Duration {
    let base = 2_f64
        .powi(i32::try_from(attempt.min(6)).unwrap_or(6))
        .min(60.0);
    Duration::from_secs_f64(base * (0.75 + 0.5 * jitter))
}

fn client(ca: &str) -> anyhow::Result<Client<HttpsConnector<HttpConnector>, Body>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.context("the CA of the server cannot be read")?)?;
    }
    anyhow::ensure!(
        !roots.is_empty(),
        "PROWLER_OPERATOR_SERVER_CA holds no certificate"
    );
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(Duration::from_secs(10)));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .wrap_connector(http);
    // A connection is for one try: a retry should meet another server behind the Service.
    Ok(Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(https))
}

async fn send(
    client: &Client<HttpsConnector<HttpConnector>, Body>,
    url: &str,
    args: &UploadArgs,
) -> Try {
    let again = |why: String| Try::Again { why, after: None };
    let token = match std::fs::read_to_string(&args.token_file) {
        Ok(token) => token,
        Err(error) => return again(format!("the token cannot be read: {error}")),
    };
    let body = match body(&args.file) {
        Ok(body) => body,
        Err(error) => return again(format!("the file cannot be read: {error}")),
    };
    let request = Request::post(url)
        .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_ENCODING, "zstd")
        .body(body);
    let request = match request {
        Ok(request) => request,
        Err(error) => return again(format!("the request cannot be made: {error}")),
    };
    let response = match client.request(request).await {
        Ok(response) => response,
        Err(error) => return again(chain(&error)),
    };
    let status = response.status();
    let after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let answer = match Limited::new(response.into_body(), 8 * 1024).collect().await {
        Ok(answer) => String::from_utf8_lossy(&answer.to_bytes())
            .trim()
            .to_owned(),
        Err(_) => String::new(),
    };
    judge(status, after, answer)
}

/// What an answer calls for. 401 is tried again: a token may be renewed under our feet.
fn judge(status: StatusCode, after: Option<Duration>, answer: String) -> Try {
    match status {
        StatusCode::OK => Try::Done,
        StatusCode::BAD_REQUEST
        | StatusCode::FORBIDDEN
        | StatusCode::CONFLICT
        | StatusCode::GONE
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Try::Refused(answer),
        _ => Try::Again {
            why: format!("{status} {answer}"),
            after,
        },
    }
}

/// The file, compressed while it is read. A file that is not there is an empty body.
fn body(path: &Path) -> std::io::Result<Body> {
    let file = match std::fs::File::open(path) {
        Ok(file) if file.metadata()?.len() > 0 => file,
        Ok(_) => return Ok(empty()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(empty()),
        Err(error) => return Err(error),
    };
    let (sender, mut receiver) = mpsc::channel::<std::io::Result<Bytes>>(2);
    tokio::task::spawn_blocking(move || {
        let piece = |encoder: &mut zstd::stream::read::Encoder<_>| {
            let mut piece = vec![0; CHUNK];
            let mut filled = 0;
            while filled < CHUNK {
                match encoder.read(&mut piece[filled..])? {
                    0 => break,
                    read => filled += read,
                }
            }
            piece.truncate(filled);
            Ok(Bytes::from(piece))
        };
        let mut encoder = match zstd::stream::read::Encoder::new(file, LEVEL) {
            Ok(encoder) => encoder,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        loop {
            let piece = piece(&mut encoder);
            if piece.as_ref().is_ok_and(Bytes::is_empty) {
                return;
            }
            let failed = piece.is_err();
            // Nobody receives: the try was given up.
            let unheard = sender.blocking_send(piece).is_err();
            if failed || unheard {
                return;
            }
        }
    });
    let pieces = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    Ok(BodyExt::boxed(StreamBody::new(
        pieces.map(|piece| piece.map(Frame::data)),
    )))
}

fn empty() -> Body {
    http_body_util::Empty::new()
        .map_err(|never| match never {})
        .boxed()
}

/// An error with its causes: "connection refused" stands at the end of the chain.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn last_words(path: &Path, words: &str) {
    let mut end = words.len().min(LAST_WORDS);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    // Outside a pod there is no such file; the words are in the log too.
    if let Err(error) = std::fs::write(path, &words[..end]) {
        tracing::debug!(%error, "the last words were not left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_retry_changes_is_final_and_the_rest_is_tried_again() {
        for code in [400, 403, 409, 410, 413, 415, 422] {
            let status = StatusCode::from_u16(code).unwrap();
            assert!(
                matches!(judge(status, None, String::new()), Try::Refused(_)),
                "{code}"
            );
        }
        for code in [401, 404, 408, 429, 500, 502, 503, 504] {
            let status = StatusCode::from_u16(code).unwrap();
            assert!(
                matches!(judge(status, None, String::new()), Try::Again { .. }),
                "{code}"
            );
        }
    }

    #[tokio::test]
    async fn the_file_arrives_whole_and_a_missing_one_is_an_empty_body() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scan.ocsf.json");
        let missing = body(&path).unwrap().collect().await.unwrap().to_bytes();
        assert!(missing.is_empty());
        let text: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&path, &text).unwrap();
        let sent = body(&path).unwrap().collect().await.unwrap().to_bytes();
        assert!(sent.len() < text.len());
        assert_eq!(zstd::decode_all(&sent[..]).unwrap(), text);
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let seconds: Vec<_> = (0..9).map(|n| pause(n, 0.5).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
