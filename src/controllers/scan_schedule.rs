//! ScanSchedule: claims each due time in the database, then makes the Scans it leads to.
//!
//! The order is the point: a crash between the claim and the Scan leaves a claimed slot whose
//! Scan the next pass makes under the same name; a crash before the claim leaves nothing.

mod due;
mod made;
mod results;

use std::time::Duration;

use jiff::Timestamp;

pub(super) use self::made::is_made_for;
use super::dependencies::awaited;
use super::driver::{Cleanup, Outcome, Reconcile};
use super::error::{Error, encoded, sentences};
use super::provider_group::labels;
use super::tenancy::TenantView;
use super::tenant::uid_of;
use super::{Context, launch, placed};
use crate::api::ScanSchedule;
use crate::api::common::{LocalRef, Time};
use crate::api::scan_schedule::ScanScheduleStatus;
use crate::domain::ids::{ObjectName, ScheduleId};
use crate::domain::reason::Reason;
use crate::domain::schedule::{Schedule, duration};
use crate::domain::selector;
use crate::domain::violation::Violation;
use crate::store::admin::ownership::{Mirrored, tenant_of};
use crate::store::providers::{self, Listed};
use crate::store::schedules::{self, ScheduleRecord};

impl Reconcile for ScanSchedule {
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
        let now = cx.clock.now();
        // Before anything is stored: what cannot be read is refused. The anchor does not matter here.
        let least = cx.config.schedules.minimum_interval;
        let mut violations = match self.times(id, now) {
            Ok(schedule) => schedule.check_frequency(least).err().into_iter().collect(),
            Err(violations) => violations,
        };
        violations.extend(launch::excessive(self.spec.scan.as_ref(), &tenant, cx));
        if !violations.is_empty() {
            let mut tx = cx.store.tenant(tenant.id).await?;
            schedules::set_next(&mut tx, id, None).await?;
            tx.commit().await?;
            status.next_schedule_time = None;
            let reason = violations
                .first()
                .map_or(Reason::InvalidSpec, Violation::reason);
            return Ok(Outcome::stalled(reason, sentences(&violations)));
        }
        let record = self.record(&name)?;

        let mut tx = cx.store.tenant(tenant.id).await?;
        let (_, remembered) = schedules::upsert(&mut tx, id, &record, now).await?;
        let all = providers::list(&mut tx).await?;
        let (chosen, missing) = choose(self, &name, &all);
        tx.commit().await?;
        let schedule = self.times(id, remembered.anchor).map_err(Error::Invalid)?;

        let next = if self.spec.suspend || tenant.spec.suspend {
            self.rest(&tenant, id, cx).await?;
            None
        } else {
            self.fire(&schedule, &remembered, &chosen, &tenant, id, cx)
                .await?
        };
        self.make_scans(&name, &tenant, id, cx).await?;
        self.expire_scans(&tenant, id, cx).await?;
        self.describe(status, &tenant, id, next, &chosen, cx)
            .await?;

        let pause = next.map(|next| pause_until(next, now));
        let outcome = if !missing.is_empty() {
            let (reason, why) = awaited(&name.namespace, &missing, cx).await?;
            Outcome::progressing(reason, format!("{why} The others are scanned."))
        } else if chosen.is_empty() {
            Outcome::settled("Armed, but chooses no provider yet.")
        } else {
            Outcome::settled(format!("Armed for {} providers.", chosen.len()))
        };
        Ok(match pause {
            Some(pause) => outcome.again_in(pause),
            None => outcome,
        })
    }

    async fn cleanup(&self, _: &mut ScanScheduleStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        while let Some(tenant) = tenant_of(&cx.admin, Mirrored::ScanSchedule, object).await? {
            let mut tx = cx.store.tenant(tenant).await?;
            schedules::retire(&mut tx, object).await?;
            tx.commit().await?;
        }
        Ok(Cleanup::Done)
    }
}

/// Wakes a little after the due time, as the `CronJob` controller does, so that clocks that
/// differ by a hair do not wake too early; never sleeps past the hourly net.
fn pause_until(next: Timestamp, now: Timestamp) -> Duration {
    let millis = next
        .as_millisecond()
        .saturating_sub(now.as_millisecond())
        .saturating_add(100);
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(Duration::from_hours(1))
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

    fn record(&self, name: &ObjectName) -> Result<ScheduleRecord, Error> {
        let spec = &self.spec;
        let wishes = spec.scan.clone().unwrap_or_default();
        let scanner_args = encoded("the scan settings", &wishes)?;
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
        })
    }

    async fn describe(
        &self,
        status: &mut ScanScheduleStatus,
        tenant: &TenantView,
        id: ScheduleId,
        next: Option<Timestamp>,
        chosen: &[&Listed],
        cx: &Context,
    ) -> Result<(), Error> {
        let mut tx = cx.store.tenant(tenant.id).await?;
        let (active, last_successful) = schedules::activity(&mut tx, id).await?;
        let remembered = schedules::remembered(&mut tx, id).await?;
        let ids: Vec<_> = chosen.iter().map(|provider| provider.id).collect();
        let ended = schedules::last_ended(&mut tx, id, &ids).await?;
        drop(tx);
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
        Ok(())
    }
}

/// Times in a status are whole seconds: a finer one would read back different and be written
/// again for ever.
pub(super) fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
