//! Scan: queued as a row, run as a Job when admitted, and followed until its account is free.
//!
//! The row decides. A pass reads it, does the one thing its state calls for, and may stop
//! anywhere: the next pass finds the row and the Job as they are.

mod attempt;
mod enqueue;
mod forgotten;
mod over;
mod report;

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;

use self::enqueue::{Enqueued, Origin};
use super::driver::{Cleanup, Outcome, Reconcile};
use super::error::Error;
use super::scan_schedule::seconds;
use super::tenancy::TenantView;
use super::tenant::uid_of;
use super::{Context, admission, jobs, placed};
use crate::api::scan::{ScanState, ScanStatus};
use crate::api::{Provider, Scan, ScanSchedule, Tenant};
use crate::domain::ids::{ObjectName, ObjectUid, TenantId};
use crate::domain::reason::Reason;
use crate::store::admin::ownership::{Mirrored, tenant_of};
use crate::store::scans::{self, Open, ScanRow, State};
use crate::store::{checks, providers, requests, schedules};

/// What a Scan says that ended with its account.
pub(super) const PROVIDER_DELETED: &str = "Its Provider was deleted.";
/// What a Scan says that somebody did not want any more.
const CANCELLED: &str = "Cancelled by its spec.";
/// What a Scan says that was made when nobody wanted it any more.
const GIVEN_UP: &str = "What it was made for was given up before it was queued.";

impl Reconcile for Scan {
    // A pass that wrote has told all that the row says; what comes next it is called for.
    const IGNORES_ECHO: bool = true;

    async fn apply(&self, status: &mut ScanStatus, cx: &Context) -> Result<Outcome, Error> {
        let object = uid_of(self)?;
        let (name, tenant) = match placed(self, cx) {
            Ok(found) => found,
            Err(_) if is_over(status) => return self.outlive(status, cx).await,
            Err(waiting) if status.scan_id.is_some() => {
                // It was queued once: in a tenant that is going, or that has gone with its rows.
                return match tenant_of(&cx.admin, Mirrored::Scan, object).await? {
                    Some(_) => Ok(waiting.again_in(Duration::from_secs(30))),
                    None => self.outlive(status, cx).await,
                };
            }
            Err(_) if self.is_cancelled() => return self.never(status, CANCELLED, cx).await,
            Err(waiting) => return Ok(waiting),
        };
        let row = match load(tenant.id, object, cx).await? {
            Some(row) => row,
            // It was queued once, and says how it went.
            None if is_over(status) || status.scan_id.is_some() => {
                return self.forgotten(&name, object, &tenant, status, cx).await;
            }
            None if self.is_cancelled() => {
                self.give_up_slot(&name, &tenant, cx).await?;
                return self.never(status, CANCELLED, cx).await;
            }
            None => match self.enqueue(&name, object, &tenant, cx).await? {
                Enqueued::Row(row) => *row,
                Enqueued::Waits(waiting) => return Ok(waiting),
                Enqueued::Never => {
                    // It would count as about to be queued for as long as its account is kept.
                    self.give_up_slot(&name, &tenant, cx).await?;
                    return self.outlive(status, cx).await;
                }
                Enqueued::GivenUp => return self.never(status, GIVEN_UP, cx).await,
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
        // What the pass did is in the row by now; the status tells the row, not the plan. A scan
        // that only waited has done nothing.
        let now = if row.state == State::Available && !row.holds_account {
            row
        } else {
            load(tenant.id, object, cx).await?.unwrap_or(row)
        };
        report::describe(status, &now, &tenant);
        report::quarantined(status, self.metadata.generation, &now);
        Ok(outcome)
    }

    fn related(&self, status: &ScanStatus) -> Option<ObjectReference> {
        Some(ObjectReference {
            api_version: Some("batch/v1".to_owned()),
            kind: Some("Job".to_owned()),
            namespace: self.metadata.namespace.clone(),
            name: Some(status.job_name.clone()?),
            ..ObjectReference::default()
        })
    }

    async fn cleanup(&self, _: &mut ScanStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        // More than one only if its namespace changed hands while a pass was under way.
        while let Some(tenant) = tenant_of(&cx.admin, Mirrored::Scan, object).await? {
            let mut tx = cx.store.tenant(tenant).await?;
            let Some(row) = scans::of_object(&mut tx, object).await? else {
                break;
            };
            let (why, now) = ("Its Scan object was deleted.", cx.clock.now());
            scans::cancel(&mut tx, row.id, Reason::Cancelled, why, now).await?;
            // Read again, now that it is locked: it may have been admitted in between.
            let Some(row) = scans::of_object(&mut tx, object).await? else {
                break;
            };
            tx.commit().await?;
            if row.holds_account && !jobs::end(cx, tenant, &open(&row)).await? {
                let message = "Waiting for the scan's pod to end.".to_owned();
                return Ok(Cleanup::Waiting {
                    message,
                    again_in: Duration::from_secs(2),
                });
            }
            // It may be the last that the Provider shows, cancelled only now. First: a pass that
            // dies behind the next commit does not find the row again.
            self.wake_provider(&row, cx);
            let mut tx = cx.store.tenant(tenant).await?;
            scans::detach(&mut tx, row.id).await?;
            tx.commit().await?;
        }
        // Deleted in its first pass: a slot that led to it leads nowhere now.
        let name = super::name_of(self);
        if let Some(tenant) = cx.tenancy.of(&name.namespace) {
            self.give_up_slot(&name, &tenant, cx).await?;
        }
        Ok(Cleanup::Done)
    }
}

async fn load(tenant: TenantId, object: ObjectUid, cx: &Context) -> Result<Option<ScanRow>, Error> {
    let mut tx = cx.store.tenant(tenant).await?;
    Ok(scans::of_object(&mut tx, object).await?)
}

/// Whether the status says how the scan went.
pub(super) fn is_over(status: &ScanStatus) -> bool {
    status.state.is_some_and(ScanState::is_final)
}

fn open(row: &ScanRow) -> Open {
    Open {
        id: row.id,
        object: Some(row.object),
        attempt: row.attempt,
        holds_account: row.holds_account,
        job: row.job.clone(),
    }
}

impl Scan {
    async fn cancel_if_asked(
        &self,
        row: ScanRow,
        tenant: &TenantView,
        object: ObjectUid,
        cx: &Context,
    ) -> Result<ScanRow, Error> {
        if row.state.is_terminal() || (!self.is_cancelled() && !row.provider_deleted) {
            return Ok(row);
        }
        let (reason, why) = if row.provider_deleted {
            (Reason::ProviderDeleted, PROVIDER_DELETED)
        } else {
            (Reason::Cancelled, CANCELLED)
        };
        let mut tx = cx.store.tenant(tenant.id).await?;
        scans::cancel(&mut tx, row.id, reason, why, cx.clock.now()).await?;
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
        // Said once; saying it again in other words would be a write for nothing.
        let said = || {
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
            let said = ready.filter(|ready| ready.reason == Reason::Queued.as_str());
            said.map_or_else(|| "Starts in a moment.".to_owned(), |c| c.message.clone())
        };
        let why = admission::why(cx, tenant.id, row.id).await?;
        // The admission loop calls when it starts, or waits for something else.
        Ok(Outcome::progressing(
            Reason::Queued,
            why.unwrap_or_else(said),
        ))
    }

    /// Over: takes the Job away, frees the account, and goes itself when its time has come.
    async fn end(
        &self,
        row: &ScanRow,
        tenant: &TenantView,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        // Until the end is told: the Provider shows its last scan. The mark outlives this
        // process; the call does not.
        if !self.status.as_ref().is_some_and(is_over) {
            let mut tx = cx.store.tenant(tenant.id).await?;
            // A scan that went well is the best check of a connection there is.
            let found = match (row.state, row.reason.as_deref()) {
                (State::Completed, _) => {
                    Some((true, Reason::Succeeded, "A scan went well.".to_owned()))
                }
                (State::Failed, Some(reason)) if reason == Reason::WrongAccount.as_str() => {
                    let why = row.message.clone().unwrap_or_default();
                    Some((false, Reason::WrongAccount, why))
                }
                _ => None,
            };
            if let Some((connected, reason, why)) = found {
                let (now, account) = (cx.clock.now(), row.provider);
                checks::set_connection(&mut tx, account, Some(connected), reason, &why, now)
                    .await?;
            }
            match (row.state, row.reason.as_deref().and_then(Reason::from_name)) {
                (State::Completed, _) => cx.metrics.queue.ended("completed"),
                (State::Cancelled, _) if row.attempt > 0 => cx.metrics.queue.ended("cancelled"),
                // The server ended it; here is where failures are counted.
                (State::Failed, Some(reason)) if row.refused_attempt == Some(row.attempt) => {
                    cx.metrics.attempt_failed(reason);
                }
                _ => {}
            }
            providers::mark(&mut tx, row.provider).await?;
            tx.commit().await?;
            self.wake_others(row, tenant, cx);
        }
        if row.holds_account {
            let freed = jobs::end(cx, tenant.id, &open(row)).await;
            // Also after an error: what is lost may be the answer, and the next pass finds the
            // account free.
            if !matches!(freed, Ok(false)) {
                self.wake_others(row, tenant, cx);
            }
            if !freed? {
                return Ok(report::ended(row).again_in(Duration::from_secs(2)));
            }
        }
        self.expire(report::ended(row), row.completed_at, self.ttl(), cx)
            .await
    }

    /// The slot or the annotation that led to it leads nowhere now.
    async fn give_up_slot(
        &self,
        name: &ObjectName,
        tenant: &TenantView,
        cx: &Context,
    ) -> Result<(), Error> {
        let mut tx = cx.store.tenant(tenant.id).await?;
        match self.origin(&mut tx, name).await? {
            Origin::Slot(_) => schedules::skip(&mut tx, name).await?,
            Origin::Request(_) => requests::made(&mut tx, &name.name, None).await?,
            Origin::Somebody | Origin::GivenUp => return Ok(()),
        }
        let committed = tx.commit().await;
        // Whatever the answer: the next pass finds nothing to give up.
        self.wake_schedules(cx);
        Ok(committed?)
    }

    fn is_cancelled(&self) -> bool {
        self.spec.cancel == Some(true)
    }

    /// Has the Provider show its last scan.
    fn wake_provider(&self, row: &ScanRow, cx: &Context) {
        // Whether or not a watch has shown the Provider: its next pass must read the rows.
        cx.mirrors.forget_row(row.provider);
        cx.wake.call_named::<Provider>(&ObjectName {
            namespace: super::name_of(self).namespace,
            name: self.spec.provider_ref.name.clone(),
        });
    }

    fn wake_others(&self, row: &ScanRow, tenant: &TenantView, cx: &Context) {
        self.wake_provider(row, cx);
        cx.wake.call(ObjectRef::<Tenant>::new(&tenant.name));
        cx.line.look_anew();
        self.wake_schedules(cx);
    }

    /// Has the schedule that made it count it.
    fn wake_schedules(&self, cx: &Context) {
        let name = super::name_of(self);
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
