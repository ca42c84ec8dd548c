//! What a Job and its pod say of an attempt: still under way, gone well, or failed for one
//! reason. The row decides what follows; this only reads.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use serde_json::Value;

use crate::api::scan::Stage;
use crate::domain::reason::Reason;
use crate::domain::redact::tail;

/// Name of the init container that puts files of credentials together, where there is one.
pub const COMPOSE: &str = "compose";
/// Name of the init container that runs Prowler.
pub const SCAN: &str = "scan";
/// Name of the main container that sends the findings.
pub const UPLOAD: &str = "upload";
/// Exit code of `upload` for an answer that no retry changes; the row has the outcome.
pub const UPLOAD_REFUSED: i32 = 3;

/// How an attempt is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// On its way.
    Running(Stage),
    /// `upload` says that it is done; the row must agree.
    Uploaded {
        /// What it left behind, redacted; empty when it said nothing.
        said: String,
    },
    /// Over, without findings.
    Failed {
        /// Why.
        reason: Reason,
        /// The same in a sentence, redacted.
        message: String,
    },
}

/// Judges an attempt from its Job and the pods the Job owns.
///
/// `refused` is what the API server said when the Job controller could not make the pod.
pub fn judge(job: &Job, pods: &[Pod], refused: Option<&str>, now: Timestamp) -> Outcome {
    if pods.len() > 1 {
        return failed(
            Reason::PodLost,
            "The Job has a second pod: the first was lost or deleted.",
        );
    }
    let failure = job_failure(job);
    let Some(pod) = pods.first() else {
        return match (failure, refused) {
            (Some("DeadlineExceeded"), _) => deadline(),
            (Some(_), _) => failed(
                Reason::PodLost,
                "The scan's pod was deleted before it ended.",
            ),
            (None, Some(text)) => failed(
                Reason::PodRefused,
                format!("The cluster refused the scan's pod: {}", tail(text)),
            ),
            (None, None) => Outcome::Running(Stage::Starting),
        };
    };
    if let Some(outcome) = judge_containers(pod, now) {
        return outcome;
    }
    match failure {
        Some("DeadlineExceeded") => deadline(),
        Some(_) => judge_pod_end(pod),
        None => match pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
        {
            Some("Failed") => judge_pod_end(pod),
            _ => Outcome::Running(stage(pod)),
        },
    }
}

fn failed(reason: Reason, message: impl Into<String>) -> Outcome {
    Outcome::Failed {
        reason,
        message: message.into(),
    }
}

fn deadline() -> Outcome {
    failed(
        Reason::DeadlineExceeded,
        "The scan ran longer than its deadline and was ended.",
    )
}

fn job_failure(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Failed" | "FailureTarget") && c.status == "True")
        .map(|c| c.reason.as_deref().unwrap_or("Failed"))
}

/// A container that ended, or cannot start, says more than the pod or the Job.
fn judge_containers(pod: &Pod, now: Timestamp) -> Option<Outcome> {
    let status = pod.status.as_ref()?;
    let compose = find(status.init_container_statuses.as_deref(), COMPOSE);
    let scan = find(status.init_container_statuses.as_deref(), SCAN);
    let upload = find(status.container_statuses.as_deref(), UPLOAD);
    for container in [compose, scan, upload].into_iter().flatten() {
        // The main container waits from the moment on at which the one before it was done.
        let since = if container.name == UPLOAD {
            ended(scan).and_then(|scan| scan.finished_at.as_ref())
        } else {
            status.start_time.as_ref()
        };
        let waited = since.map_or(0, |since| now.duration_since(since.0).as_secs());
        if let Some(outcome) = judge_waiting(container, waited) {
            return Some(outcome);
        }
    }
    if let Some(ended) = ended(compose)
        && !matches!(ended.exit_code, 0 | 137 | 143)
    {
        let said = tail(ended.message.as_deref().unwrap_or_default());
        return Some(failed(
            Reason::InvalidSpec,
            format!("The Secret has changed since it was checked: {said}"),
        ));
    }
    if let Some(ended) = ended(scan) {
        let message = ended.message.as_deref().unwrap_or_default();
        // The reason tells more than the code: when only a child is killed, the code is Prowler's.
        if ended.reason.as_deref() == Some("OOMKilled") {
            return Some(failed(
                Reason::OOMKilled,
                "Prowler needed more memory than its limit.",
            ));
        }
        if ended.exit_code != 0 {
            // A deadline or a deletion ends the container by a signal; the pod says which.
            let signalled = matches!(ended.exit_code, 137 | 143);
            return (!signalled).then(|| judge_prowler(ended.exit_code, message));
        }
    }
    let ended = ended(upload)?;
    if ended.reason.as_deref() == Some("OOMKilled") {
        return Some(failed(
            Reason::UploadFailed,
            "The upload container needed more memory than its limit.",
        ));
    }
    let said = left_behind(ended.message.as_deref().unwrap_or_default());
    match ended.exit_code {
        0 | UPLOAD_REFUSED => Some(Outcome::Uploaded { said }),
        137 | 143 => None,
        code => Some(failed(
            Reason::UploadFailed,
            format!("The findings could not be sent (exit code {code}): {said}"),
        )),
    }
}

fn ended(container: Option<&ContainerStatus>) -> Option<&ContainerStateTerminated> {
    container?.state.as_ref()?.terminated.as_ref()
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

fn judge_prowler(code: i32, message: &str) -> Outcome {
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

/// `waited`: seconds since the container could have started.
fn judge_waiting(container: &ContainerStatus, waited: i64) -> Option<Outcome> {
    /// Pulls fail for a moment when a registry hiccups; the kubelet goes on trying.
    const PATIENCE: i64 = 90;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let said = tail(waiting.message.as_deref().unwrap_or_default());
    match reason {
        // These never get better by themselves.
        "ErrImageNeverPull" | "InvalidImageName" => Some(failed(
            Reason::ImagePullFailed,
            format!("Image {} cannot be used: {said}", container.image),
        )),
        "ErrImagePull" | "ImagePullBackOff" => (waited > PATIENCE).then(|| {
            failed(
                Reason::ImagePullFailed,
                format!("Image {} could not be pulled: {said}", container.image),
            )
        }),
        "CreateContainerConfigError" | "CreateContainerError" => (waited > PATIENCE).then(|| {
            failed(
                Reason::PodRefused,
                format!("Container {} could not be made: {said}", container.name),
            )
        }),
        _ => None,
    }
}

fn judge_pod_end(pod: &Pod) -> Outcome {
    let status = pod.status.as_ref();
    let said = tail(
        status
            .and_then(|s| s.message.as_deref())
            .unwrap_or_default(),
    );
    match status.and_then(|s| s.reason.as_deref()) {
        Some("Evicted") => failed(
            Reason::Evicted,
            format!("The node put the scan's pod out: {said}"),
        ),
        Some("DeadlineExceeded") => deadline(),
        Some(reason) => failed(
            Reason::PodLost,
            format!("The scan's pod ended ({reason}). {said}"),
        ),
        None => failed(Reason::PodLost, "The scan's pod was ended from outside."),
    }
}

fn find<'a>(statuses: Option<&'a [ContainerStatus]>, name: &str) -> Option<&'a ContainerStatus> {
    statuses?.iter().find(|status| status.name == name)
}

fn stage(pod: &Pod) -> Stage {
    let Some(status) = pod.status.as_ref() else {
        return Stage::Starting;
    };
    let scan = find(status.init_container_statuses.as_deref(), SCAN);
    let state = scan.and_then(|scan| scan.state.as_ref());
    if ended(scan).is_some() {
        Stage::Ingesting
    } else if state.is_some_and(|state| state.running.is_some()) {
        Stage::Scanning
    } else {
        Stage::Starting
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T02:10:00Z".parse().unwrap()
    }

    fn pod(status: impl Into<Value>) -> Pod {
        let status: Value = status.into();
        serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap()
    }

    fn job(reason: Option<&str>) -> Job {
        let conditions: Vec<_> = reason
            .map(|reason| json!({ "type": "Failed", "status": "True", "reason": reason }))
            .into_iter()
            .collect();
        serde_json::from_value(json!({ "metadata": {}, "status": { "conditions": conditions } }))
            .unwrap()
    }

    fn scan_ended(code: i32, reason: &str, message: &str) -> Value {
        json!({ "phase": "Failed", "initContainerStatuses": [{
            "name": "scan", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": code, "reason": reason, "message": message } } }] })
    }

    fn upload_ended(code: i32, message: &str) -> Value {
        let mut status = scan_ended(0, "Completed", "");
        status["containerStatuses"] = json!([{
            "name": "upload", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": code, "message": message } } }]);
        status
    }

    fn reason(outcome: &Outcome) -> Reason {
        match outcome {
            Outcome::Failed { reason, .. } => *reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_way_to_end_has_one_reason() {
        let cases = [
            (scan_ended(1, "Error", "boom"), None, Reason::ScanFailed),
            (
                scan_ended(2, "Error", "usage"),
                None,
                Reason::ScanArgumentsInvalid,
            ),
            (
                scan_ended(1, "Error", "CRITICAL: Invalid service(s) specified: s4"),
                None,
                Reason::ScanArgumentsInvalid,
            ),
            (
                scan_ended(1, "Error", "botocore: InvalidClientTokenId"),
                None,
                Reason::AuthenticationFailed,
            ),
            (scan_ended(137, "OOMKilled", ""), None, Reason::OOMKilled),
            (
                scan_ended(1, "OOMKilled", "child killed"),
                None,
                Reason::OOMKilled,
            ),
            (
                scan_ended(137, "Error", ""),
                Some("DeadlineExceeded"),
                Reason::DeadlineExceeded,
            ),
            (
                scan_ended(143, "Error", ""),
                Some("BackoffLimitExceeded"),
                Reason::PodLost,
            ),
            (
                json!({ "phase": "Failed", "reason": "Evicted", "message": "disk" }),
                None,
                Reason::Evicted,
            ),
            (upload_ended(75, "{}"), None, Reason::UploadFailed),
        ];
        for (status, failure, expected) in cases {
            let outcome = judge(&job(failure), &[pod(status.clone())], None, now());
            assert_eq!(reason(&outcome), expected, "{status}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_put_together_ends_the_scan_with_what_is_wrong() {
        let mut status = scan_ended(1, "Error", "Error: key_file is not a private key\n");
        status["initContainerStatuses"][0]["name"] = json!("compose");
        assert_eq!(
            judge(&job(None), &[pod(status)], None, now()),
            failed(
                Reason::InvalidSpec,
                "The Secret has changed since it was checked: Error: key_file is not a private key"
            )
        );
        let done = json!({ "phase": "Pending", "initContainerStatuses": [{
            "name": "compose", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "terminated": { "exitCode": 0 } } }] });
        assert_eq!(
            judge(&job(None), &[pod(done)], None, now()),
            Outcome::Running(Stage::Starting)
        );
    }

    #[test]
    fn an_upload_that_is_done_or_refused_leaves_the_word_to_the_row() {
        let left = r#"{"reason":"Forbidden","message":"the token is of no scan"}"#;
        for code in [0, UPLOAD_REFUSED] {
            assert_eq!(
                judge(&job(None), &[pod(upload_ended(code, left))], None, now()),
                Outcome::Uploaded {
                    said: "the token is of no scan".to_owned()
                }
            );
        }
    }

    #[test]
    fn an_upload_that_gave_up_is_quoted_without_its_wrapping() {
        let left = "{\"reason\":\"UploadFailed\",\"message\":\"gave up after 3600 s\"}\n";
        for (left, said) in [
            (left, "gave up after 3600 s"),
            ("thread panicked\nat once", "thread panicked | at once"),
            ("", ""),
        ] {
            let outcome = judge(&job(None), &[pod(upload_ended(75, left))], None, now());
            let message = format!("The findings could not be sent (exit code 75): {said}");
            assert_eq!(outcome, failed(Reason::UploadFailed, message));
        }
    }

    #[test]
    fn the_image_of_the_upload_is_given_time_from_when_prowler_was_done() {
        let waiting = |done: &str| {
            let mut status = scan_ended(0, "Completed", "");
            status["phase"] = json!("Pending");
            status["startTime"] = json!("2026-11-23T01:00:00Z");
            status["initContainerStatuses"][0]["state"]["terminated"]["finishedAt"] = json!(done);
            status["containerStatuses"] = json!([{
                "name": "upload", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": "ErrImagePull" } } }]);
            judge(&job(None), &[pod(status)], None, now())
        };
        assert_eq!(
            waiting("2026-11-23T02:09:30Z"),
            Outcome::Running(Stage::Ingesting)
        );
        assert_eq!(
            reason(&waiting("2026-11-23T02:08:00Z")),
            Reason::ImagePullFailed
        );
    }

    #[test]
    fn a_pod_that_never_came_is_refused_or_starting_or_lost() {
        assert_eq!(
            judge(&job(None), &[], None, now()),
            Outcome::Running(Stage::Starting)
        );
        assert_eq!(
            reason(&judge(&job(None), &[], Some("exceeded quota"), now())),
            Reason::PodRefused
        );
        assert_eq!(
            reason(&judge(&job(Some("BackoffLimitExceeded")), &[], None, now())),
            Reason::PodLost
        );
    }

    #[test]
    fn a_second_pod_ends_the_attempt() {
        let two = [pod(json!({})), pod(json!({}))];
        assert_eq!(
            reason(&judge(&job(None), &two, None, now())),
            Reason::PodLost
        );
    }

    #[test]
    fn an_image_is_given_time_unless_it_can_never_be_pulled() {
        let waiting = |why: &str, started: &str| {
            pod(json!({ "startTime": started, "initContainerStatuses": [{
                "name": "scan", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": why } } }] }))
        };
        let early = judge(
            &job(None),
            &[waiting("ImagePullBackOff", "2026-11-23T02:09:30Z")],
            None,
            now(),
        );
        assert_eq!(early, Outcome::Running(Stage::Starting));
        let late = judge(
            &job(None),
            &[waiting("ImagePullBackOff", "2026-11-23T02:05:00Z")],
            None,
            now(),
        );
        assert_eq!(reason(&late), Reason::ImagePullFailed);
        let never = judge(
            &job(None),
            &[waiting("ErrImageNeverPull", "2026-11-23T02:09:59Z")],
            None,
            now(),
        );
        assert_eq!(reason(&never), Reason::ImagePullFailed);
    }
}
