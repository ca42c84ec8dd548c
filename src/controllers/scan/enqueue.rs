//! A new Scan gets its place in the queue, or is told what it waits for or why it never will.

use std::time::Duration;

use super::load;
use crate::api::Scan;
use crate::controllers::dependencies::awaited;
use crate::controllers::driver::Outcome;
use crate::controllers::error::{Error, encoded};
use crate::controllers::run_now::is_asked_for;
use crate::controllers::scan_schedule::is_made_for;
use crate::controllers::tenancy::TenantView;
use crate::controllers::{Context, launch};
use crate::domain::ids::{ObjectName, ObjectUid, ScanId};
use crate::domain::schedule::jitter;
use crate::store::requests::{self, Request};
use crate::store::scans::{self, NewScan, ScanRow};
use crate::store::schedules::{self, SlotOfScan};
use crate::store::{TenantTx, providers};

/// What became of queueing a scan.
pub(super) enum Enqueued {
    /// It has a row.
    Row(Box<ScanRow>),
    /// Something must come first.
    Waits(Outcome),
    /// The account it was made for is gone.
    Never,
}

impl Scan {
    /// Puts the scan into the queue; or says what it waits for before it can be.
    pub(super) async fn enqueue(
        &self,
        name: &ObjectName,
        object: ObjectUid,
        tenant: &TenantView,
        cx: &Context,
    ) -> Result<Enqueued, Error> {
        let mut tx = cx.store.tenant(tenant.id).await?;
        let slot = self.own_slot(&mut tx, name).await?;
        let request = self.own_request(&mut tx, name).await?;
        let slots_scan = slot.as_ref().and_then(|slot| slot.scan);
        if let Some(scan) = slots_scan.or(request.as_ref().and_then(|request| request.scan)) {
            // The cluster was restored: the slot's scan exists, this object stands for it now.
            scans::adopt(&mut tx, scan, object).await?;
            tx.commit().await?;
            let row = load(tenant.id, object, cx).await?.ok_or(Error::Outdated)?;
            return Ok(Enqueued::Row(Box::new(row)));
        }
        let provider_name = ObjectName {
            namespace: name.namespace.clone(),
            name: self.spec.provider_ref.name.clone(),
        };
        let provider = match (&slot, &request) {
            (Some(slot), _) => Some(slot.provider),
            (_, Some(request)) => Some(request.provider),
            (None, None) => providers::by_name(&mut tx, &provider_name).await?,
        };
        if slot.is_none() {
            // A wish that no attempt could have is refused before it waits for its turn.
            let excessive = launch::excessive(self.spec.scan.as_ref(), tenant, cx);
            if !excessive.is_empty() {
                return Err(Error::Invalid(excessive));
            }
        }
        let Some(provider) = provider else {
            let (reason, why) = awaited(&name.namespace, &[provider_name.name], cx).await?;
            let waiting = Outcome::progressing(reason, why);
            return Ok(Enqueued::Waits(waiting.again_in(Duration::from_secs(30))));
        };
        let wishes = self.spec.scan.clone().unwrap_or_default();
        let scanner_args = encoded("the scan settings", &wishes)?;
        let scan = NewScan {
            id: ScanId(cx.clock.uuid7()),
            object,
            name: name.clone(),
            provider,
            schedule: match (&slot, &request) {
                (Some(slot), _) => Some(slot.schedule),
                (None, Some(request)) => request.schedule,
                (None, None) => None,
            },
            due_at: slot.as_ref().map(|slot| slot.due_at),
            is_requested: request.is_some(),
            replaces: slot.as_ref().is_some_and(|slot| slot.replaces),
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
        let replaced = scans::enqueue(&mut tx, &scan, cx.clock.now()).await?;
        tx.commit().await?;
        for name in replaced {
            cx.wake.call_named::<Self>(&name);
        }
        cx.wake.admission.notify_one();
        Ok(match load(tenant.id, object, cx).await? {
            Some(row) => Enqueued::Row(Box::new(row)),
            None if slot.is_some() || request.is_some() => Enqueued::Never,
            // Deleted between the two queries: the next pass finds no Provider.
            None => return Err(Error::Outdated),
        })
    }

    /// The slot that led to this very object, if one did. Our row decides which; the object must be
    /// what the slot's schedule makes, for anybody may make one of that name.
    pub(super) async fn own_slot(
        &self,
        tx: &mut TenantTx,
        name: &ObjectName,
    ) -> Result<Option<SlotOfScan>, Error> {
        let slot = schedules::slot_of_scan(tx, name).await?;
        Ok(slot.filter(|slot| {
            let uid = slot.schedule_object.map(|uid| uid.to_string());
            is_made_for(
                self,
                &slot.schedule_name,
                uid.as_deref(),
                &slot.provider_name,
            )
        }))
    }

    /// The annotation that asked for this very object, if one did.
    pub(super) async fn own_request(
        &self,
        tx: &mut TenantTx,
        name: &ObjectName,
    ) -> Result<Option<Request>, Error> {
        let request = requests::of_scan(tx, name).await?;
        Ok(request.filter(|request| {
            let owner = request.object.to_string();
            is_asked_for(self, &owner, &request.provider_name)
        }))
    }
}
