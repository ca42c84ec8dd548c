//! An attempt of an admitted scan: its Job made once, its pod judged, its failure put down.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::load;
use crate::api::Scan;
use crate::api::scan::{ScanStatus, Stage};
use crate::config::file::Retry;
use crate::controllers::driver::Outcome;
use crate::controllers::error::Error;
use crate::controllers::jobs::{self, Made};
use crate::controllers::tenancy::TenantView;
use crate::controllers::tenant::uid_of;
use crate::controllers::{Context, kueue, launch, status};
use crate::dispatch::outcome::{self, Evidence, judge, wants_events};
use crate::domain::ids::{ObjectName, ObjectUid};
use crate::domain::quantity;
use crate::domain::reason::Reason;
use crate::domain::redact::redact;
use crate::store::scans::{self, Ended, JobRef, ScanRow, State};
use crate::store::{checks, providers};

/// While an attempt runs its pod's events bring passes; this is the net under them.
const WATCH_INTERVAL: Duration = Duration::from_secs(10);

/// How long an attempt may be admitted without a Job.
const PLANNING: SignedDuration = SignedDuration::from_mins(10);

impl Scan {
    /// Admitted: makes the Job if it is not there, reads how it is doing.
    pub(super) async fn run(
        &self,
        row: &ScanRow,
        tenant: &TenantView,
        status: &mut ScanStatus,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        if row.refused_attempt == Some(row.attempt) {
            // The server has read its file: nothing that becomes of the pod says more.
            let reason = row.reason.as_deref().and_then(Reason::from_name);
            let reason = reason.unwrap_or(Reason::OutputUnreadable);
            let message = row.message.clone().unwrap_or_default();
            return self.fail(row, tenant, reason, &message, cx).await;
        }
        let Some((job_ref, uid)) = row.job.as_ref().and_then(|job| Some((job, job.uid?))) else {
            return self.start(row, tenant, status, cx).await;
        };
        match look(job_ref, uid, cx).await? {
            outcome::Outcome::Running { stage, waits } => {
                status.stage = Some(stage);
                let (reason, message) = match stage {
                    Stage::Scanning => (Reason::Scanning, "Prowler runs."),
                    Stage::Ingesting => (
                        Reason::Ingesting,
                        "Prowler is done; its findings are being stored.",
                    ),
                    _ => (Reason::Starting, "The scan's pod is being made."),
                };
                let message = waits.unwrap_or_else(|| message.to_owned());
                Ok(
                    Outcome::progressing(reason, status::bounded(&message))
                        .again_in(WATCH_INTERVAL),
                )
            }
            outcome::Outcome::Uploaded { said } => {
                // The row was read before the pod: it may have been published in between.
                let object = uid_of(self)?;
                let fresh = load(tenant.id, object, cx).await?.ok_or(Error::Outdated)?;
                if fresh.state == State::Executing {
                    if fresh.refused_attempt == Some(fresh.attempt) {
                        // Refused since the row was read: the next pass has the reason.
                        return Err(Error::Outdated);
                    }
                    let message = if said.is_empty() {
                        "The upload ended, but nothing was published.".to_owned()
                    } else {
                        format!("The server did not take the findings: {said}")
                    };
                    return self
                        .fail(&fresh, tenant, Reason::UploadFailed, &message, cx)
                        .await;
                }
                self.end(&fresh, tenant, cx).await
            }
            outcome::Outcome::Failed { reason, message } => {
                self.fail(row, tenant, reason, &message, cx).await
            }
        }
    }

    async fn start(
        &self,
        row: &ScanRow,
        tenant: &TenantView,
        status: &mut ScanStatus,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        if cx.config.kueue.enabled && cx.workloads.served(&cx.client).await?.is_none() {
            // Nobody would ever start its Job.
            let waiting = Outcome::progressing(Reason::KueueMissing, kueue::MISSING);
            return Ok(waiting.again_in(Duration::from_secs(30)));
        }
        let attempt = match launch::plan(self, row, tenant, cx).await {
            Ok(Ok(attempt)) => attempt,
            Ok(Err((reason, message))) => {
                return self.fail(row, tenant, reason, &message, cx).await;
            }
            Err(error) => return self.not_planned(row, tenant, error, cx).await,
        };
        let job = attempt.job(&cx.config);
        let name = ObjectName {
            namespace: attempt.object.namespace.clone(),
            name: attempt.job_name(),
        };
        let mut tx = cx.store.tenant(tenant.id).await?;
        let planned = scans::plan_job(&mut tx, row.id, row.attempt, &name).await?;
        tx.commit().await?;
        if !planned {
            return Err(Error::Outdated);
        }
        match jobs::make(cx, &job).await {
            Ok(Made::Ours(uid)) => {
                let mut tx = cx.store.tenant(tenant.id).await?;
                let recorded = scans::record_job(&mut tx, row.id, row.attempt, uid).await?;
                tx.commit().await?;
                if !recorded {
                    // Cancelled while the Job was being made: whoever cancelled found no Job.
                    let job = JobRef {
                        name,
                        uid: Some(uid),
                    };
                    jobs::delete(cx, &job, uid).await?;
                    return Err(Error::Outdated);
                }
                status.stage = Some(Stage::Starting);
                Ok(
                    Outcome::progressing(Reason::Starting, "The scan's pod is being made.")
                        .again_in(WATCH_INTERVAL),
                )
            }
            Ok(Made::Foreign) => {
                let message = format!(
                    "Another Job has the name {}; this attempt is given up.",
                    name.name
                );
                self.fail(row, tenant, Reason::PodRefused, &message, cx)
                    .await
            }
            // Admission control, a quota or a terminating namespace: the answer is a refusal.
            Err(Error::Kube(error)) if is_refusal(&error) => {
                let message = format!(
                    "The cluster refused the scan's Job: {}",
                    redact(&error.to_string())
                );
                self.fail(row, tenant, Reason::PodRefused, &message, cx)
                    .await
            }
            Err(error) => Err(error),
        }
    }

    /// An attempt holds its account and a place in every queue: what keeps its Job from being made
    /// may last for a while, not for ever.
    async fn not_planned(
        &self,
        row: &ScanRow,
        tenant: &TenantView,
        error: Error,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        let waited = row
            .attempt_started_at
            .map_or(SignedDuration::ZERO, |at| cx.clock.now().duration_since(at));
        let refused = matches!(&error, Error::Kube(error) if is_refusal(error));
        if !refused && waited < PLANNING {
            return Err(error);
        }
        let message = format!("The scan's Job could not be made: {error}");
        self.fail(row, tenant, Reason::PodRefused, &message, cx)
            .await
    }

    /// Ends an attempt without findings: back into the queue, or failed for good.
    async fn fail(
        &self,
        row: &ScanRow,
        tenant: &TenantView,
        reason: Reason,
        message: &str,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        let now = cx.clock.now();
        let retry = &cx.config.retry;
        let failed_so = || {
            row.failures
                .iter()
                .any(|past| past.reason == reason.as_str())
        };
        // A Secret that is being replaced is not there for a moment.
        let may_heal =
            reason.is_retried() || reason.waits() || reason.is_retried_once() && !failed_so();
        let retry_at = (may_heal && row.attempt < retry.max_attempts)
            .then(|| retry_time(now, row.attempt, retry, cx.clock.jitter()));
        let (memory_bytes, message) = if reason == Reason::OOMKilled {
            let (had, next) = launch::more_memory(row, tenant, cx);
            let message = out_of_memory(message, had, next, retry_at.is_some());
            (next, status::bounded(&message))
        } else {
            (None, status::bounded(message))
        };
        let ended = Ended {
            attempt: row.attempt,
            reason: reason.as_str(),
            message: &message,
            retry_at,
            memory_bytes,
        };
        let mut tx = cx.store.tenant(tenant.id).await?;
        let ours = scans::end_attempt(&mut tx, row.id, &ended, now).await?;
        if ours && reason == Reason::AuthenticationFailed {
            checks::set_connection(&mut tx, row.provider, Some(false), reason, &message, now)
                .await?;
        }
        if ours && retry_at.is_none() {
            // This pass tells the end, so that no later one would have the Provider show it.
            providers::mark(&mut tx, row.provider).await?;
        }
        tx.commit().await?;
        if !ours {
            // Published or cancelled in the meantime: the next pass tells that story.
            return Err(Error::Outdated);
        }
        tracing::warn!(scan = %row.id, attempt = row.attempt, %reason, retried = retry_at.is_some(), "attempt failed");
        cx.metrics.attempt_failed(reason);
        let outcome = if retry_at.is_some() {
            Outcome::progressing(Reason::Queued, message)
        } else {
            self.wake_others(row, tenant, cx);
            Outcome::stalled(reason, message)
        };
        // The Job and the account are dealt with in the next pass.
        Ok(outcome.again_in(Duration::from_millis(200)))
    }
}

/// What was too little, and what comes of it.
fn out_of_memory(message: &str, had: Option<i64>, next: Option<i64>, again: bool) -> String {
    let had = had.map_or_else(String::new, |had| {
        format!(" It had {}.", quantity::shown(had))
    });
    let then = match (next, again) {
        (Some(next), true) => format!(" The next attempt gets {}.", quantity::shown(next)),
        (Some(next), false) => format!(" The next scan gets {}.", quantity::shown(next)),
        (None, _) => " That is the limit: raise limits.scanMemory of its Tenant.".to_owned(),
    };
    format!("{message}{had}{then}")
}

/// What the API server shows of an attempt whose Job was made.
async fn look(job_ref: &JobRef, uid: ObjectUid, cx: &Context) -> Result<outcome::Outcome, Error> {
    let namespace = &job_ref.name.namespace;
    let Some(job) = jobs::get(cx, job_ref).await? else {
        return Ok(outcome::Outcome::Failed {
            reason: Reason::PodLost,
            message: "The scan's Job was deleted before it ended.".to_owned(),
        });
    };
    let pods = jobs::pods(cx, namespace, uid).await?;
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    if cx.config.kueue.enabled && is_suspended && pods.is_empty() && !outcome::is_over(&job) {
        return Ok(outcome::Outcome::Running {
            stage: Stage::Starting,
            waits: Some(kueue::why(cx, namespace, uid).await?),
        });
    }
    let now = cx.clock.now();
    let told = match pods.as_slice() {
        [] => jobs::told(cx, namespace, &uid.to_string(), "FailedCreate").await?,
        [pod] if wants_events(pod, now) => {
            let pod = pod.metadata.uid.as_deref().unwrap_or_default();
            jobs::told(cx, namespace, pod, "FailedMount").await?
        }
        _ => None,
    };
    Ok(judge(&Evidence {
        job: &job,
        pods: &pods,
        told: told.as_deref(),
        now,
        scheduling_timeout: cx.config.scanner.scheduling_timeout_seconds,
    }))
}

fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 422))
}

/// Doubles from attempt to attempt up to the cap, spread by a quarter.
fn retry_time(now: Timestamp, attempt: i32, retry: &Retry, jitter: f64) -> Timestamp {
    let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(20);
    let pause = retry
        .backoff_seconds
        .saturating_mul(1 << doublings)
        .min(retry.backoff_cap_seconds);
    let spread = SignedDuration::from_secs(pause).mul_f64(0.75 + 0.5 * jitter);
    now.checked_add(spread).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_double_up_to_the_cap() {
        let now: Timestamp = "2026-11-23T02:00:00Z".parse().unwrap();
        let pauses: Vec<_> = (1..=9)
            .map(|attempt| {
                retry_time(now, attempt, &Retry::default(), 0.5)
                    .duration_since(now)
                    .as_secs()
            })
            .collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
    }
}
