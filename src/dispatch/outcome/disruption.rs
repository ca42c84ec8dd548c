//! What ended a pod from outside: the scheduler, the node, an eviction, a hand.
//!
//! Kubernetes writes the condition `DisruptionTarget` before it deletes a pod for a reason of its
//! own. See <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions>.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use super::{Outcome, deadline, failed};
use crate::domain::reason::Reason;
use crate::domain::redact::tail;

/// The condition that a pod of Kubernetes' own choice to end carries.
fn target(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_ == "DisruptionTarget" && c.status == "True")
}

/// Whether nobody will tell any more that the pod's containers ended, so that its account must not
/// wait for it: its time to end is over, and its node was given up or says nothing. What may still
/// run there is of an attempt that is fenced.
pub fn is_given_up(pod: &Pod, now: Timestamp) -> bool {
    /// Seconds beyond the time to end that a kubelet may need to tell it.
    const TELLING: i64 = 60;
    /// The same where the node is known to be lost. A pod goes 65 s after its node's last heartbeat
    /// at the latest (50 until it counts as unready, 15 that the pod tolerates) and has 30 s to end:
    /// its account is free within 120.
    const TELLING_OF_LOST_NODE: i64 = 10;
    let Some(deletion) = &pod.metadata.deletion_timestamp else {
        return false;
    };
    let is_lost = target(pod).is_some_and(|condition| {
        matches!(
            condition.reason.as_deref(),
            Some("DeletionByTaintManager" | "DeletionByPodGC")
        )
    });
    let telling = if is_lost {
        TELLING_OF_LOST_NODE
    } else {
        TELLING
    };
    // The time of a deletion is that at which the time to end is over.
    now.duration_since(deletion.0).as_secs() > telling
}

/// Why Kubernetes ends the pod, if it does: the attempt is over at once, however long its
/// containers take.
pub(super) fn of(pod: &Pod) -> Option<Outcome> {
    let condition = target(pod)?;
    let said = tail(condition.message.as_deref().unwrap_or_default());
    Some(match condition.reason.as_deref() {
        Some("PreemptionByScheduler") => failed(
            Reason::Preempted,
            format!("The scan's pod made room for a more important one: {said}"),
        ),
        Some("DeletionByTaintManager" | "DeletionByPodGC") => failed(
            Reason::NodeLost,
            format!("The node of the scan's pod is gone or takes no pods any more: {said}"),
        ),
        Some("EvictionByEvictionAPI") => failed(
            Reason::Evicted,
            format!("The scan's pod was evicted, as when a node is drained: {said}"),
        ),
        // The kubelet's own: the pod's reason says which of several.
        _ => end(pod),
    })
}

/// What the pod as a whole says of its end.
pub(super) fn end(pod: &Pod) -> Outcome {
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
        Some("Preempting") => failed(
            Reason::Preempted,
            format!("The scan's pod made room for a more important one: {said}"),
        ),
        Some("Terminated" | "NodeShutdown" | "Shutdown" | "NodeLost") => failed(
            Reason::NodeLost,
            format!("The node of the scan's pod was shut down or lost: {said}"),
        ),
        Some(reason) if is_refusal_of_kubelet(reason) => failed(
            Reason::PodRefused,
            format!("The node refused the scan's pod ({reason}): {said}"),
        ),
        Some("DeadlineExceeded") => deadline(),
        Some(reason) => failed(
            Reason::PodLost,
            format!("The scan's pod ended ({reason}). {said}"),
        ),
        None if target(pod).is_some() => failed(
            Reason::Evicted,
            "The node ended the scan's pod; its events say why.",
        ),
        None => failed(
            Reason::PodLost,
            "The scan's pod was deleted or killed from outside.",
        ),
    }
}

/// What a kubelet calls pods it does not take, though the scheduler gave it them.
fn is_refusal_of_kubelet(reason: &str) -> bool {
    reason.starts_with("OutOf")
        || matches!(
            reason,
            "NodeAffinity" | "NodePorts" | "UnexpectedAdmissionError" | "TopologyAffinityError"
        )
}
