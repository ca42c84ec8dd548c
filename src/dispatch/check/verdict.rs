//! What a check's one line means.

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::reason::Reason;
use crate::domain::redact::redact;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the account let Prowler in; none if the check itself came to nothing.
    pub connected: Option<bool>,
    /// Why, in a word.
    pub reason: Reason,
    /// Why, in a sentence without a secret.
    pub message: String,
    /// When the credentials end, where only the check can tell.
    pub expires: Option<Timestamp>,
}

/// The line, as `check.py` writes it.
#[derive(Debug, Deserialize)]
struct Told {
    connected: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    message: String,
    /// Seconds since 1970.
    #[serde(default)]
    expires: Option<i64>,
}

/// Longest part of what the cloud said that is shown, in characters.
const SHOWN: usize = 400;

impl Verdict {
    /// A check that came to nothing, of which nothing follows for the account.
    pub fn none(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            connected: None,
            reason,
            message: message.into(),
            expires: None,
        }
    }

    /// Reads the line.
    pub fn of(line: &str) -> Self {
        let Ok(told) = serde_json::from_str::<Told>(line.trim()) else {
            return Self::none(
                Reason::CheckFailed,
                format!(
                    "The check ended without an answer: {}",
                    said(line).unwrap_or("it said nothing.".to_owned())
                ),
            );
        };
        let expires = told.expires.and_then(|at| Timestamp::from_second(at).ok());
        if told.connected {
            return Self {
                connected: Some(true),
                reason: Reason::Succeeded,
                message: "The account was reached.".to_owned(),
                expires,
            };
        }
        let reason = classified(&told.error, &told.message);
        let head = match reason {
            Reason::WrongAccount => "The credentials are of another account",
            Reason::RateLimited => "The account answers too many requests",
            Reason::AuthenticationFailed => "The account did not accept the credentials",
            _ => "The account could not be reached",
        };
        let detail = said(&told.message)
            .or_else(|| said(&told.error))
            .unwrap_or_default();
        Self {
            connected: Some(false),
            reason,
            message: format!("{head}: {detail}"),
            expires,
        }
    }
}

/// What the cloud said, in one bounded line without what looks like a credential.
fn said(text: &str) -> Option<String> {
    let line = redact(text)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    if line.is_empty() {
        return None;
    }
    let short: String = line.chars().take(SHOWN).collect();
    Some(if short.len() < line.len() {
        format!("{short}…")
    } else {
        short
    })
}

/// By the name of the exception of Prowler's library (`prowler/providers/*/exceptions`) and by
/// what the cloud's own library says in it. Most particular first: a wrong account and a full
/// line are told by refusals too.
fn classified(error: &str, message: &str) -> Reason {
    let text = format!("{error} {message}").to_ascii_lowercase();
    let speaks = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if speaks(&[
        "invalidproviderid",
        "invalid provider id",
        "does not match the cred",
        "invalidorganization",
        "context not found",
    ]) {
        Reason::WrongAccount
    } else if speaks(&[
        "ratelimit",
        "rate limit",
        "rate exceeded",
        "throttl",
        "too many requests",
        "(429)",
    ]) {
        Reason::RateLimited
    } else if speaks(&[
        "timeouterror",
        "timed out",
        "no answer within",
        "connection refused",
        "connectionerror",
        "could not connect",
        "cannot connect",
        "unable to find the server",
        "connection error",
        "max retries exceeded",
        "name or service not known",
        "failed to resolve",
        "name resolution",
        "no address associated",
        "network is unreachable",
        "no route to host",
        "connection reset",
        "certificate verify failed",
        "proxyerror",
    ]) {
        Reason::ConnectionFailed
    } else if speaks(&[
        "credential",
        "token",
        "auth",
        "accesskey",
        "access key",
        "secret",
        "login",
        "permission",
        "denied",
        "forbidden",
        "unauthorized",
        "signature",
        "clientid",
        "client id",
        "certificate",
        "invalidkey",
        "private key",
        "api key",
        "kubeconfig",
        "(401)",
        "(403)",
    ]) {
        Reason::AuthenticationFailed
    } else {
        Reason::ConnectionFailed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &str, message: &str) -> Verdict {
        let line = serde_json::json!({ "connected": false, "error": error, "message": message });
        Verdict::of(&line.to_string())
    }

    #[test]
    fn an_account_that_lets_in_is_connected() {
        let verdict = Verdict::of(r#"{"connected": true, "error": "", "message": ""}"#);
        assert_eq!(verdict.connected, Some(true));
        assert_eq!(verdict.reason, Reason::Succeeded);
    }

    #[test]
    fn each_refusal_has_its_word() {
        for (error, message, reason) in [
            (
                "AWSInvalidProviderIdError",
                "[1915] The provided AWS credentials belong to a different account",
                Reason::WrongAccount,
            ),
            (
                "KubernetesInvalidProviderIdError",
                "Invalid provider ID",
                Reason::WrongAccount,
            ),
            (
                "AWSClientError",
                "An error occurred (Throttling) when calling the GetCallerIdentity operation: Rate exceeded",
                Reason::RateLimited,
            ),
            (
                "AWSInvalidAccessKeyIdError",
                "InvalidClientTokenId",
                Reason::AuthenticationFailed,
            ),
            (
                "ApiException",
                "(401) Unauthorized",
                Reason::AuthenticationFailed,
            ),
            (
                "EndpointConnectionError",
                "Could not connect to the endpoint URL",
                Reason::ConnectionFailed,
            ),
            (
                "TimeoutError",
                "no answer within 60 s",
                Reason::ConnectionFailed,
            ),
            ("SomethingElse", "", Reason::ConnectionFailed),
        ] {
            let verdict = told(error, message);
            assert_eq!(verdict.reason, reason, "{error}");
            assert_eq!(verdict.connected, Some(false));
        }
    }

    #[test]
    fn what_is_shown_is_short_one_line_and_holds_no_credential() {
        let verdict = told(
            "X",
            &format!("first\nsecond AKIAIOSFODNN7EXAMPLE {}", "word ".repeat(500)),
        );
        assert!(verdict.message.len() < 600, "{}", verdict.message);
        assert!(!verdict.message.contains('\n') && !verdict.message.contains("AKIA"));
        assert!(verdict.message.ends_with('…'));
    }

    #[test]
    fn the_name_of_an_error_is_no_hiding_place() {
        let verdict = told("client_secret=hunterTwo", "");
        assert!(!verdict.message.contains("hunter"), "{}", verdict.message);
    }

    #[test]
    fn a_check_without_an_answer_says_nothing_of_the_account() {
        for line in ["", "Traceback (most recent call last)", "{}"] {
            let verdict = Verdict::of(line);
            assert_eq!(verdict.connected, None, "{line}");
            assert_eq!(verdict.reason, Reason::CheckFailed);
        }
    }
}
