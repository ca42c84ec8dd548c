//! The body of an upload: how it is encoded, how fast it must come, what is thrown away of it.

use std::time::Duration;

use axum::body::BodyDataStream;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use futures::StreamExt as _;
use secrecy::SecretString;
use tokio::time::{Instant, timeout};

use super::answer::Answer;
use crate::ingest::spool::{Encoding, SpoolError};

/// Bytes a second that a body must bring: a sender that is slower only holds its place.
const SLOWEST: u64 = 1024;

/// Why a body did not arrive.
pub(super) enum Interrupted {
    Spool(SpoolError),
    TooSlow,
    Broken,
}

impl From<SpoolError> for Interrupted {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

/// A body as it comes, with no patience for silence nor for single bytes.
pub(super) struct Incoming<'a> {
    body: &'a mut BodyDataStream,
    idle: Duration,
    /// Since when the bytes are counted, and how many came.
    since: Instant,
    bytes: u64,
}

impl<'a> Incoming<'a> {
    /// `idle` is how long a sender may be silent, and over what its speed is measured.
    pub(super) fn new(body: &'a mut BodyDataStream, idle: Duration) -> Self {
        Self {
            body,
            idle,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// The next part; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Interrupted> {
        let part = match timeout(self.idle, self.body.next()).await {
            Err(_) => return Err(Interrupted::TooSlow),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Interrupted::Broken),
            Ok(Some(Ok(part))) => part,
        };
        self.bytes += part.len() as u64;
        if self.since.elapsed() >= self.idle {
            if self.bytes < SLOWEST * self.idle.as_secs() {
                return Err(Interrupted::TooSlow);
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        Ok(Some(part))
    }

    /// Reads on and throws away: a connection that is closed on a sender loses the answer.
    pub(super) async fn discard(mut self, mut bytes: u64) {
        while let Ok(Some(part)) = self.next().await {
            bytes = bytes.saturating_sub(part.len() as u64);
            if bytes == 0 {
                return;
            }
        }
    }
}

/// How the body is encoded.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Encoding, Answer> {
    let mut named = headers.get_all(header::CONTENT_ENCODING).iter();
    let (first, second) = (named.next(), named.next());
    let name = first.map_or(&b"identity"[..], |name| name.as_bytes());
    let known = [
        ("identity", Encoding::Identity),
        ("zstd", Encoding::Zstd),
        ("gzip", Encoding::Gzip),
    ];
    let known = known
        .into_iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    match (known, second) {
        (Some((_, encoding)), None) => Ok(encoding),
        _ => Err(Answer::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedEncoding",
            "Content-Encoding must be one of zstd, gzip and identity.",
        )),
    }
}

/// The sender's token.
pub(super) fn bearer(headers: &HeaderMap) -> Result<SecretString, Answer> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::trim)
        .filter(|token| !token.is_empty());
    token
        .map(|token| SecretString::from(token.to_owned()))
        .ok_or_else(|| Answer::unknown_token("A bearer token is required."))
}
