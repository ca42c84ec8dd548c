//! Due times: the one that is due now is claimed for each chosen Provider, before anything is
//! made of it; those that passed are told.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_controller::events::EventType;
use kube::ResourceExt;

use super::made::scan_name;
use crate::api::ScanSchedule;
use crate::api::scan_schedule::ConcurrencyPolicy;
use crate::controllers::Context;
use crate::controllers::error::Error;
use crate::controllers::tenancy::TenantView;
use crate::domain::ids::{ProviderId, ScheduleId};
use crate::domain::reason::Reason;
use crate::domain::schedule::{Decision, Schedule};
use crate::store::providers::Listed;
use crate::store::scans;
use crate::store::schedules::{self, Busy, Claim, Remembered};

impl ScanSchedule {
    /// Nothing is due while suspended.
    pub(super) async fn rest(
        &self,
        tenant: &TenantView,
        id: ScheduleId,
        cx: &Context,
    ) -> Result<(), Error> {
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
    pub(super) async fn fire(
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
            let claims = self.claims(id, &chosen, &busy, &awaited, due_at);
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
            self.tell_missed(&note, cx).await;
        }
        Ok(due.next)
    }

    pub(super) async fn tell_missed(&self, note: &str, cx: &Context) {
        let reason = Reason::MissedSchedule;
        cx.tell(self, EventType::Warning, reason, "Schedule", note)
            .await;
    }

    /// A Provider whose last slot waits for its Scan needs no other: else each due time that
    /// passes while none can be made would lead to one more.
    fn claims(
        &self,
        id: ScheduleId,
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
                    scan_name: scan_name(&self.name_any(), id, provider, due_at),
                    state: if skip { "skipped" } else { "claimed" },
                }
            })
            .collect()
    }

    /// Whether a due time is more than `grace` seconds past the deadline.
    pub(super) fn is_late(&self, due_at: Timestamp, now: Timestamp, grace: i64) -> bool {
        let late = now.duration_since(due_at).as_secs();
        self.spec
            .starting_deadline_seconds
            .is_some_and(|deadline| late > deadline + grace)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::controllers::scan_schedule::made::tests::provider;

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
            let id = ScheduleId(Uuid::from_u128(7));
            let claims = schedule.claims(id, &chosen, &busy, &awaited, due);
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
