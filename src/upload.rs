//! Sends a scan's findings to the server; runs inside scan pods.
//!
//! Exits 0 when the findings are published, 3 when the server's answer is final and another one,
//! 75 when the deadline came first. The outcome is left as one line of JSON where the kubelet
//! looks for it. Holds nothing but a token for our server.

mod request;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use self::request::{Answer, Failure, Server};
use crate::config::upload::UploadArgs;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::redact::redact;

/// The answer is final, and not that the findings are published.
const REFUSED: u8 = 3;
/// As in sysexits.h: a later try might have succeeded.
const GAVE_UP: u8 = 75;
/// The pod is being deleted: 128 + SIGTERM.
const TERMINATED: u8 = 143;
/// First wait between two tries, doubled each time up to `LONGEST`.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// A server that asks for more is not obeyed.
const LONGEST_ASKED: Duration = Duration::from_mins(5);
/// A token may be refused for a moment while it is being replaced.
const REFUSED_TOKENS: u32 = 5;
/// Bytes of the message that is left behind; the kubelet keeps 4096 of a pod's in all.
const MESSAGE_MAX: usize = 1024;

/// Runs the subcommand until it ends or is told to stop.
pub async fn run(args: UploadArgs) -> anyhow::Result<ExitCode> {
    // The first process of a container is not ended by a signal it does not listen to.
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::new(&args.server_url, &args.server_ca)
        .context("the server's address or CA cannot be used")?;
    tokio::select! {
        code = send(&args, &server, &SystemClock) => Ok(code),
        _ = terminate.recv() => Ok(ExitCode::from(TERMINATED)),
    }
}

/// What follows from a try.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Exit with this code.
    Exit(u8),
    /// Try again, not before so long.
    Again(Option<Duration>),
}

async fn send(args: &UploadArgs, server: &Server, clock: &dyn Clock) -> ExitCode {
    let deadline = Instant::now() + Duration::from_secs(args.deadline_seconds);
    let mut refused_tokens = 0;
    let mut pause = SHORTEST;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let longest = left.min(Duration::from_secs(args.try_seconds));
        let tried = tokio::time::timeout(longest, server.send(&args.file, &args.token_file));
        let tried = tried.await.unwrap_or(Err(Failure::TooSlow));
        let next = judge(&tried, &mut refused_tokens);
        let told = tell(&tried);
        tracing::info!(outcome = %told, next = ?next, "tried to send the findings");
        let asked = match next {
            Next::Exit(code) => {
                leave(&args.termination_log, &told);
                return ExitCode::from(code);
            }
            Next::Again(asked) => asked,
        };
        let wait = pause_for(pause, asked, clock.jitter());
        if Instant::now() + wait >= deadline {
            let last = told["message"].as_str().unwrap_or_default();
            let message = format!("gave up after {} s; last: {last}", args.deadline_seconds);
            leave(
                &args.termination_log,
                &json!({"reason": "UploadFailed", "message": message}),
            );
            return ExitCode::from(GAVE_UP);
        }
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(LONGEST);
    }
}

fn judge(tried: &Result<Answer, Failure>, refused_tokens: &mut u32) -> Next {
    let answer = match tried {
        Ok(answer) => answer,
        Err(Failure::File(_)) => return Next::Exit(1),
        Err(_) => return Next::Again(None),
    };
    match answer.status {
        StatusCode::OK => Next::Exit(0),
        StatusCode::UNAUTHORIZED => {
            *refused_tokens += 1;
            if *refused_tokens < REFUSED_TOKENS {
                Next::Again(None)
            } else {
                Next::Exit(REFUSED)
            }
        }
        StatusCode::FORBIDDEN
        | StatusCode::CONFLICT
        | StatusCode::GONE
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Next::Exit(REFUSED),
        // Whatever else there is between us and the server may have answered.
        _ => Next::Again(answer.retry_after),
    }
}

/// Between half and the whole of the pause, and not before the server wants it.
fn pause_for(pause: Duration, asked: Option<Duration>, jitter: f64) -> Duration {
    let spread = pause.mul_f64(0.5 + jitter / 2.0);
    match asked {
        Some(asked) => asked.min(LONGEST_ASKED) + spread.min(SHORTEST),
        None => spread,
    }
}

/// The outcome as one line of JSON.
fn tell(tried: &Result<Answer, Failure>) -> Value {
    let (reason, message) = match tried {
        Ok(answer) => match serde_json::from_slice::<Value>(&answer.body) {
            Ok(told) => (
                told["reason"].as_str().unwrap_or("UploadFailed").to_owned(),
                told["message"].as_str().unwrap_or_default().to_owned(),
            ),
            Err(_) => (
                "UploadFailed".to_owned(),
                format!("the server answered {}", answer.status),
            ),
        },
        Err(failure) => ("UploadFailed".to_owned(), failure.to_string()),
    };
    // Whatever there is between us and the server may have answered.
    let message: String = redact(&message).chars().take(MESSAGE_MAX).collect();
    json!({"reason": reason, "message": message})
}

/// Leaves the outcome for the kubelet. It is said twice otherwise: here and in the log.
fn leave(path: &Path, told: &Value) {
    if let Err(error) = std::fs::write(path, format!("{told}\n")) {
        tracing::warn!(%error, path = %path.display(), "the outcome could not be left behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "what a try comes to")]
    fn answered(status: u16, retry_after: Option<u64>) -> Result<Answer, Failure> {
        Ok(Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: retry_after.map(Duration::from_secs),
            body: br#"{"reason": "R", "message": "m"}"#.to_vec(),
        })
    }

    #[test]
    fn final_answers_end_it_and_others_do_not() {
        for (status, code) in [(200, 0), (403, 3), (409, 3), (410, 3), (413, 3), (422, 3)] {
            assert_eq!(
                judge(&answered(status, None), &mut 0),
                Next::Exit(code),
                "{status}"
            );
        }
        for status in [408, 429, 500, 502, 503, 504, 404, 302] {
            let next = judge(&answered(status, Some(7)), &mut 0);
            assert_eq!(next, Next::Again(Some(Duration::from_secs(7))), "{status}");
        }
        assert_eq!(judge(&Err(Failure::TooSlow), &mut 0), Next::Again(None));
    }

    #[test]
    fn a_refused_token_is_tried_again_a_few_times() {
        let mut refused = 0;
        let ended = (1..20)
            .find(|_| judge(&answered(401, None), &mut refused) == Next::Exit(REFUSED))
            .unwrap();
        assert_eq!(ended, REFUSED_TOKENS);
    }

    #[test]
    fn pauses_are_spread_and_the_server_is_obeyed_within_bounds() {
        let pause = Duration::from_secs(8);
        assert_eq!(pause_for(pause, None, 0.0), Duration::from_secs(4));
        assert!(pause_for(pause, None, 0.999) < pause);
        let asked = pause_for(pause, Some(Duration::from_secs(20)), 0.5);
        assert_eq!(asked, Duration::from_secs(21));
        let mad = pause_for(pause, Some(Duration::from_hours(5)), 0.0);
        assert!(mad <= LONGEST_ASKED + SHORTEST);
    }

    #[test]
    fn outcomes_are_one_bounded_line() {
        assert_eq!(
            tell(&answered(422, None)),
            json!({"reason": "R", "message": "m"})
        );
        let long = Ok(Answer {
            status: StatusCode::BAD_GATEWAY,
            retry_after: None,
            body: b"<html>".to_vec(),
        });
        assert_eq!(
            tell(&long),
            json!({"reason": "UploadFailed", "message": "the server answered 502 Bad Gateway"})
        );
        let quoted = Failure::Connection("token=hunterTwo".to_owned());
        assert!(!tell(&Err(quoted)).to_string().contains("hunterTwo"));
        let long = Failure::Connection("x\n".repeat(5000));
        let line = tell(&Err(long)).to_string();
        assert!(line.len() < 3000 && !line.contains('\n'));
    }
}
