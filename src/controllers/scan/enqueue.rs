//! A new Scan gets its place in the queue, or is told what it waits for or why it never will.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::{Kind as _, Provider, Scan, ScanSchedule, annotations};
use crate::controllers::dependencies::awaited;
use crate::controllers::driver::Outcome;
use crate::controllers::due::reference;
use crate::controllers::error::{Error, encoded};
use crate::controllers::run_now::is_asked_for;
use crate::controllers::scan_schedule::is_made_for;
use crate::controllers::tenancy::TenantView;
use crate::controllers::{Context, HasApi, launch, named};
use crate::domain::ids::{ObjectName, ObjectUid, ScanId, ScheduleId};
use crate::domain::schedule::jitter;
use crate::store::requests::{self, Request};
use crate::store::scans::{self, NewScan, ScanRow};
use crate::store::schedules::{self, Claimed, GivenUp, SlotOfScan};
use crate::store::{TenantTx, providers};

/// What became of queueing a scan.
pub(super) enum Enqueued {
    /// It has a row.
    Row(Box<ScanRow>),
    /// Something must come first.
    Waits(Outcome),
    /// The account it was made for is gone.
    Never,
    /// What it was made for was given up before.
    GivenUp,
}

/// What led to a Scan.
pub(super) enum Origin {
    /// A due time of a schedule.
    Slot(SlotOfScan),
    /// An annotation.
    Request(Request),
    /// What asked for it was given up: the first Scan of this name was deleted, or came too late, and a
    /// call that was under way made this one.
    GivenUp,
    /// Somebody made it.
    Somebody,
}

impl Origin {
    /// The scan's row, if it led to one already.
    fn scan(&self) -> Option<ScanId> {
        match self {
            Self::Slot(slot) => slot.scan,
            Self::Request(request) => request.scan,
            Self::GivenUp | Self::Somebody => None,
        }
    }

    /// The schedule in whose history the scan counts.
    fn schedule(&self) -> Option<ScheduleId> {
        match self {
            Self::Slot(slot) => Some(slot.schedule),
            Self::Request(request) => request.schedule,
            Self::GivenUp | Self::Somebody => None,
        }
    }
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
        let origin = self.origin(&mut tx, name).await?;
        if let Some(scan) = origin.scan() {
            // The cluster was restored: the slot's scan exists, this object stands for it now.
            scans::adopt(&mut tx, scan, object).await?;
            let row = scans::of_object(&mut tx, object).await?;
            tx.commit().await?;
            let row = row.ok_or(Error::Outdated)?;
            return Ok(Enqueued::Row(Box::new(row)));
        }
        let provider_name = ObjectName {
            namespace: name.namespace.clone(),
            name: self.spec.provider_ref.name.clone(),
        };
        let (slot, provider) = match &origin {
            Origin::Slot(slot) => (Some(slot), Some(slot.provider)),
            Origin::Request(request) => (None, Some(request.provider)),
            Origin::GivenUp => return Ok(Enqueued::GivenUp),
            Origin::Somebody => {
                let maker = self.maker();
                if maker.is_some() || self.annotations().contains_key(annotations::PROVIDER_UID) {
                    // Rare; nothing is held meanwhile.
                    drop(tx);
                    if self.has_outlived(&provider_name, cx).await? {
                        return Ok(Enqueued::Never);
                    }
                    if let Some(maker) = maker
                        && is_gone(maker, &name.namespace, cx).await?
                    {
                        return Ok(Enqueued::GivenUp);
                    }
                    tx = cx.store.tenant(tenant.id).await?;
                }
                (None, providers::by_name(&mut tx, &provider_name).await?)
            }
        };
        if slot.is_none() {
            // A wish that no attempt could have is refused before it waits for its turn.
            let excessive = launch::excessive(self.spec.scan.as_ref(), tenant, cx);
            if !excessive.is_empty() {
                return Err(Error::Invalid(excessive));
            }
        }
        let Some(provider) = provider else {
            drop(tx);
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
            schedule: origin.schedule(),
            due_at: slot.map(|slot| slot.due_at),
            is_requested: matches!(origin, Origin::Request(_)),
            replaces: slot.is_some_and(|slot| slot.replaces),
            trigger: if slot.is_some() {
                "scheduled"
            } else {
                "manual"
            },
            priority: self.spec.priority.unwrap_or(0),
            not_before: slot
                .filter(|slot| slot.jitter_seconds > 0)
                .and_then(|slot| {
                    let spread = jitter(slot.schedule, provider.0.as_bytes(), slot.jitter_seconds);
                    slot.due_at.checked_add(spread).ok()
                }),
            scanner_args,
        };
        let Some(replaced) = scans::enqueue(&mut tx, &scan, cx.clock.now()).await? else {
            drop(tx);
            if let Some(slot) = slot {
                supersede(slot, name, tenant, cx).await?;
            }
            return Ok(Enqueued::GivenUp);
        };
        let row = scans::of_object(&mut tx, object).await?;
        let committed = tx.commit().await;
        // Whatever the answer: the next pass finds the row, and nobody to call.
        for name in replaced {
            cx.wake.call_named::<Self>(&name);
        }
        cx.wake.admission.notify_one();
        if matches!(origin, Origin::Request(_)) {
            // A due time counts as active from its claim on; one that was asked for, from here on.
            self.wake_schedules(cx);
        }
        committed?;
        Ok(match row {
            Some(row) => Enqueued::Row(Box::new(row)),
            // Deleted between the two queries: the next pass finds no Provider.
            None if matches!(origin, Origin::Somebody) => return Err(Error::Outdated),
            None => Enqueued::Never,
        })
    }

    /// What led to this very object. Our rows decide which; the object must be what is made of them,
    /// for anybody may make one of that name.
    pub(super) async fn origin(
        &self,
        tx: &mut TenantTx,
        name: &ObjectName,
    ) -> Result<Origin, Error> {
        if let Some(slot) = schedules::slot_of_scan(tx, name).await? {
            let uid = slot.schedule_object.map(|uid| uid.to_string());
            let (schedule, provider) = (&slot.schedule_name, &slot.provider_name);
            if is_made_for(self, schedule, uid.as_deref(), provider) {
                return Ok(Origin::Slot(slot));
            }
        }
        if let Some(request) = requests::of_scan(tx, name).await?
            && is_asked_for(self, &request.object.to_string(), &request.provider_name)
        {
            return Ok(Origin::Request(request));
        }
        if let Some(owner) = self.controller()
            && let Ok(object) = owner.uid.parse().map(ObjectUid)
            && (requests::gave_up(tx, name, object).await?
                || schedules::gave_up(
                    tx,
                    name,
                    (object, &owner.name),
                    &self.spec.provider_ref.name,
                )
                .await?)
        {
            return Ok(Origin::GivenUp);
        }
        Ok(Origin::Somebody)
    }

    /// Whether the Provider that it was made for is gone, or going: what bears the name by now is
    /// another.
    async fn has_outlived(&self, provider: &ObjectName, cx: &Context) -> Result<bool, Error> {
        let found = named::<Provider>(cx, Some(&provider.namespace), &provider.name).await?;
        let made_for = self.annotations().get(annotations::PROVIDER_UID);
        Ok(!found.iter().any(|live| match made_for {
            _ if live.metadata.deletion_timestamp.is_some() => false,
            Some(uid) => live.metadata.uid.as_ref() == Some(uid),
            None => live.creation_timestamp() <= self.creation_timestamp(),
        }))
    }

    /// What of ours has made it.
    fn maker(&self) -> Option<&OwnerReference> {
        let group = Provider::group(&());
        self.controller()
            .filter(|owner| owner.api_version.split('/').next() == Some(&*group))
            .filter(|owner| [ScanSchedule::KIND, Provider::KIND].contains(&&*owner.kind))
    }

    /// The object under whose control it is.
    fn controller(&self) -> Option<&OwnerReference> {
        let mut owners = self.owner_references().iter();
        owners.find(|owner| owner.controller == Some(true))
    }
}

/// Gives up a slot in whose place a later one was claimed, unless it was given up already. The later one
/// may yet come to nothing; but this one is past what its schedule calls in time, and was not in line.
async fn supersede(
    slot: &SlotOfScan,
    scan: &ObjectName,
    tenant: &TenantView,
    cx: &Context,
) -> Result<(), Error> {
    let name = ObjectName {
        namespace: scan.namespace.clone(),
        name: slot.schedule_name.clone(),
    };
    let uid = slot.schedule_object.map(|uid| uid.to_string());
    let claimed = Claimed {
        provider: slot.provider,
        provider_name: slot.provider_name.clone(),
        provider_object: None,
        scan_name: scan.name.clone(),
        due_at: slot.due_at,
    };
    let given_up = reference(&name, uid)
        .give_up(&claimed, GivenUp::Superseded, tenant, slot.schedule, cx)
        .await;
    // Whatever the answer: its status counts what waits and what was missed.
    cx.wake.call_named::<ScanSchedule>(&name);
    given_up
}

/// Whether what made a Scan is there no more, or going: then nobody wants the Scan.
async fn is_gone(maker: &OwnerReference, namespace: &str, cx: &Context) -> Result<bool, Error> {
    Ok(!if maker.kind == ScanSchedule::KIND {
        is_alive::<ScanSchedule>(maker, namespace, cx).await?
    } else {
        is_alive::<Provider>(maker, namespace, cx).await?
    })
}

async fn is_alive<K>(owner: &OwnerReference, namespace: &str, cx: &Context) -> Result<bool, Error>
where
    K: HasApi + Clone + DeserializeOwned + Debug,
{
    let found = named::<K>(cx, Some(namespace), &owner.name).await?;
    Ok(found.iter().any(|live| {
        live.metadata.uid.as_ref() == Some(&owner.uid) && live.metadata.deletion_timestamp.is_none()
    }))
}
