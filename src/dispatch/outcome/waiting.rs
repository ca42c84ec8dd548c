//! What a pod waits for that has not begun, and how long it may.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{COMPOSE, Outcome, SCAN, UPLOAD, ended_state, failed, find, stage};
use crate::domain::reason::Reason;
use crate::domain::redact::tail;

/// Seconds for what fails for a moment — a registry hiccups, a Secret is being replaced — and at
/// which the kubelet goes on trying.
const PATIENCE: i64 = 90;

/// Why the API server did not let the Job controller make the pod (event `FailedCreate`).
pub(super) fn not_made(text: &str) -> Outcome {
    let said = tail(text);
    // An admission plugin's words for what the Job's pod names.
    let reason = if text.contains("serviceaccount \"") && text.contains("not found") {
        Reason::ServiceAccountNotFound
    } else {
        Reason::PodRefused
    };
    failed(
        reason,
        format!("The cluster refused the scan's pod: {said}"),
    )
}

/// Whether what the pod waits for can only be had from its events: a node has it, and no container
/// has come so far as to say anything.
pub fn wants_events(pod: &Pod, now: Timestamp) -> bool {
    let begun = [COMPOSE, SCAN, UPLOAD]
        .into_iter()
        .filter_map(|name| find(pod, name)?.state.as_ref())
        .any(|state| state.running.is_some() || state.terminated.is_some());
    !begun && since_start(pod, now).is_some_and(|waited| waited > PATIENCE)
}

/// What the pod waits for; none if nothing keeps it.
pub(super) fn judge(
    pod: &Pod,
    told: Option<&str>,
    now: Timestamp,
    scheduling_timeout: i64,
) -> Option<Outcome> {
    if let Some(outcome) = for_a_node(pod, now, scheduling_timeout) {
        return Some(outcome);
    }
    for name in [COMPOSE, SCAN, UPLOAD] {
        let Some(container) = find(pod, name) else {
            continue;
        };
        // The main container waits from the moment on at which the one before it was done.
        let waited = if name == UPLOAD {
            ended_state(find(pod, SCAN))
                .and_then(|scan| scan.finished_at.as_ref())
                .map(|at| now.duration_since(at.0).as_secs())
        } else {
            since_start(pod, now)
        };
        if let Some(outcome) = for_itself(pod, container, waited.unwrap_or(0)) {
            return Some(outcome);
        }
    }
    let told = told.filter(|_| wants_events(pod, now))?;
    Some(failed(
        missing(told),
        format!(
            "A volume of the scan's pod could not be mounted: {}",
            tail(told)
        ),
    ))
}

fn since_start(pod: &Pod, now: Timestamp) -> Option<i64> {
    let start = pod.status.as_ref()?.start_time.as_ref()?;
    Some(now.duration_since(start.0).as_secs())
}

/// The scheduler found no node for it.
fn for_a_node(pod: &Pod, now: Timestamp, timeout: i64) -> Option<Outcome> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let said = tail(condition.message.as_deref().unwrap_or_default());
    let message = format!("No node takes the scan's pod: {said}");
    let waited = condition
        .last_transition_time
        .as_ref()
        .map_or(0, |since| now.duration_since(since.0).as_secs());
    Some(if waited > timeout {
        failed(Reason::Unschedulable, message)
    } else {
        waits(pod, message)
    })
}

/// `waited`: seconds since the container could have begun.
fn for_itself(pod: &Pod, container: &ContainerStatus, waited: i64) -> Option<Outcome> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let text = waiting.message.as_deref().unwrap_or_default();
    let said = tail(text);
    let (reason, message, patience) = match waiting.reason.as_deref()? {
        // These never get better by themselves.
        "ErrImageNeverPull" | "InvalidImageName" => (
            Reason::ImagePullFailed,
            format!("Image {} cannot be used: {said}", container.image),
            0,
        ),
        "ErrImagePull" | "ImagePullBackOff" | "ImageInspectError" | "RegistryUnavailable" => (
            Reason::ImagePullFailed,
            format!("Image {} could not be pulled: {said}", container.image),
            PATIENCE,
        ),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => (
            missing(text),
            format!("Container {} could not be made: {said}", container.name),
            PATIENCE,
        ),
        _ => return None,
    };
    Some(if patience == 0 || waited > patience {
        failed(reason, message)
    } else {
        waits(pod, message)
    })
}

/// The kubelet's words for what a pod names and is not there.
fn missing(text: &str) -> Reason {
    if text.contains("secret \"") && text.contains("not found") {
        Reason::SecretNotFound
    } else if text.contains("references non-existent secret key")
        || text.contains("couldn't find key")
    {
        Reason::SecretKeyMissing
    } else {
        Reason::PodRefused
    }
}

fn waits(pod: &Pod, message: String) -> Outcome {
    Outcome::Running {
        stage: stage(pod),
        waits: Some(message),
    }
}
