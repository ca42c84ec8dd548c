//! What the pod's containers ended of.

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::{COMPOSE, Outcome, SCAN, UPLOAD, UPLOAD_REFUSED, ended_state, failed, find, prowler};
use crate::domain::reason::Reason;
use crate::domain::redact::tail;

/// `upload` got an answer that is the last word: whatever became of the pod, the row has it.
pub(super) fn sent(pod: &Pod) -> Option<Outcome> {
    let upload = ended_state(find(pod, UPLOAD))?;
    matches!(upload.exit_code, 0 | UPLOAD_REFUSED).then(|| Outcome::Uploaded {
        said: left_behind(upload.message.as_deref().unwrap_or_default()),
    })
}

/// A container that ended says more than the pod or the Job.
pub(super) fn ended(pod: &Pod) -> Option<Outcome> {
    if let Some(compose) = ended_state(find(pod, COMPOSE))
        && !matches!(compose.exit_code, 0 | 137 | 143)
    {
        let said = tail(compose.message.as_deref().unwrap_or_default());
        return Some(failed(
            Reason::InvalidSpec,
            format!("The Secret has changed since it was checked: {said}"),
        ));
    }
    if let Some(scan) = ended_state(find(pod, SCAN)) {
        // The reason tells more than the code: when only a child is killed, the code is Prowler's.
        if scan.reason.as_deref() == Some("OOMKilled") {
            return Some(failed(
                Reason::OOMKilled,
                "Prowler needed more memory than its limit.",
            ));
        }
        if scan.exit_code != 0 {
            // A deadline or a deletion ends the container by a signal; the pod says which.
            let signalled = matches!(scan.exit_code, 137 | 143);
            let said = scan.message.as_deref().unwrap_or_default();
            return (!signalled).then(|| prowler::judge(scan.exit_code, said));
        }
    }
    let upload = ended_state(find(pod, UPLOAD))?;
    if upload.reason.as_deref() == Some("OOMKilled") {
        return Some(failed(
            Reason::UploadFailed,
            "The upload container needed more memory than its limit.",
        ));
    }
    match upload.exit_code {
        137 | 143 => None,
        code => {
            let said = left_behind(upload.message.as_deref().unwrap_or_default());
            Some(failed(
                Reason::UploadFailed,
                format!("The findings could not be sent (exit code {code}): {said}"),
            ))
        }
    }
}

/// What `upload` left behind: the message in its line of JSON, or, when it died before it could
/// write one, the end of its log.
fn left_behind(text: &str) -> String {
    let told: Option<Value> = text
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok());
    match told.as_ref().and_then(|told| told["message"].as_str()) {
        Some(message) => tail(message),
        None => tail(text),
    }
}
