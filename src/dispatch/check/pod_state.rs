//! How far the pod of a check has come.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, Pod};

use super::{CHECK, Verdict};
use crate::domain::reason::Reason;
use crate::domain::redact::redact;

/// An image that cannot be pulled, or a container that cannot be made, is waited for so long.
const PATIENCE: SignedDuration = SignedDuration::from_secs(90);

/// What the pod says; `None`: not yet anything. `since` is when the check was let in.
pub fn judge(pod: &Pod, since: Timestamp, now: Timestamp) -> Option<Verdict> {
    let status = pod.status.as_ref()?;
    let state = status
        .container_statuses
        .iter()
        .flatten()
        .find(|container| container.name == CHECK)
        .and_then(|container| container.state.as_ref());
    match state {
        Some(ContainerState {
            terminated: Some(end),
            ..
        }) => Some(if end.reason.as_deref() == Some("OOMKilled") {
            Verdict::none(
                Reason::OOMKilled,
                "The check needed more memory than it had (1Gi).",
            )
        } else {
            Verdict::of(end.message.as_deref().unwrap_or_default())
        }),
        Some(ContainerState {
            waiting: Some(waiting),
            ..
        }) if now.duration_since(since) > PATIENCE => {
            let said = redact(waiting.message.as_deref().unwrap_or_default());
            match waiting.reason.as_deref()? {
                "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" => Some(Verdict::none(
                    Reason::ImagePullFailed,
                    format!("The image of the check could not be pulled: {said}"),
                )),
                "CreateContainerConfigError" | "CreateContainerError" => Some(Verdict::none(
                    Reason::PodRefused,
                    format!("The container of the check could not be made: {said}"),
                )),
                _ => None,
            }
        }
        // Put out, or ended before the container was.
        _ if status.phase.as_deref() == Some("Failed") => Some(Verdict::none(
            Reason::PodLost,
            format!(
                "The check's pod ended before it answered ({}).",
                status.reason.as_deref().unwrap_or("no reason was given")
            ),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(seconds: i64, status: &Value) -> Option<Verdict> {
        let pod: Pod = serde_json::from_value(json!({ "status": status })).unwrap();
        let since: Timestamp = "2026-11-26T00:00:00Z".parse().unwrap();
        judge(&pod, since, since + SignedDuration::from_secs(seconds))
    }

    fn container(state: &Value) -> Value {
        json!({ "phase": "Pending", "containerStatuses": [{
            "name": "check", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }] })
    }

    #[test]
    fn the_message_of_the_container_decides() {
        let ended = |message: &str| {
            container(&json!({ "terminated": { "exitCode": 0, "message": message } }))
        };
        let verdict = judged(5, &ended(r#"{"connected": true}"#)).unwrap();
        assert_eq!(verdict.connected, Some(true));
        let verdict = judged(5, &ended("")).unwrap();
        assert_eq!(
            (verdict.connected, verdict.reason),
            (None, Reason::CheckFailed)
        );
    }

    #[test]
    fn what_may_still_come_is_waited_for_and_not_for_ever() {
        let pulling = container(&json!({ "waiting": { "reason": "ImagePullBackOff" } }));
        assert_eq!(judged(10, &pulling), None);
        assert_eq!(
            judged(91, &pulling).unwrap().reason,
            Reason::ImagePullFailed
        );
        let refused = container(&json!({ "waiting": { "reason": "CreateContainerConfigError" } }));
        assert_eq!(judged(91, &refused).unwrap().reason, Reason::PodRefused);
        assert_eq!(judged(91, &container(&json!({ "running": {} }))), None);
        assert_eq!(judged(91, &json!({ "phase": "Pending" })), None);
    }

    #[test]
    fn a_pod_that_was_put_out_or_killed_says_nothing_of_the_account() {
        let verdict = judged(5, &json!({ "phase": "Failed", "reason": "Evicted" })).unwrap();
        assert_eq!((verdict.connected, verdict.reason), (None, Reason::PodLost));
        let killed =
            container(&json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } }));
        assert_eq!(judged(5, &killed).unwrap().reason, Reason::OOMKilled);
    }
}
