//! The Scans that slots lead to: made under names that follow from the slots, so that making them
//! again meets the first, and deleted when there are enough of them.

use jiff::Timestamp;
use k8s_controller::events::EventType;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Resource};

use crate::api::common::LocalRef;
use crate::api::scan::{ScanSpec, Trigger};
use crate::api::{FIELD_MANAGER, Scan, ScanSchedule};
use crate::controllers::error::Error;
use crate::controllers::tenancy::TenantView;
use crate::controllers::{Context, HasApi};
use crate::domain::ids::{ObjectName, ScheduleId};
use crate::domain::reason::Reason;
use crate::store::providers::Listed;
use crate::store::{scans, schedules};

/// Seconds that a claimed slot may be late beyond the schedule's own deadline: a pass that claims
/// one at the last moment may still make its Scan.
const CLAIMED_GRACE: i64 = 300;

/// The name of the Scan a slot leads to: the same whenever it is made. Names of objects end at
/// 253 characters, of which the due time and the account take 22.
pub(super) fn scan_name(schedule: &str, provider: &Listed, due_at: Timestamp) -> String {
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
    /// Makes the Scans of claimed slots that have none yet. One that is there already was made
    /// by an earlier pass whose answer was lost.
    pub(super) async fn make_scans(
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
    pub(super) async fn expire_scans(
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
}

#[cfg(test)]
pub mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::ProviderId;

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
}
