//! A Scan that was queued once and that the database does not know: its account went with all its
//! rows, or the database was restored to a time before it.

use std::time::Duration;

use super::is_over;
use super::report;
use crate::api::Scan;
use crate::api::scan::ScanStatus;
use crate::controllers::driver::Outcome;
use crate::controllers::error::Error;
use crate::controllers::tenancy::TenantView;
use crate::controllers::{Context, jobs};
use crate::domain::ids::{ObjectName, ObjectUid, ScanId};
use crate::domain::reason::Reason;
use crate::store::providers;
use crate::store::scans::{JobRef, Open};

const FORGOTTEN: &str = "The database does not know this scan: it was restored to a time before it. Make a new Scan if its findings are missed.";

/// Both this and a Provider's id begin with the time they were made at.
fn id_of(status: &ScanStatus) -> Option<ScanId> {
    status.scan_id.as_deref()?.parse().ok().map(ScanId)
}

impl Scan {
    /// Takes away what may still run for it, and lets it say how it went.
    pub(super) async fn forgotten(
        &self,
        name: &ObjectName,
        object: ObjectUid,
        tenant: &TenantView,
        status: &mut ScanStatus,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        if !is_over(status) {
            let provider = ObjectName {
                namespace: name.namespace.clone(),
                name: self.spec.provider_ref.name.clone(),
            };
            let mut tx = cx.store.tenant(tenant.id).await?;
            let provider = providers::by_name(&mut tx, &provider).await?;
            drop(tx);
            // One that came after the scan is another account, or the same of another tenant.
            let is_same = status.tenant.as_deref() == Some(&*tenant.name)
                && provider
                    .is_some_and(|provider| id_of(status).is_some_and(|id| provider.0 < id.0));
            if is_same {
                // Its account is nobody's by now: another scan of it may start.
                if !self.end_job(name, object, tenant, status, cx).await? {
                    let message = "Waiting for the scan's pod to end.";
                    let waiting = Outcome::progressing(Reason::Progressing, message);
                    return Ok(waiting.again_in(Duration::from_secs(2)));
                }
                report::cancelled(status, Reason::Cancelled, FORGOTTEN, cx.clock.now());
            }
        }
        self.outlive(status, cx).await
    }

    async fn end_job(
        &self,
        name: &ObjectName,
        object: ObjectUid,
        tenant: &TenantView,
        status: &ScanStatus,
        cx: &Context,
    ) -> Result<bool, Error> {
        let (Some(id), Some(job)) = (id_of(status), status.job_name.clone()) else {
            return Ok(true);
        };
        let open = Open {
            id,
            object: Some(object),
            attempt: 0,
            holds_account: true,
            job: Some(JobRef {
                name: ObjectName {
                    namespace: name.namespace.clone(),
                    name: job,
                },
                // Whose it is, its owner says.
                uid: None,
            }),
        };
        jobs::end(cx, tenant.id, &open).await
    }
}
