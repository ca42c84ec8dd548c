//! Scan: queued as a row, run as a Job when admitted, and followed until its account is free.
//!
//! The row decides. A pass reads it, does the one thing its state calls for, and may stop
//! anywhere: the next pass finds the row and the Job as they are.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Resource;
use kube::api::DeleteParams;
use kube::runtime::reflector::ObjectRef;

use super::driver::{Cleanup, Outcome, Reconcile, is_not_found};
use super::error::Error;
use super::jobs::{self, Made};
use super::scan_schedule::seconds;
use super::tenancy::TenantView;
use super::tenant::uid_of;
use super::{Context, HasApi, launch, placed};
use crate::api::common::Time;
use crate::api::scan::{
    FailedAttempt, FindingCounts, ScanState, ScanStatus, SeverityCounts, Stage,
};
use crate::api::{Provider, Scan, ScanSchedule, Tenant};
use crate::dispatch::outcome::{self, judge};
use crate::domain::ids::{ObjectName, ObjectUid, ScanId, TenantId};
use crate::domain::reason::Reason;
use crate::domain::schedule::jitter;
use crate::store::admin::admission::{Waits, waits_for};
use crate::store::admin::ownership::{Mirrored, tenant_of};
use crate::store::scans::{self, Ended, NewScan, Open, ScanRow, State};
use crate::store::{providers, schedules};

/// A Scan that no schedule made goes this long after its end.
const DEFAULT_TTL: i64 = 7 * 24 * 3600;
/// While an attempt runs its pod's events bring passes; this is the net under them.
const WATCH_INTERVAL: Duration = Duration::from_secs(10);

impl Reconcile for Scan {
    async fn apply(&self, status: &mut ScanStatus, cx: &Context) -> Result<Outcome, Error> {
        let object = uid_of(self)?;
        let (name, tenant) = match placed(self, cx) {
            Ok(found) => found,
            Err(waiting) => return Ok(waiting),
        };
        let row = match load(tenant.id, object, cx).await? {
            Some(row) => row,
            None if status.state.is_some_and(ScanState::is_final) => {
                // The provider's rows are gone; the Scan says how it went as long as it lives.
                return Ok(Outcome::settled("Its account and findings were deleted."));
            }
            None => match self.enqueue(&name, object, &tenant, cx).await? {
                Ok(row) => row,
                Err(waiting) => return Ok(waiting),
            },
        };
        let row = self.cancel_if_asked(row, &tenant, object, cx).await?;
        let outcome = match row.state {
            State::Available => self.wait(&row, &tenant, status, cx).await?,
            State::Executing => self.run(&row, &tenant, status, cx).await?,
            State::Completed | State::Failed | State::Cancelled => {
                self.end(&row, &tenant, cx).await?
            }
        };
        // What the pass did is in the row by now; the status tells the row, not the plan.
        let now = load(tenant.id, object, cx).await?.unwrap_or(row);
        describe(status, &now, &tenant);
        Ok(outcome)
    }

    async fn cleanup(&self, _: &mut ScanStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        let name = super::name_of(self);
        let Some(tenant) = tenant_of(&cx.admin, Mirrored::Scan, object).await? else {
            // Deleted in its first pass: a slot that led to it leads nowhere now.
            if let Some(tenant) = cx.tenancy.of(&name.namespace) {
                let mut tx = cx.store.tenant(tenant.id).await?;
                schedules::skip(&mut tx, &name).await?;
                tx.commit().await?;
            }
            return Ok(Cleanup::Done);
        };
        let Some(row) = load(tenant, object, cx).await? else {
            return Ok(Cleanup::Done);
        };
        let mut tx = cx.store.tenant(tenant).await?;
        if scans::cancel(
            &mut tx,
            row.id,
            "Its Scan object was deleted.",
            cx.clock.now(),
        )
        .await?
        {
            tx.commit().await?;
        }
        if row.holds_account && !jobs::end(cx, tenant, &open(&row)).await? {
            let message = "Waiting for the scan's pod to end.".to_owned();
            return Ok(Cleanup::Waiting {
                message,
                again_in: Duration::from_secs(2),
            });
        }
        let mut tx = cx.store.tenant(tenant).await?;
        scans::detach(&mut tx, row.id).await?;
        tx.commit().await?;
        Ok(Cleanup::Done)
    }
}

async fn load(tenant: TenantId, object: ObjectUid, cx: &Context) -> Result<Option<ScanRow>, Error> {
    let mut tx = cx.store.tenant(tenant).await?;
    Ok(scans::of_object(&mut tx, object).await?)
}

fn open(row: &ScanRow) -> Open {
    Open {
        id: row.id,
        attempt: row.attempt,
        holds_account: row.holds_account,
        job: row.job.clone(),
    }
}

impl Scan {
    /// Puts the scan into the queue; or says what it waits for before it can be.
    async fn enqueue(
        &self,
        name: &ObjectName,
        object: ObjectUid,
        tenant: &TenantView,
        cx: &Context,
    ) -> Result<Result<ScanRow, Outcome>, Error> {
        let mut tx = cx.store.tenant(tenant.id).await?;
        let slot = schedules::slot_of_scan(&mut tx, name).await?;
        if let Some(scan) = slot.as_ref().and_then(|slot| slot.scan) {
            // The cluster was restored: the slot's scan exists, this object stands for it now.
            scans::adopt(&mut tx, scan, object).await?;
            tx.commit().await?;
            return Ok(load(tenant.id, object, cx).await?.ok_or_else(|| {
                Outcome::progressing(Reason::Progressing, "Its row is being taken over.")
            }));
        }
        let provider_name = ObjectName {
            namespace: name.namespace.clone(),
            name: self.spec.provider_ref.name.clone(),
        };
        let provider = match &slot {
            Some(slot) => Some(slot.provider),
            None => providers::by_name(&mut tx, &provider_name).await?,
        };
        let Some(provider) = provider else {
            let message = format!("No stored Provider here is named {}.", provider_name.name);
            return Ok(Err(Outcome::progressing(Reason::ProviderNotFound, message)
                .again_in(Duration::from_secs(30))));
        };
        let scanner_args = serde_json::to_value(self.spec.scan.clone().unwrap_or_default())
            .map_err(|error| {
                Error::Operator(format!("the scan settings cannot be encoded: {error}"))
            })?;
        let scan = NewScan {
            id: ScanId(cx.clock.uuid7()),
            object,
            name: name.clone(),
            provider,
            slot: slot.as_ref().map(|slot| (slot.schedule, slot.due_at)),
            trigger: if slot.is_some() {
                "scheduled"
            } else {
                "manual"
            },
            priority: self.spec.priority.unwrap_or(0),
            not_before: slot
                .as_ref()
                .filter(|slot| slot.jitter_seconds > 0)
                .and_then(|slot| {
                    let spread = jitter(slot.schedule, provider.0.as_bytes(), slot.jitter_seconds);
                    slot.due_at.checked_add(spread).ok()
                }),
            scanner_args,
        };
        scans::enqueue(&mut tx, &scan).await?;
        tx.commit().await?;
        cx.wake.admission.notify_one();
        Ok(load(tenant.id, object, cx).await?.ok_or_else(|| {
            Outcome::progressing(
                Reason::ProviderNotFound,
                "Its Provider was deleted meanwhile.",
            )
        }))
    }

    async fn cancel_if_asked(
        &self,
        row: ScanRow,
        tenant: &TenantView,
        object: ObjectUid,
        cx: &Context,
    ) -> Result<ScanRow, Error> {
        if row.state.is_terminal() || (self.spec.cancel != Some(true) && !row.provider_deleted) {
            return Ok(row);
        }
        let why = if row.provider_deleted {
            "Its Provider was deleted."
        } else {
            "Cancelled by its spec."
        };
        let mut tx = cx.store.tenant(tenant.id).await?;
        scans::cancel(&mut tx, row.id, why, cx.clock.now()).await?;
        tx.commit().await?;
        load(tenant.id, object, cx).await?.ok_or(Error::Outdated)
    }

    /// Queued, or waiting for a retry. The attempt before may still have its pod.
    async fn wait(
        &self,
        row: &ScanRow,
        tenant: &TenantView,
        status: &ScanStatus,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        if row.holds_account && !jobs::end(cx, tenant.id, &open(row)).await? {
            let message = "Waiting for the pod of the last attempt to end.";
            return Ok(
                Outcome::progressing(Reason::Queued, message).again_in(Duration::from_secs(2))
            );
        }
        let now = cx.clock.now();
        if let Some(at) = row.next_attempt_at.filter(|at| *at > now) {
            let last = row.message.as_deref().unwrap_or_default();
            let message = match row.attempt {
                0 => format!(
                    "Starts at {}, spread by its schedule's jitter.",
                    seconds(at)
                ),
                attempt => format!(
                    "Attempt {attempt} failed; the next starts at {}. {last}",
                    seconds(at)
                ),
            };
            let pause = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            return Ok(Outcome::progressing(Reason::Queued, message).again_in(pause));
        }
        let limit = cx.config.queues.scans.max_concurrent;
        let message = match waits_for(&cx.admin, tenant.id, row.id, limit).await? {
            Waits::Account { by } => format!("Waiting for Scan {by}, which holds the account."),
            Waits::Tenant { limit } => {
                format!(
                    "Waiting: Tenant {} runs {limit} of {limit} scans.",
                    tenant.name
                )
            }
            Waits::Queue { limit } => {
                format!("Waiting: {limit} of {limit} scans run in this installation.")
            }
            Waits::Suspended => "Waiting: its Tenant or Provider is suspended.".to_owned(),
            // Said once; saying it again in other words would be a write for nothing.
            Waits::Nothing => status
                .conditions
                .iter()
                .find(|c| c.type_ == "Ready" && c.reason == Reason::Queued.as_str())
                .map_or_else(|| "Starts in a moment.".to_owned(), |c| c.message.clone()),
        };
        Ok(Outcome::progressing(Reason::Queued, message).again_in(Duration::from_secs(15)))
    }

    /// Admitted: makes the Job if it is not there, reads how it is doing.
    async fn run(
        &self,
        row: &ScanRow,
        tenant: &TenantView,
        status: &mut ScanStatus,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        let Some(uid) = row.job.as_ref().and_then(|job| job.uid) else {
            return self.start(row, tenant, status, cx).await;
        };
        let Some(job_ref) = &row.job else {
            return Err(Error::Outdated);
        };
        let namespace = &job_ref.name.namespace;
        let judged = match jobs::get(cx, job_ref).await? {
            None => outcome::Outcome::Failed {
                reason: Reason::PodLost,
                message: "The scan's Job was deleted before it ended.".to_owned(),
            },
            Some(job) => {
                let pods = jobs::pods(cx, namespace, uid).await?;
                let refused = if pods.is_empty() {
                    jobs::refusal(cx, namespace, uid).await?
                } else {
                    None
                };
                judge(&job, &pods, refused.as_deref(), cx.clock.now())
            }
        };
        match judged {
            outcome::Outcome::Running(stage) => {
                status.stage = Some(stage);
                let (reason, message) = match stage {
                    Stage::Scanning => (Reason::Scanning, "Prowler runs."),
                    Stage::Ingesting => (
                        Reason::Ingesting,
                        "Prowler is done; its findings are being stored.",
                    ),
                    _ => (Reason::Starting, "The scan's pod is being made."),
                };
                Ok(Outcome::progressing(reason, message).again_in(WATCH_INTERVAL))
            }
            outcome::Outcome::Uploaded => {
                // The row was read before the pod: it may have been published in between.
                let object = uid_of(self)?;
                let fresh = load(tenant.id, object, cx).await?.ok_or(Error::Outdated)?;
                if fresh.state == State::Executing {
                    let message = "The upload ended, but nothing was published.";
                    return self
                        .fail(&fresh, tenant, status, Reason::UploadFailed, message, cx)
                        .await;
                }
                self.end(&fresh, tenant, cx).await
            }
            outcome::Outcome::Failed { reason, message } => {
                self.fail(row, tenant, status, reason, &message, cx).await
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
        let attempt = match launch::plan(self, row, tenant, cx).await? {
            Ok(attempt) => attempt,
            Err((reason, message)) => {
                return self.fail(row, tenant, status, reason, &message, cx).await;
            }
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
                self.fail(row, tenant, status, Reason::PodRefused, &message, cx)
                    .await
            }
            // Admission control, a quota or a terminating namespace: the answer is a refusal.
            Err(Error::Kube(error)) if is_refusal(&error) => {
                let message = format!("The cluster refused the scan's Job: {error}");
                self.fail(row, tenant, status, Reason::PodRefused, &message, cx)
                    .await
            }
            Err(error) => Err(error),
        }
    }

    /// Ends an attempt without findings: back into the queue, or failed for good.
    async fn fail(
        &self,
        row: &ScanRow,
        tenant: &TenantView,
        status: &mut ScanStatus,
        reason: Reason,
        message: &str,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        let now = cx.clock.now();
        let retry = &cx.config.retry;
        let retry_at = (reason.is_retried() && row.attempt < retry.max_attempts)
            .then(|| retry_time(now, row.attempt, retry, cx.clock.jitter()));
        let memory_bytes = (reason == Reason::OOMKilled)
            .then(|| launch::more_memory(row, tenant, cx))
            .flatten();
        let message = super::status::bounded(message);
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
            providers::set_connected(&mut tx, row.provider, false).await?;
        }
        tx.commit().await?;
        if !ours {
            // Published or cancelled in the meantime: the next pass tells that story.
            return Err(Error::Outdated);
        }
        tracing::warn!(scan = %row.id, attempt = row.attempt, %reason, retried = retry_at.is_some(), "attempt failed");
        cx.metrics.attempt_failed(reason);
        status.attempts.push(FailedAttempt {
            attempt: row.attempt,
            reason: reason.as_str().to_owned(),
            at: Time(seconds(now)),
        });
        let excess = status.attempts.len().saturating_sub(3);
        status.attempts.drain(..excess);
        let outcome = match retry_at {
            Some(_) => Outcome::progressing(Reason::Queued, message),
            None => Outcome::stalled(reason, message),
        };
        // The Job and the account are dealt with in the next pass.
        Ok(outcome.again_in(Duration::from_millis(200)))
    }

    /// Over: takes the Job away, frees the account, and goes itself when its time has come.
    async fn end(
        &self,
        row: &ScanRow,
        tenant: &TenantView,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        // Once, when the end is first told: the Provider shows its last scan.
        if self
            .status
            .as_ref()
            .and_then(|status| status.state)
            .is_none_or(|state| !state.is_final())
        {
            if row.state == State::Completed {
                // A scan that went well is the best check of a connection there is.
                let mut tx = cx.store.tenant(tenant.id).await?;
                providers::set_connected(&mut tx, row.provider, true).await?;
                tx.commit().await?;
            }
            self.wake_others(tenant, cx);
        }
        if row.holds_account {
            if !jobs::end(cx, tenant.id, &open(row)).await? {
                return Ok(ended(row).again_in(Duration::from_secs(2)));
            }
            cx.wake.call(ObjectRef::<Tenant>::new(&tenant.name));
        }
        let Some(ttl) = self.ttl() else {
            return Ok(ended(row));
        };
        let now = cx.clock.now();
        let left = row
            .completed_at
            .and_then(|at| at.checked_add(SignedDuration::from_secs(ttl)).ok())
            .map_or(SignedDuration::ZERO, |at| at.duration_since(now));
        if left.is_positive() {
            let pause = Duration::try_from(left)
                .unwrap_or_default()
                .min(Duration::from_hours(1));
            return Ok(ended(row).again_in(pause));
        }
        let api = Scan::api(cx, self.meta().namespace.as_deref());
        match api
            .delete(&super::name_of(self).name, &DeleteParams::default())
            .await
        {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(ended(row))
    }

    /// Seconds after its end; none for a Scan of a schedule, which keeps its own history.
    fn ttl(&self) -> Option<i64> {
        let scheduled = self
            .meta()
            .owner_references
            .iter()
            .flatten()
            .any(|o| o.kind == "ScanSchedule");
        match self.spec.ttl_seconds_after_finished {
            Some(ttl) => Some(ttl),
            None => (!scheduled).then_some(DEFAULT_TTL),
        }
    }

    fn wake_others(&self, tenant: &TenantView, cx: &Context) {
        cx.wake.call(ObjectRef::<Tenant>::new(&tenant.name));
        let name = super::name_of(self);
        let provider = ObjectName {
            namespace: name.namespace.clone(),
            name: self.spec.provider_ref.name.clone(),
        };
        cx.wake.call_where::<Provider>(|object| {
            let same = super::name_of(object) == provider;
            if let (true, Ok(uid)) = (same, uid_of(object)) {
                cx.mirrors.forget(uid);
            }
            same
        });
        for owner in self
            .meta()
            .owner_references
            .iter()
            .flatten()
            .filter(|o| o.kind == "ScanSchedule")
        {
            let schedule = ObjectName {
                namespace: name.namespace.clone(),
                name: owner.name.clone(),
            };
            cx.wake.call_named::<ScanSchedule>(&schedule);
        }
    }
}

fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 422))
}

/// Doubles from attempt to attempt up to the cap, spread by a quarter.
fn retry_time(
    now: Timestamp,
    attempt: i32,
    retry: &crate::config::file::Retry,
    jitter: f64,
) -> Timestamp {
    let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(20);
    let pause = retry
        .backoff_seconds
        .saturating_mul(1 << doublings)
        .min(retry.backoff_cap_seconds);
    let spread = SignedDuration::from_secs(pause).mul_f64(0.75 + 0.5 * jitter);
    now.checked_add(spread).unwrap_or(now)
}

fn ended(row: &ScanRow) -> Outcome {
    let message = row.message.clone().unwrap_or_default();
    match row.state {
        State::Completed => {
            let counts = row.counts.unwrap_or_default();
            Outcome {
                readiness: super::status::Readiness::Ready {
                    reason: Reason::Completed,
                    message: format!("{} findings, {} of them failed.", counts.total, counts.fail),
                },
                again_in: None,
            }
        }
        State::Cancelled => Outcome::stalled(Reason::Cancelled, message),
        _ => {
            let reason = row
                .reason
                .as_deref()
                .and_then(Reason::from_name)
                .unwrap_or(Reason::ScanFailed);
            Outcome::stalled(reason, message)
        }
    }
}

fn describe(status: &mut ScanStatus, row: &ScanRow, tenant: &TenantView) {
    status.scan_id = Some(row.id.to_string());
    status.tenant = Some(tenant.name.clone());
    status.provider = Some(row.provider_type.clone());
    status.uid = Some(row.provider_uid.clone());
    status.state = row.state.as_str().parse().ok();
    status.stage = match row.state {
        State::Available => Some(Stage::Queued),
        State::Executing => status
            .stage
            .filter(|stage| *stage != Stage::Queued)
            .or(Some(Stage::Starting)),
        _ => Some(Stage::Done),
    };
    status.attempt = Some(row.attempt);
    status.job_name = row.job.as_ref().map(|job| job.name.name.clone());
    status.started_at = row.started_at.map(seconds).map(Time);
    status.completed_at = row.completed_at.map(seconds).map(Time);
    status.duration_seconds = row.duration.map(i64::from);
    status.reason = match row.state {
        State::Completed => Some(Reason::Completed.as_str().to_owned()),
        // What the attempt before failed of is in `attempts`.
        State::Executing => None,
        _ => row.reason.clone(),
    };
    status.message = row
        .message
        .clone()
        .filter(|_| row.state != State::Executing);
    if let Some(c) = row.counts {
        status.findings = Some(FindingCounts {
            total: c.total,
            pass: c.pass,
            fail: c.fail,
            manual: c.manual,
            muted: c.muted,
            new: c.new,
            changed: c.changed,
        });
        status.failed_by_severity = Some(SeverityCounts {
            critical: c.critical,
            high: c.high,
            medium: c.medium,
            low: c.low,
            informational: c.informational,
        });
        status.resources = Some(i64::from(row.resources));
        status.quarantined = Some(i64::from(row.quarantined));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::Retry;

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
