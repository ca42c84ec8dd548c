//! What Prowler means by its exit codes (`original.md` §13.1) and its last words.

use super::{Outcome, failed};
use crate::domain::reason::Reason;
use crate::domain::redact::tail;

/// `message`: the end of its log.
pub(super) fn judge(code: i32, message: &str) -> Outcome {
    let said = tail(message);
    match code {
        2 => failed(
            Reason::ScanArgumentsInvalid,
            format!("Prowler did not accept its arguments: {said}"),
        ),
        _ if speaks_of_scope(message) => failed(
            Reason::ScanArgumentsInvalid,
            format!("Prowler does not know what it was asked to scan: {said}"),
        ),
        _ if speaks_of_credentials(message) => failed(
            Reason::AuthenticationFailed,
            format!("The account did not accept the credentials: {said}"),
        ),
        // The kubelet's code for a container whose runtime died, and with it all that was known of
        // its end; any program may exit with it too.
        255 if said.is_empty() => failed(
            Reason::ScanFailed,
            "Prowler ended with exit code 255 and no word: its container's runtime may have been killed.",
        ),
        _ => failed(
            Reason::ScanFailed,
            format!("Prowler ended with exit code {code}: {said}"),
        ),
    }
}

/// What Prowler says of checks, services and categories it does not have (its
/// `checks_loader.py`); another attempt would say the same.
fn speaks_of_scope(message: &str) -> bool {
    const WORDS: [&str; 3] = [
        "Invalid check(s) specified",
        "Invalid service(s) specified",
        "Invalid category(ies) specified",
    ];
    WORDS.iter().any(|word| message.contains(word))
}

/// What the SDKs call credentials that the cloud does not take.
fn speaks_of_credentials(message: &str) -> bool {
    const WORDS: [&str; 14] = [
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "AuthFailure",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "NoCredentials",
        "AADSTS",
        "invalid_grant",
        "invalid_client",
        "AuthenticationError",
        "Bad credentials",
        "Unauthorized",
        "CredentialsError",
    ];
    WORDS.iter().any(|word| message.contains(word))
}
