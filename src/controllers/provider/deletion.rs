//! A Provider on its way out: hidden first, then its Jobs ended, then its rows removed or kept.

use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::api::common::{DeletionPolicy, condition};
use crate::api::provider::{Deletion, ProviderStatus};
use crate::api::{Integration, Kind as _, Provider, ProviderGroup, Scan, ScanSchedule, Tenant};
use crate::controllers::driver::Cleanup;
use crate::controllers::error::Error;
use crate::controllers::scan::PROVIDER_DELETED;
use crate::controllers::{Context, jobs};
use crate::domain::ids::{ObjectUid, ProviderId, TenantId};
use crate::domain::reason::Reason;
use crate::store::scans::{self, Open};
use crate::store::{deletion, providers, requests};

/// A deletion pass works this long, then lets others have their turn and says how far it is.
pub(in crate::controllers) const DELETION_SLICE: Duration = Duration::from_secs(5);

impl Provider {
    /// Removes what a tenant has of this object; says what is waited for while some is left.
    pub(super) async fn remove(
        &self,
        tenant: TenantId,
        object: ObjectUid,
        status: &mut ProviderStatus,
        cx: &Context,
    ) -> Result<Option<Cleanup>, Error> {
        let mut tx = cx.store.tenant(tenant).await?;
        let Some(id) = providers::retire(&mut tx, object).await? else {
            return Ok(None);
        };
        requests::forget(&mut tx, object).await?;
        let (why, now) = (PROVIDER_DELETED, cx.clock.now());
        let open = scans::cancel_all(&mut tx, &[id], why, now).await?;
        tx.commit().await?;
        self.leave(cx);
        if let Some(waiting) = end_jobs(tenant, &open, cx).await? {
            return Ok(Some(waiting));
        }
        if self.spec.deletion_policy == DeletionPolicy::Retain {
            let mut tx = cx.store.tenant(tenant).await?;
            providers::retain(&mut tx, id).await?;
            tx.commit().await?;
            return Ok(None);
        }
        let waiting = delete_rows(tenant, id, cx).await?;
        if waiting.is_some() {
            let mut tx = cx.store.tenant(tenant).await?;
            status.deletion = Some(Deletion {
                rows_left: deletion::rows_left(&mut tx, id).await?,
            });
        }
        Ok(waiting)
    }

    /// The account is free: another Provider that was refused it is looked at again, and so is
    /// whatever chose this one.
    fn leave(&self, cx: &Context) {
        if let Some(tenant) = self
            .namespace()
            .and_then(|namespace| cx.tenancy.of(&namespace))
        {
            cx.wake.call(ObjectRef::<Tenant>::new(&tenant.name));
            cx.wake.call_all::<ProviderGroup>(&tenant.namespaces);
            cx.wake.call_all::<Integration>(&tenant.namespaces);
            cx.wake.call_all::<ScanSchedule>(&tenant.namespaces);
            cx.wake.call_all::<Scan>(&tenant.namespaces);
            cx.wake.call_where::<Provider>(|other| {
                let refused =
                    [Reason::DuplicateUID, Reason::TenantLimitReached].map(Reason::as_str);
                other
                    .namespace()
                    .is_some_and(|namespace| tenant.namespaces.contains(&namespace))
                    && other.conditions().iter().any(|c| {
                        c.type_ == condition::STALLED && refused.contains(&c.reason.as_str())
                    })
            });
        }
    }
}

/// Deletes the Jobs of cancelled scans; says what is waited for while a pod is left.
pub(in crate::controllers) async fn end_jobs(
    tenant: TenantId,
    open: &[Open],
    cx: &Context,
) -> Result<Option<Cleanup>, Error> {
    let mut left = 0;
    for scan in open {
        if !jobs::end(cx, tenant, scan).await? {
            left += 1;
        }
    }
    Ok((left > 0).then(|| Cleanup::Waiting {
        message: format!("Waiting for the pods of {left} scans to end."),
        again_in: Duration::from_secs(2),
    }))
}

/// Deletes a provider's rows for a while; says so while some are left.
pub(in crate::controllers) async fn delete_rows(
    tenant: TenantId,
    id: ProviderId,
    cx: &Context,
) -> Result<Option<Cleanup>, Error> {
    let started = std::time::Instant::now();
    let mut deleted = 0;
    while started.elapsed() < DELETION_SLICE {
        let batch = deletion::step(&cx.store, tenant, id).await?;
        deleted += batch.deleted;
        if batch.done {
            return Ok(None);
        }
        if batch.busy {
            return Ok(Some(Cleanup::Waiting {
                message: "Waiting for the findings of another Provider to be published.".to_owned(),
                again_in: Duration::from_secs(1),
            }));
        }
    }
    Ok(Some(Cleanup::Waiting {
        message: format!(
            "Deleting rows; {deleted} in the last {} s.",
            DELETION_SLICE.as_secs()
        ),
        again_in: Duration::ZERO,
    }))
}
