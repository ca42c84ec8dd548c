//! The Scans that slots lead to: made under names that follow from the slots, so that making them
//! again meets the first, and deleted when there are enough of them.

use jiff::Timestamp;
use k8s_controller::events::EventType;

use crate::api::scan::Trigger;
use crate::api::{Kind as _, Scan, ScanSchedule};
use crate::controllers::error::Error;
use crate::controllers::make_scan::{Made, Wish, is_made_by, make};
use crate::controllers::scan::is_over;
use crate::controllers::tenancy::TenantView;
use crate::controllers::tenant::uid_of;
use crate::controllers::{Context, HasApi, name_of, named, only};
use crate::domain::ids::{ObjectName, ScheduleId};
use crate::domain::reason::Reason;
use crate::store::TenantTx;
use crate::store::schedules::{CLAIMED_GRACE_SECONDS, GivenUp};
use crate::store::{scans, schedules};

/// Whether a Scan is what this schedule makes for this Provider. A schedule that has no object any
/// more is known by its name.
pub(in crate::controllers) fn is_made_for(
    scan: &Scan,
    schedule: &str,
    uid: Option<&str>,
    provider: &str,
) -> bool {
    is_made_by(scan, provider, |o| {
        o.kind == ScanSchedule::KIND && o.name == schedule && uid.is_none_or(|uid| o.uid == uid)
    })
}

impl ScanSchedule {
    /// Makes the Scans of claimed slots that have none yet.
    pub(super) async fn make_scans(
        &self,
        name: &ObjectName,
        slots: Vec<schedules::Claimed>,
        tenant: &TenantView,
        id: ScheduleId,
        cx: &Context,
    ) -> Result<(), Error> {
        for slot in slots {
            // Claimed in time, but nothing came of it until now.
            if self.is_late(slot.due_at, cx.clock.now())
                && !self.lapse(&slot, &name.namespace, tenant, id, cx).await?
            {
                continue;
            }
            let uid = self.metadata.uid.as_deref();
            let is_ours = |scan: &Scan| is_made_for(scan, &name.name, uid, &slot.provider_name);
            match make(self, &self.wish(&slot), is_ours, cx).await? {
                Made::New(_) => {
                    let note = format!(
                        "Made Scan {} for Provider {}.",
                        slot.scan_name, slot.provider_name
                    );
                    cx.tell(self, EventType::Normal, Reason::Queued, "Schedule", &note)
                        .await;
                }
                Made::Found(scan) => self.meet(&slot, &scan, tenant, id, cx).await?,
                Made::Foreign => {
                    self.give_up(&slot, GivenUp::NameTaken, tenant, id, cx)
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// A pass whose answer was lost made the slot's Scan. If it was queued, and the database does not
    /// remember, that was restored to a time before; if it is over and never was, it was cancelled
    /// while nobody could see to its slot. One that waited for its row would keep later ones from being
    /// claimed.
    async fn meet(
        &self,
        slot: &schedules::Claimed,
        scan: &Scan,
        tenant: &TenantView,
        id: ScheduleId,
        cx: &Context,
    ) -> Result<(), Error> {
        let Some(status) = &scan.status else {
            return Ok(());
        };
        let was_queued = status.scan_id.is_some();
        if !was_queued && !is_over(status) {
            return Ok(());
        }
        let mut tx = cx.store.tenant(tenant.id).await?;
        if was_queued {
            schedules::fulfil(&mut tx, id, slot, uid_of(scan)?).await?;
        } else {
            schedules::skip(&mut tx, &name_of(scan)).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Gives a slot up and tells so: that somebody else's Scan has its name, that none could be made in
    /// time, or none queued before the next. One that waited for ever would keep every later due time
    /// from being claimed.
    pub(in crate::controllers) async fn give_up(
        &self,
        slot: &schedules::Claimed,
        why: GivenUp,
        tenant: &TenantView,
        id: ScheduleId,
        cx: &Context,
    ) -> Result<(), Error> {
        let mut tx = cx.store.tenant(tenant.id).await?;
        let lapsed = schedules::lapse(&mut tx, id, slot, why).await?;
        tx.commit().await?;
        let Some(count) = lapsed else { return Ok(()) };
        cx.metrics.schedules.missed(count);
        let why = match why {
            GivenUp::Deadline => "none could be made within startingDeadlineSeconds".to_owned(),
            GivenUp::NameTaken => format!(
                "its name, {}, is that of a Scan which this schedule did not make",
                slot.scan_name
            ),
            GivenUp::Superseded => "a later one was claimed before its own was queued".to_owned(),
        };
        let note = format!(
            "The due time {} of Provider {} passed without a scan: {why}.",
            slot.due_at, slot.provider_name
        );
        let reason = Reason::MissedSchedule;
        cx.tell(self, EventType::Warning, reason, "Schedule", &note)
            .await;
        Ok(())
    }

    /// Gives a slot up whose Scan was never made. False: it was given up.
    async fn lapse(
        &self,
        slot: &schedules::Claimed,
        namespace: &str,
        tenant: &TenantView,
        id: ScheduleId,
        cx: &Context,
    ) -> Result<bool, Error> {
        let found = named::<Scan>(cx, Some(namespace), &slot.scan_name).await?;
        if !found.is_empty() {
            return Ok(true);
        }
        self.give_up(slot, GivenUp::Deadline, tenant, id, cx)
            .await?;
        Ok(false)
    }

    /// Whether a due time that was claimed is so late that nothing is made of it.
    fn is_late(&self, due_at: Timestamp, now: Timestamp) -> bool {
        let late = now.duration_since(due_at).as_secs();
        self.spec
            .starting_deadline_seconds
            .is_some_and(|deadline| late > deadline + CLAIMED_GRACE_SECONDS)
    }

    fn wish<'a>(&self, slot: &'a schedules::Claimed) -> Wish<'a> {
        Wish {
            name: &slot.scan_name,
            provider: &slot.provider_name,
            provider_object: slot.provider_object,
            trigger: Trigger::Scheduled,
            settings: self.spec.scan.clone(),
        }
    }

    /// Finished scans beyond the history limits.
    pub(super) async fn expired_scans(
        &self,
        tx: &mut TenantTx,
        id: ScheduleId,
    ) -> Result<Vec<schedules::Expired>, Error> {
        let keep = |limit: Option<i32>, default: i32| i64::from(limit.unwrap_or(default));
        let successful = keep(self.spec.successful_scans_history_limit, 3);
        let failed = keep(self.spec.failed_scans_history_limit, 1);
        Ok(schedules::expired_scans(tx, id, successful, failed).await?)
    }

    /// Deletes Scans whose time is over; their findings stay.
    pub(super) async fn expire(
        &self,
        expired: Vec<schedules::Expired>,
        tenant: &TenantView,
        cx: &Context,
    ) -> Result<(), Error> {
        for scan in expired {
            let api = Scan::api(cx, Some(&scan.name.namespace));
            let params = only(Some(scan.object.to_string()));
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
}

#[cfg(test)]
pub mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::ProviderId;
    use crate::store::providers::Listed;

    pub fn provider(n: u128) -> Listed {
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
    fn a_scan_is_the_schedule_s_by_owner_and_provider_and_not_by_its_name() {
        let mut schedule =
            ScanSchedule::new("s", crate::api::scan_schedule::ScanScheduleSpec::default());
        schedule.metadata.uid = Some("u".into());
        let slot = schedules::Claimed {
            provider: provider(1).id,
            provider_name: "p1".into(),
            provider_object: None,
            scan_name: "s-1".into(),
            due_at: "2026-11-23T02:00:00Z".parse().unwrap(),
        };
        let made = schedule.wish(&slot).scan(&schedule);
        assert!(is_made_for(&made, "s", Some("u"), "p1"));
        assert!(is_made_for(&made, "s", None, "p1"));
        assert!(!is_made_for(&made, "s", Some("another"), "p1"));
        assert!(!is_made_for(&made, "another", None, "p1"));
        assert!(!is_made_for(&made, "s", Some("u"), "p2"));
        let mut by_hand = made;
        by_hand.metadata.owner_references = None;
        assert!(!is_made_for(&by_hand, "s", None, "p1"));
    }
}
