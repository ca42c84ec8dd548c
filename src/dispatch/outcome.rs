//! What a Job and its pod say of an attempt: still under way, gone well, or failed for one
//! reason. The row decides what follows; this only reads.
//!
//! From the most to the least telling: that the findings were sent, what was done to the pod from
//! outside ([`disruption`]), what a container ended of ([`containers`]) or waits for ([`waiting`]),
//! and what the Job or the pod as a whole says ([`disruption`] again).

mod containers;
mod disruption;
mod prowler;
mod waiting;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use crate::api::scan::Stage;
use crate::domain::reason::Reason;

pub use self::disruption::is_given_up;
pub use self::waiting::wants_events;

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
    Running {
        /// How far it is.
        stage: Stage,
        /// What it waits for, in a sentence, where that is not just its turn; redacted.
        waits: Option<String>,
    },
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

/// All there is to judge an attempt by.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The attempt's Job.
    pub job: &'a Job,
    /// The pods it owns.
    pub pods: &'a [Pod],
    /// What an event says that only events say: why the pod could not be made, where there is none
    /// (`FailedCreate`), or why its volumes are not there (`FailedMount`; see [`wants_events`]).
    pub told: Option<&'a str>,
    /// The present.
    pub now: Timestamp,
    /// Seconds that a pod may wait for a node.
    pub scheduling_timeout: i64,
}

/// Judges an attempt.
pub fn judge(evidence: &Evidence<'_>) -> Outcome {
    let Evidence {
        job,
        pods,
        told,
        now,
        ..
    } = *evidence;
    if pods.len() > 1 {
        return failed(
            Reason::PodLost,
            "The Job has a second pod: the first was lost or deleted.",
        );
    }
    let failure = job_failure(job);
    let Some(pod) = pods.first() else {
        return match (failure, told) {
            (Some("DeadlineExceeded"), _) => deadline(),
            (Some(_), _) => failed(
                Reason::PodLost,
                "The scan's pod was deleted before it ended.",
            ),
            (None, Some(text)) => waiting::not_made(text),
            (None, None) => starting(),
        };
    };
    if let Some(outcome) = containers::sent(pod) {
        return outcome;
    }
    // Before the containers: what ends a pod from outside ends them too, by any code.
    if failure != Some("DeadlineExceeded")
        && let Some(outcome) = disruption::of(pod)
    {
        return outcome;
    }
    if let Some(outcome) = containers::ended(pod) {
        return outcome;
    }
    if failure == Some("DeadlineExceeded") {
        let is_scanned = ended_state(find(pod, SCAN)).is_some_and(|scan| scan.exit_code == 0);
        return if is_scanned {
            failed(
                Reason::UploadFailed,
                "Prowler was done, but its findings could not be sent before the scan's deadline.",
            )
        } else {
            deadline()
        };
    }
    let over = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Failed");
    if failure.is_some() || over {
        return disruption::end(pod);
    }
    waiting::judge(pod, told, now, evidence.scheduling_timeout).unwrap_or_else(|| {
        Outcome::Running {
            stage: stage(pod),
            waits: None,
        }
    })
}

fn failed(reason: Reason, message: impl Into<String>) -> Outcome {
    Outcome::Failed {
        reason,
        message: message.into(),
    }
}

fn starting() -> Outcome {
    Outcome::Running {
        stage: Stage::Starting,
        waits: None,
    }
}

fn deadline() -> Outcome {
    failed(
        Reason::DeadlineExceeded,
        "The scan ran longer than its deadline and was ended.",
    )
}

/// Whether the Job itself says that it has failed.
pub fn is_over(job: &Job) -> bool {
    job_failure(job).is_some()
}

fn job_failure(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Failed" | "FailureTarget") && c.status == "True")
        .map(|c| c.reason.as_deref().unwrap_or("Failed"))
}

/// The status of a container of this name, of the pod's first ones or of its main ones.
fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let first = status.init_container_statuses.iter().flatten();
    first
        .chain(status.container_statuses.iter().flatten())
        .find(|status| status.name == name)
}

fn ended_state(container: Option<&ContainerStatus>) -> Option<&ContainerStateTerminated> {
    container?.state.as_ref()?.terminated.as_ref()
}

fn stage(pod: &Pod) -> Stage {
    let scan = find(pod, SCAN);
    let state = scan.and_then(|scan| scan.state.as_ref());
    if ended_state(scan).is_some() {
        Stage::Ingesting
    } else if state.is_some_and(|state| state.running.is_some()) {
        Stage::Scanning
    } else {
        Stage::Starting
    }
}

#[cfg(test)]
mod tests;
