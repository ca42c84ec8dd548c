//! ScanSchedule: claims each due time in the database, then makes the Scans it leads to.
//!
//! The order is the point: a crash between the claim and the Scan leaves a claimed slot whose
//! Scan the next pass makes under the same name; a crash before the claim leaves nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_controller::events::EventType;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};

use super::driver::{Cleanup, Outcome, Reconcile};
use super::error::{Error, sentences};
use super::provider_group::labels;
use super::tenancy::TenantView;
use super::tenant::uid_of;
use super::{Context, HasApi, placed};
use crate::api::common::{LocalRef, Time};
use crate::api::scan::{ScanSpec, Trigger};
use crate::api::scan_schedule::{ConcurrencyPolicy, ScanScheduleStatus};
use crate::api::{FIELD_MANAGER, Scan, ScanSchedule};
use crate::domain::ids::{ObjectName, ProviderId, ScheduleId};
use crate::domain::reason::Reason;
use crate::domain::schedule::{Decision, Schedule, duration};
use crate::domain::selector;
use crate::domain::violation::Violation;
use crate::store::admin::ownership::{Mirrored, tenant_of};
use crate::store::providers::{self, Listed};
use crate::store::scans;
use crate::store::schedules::{self, Busy, Claim, Remembered, ScheduleRecord};

/// Seconds that a claimed slot may be late beyond the schedule's own deadline: a pass that claims
/// one at the last moment may still make its Scan.
const CLAIMED_GRACE: i64 = 300;

impl Reconcile for ScanSchedule {
    async fn apply(&self, status: &mut ScanScheduleStatus, cx: &Context) -> Result<Outcome, Error> {
        let (name, tenant) = match placed(self, cx) {
            Ok(found) => found,
            Err(waiting) => {
                (status.schedule_id, status.next_schedule_time) = (None, None);
                (status.active, status.providers) = (None, None);
                return Ok(waiting);
            }
        };
        let id = cx.installation.schedule(&name);
        let now = cx.clock.now();
        // Before anything is stored: what cannot be read is refused. The anchor does not matter here.
        if let Err(violations) = self.times(id, now) {
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
        self.describe(status, &tenant, id, next, chosen.len(), cx)
            .await?;

        let pause = next.map(|next| pause_until(next, now));
        let outcome = if let Some(first) = missing.first() {
            let message =
                format!("No stored Provider here is named {first}; the others are scanned.");
            Outcome::progressing(Reason::ProviderNotFound, message)
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

/// The name of the Scan a slot leads to: the same whenever it is made. Names of objects end at
/// 253 characters, of which the due time and the account take 22.
fn scan_name(schedule: &str, provider: &Listed, due_at: Timestamp) -> String {
    let hash = blake3::hash(provider.id.0.as_bytes()).to_hex();
    let head: String = schedule.chars().take(200).collect();
    format!(
        "{}-{}-{}",
        head.trim_end_matches(['-', '.']),
        due_at.as_second(),
        &hash[..8]
    )
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
        let scanner_args =
            serde_json::to_value(spec.scan.clone().unwrap_or_default()).map_err(|error| {
                Error::Operator(format!("the scan settings cannot be encoded: {error}"))
            })?;
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

    /// Nothing is due while suspended.
    async fn rest(&self, tenant: &TenantView, id: ScheduleId, cx: &Context) -> Result<(), Error> {
        let mut tx = cx.store.tenant(tenant.id).await?;
        schedules::set_next(&mut tx, id, None).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Before this nothing is due: due times of a cron expression from before the object are
    /// nobody's, also when the row remembers an earlier object of this name.
    fn since(&self, remembered: &Remembered) -> Timestamp {
        let created = self.metadata.creation_timestamp.as_ref().map(|time| time.0);
        match created {
            Some(created) if self.spec.interval.is_none() => created.max(remembered.anchor),
            _ => remembered.anchor,
        }
    }

    /// Claims the slot that is due, if one is; the next due time.
    async fn fire(
        &self,
        schedule: &Schedule,
        remembered: &Remembered,
        chosen: &[&Listed],
        tenant: &TenantView,
        id: ScheduleId,
        cx: &Context,
    ) -> Result<Option<Timestamp>, Error> {
        let now = cx.clock.now();
        let since = self.since(remembered);
        let last = remembered.last_slot.max(remembered.last_missed);
        let last = last.map(|last| match self.spec.interval {
            Some(_) => last,
            None => last.max(since),
        });
        let due = schedule.decide(last, since, now);
        let mut tx = cx.store.tenant(tenant.id).await?;
        if let Some(missed) = due.missed {
            let count = i64::try_from(missed.count).unwrap_or(i64::MAX);
            schedules::missed(&mut tx, id, missed.last, count).await?;
        }
        // An account that joins a schedule of intervals does not wait for the next one: the slot
        // that began last is its own too, as long as it may still start.
        let slot = match due.decision {
            Decision::Fire { slot } => Some(slot),
            _ => remembered
                .last_slot
                .filter(|slot| self.spec.interval.is_some() && !self.is_late(*slot, now, 0)),
        };
        if let Some(due_at) = slot {
            let ids: Vec<_> = chosen.iter().map(|provider| provider.id).collect();
            let open = schedules::without_slot(&mut tx, id, due_at, &ids).await?;
            let chosen: Vec<_> = chosen
                .iter()
                .copied()
                .filter(|provider| open.contains(&provider.id))
                .collect();
            let busy = schedules::busy(&mut tx, id, &open).await?;
            let awaited = schedules::awaited(&mut tx, id, due_at, &open).await?;
            let claims = self.claims(&chosen, &busy, &awaited, due_at);
            let claimed = schedules::claim(&mut tx, id, due_at, &claims).await?;
            if self.spec.concurrency_policy == ConcurrencyPolicy::Replace {
                for scan in busy {
                    let why = "Replaced by the schedule's next scan.";
                    scans::cancel(&mut tx, scan.scan, Reason::Cancelled, why, now).await?;
                }
            }
            if claimed > 0 {
                tracing::info!(%due_at, claimed, "claimed a due time");
            }
        }
        schedules::set_next(&mut tx, id, due.next).await?;
        tx.commit().await?;
        if let Some(missed) = due.missed {
            let note = format!(
                "{} due times up to {} passed without a scan.",
                missed.count, missed.last
            );
            cx.tell(
                self,
                EventType::Warning,
                Reason::MissedSchedule,
                "Schedule",
                &note,
            )
            .await;
        }
        Ok(due.next)
    }

    /// A Provider whose last slot waits for its Scan needs no other: else each due time that
    /// passes while none can be made would lead to one more.
    fn claims(
        &self,
        chosen: &[&Listed],
        busy: &[Busy],
        awaited: &[ProviderId],
        due_at: Timestamp,
    ) -> Vec<Claim> {
        let mut counts: BTreeMap<_, (usize, usize)> = BTreeMap::new();
        for scan in busy {
            let entry = counts.entry(scan.provider).or_default();
            if scan.queued {
                entry.1 += 1;
            } else {
                entry.0 += 1;
            }
        }
        chosen
            .iter()
            .map(|provider| {
                let (running, queued) = counts.get(&provider.id).copied().unwrap_or_default();
                let skip = awaited.contains(&provider.id)
                    || match self.spec.concurrency_policy {
                        ConcurrencyPolicy::Forbid => running + queued > 0,
                        // One may wait behind the one that runs.
                        ConcurrencyPolicy::Allow => queued > 0,
                        ConcurrencyPolicy::Replace => false,
                    };
                Claim {
                    provider: provider.id,
                    scan_name: scan_name(&self.name_any(), provider, due_at),
                    state: if skip { "skipped" } else { "claimed" },
                }
            })
            .collect()
    }

    /// Makes the Scans of claimed slots that have none yet. One that is there already was made
    /// by an earlier pass whose answer was lost.
    async fn make_scans(
        &self,
        name: &ObjectName,
        tenant: &TenantView,
        id: ScheduleId,
        cx: &Context,
    ) -> Result<(), Error> {
        let mut tx = cx.store.tenant(tenant.id).await?;
        let slots = schedules::unfulfilled(&mut tx, id).await?;
        drop(tx);
        let api = Scan::api(cx, Some(&name.namespace));
        for slot in slots {
            // Claimed in time, but nothing came of it until now.
            if self.is_late(slot.due_at, cx.clock.now(), CLAIMED_GRACE)
                && !self.lapse(&slot, &api, tenant, id, cx).await?
            {
                continue;
            }
            let scan = self.scan(&slot, name);
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            match api.create(&params, &scan).await {
                Ok(_) => {
                    let note = format!(
                        "Made Scan {} for Provider {}.",
                        slot.scan_name, slot.provider_name
                    );
                    cx.tell(self, EventType::Normal, Reason::Queued, "Schedule", &note)
                        .await;
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether a due time is more than `grace` seconds past the deadline.
    fn is_late(&self, due_at: Timestamp, now: Timestamp, grace: i64) -> bool {
        let late = now.duration_since(due_at).as_secs();
        self.spec
            .starting_deadline_seconds
            .is_some_and(|deadline| late > deadline + grace)
    }

    /// Gives a slot up whose Scan was never made. False: it was given up.
    async fn lapse(
        &self,
        slot: &schedules::Claimed,
        api: &Api<Scan>,
        tenant: &TenantView,
        id: ScheduleId,
        cx: &Context,
    ) -> Result<bool, Error> {
        if api.get_metadata_opt(&slot.scan_name).await?.is_some() {
            return Ok(true);
        }
        let mut tx = cx.store.tenant(tenant.id).await?;
        schedules::lapse(&mut tx, id, slot).await?;
        tx.commit().await?;
        Ok(false)
    }

    fn scan(&self, slot: &schedules::Claimed, name: &ObjectName) -> Scan {
        let spec = ScanSpec {
            provider_ref: LocalRef::new(&slot.provider_name),
            trigger: Trigger::Scheduled,
            scan: self.spec.scan.clone(),
            ..ScanSpec::default()
        };
        let mut scan = Scan::new(&slot.scan_name, spec);
        scan.metadata = ObjectMeta {
            name: Some(slot.scan_name.clone()),
            namespace: Some(name.namespace.clone()),
            owner_references: self.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        scan
    }

    /// Deletes finished Scans beyond the history limits; their findings stay.
    async fn expire_scans(
        &self,
        tenant: &TenantView,
        id: ScheduleId,
        cx: &Context,
    ) -> Result<(), Error> {
        let keep = |limit: Option<i32>, default: i32| i64::from(limit.unwrap_or(default));
        let mut tx = cx.store.tenant(tenant.id).await?;
        let expired = schedules::expired_scans(
            &mut tx,
            id,
            keep(self.spec.successful_scans_history_limit, 3),
            keep(self.spec.failed_scans_history_limit, 1),
        )
        .await?;
        drop(tx);
        for scan in expired {
            let api = Scan::api(cx, Some(&scan.name.namespace));
            let params = DeleteParams::default().preconditions(Preconditions {
                uid: Some(scan.object.to_string()),
                resource_version: None,
            });
            match api.delete(&scan.name.name, &params).await {
                Ok(_) => {}
                // The object went without its finalizer; another may have its name.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    let mut tx = cx.store.tenant(tenant.id).await?;
                    scans::detach(&mut tx, scan.id).await?;
                    tx.commit().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn describe(
        &self,
        status: &mut ScanScheduleStatus,
        tenant: &TenantView,
        id: ScheduleId,
        next: Option<Timestamp>,
        providers: usize,
        cx: &Context,
    ) -> Result<(), Error> {
        let mut tx = cx.store.tenant(tenant.id).await?;
        let (active, last_successful) = schedules::activity(&mut tx, id).await?;
        let remembered = schedules::remembered(&mut tx, id).await?;
        drop(tx);
        status.schedule_id = Some(id.to_string());
        status.active = Some(active);
        status.providers = i64::try_from(providers).ok();
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn provider(n: u128) -> Listed {
        Listed {
            id: ProviderId(Uuid::from_u128(n)),
            name: ObjectName {
                namespace: "a".into(),
                name: format!("p{n}"),
            },
            provider: "aws".into(),
            uid: "123456789012".into(),
            labels: serde_json::json!({}),
            suspend: false,
        }
    }

    #[test]
    fn a_slot_leads_to_one_name_and_different_slots_to_different_ones() {
        let due: Timestamp = "2026-11-23T02:00:00Z".parse().unwrap();
        let long = "s".repeat(253);
        let name = scan_name(&long, &provider(1), due);
        assert_eq!(name, scan_name(&long, &provider(1), due));
        assert_ne!(name, scan_name(&long, &provider(2), due));
        assert_ne!(
            name,
            scan_name(
                &long,
                &provider(1),
                due + jiff::SignedDuration::from_secs(60)
            )
        );
        assert!(name.len() <= 253);
    }

    #[test]
    fn forbid_skips_what_is_busy_allow_lets_one_wait_replace_takes_over() {
        let due: Timestamp = "2026-11-23T02:00:00Z".parse().unwrap();
        let all = [provider(1), provider(2), provider(3), provider(4)];
        let chosen: Vec<_> = all.iter().collect();
        let busy = |n: u128, queued| Busy {
            provider: ProviderId(Uuid::from_u128(n)),
            scan: crate::domain::ids::ScanId(Uuid::from_u128(n)),
            queued,
        };
        let states = |policy| {
            let mut schedule =
                ScanSchedule::new("s", crate::api::scan_schedule::ScanScheduleSpec::default());
            schedule.spec.concurrency_policy = policy;
            let busy = [busy(1, false), busy(2, true)];
            let awaited = [ProviderId(Uuid::from_u128(4))];
            let claims = schedule.claims(&chosen, &busy, &awaited, due);
            claims.iter().map(|claim| claim.state).collect::<Vec<_>>()
        };
        assert_eq!(
            states(ConcurrencyPolicy::Forbid),
            ["skipped", "skipped", "claimed", "skipped"]
        );
        assert_eq!(
            states(ConcurrencyPolicy::Allow),
            ["claimed", "skipped", "claimed", "skipped"]
        );
        assert_eq!(
            states(ConcurrencyPolicy::Replace),
            ["claimed", "claimed", "claimed", "skipped"]
        );
    }
}
