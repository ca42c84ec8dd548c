//! ScanSchedule: stores when it is due and for which accounts, and makes the Scans that claimed due
//! times lead to. What is claimed is decided in `controllers::due`, before anything is made of it.
//!
//! The order is the point: a crash between the claim and the Scan leaves a claimed slot whose
//! Scan the next pass makes under the same name; a crash before the claim leaves nothing.

mod made;
mod results;

use jiff::Timestamp;

pub(super) use self::made::is_made_for;
use super::dependencies::awaited;
use super::driver::{Cleanup, Outcome, Reconcile};
use super::error::{Error, encoded, sentences};
use super::provider_group::labels;
use super::run_now::{self, Asking};
use super::tenancy::TenantView;
use super::tenant::uid_of;
use super::{Context, clock, due, launch, placed};
use crate::api::ScanSchedule;
use crate::api::common::{LocalRef, Time};
use crate::api::scan_schedule::ScanScheduleStatus;
use crate::domain::ids::{ObjectName, ScheduleId};
use crate::domain::reason::Reason;
use crate::domain::schedule::{Schedule, duration};
use crate::domain::selector;
use crate::domain::violation::Violation;
use crate::store::TenantTx;
use crate::store::admin::ownership::{Mirrored, tenant_of};
use crate::store::providers::{self, Listed};
use crate::store::requests;
use crate::store::schedules::{self, Remembered, ScheduleRecord};

impl Reconcile for ScanSchedule {
    // Whatever changes its counts calls for the pass that tells them.
    const IGNORES_ECHO: bool = true;

    async fn apply(&self, status: &mut ScanScheduleStatus, cx: &Context) -> Result<Outcome, Error> {
        let (name, tenant) = match placed(self, cx) {
            Ok(found) => found,
            Err(waiting) => {
                (status.schedule_id, status.next_schedule_time) = (None, None);
                (status.active, status.providers) = (None, None);
                (status.last_results, status.results_not_shown) = (Vec::new(), None);
                return Ok(waiting);
            }
        };
        let id = cx.installation.schedule(&name);
        let mut tx = cx.store.tenant(tenant.id).await?;
        let now = clock::agreed(cx, tx.time()).await?;
        // Before anything is stored: what cannot be read is refused.
        let least = cx.config.schedules.minimum_interval;
        let times = self.times(id, now);
        let mut violations = match &times {
            Ok(schedule) => schedule.check_frequency(least).err().into_iter().collect(),
            Err(violations) => violations.clone(),
        };
        violations.extend(launch::excessive(self.spec.scan.as_ref(), &tenant, cx));
        if !violations.is_empty() {
            let generation = self.metadata.generation.unwrap_or(0);
            schedules::disarm(&mut tx, id, uid_of(self)?, generation).await?;
            tx.commit().await?;
            status.next_schedule_time = None;
            let reason = violations
                .first()
                .map_or(Reason::InvalidSpec, Violation::reason);
            return Ok(Outcome::stalled(reason, sentences(&violations)));
        }
        let schedule = times.map_err(Error::Invalid)?;
        let record = self.record(&name, &schedule, now)?;
        let rests = self.spec.suspend || tenant.spec.suspend;

        let before = schedules::remembered(&mut tx, id).await?;
        let changed = |before: &Remembered| {
            before.object == Some(record.object) && before.times != record.times()
        };
        if before.is_some_and(|before| changed(&before)) {
            drop(tx);
            // What fell due before its times were changed is decided by those it had.
            due::settle(cx, tenant.id, id, rests).await?;
            tx = cx.store.tenant(tenant.id).await?;
        }
        let remembered = schedules::upsert(&mut tx, id, &record, now).await?;
        if remembered.object == Some(record.object) && remembered.generation > record.generation {
            // A pass over an old copy: what a newer one says is stored already.
            return Err(Error::Outdated);
        }
        let all = providers::list(&mut tx).await?;
        let (chosen, missing) = choose(self, &name, &all);
        let ids: Vec<_> = chosen.iter().map(|provider| provider.id).collect();
        schedules::choose(&mut tx, id, &ids).await?;
        let is_open = self.spec.interval.is_some()
            && schedules::lacks_slot(&mut tx, id, remembered.decided_until).await?;
        let mut claimed = schedules::unfulfilled(&mut tx, id).await?;
        tx.commit().await?;
        let schedule = self.times(id, remembered.anchor).map_err(Error::Invalid)?;
        let decision = schedule.decide(remembered.decided_until, rests, now);
        let next = decision.next.filter(|_| !rests);
        let is_decided = decision.until == remembered.decided_until
            && next == remembered.next
            && rests == remembered.rests
            && !is_open;
        let next = if is_decided {
            next
        } else {
            let next = due::settle(cx, tenant.id, id, rests).await?;
            let mut tx = cx.store.tenant(tenant.id).await?;
            claimed = schedules::unfulfilled(&mut tx, id).await?;
            tx.commit().await?;
            next
        };
        self.make_scans(&name, claimed, &tenant, id, cx).await?;
        let asking = Asking {
            object: self,
            tenant: &tenant,
            schedule: Some(id),
            settings: self.spec.scan.clone(),
        };
        // Asked of nobody, a token would be used up for nothing.
        let waits = rests || ids.is_empty();
        run_now::answer(&asking, &ids, waits, status, cx).await?;
        let mut tx = cx.store.tenant(tenant.id).await?;
        self.describe(status, &mut tx, id, next, &chosen).await?;
        let expired = self.expired_scans(&mut tx, id).await?;
        drop(tx);
        self.expire(expired, &tenant, cx).await?;

        self.told(&name, &tenant, &chosen, &missing, cx).await
    }

    async fn cleanup(&self, _: &mut ScanScheduleStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        while let Some(tenant) = tenant_of(&cx.admin, Mirrored::ScanSchedule, object).await? {
            let mut tx = cx.store.tenant(tenant).await?;
            requests::forget(&mut tx, object).await?;
            schedules::retire(&mut tx, object).await?;
            tx.commit().await?;
        }
        Ok(Cleanup::Done)
    }
}

/// The providers a schedule scans, and the names it gives that nobody has.
fn choose<'a>(
    schedule: &ScanSchedule,
    name: &ObjectName,
    all: &'a [Listed],
) -> (Vec<&'a Listed>, Vec<String>) {
    let here: Vec<_> = all
        .iter()
        .filter(|p| p.name.namespace == name.namespace)
        .collect();
    let Some(refs) = &schedule.spec.provider_refs else {
        let chosen = here
            .into_iter()
            .filter(|p| {
                let wanted = schedule.spec.provider_selector.as_ref();
                wanted.is_some_and(|wanted| selector::matches(wanted, &labels(p)))
            })
            .collect();
        return (chosen, Vec::new());
    };
    let find = |wanted: &LocalRef| here.iter().find(|p| p.name.name == wanted.name).copied();
    let missing = refs
        .iter()
        .filter(|r| find(r).is_none())
        .map(|r| r.name.clone())
        .collect();
    (refs.iter().filter_map(find).collect(), missing)
}

impl ScanSchedule {
    /// The due times the spec describes.
    fn times(&self, id: ScheduleId, anchor: Timestamp) -> Result<Schedule, Vec<Violation>> {
        let times = match (&self.spec.schedule, &self.spec.interval) {
            (Some(expression), _) => {
                Schedule::parse(expression, self.spec.time_zone.as_deref(), id)
            }
            (None, Some(interval)) => Schedule::every(interval, anchor),
            // The definition refuses this; an object from before it did is told so.
            (None, None) => Err(vec![Violation::new(
                Reason::InvalidSchedule,
                "spec",
                "give a schedule or an interval",
            )]),
        };
        Ok(times?.with_deadline(self.spec.starting_deadline_seconds))
    }

    fn record(
        &self,
        name: &ObjectName,
        schedule: &Schedule,
        now: Timestamp,
    ) -> Result<ScheduleRecord, Error> {
        let spec = &self.spec;
        let wishes = spec.scan.clone().unwrap_or_default();
        let scanner_args = encoded("the scan settings", &wishes)?;
        let created = self.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Ok(ScheduleRecord {
            object: uid_of(self)?,
            name: name.clone(),
            schedule: spec.schedule.clone(),
            interval_seconds: spec
                .interval
                .as_deref()
                .and_then(duration)
                .map(|every| every.as_secs()),
            time_zone: spec.time_zone.clone(),
            suspend: spec.suspend,
            concurrency_policy: spec.concurrency_policy.as_str().to_owned(),
            starting_deadline_seconds: spec.starting_deadline_seconds,
            jitter_seconds: spec.jitter_seconds.unwrap_or(0),
            scanner_args,
            generation: self.metadata.generation.unwrap_or(0),
            undecided_since: schedule.undecided_since(now),
            // The API server's clock may be ahead too.
            created: created.map_or(now, |created| created.min(now)),
        })
    }

    /// What a schedule says that is as it should be, but for Providers that are not there.
    async fn told(
        &self,
        name: &ObjectName,
        tenant: &TenantView,
        chosen: &[&Listed],
        missing: &[String],
        cx: &Context,
    ) -> Result<Outcome, Error> {
        let pause = if self.spec.suspend {
            Some("Nothing is due while it is suspended.")
        } else if tenant.spec.suspend {
            Some("Nothing is due while its Tenant is suspended.")
        } else {
            None
        };
        Ok(if !missing.is_empty() {
            let (reason, why) = awaited(&name.namespace, missing, cx).await?;
            let others = pause.unwrap_or("The others are scanned.");
            Outcome::progressing(reason, format!("{why} {others}"))
        } else if let Some(pause) = pause {
            Outcome::settled(pause)
        } else if chosen.is_empty() {
            Outcome::settled("Armed, but chooses no provider yet.")
        } else {
            let many = if chosen.len() == 1 { "" } else { "s" };
            Outcome::settled(format!("Armed for {} provider{many}.", chosen.len()))
        })
    }

    async fn describe(
        &self,
        status: &mut ScanScheduleStatus,
        tx: &mut TenantTx,
        id: ScheduleId,
        next: Option<Timestamp>,
        chosen: &[&Listed],
    ) -> Result<(), Error> {
        let (active, last_successful) = schedules::activity(tx, id).await?;
        let remembered = schedules::remembered(tx, id).await?;
        let remembered = remembered.ok_or(Error::Outdated)?;
        let ids: Vec<_> = chosen.iter().map(|provider| provider.id).collect();
        let ended = schedules::last_ended(tx, id, &ids).await?;
        let (results, hidden) = results::shown(chosen, &ended);
        status.last_results = results;
        status.results_not_shown = i64::try_from(hidden).ok().filter(|hidden| *hidden > 0);
        status.schedule_id = Some(id.to_string());
        status.active = Some(active);
        status.providers = i64::try_from(chosen.len()).ok();
        status.last_schedule_time = remembered.last_slot.map(Time);
        status.next_schedule_time = next.map(Time);
        status.last_successful_time = last_successful.map(seconds).map(Time);
        status.last_missed_time = remembered.last_missed.map(Time);
        status.missed_count = (remembered.missed > 0).then_some(remembered.missed);
        status.skipped_count = (remembered.skipped > 0).then_some(remembered.skipped);
        Ok(())
    }
}

/// Times in a status are whole seconds: a finer one would read back different and be written
/// again for ever.
pub(super) fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
