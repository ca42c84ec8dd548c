//! Provider: an account, checked, stored, and — when it goes — deleted to the last row.

mod check;
mod deletion;
mod life;
mod row;
mod show;

use std::time::Duration;

use self::check::Subject;
use self::show::forget_tenant;
use super::credentials::Seen;
use super::driver::{Cleanup, News, Outcome, Reconcile};
use super::error::Error;
use super::references::User;
use super::run_now::{self, Asked, Asking};
use super::tenant::uid_of;
use super::{Context, launch, placed};
use crate::api::common::condition;
use crate::api::provider::ProviderStatus;
use crate::api::{Integration, MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule};
use crate::domain::credentials::Expiry;
use crate::domain::ids::ScanId;
use crate::domain::provider::{self as rules, Found};
use crate::domain::reason::Reason;
use crate::store::admin::ownership::{Mirrored, tenant_of};

pub(super) use self::deletion::{DELETION_SLICE, delete_rows, end_jobs};

/// Within this every object is looked at anyway.
const LATEST: Duration = Duration::from_hours(1);

impl Reconcile for Provider {
    async fn apply(&self, status: &mut ProviderStatus, cx: &Context) -> Result<Outcome, Error> {
        let (name, tenant) = match placed(self, cx) {
            Ok(found) => found,
            Err(waiting) => {
                forget_tenant(status);
                return Ok(waiting);
            }
        };
        if status.tenant.as_ref().is_some_and(|t| *t != tenant.name) {
            // Its namespace changed hands and no pass came in between.
            forget_tenant(status);
        }
        let user = User::Provider(name.name.clone());
        let seen = Seen::of(self.spec.credentials.as_ref(), &name.namespace, user, cx).await?;
        let (ceilings, images) = (launch::ceilings(&tenant, cx), launch::images(cx));
        let config = &cx.config.connection_checks;
        let checks = [config.parallelism.min(1).into(), config.interval_seconds];
        let fingerprint = self.fingerprint(&seen, &ceilings, &images, checks);
        let object = uid_of(self)?;
        let rests = self.spec.suspend || tenant.spec.suspend;
        let settled = cx.mirrors.get(object).filter(|mirror| {
            mirror.tenant == tenant.id
                && mirror.fingerprint == fingerprint
                && self.is_settled(&tenant.name, mirror.last_scan)
                && self.shows_life(cx.clock.now())
                && Asked::by(self).is_handled(status, rests)
        });
        if let Some(mirror) = settled {
            // What was checked and stored is what the spec says now: nothing to read or write.
            status.provider_id = Some(mirror.provider.to_string());
            return Ok(self.stored());
        }
        let values = seen
            .values(self.spec.credentials.as_ref(), &name.namespace, cx)
            .await?;
        let named = seen.named(&values, cx.clock.now());
        let found = Found {
            named,
            ceilings: &ceilings,
            images: &images,
        };
        let valid = match rules::validate(&self.spec, &found) {
            Ok(valid) => valid,
            Err(violations) => {
                self.store_unchecked(object, &name, &tenant, cx).await?;
                return Ok(self.refuse(&violations, status));
            }
        };
        drop(values);
        self.show_credentials(status, &valid);
        let record = self.record(&valid, fingerprint, &name)?;
        let wish = self.wish(&valid, &seen.version(), cx);
        let stored = self
            .store(&record, &valid, wish, &tenant, status, cx)
            .await?;
        let kept = match stored {
            Ok(kept) => kept,
            Err(outcome) => return Ok(outcome),
        };
        status.provider_id = Some(kept.id.to_string());
        status.tenant = Some(tenant.name.clone());
        let asking = Asking {
            object: self,
            tenant: &tenant,
            schedule: None,
            settings: None,
        };
        run_now::answer(&asking, &[kept.id], rests, status, cx).await?;
        let outcome = kept
            .expiry
            .map_or_else(|| self.stored(), |e| self.good_until(&e, cx));
        let Some(running) = kept.running else {
            return Ok(outcome);
        };
        let subject = Subject {
            tenant: &tenant,
            provider: kept.id,
            name: &name,
            valid: &valid,
            interval_seconds: wish.interval_seconds,
        };
        let pause = self.follow_check(&running, &subject, status, cx).await?;
        // Once more where it ended, to find everything settled.
        Ok(outcome.again_in(pause.unwrap_or(Duration::from_secs(1))))
    }

    fn besides(&self, status: &mut ProviderStatus, cx: &Context) -> Vec<News> {
        let life = self.count_days(status, cx.clock.now());
        life.into_iter()
            .chain(self.connection_turned(status))
            .collect()
    }

    async fn cleanup(&self, status: &mut ProviderStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        cx.mirrors.forget(object);
        // More than one only if its namespace changed hands while a pass was under way.
        while let Some(tenant) = tenant_of(&cx.admin, Mirrored::Provider, object).await? {
            if let Some(waiting) = self.remove(tenant, object, status, cx).await? {
                return Ok(waiting);
            }
        }
        Ok(Cleanup::Done)
    }
}

impl Provider {
    /// Ready for the spec as it is now, and showing its tenant and the scan that ended last.
    fn is_settled(&self, tenant: &str, last_scan: Option<ScanId>) -> bool {
        let Some(status) = &self.status else {
            return false;
        };
        let shown = status.last_scan.as_ref().and_then(|scan| scan.id.clone());
        if status.tenant.as_deref() != Some(tenant)
            || shown != last_scan.map(|scan| scan.to_string())
        {
            return false;
        }
        status.observed_generation == self.metadata.generation
            && status
                .conditions
                .iter()
                .any(|c| c.type_ == condition::READY && c.status == "True")
    }

    /// Stored, and looked at again when the credentials end; of no use from then on.
    fn good_until(&self, expiry: &Expiry, cx: &Context) -> Outcome {
        let now = cx.clock.now();
        if expiry.is_over(now) {
            let Expiry { at, of } = expiry;
            let message = format!("{of} expired at {at}; put a new one into the Secret.");
            return Outcome::stalled(Reason::CredentialsExpired, message);
        }
        let left = Duration::try_from(expiry.at.duration_since(now)).ok();
        match left.filter(|left| *left < LATEST) {
            Some(left) => self.stored().again_in(left),
            None => self.stored(),
        }
    }

    fn stored(&self) -> Outcome {
        Outcome::settled(format!(
            "{} account {} is stored.",
            self.spec.provider,
            self.spec.uid.trim()
        ))
    }
}

/// Reads the claims again and calls every object whose tenant, or its tenant's settings, changed.
pub(super) async fn retell_namespaces(cx: &Context) -> Result<(), Error> {
    let changed = cx.tenancy.reload(&cx.admin).await?;
    if !changed.is_empty() {
        cx.wake.call_all::<Provider>(&changed);
        cx.wake.call_all::<ProviderGroup>(&changed);
        cx.wake.call_all::<Role>(&changed);
        cx.wake.call_all::<ScanSchedule>(&changed);
        cx.wake.call_all::<Scan>(&changed);
        cx.wake.call_all::<Integration>(&changed);
        cx.wake.call_all::<MuteRule>(&changed);
        cx.wake.admission.notify_one();
    }
    Ok(())
}
