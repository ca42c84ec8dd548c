//! Tenant: its row, the namespaces it claims, and the right to read their labelled Secrets.

mod limits;
mod namespaces;
mod wanted;

use std::time::Duration;

use kube::ResourceExt;

use self::limits::violations;
use self::namespaces::{claim, leave, note, release};
use self::wanted::{Wanted, astray};
use super::driver::{Cleanup, News, Outcome, Reconcile};
use super::error::{Error, encoded};
use super::{Context, provider};
use crate::api::Tenant;
use crate::api::common::DeletionPolicy;
use crate::api::tenant::TenantStatus;
use crate::config::file::Limits;
use crate::domain::ids::{ObjectUid, TenantId};
use crate::domain::reason::Reason;
use crate::store::admin::claims;
use crate::store::admin::ownership::{Mirrored, tenant_of};
use crate::store::tenants::{self, TenantRecord};
use crate::store::{Change, providers, scans};

/// Namespaces a status names, of as many as there are: it must stay small.
const SHOWN: usize = 100;

impl Reconcile for Tenant {
    // Counted anew with each of its Providers and scans.
    const IGNORES_ECHO: bool = true;

    async fn apply(&self, status: &mut TenantStatus, cx: &Context) -> Result<Outcome, Error> {
        let name = self.name_any();
        let id = cx.installation.tenant(&name);
        let violations = violations(&self.spec, &cx.config.limits);
        if !violations.is_empty() {
            // Nothing of such a spec is stored but this: what is to rest must not go on, and what
            // was allowed once is no more than is allowed now.
            let limits = &cx.config.limits;
            let mut tx = cx.store.tenant(id).await?;
            tenants::restrain(
                &mut tx,
                self.spec.suspend,
                limits.concurrent_scans.ceiling,
                limits.providers.ceiling,
            )
            .await?;
            tx.commit().await?;
            provider::retell_namespaces(cx).await?;
            return Err(Error::Invalid(violations));
        }
        let record = self.record(&cx.config.limits)?;
        let mut tx = cx.store.tenant(id).await?;
        let change = tenants::upsert(&mut tx, &record).await?;
        tx.commit().await?;

        let wanted = Wanted::by(self, cx).await?;
        let claimed = claim(self, id, &wanted, cx).await?;
        let held = claims::of_tenant(&cx.admin, id).await?;
        if change != Change::Unchanged || !self.is_told(id, &held, cx) {
            // First: a namespace that is given back must get no more rows while it is emptied.
            provider::retell_namespaces(cx).await?;
        }
        let released = release(self, id, &wanted, &held, cx).await?;
        if released.any {
            provider::retell_namespaces(cx).await?;
            cx.wake.call_where::<Self>(|other| {
                let name = other.name_any();
                name != self.name_any()
                    && (other.spec.namespace_selector.is_some()
                        || other.spec.namespaces.iter().any(|n| !wanted.contains(n)))
            });
        }
        let (providers, active) = if let Some(counts) = released.counts {
            counts
        } else {
            let mut tx = cx.store.tenant(id).await?;
            tenants::counts(&mut tx).await?
        };

        status.tenant_id = Some(id.to_string());
        status.namespaces = claimed.held.iter().take(SHOWN).cloned().collect();
        status.providers = Some(providers);
        status.active_scans = Some(active);
        let failed = claimed.failed.or(released.failed);
        let besides = failed
            .as_ref()
            .map(|error| format!(" {error}; trying again."))
            .unwrap_or_default();
        if let Some((reason, _)) = claimed.refused.first() {
            let sentences: Vec<_> = claimed.refused.iter().map(|(_, why)| &**why).collect();
            let message = sentences.join(" ") + &besides;
            return Ok(Outcome::stalled(*reason, message).again_in(Duration::from_secs(30)));
        }
        if let Some(message) = released.waiting {
            // What is given back does not wait for what failed, whose pauses get ever longer.
            let message = message + &besides;
            return Ok(
                Outcome::progressing(Reason::Progressing, message).again_in(Duration::from_secs(2))
            );
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(message) = astray(self, &claimed.held) {
            return Ok(Outcome::stalled(Reason::InvalidSpec, message));
        }
        let settled = Outcome::settled(match claimed.held.len() {
            1 => "Holds 1 namespace.".to_owned(),
            many => format!("Holds {many} namespaces."),
        });
        Ok(if released.any {
            // A pass that was under way may have stored something there meanwhile.
            settled.again_in(Duration::from_secs(10))
        } else {
            settled
        })
    }

    async fn cleanup(&self, status: &mut TenantStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        let Some(id) = tenant_of(&cx.admin, Mirrored::Tenant, object).await? else {
            // The row may have gone in a pass that did not live to tell.
            provider::retell_namespaces(cx).await?;
            return Ok(Cleanup::Done);
        };
        let retain = self.spec.deletion_policy == DeletionPolicy::Retain;
        let mut tx = cx.store.tenant(id).await?;
        tenants::retire(&mut tx).await?;
        if !retain {
            // Its rows hang on the tenant's: whoever wants to keep them keeps the tenant.
            providers::release_retained(&mut tx).await?;
        }
        tx.commit().await?;
        // From here on no pass over another kind stores anything for this tenant.
        provider::retell_namespaces(cx).await?;
        retire(id, None, cx).await?;
        if let Some(waiting) = empty(id, retain, cx).await? {
            return Ok(waiting);
        }
        let mut failed = None;
        for namespace in claims::of_tenant(&cx.admin, id).await? {
            match leave(cx, &namespace).await {
                Ok(()) => claims::release(&cx.admin, id, &namespace).await?,
                Err(error) => note(&mut failed, &namespace, error),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let mut tx = cx.store.tenant(id).await?;
        if retain {
            tenants::detach(&mut tx).await?;
        } else {
            tenants::remove(&mut tx).await?;
        }
        tx.commit().await?;
        provider::retell_namespaces(cx).await?;
        status.namespaces.clear();
        cx.wake.call_where::<Self>(|other| {
            let shared = |n: &String| self.spec.namespaces.contains(n);
            other.name_any() != self.name_any()
                && (self.spec.namespace_selector.is_some()
                    || other.spec.namespace_selector.is_some()
                    || other.spec.namespaces.iter().any(shared))
        });
        Ok(Cleanup::Done)
    }

    fn besides(&self, status: &mut TenantStatus, cx: &Context) -> Vec<News> {
        let news = cx
            .isolation
            .show(&mut status.conditions, self.metadata.generation);
        news.into_iter().collect()
    }
}

impl Tenant {
    /// Whether passes over other kinds already go by what is stored of this tenant.
    fn is_told(&self, id: TenantId, held: &[String], cx: &Context) -> bool {
        held.iter().all(|namespace| {
            cx.tenancy
                .of(namespace)
                .is_some_and(|view| view.id == id && !view.is_deleted && view.spec == self.spec)
        })
    }

    fn record(&self, limits: &Limits) -> Result<TenantRecord, Error> {
        let wishes = self.spec.limits.clone().unwrap_or_default();
        let spec = encoded("the spec", &self.spec)?;
        Ok(TenantRecord {
            object: uid_of(self)?,
            name: self.name_any(),
            display_name: self.spec.display_name.clone().unwrap_or_default(),
            deletion_policy: self.spec.deletion_policy.as_str().to_owned(),
            suspend: self.spec.suspend,
            concurrent_scans: wishes
                .concurrent_scans
                .unwrap_or(limits.concurrent_scans.default),
            max_providers: wishes.providers.unwrap_or(limits.providers.default),
            spec,
        })
    }
}

/// The object's uid as an id of ours.
pub(super) fn uid_of<K: kube::Resource>(object: &K) -> Result<ObjectUid, Error> {
    object
        .uid()
        .and_then(|uid| uid.parse().ok())
        .ok_or_else(|| Error::Operator("the object has no uid".to_owned()))
}

/// Marks the providers of a namespace (of the tenant, without one) as deleted, for `empty`.
async fn retire(id: TenantId, namespace: Option<&str>, cx: &Context) -> Result<(), Error> {
    let mut tx = cx.store.tenant(id).await?;
    let objects = providers::retire_namespace(&mut tx, namespace).await?;
    tx.commit().await?;
    for object in objects {
        cx.mirrors.forget(object);
    }
    Ok(())
}

/// Ends the scans and removes the rows of the tenant's retired providers. `None`: nothing is
/// left.
async fn empty(id: TenantId, retain: bool, cx: &Context) -> Result<Option<Cleanup>, Error> {
    let mut tx = cx.store.tenant(id).await?;
    let rows = providers::doomed(&mut tx).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let why = "Its tenant no longer holds its namespace.";
    let open = scans::cancel_all(&mut tx, &ids, why, cx.clock.now()).await?;
    tx.commit().await?;
    if let Some(waiting) = provider::end_jobs(id, &open, cx).await? {
        return Ok(Some(waiting));
    }
    for row in &rows {
        if retain || row.retain {
            let mut tx = cx.store.tenant(id).await?;
            providers::retain(&mut tx, row.id).await?;
            tx.commit().await?;
        } else if let Some(waiting) = provider::delete_rows(id, row.id, cx).await? {
            return Ok(Some(waiting));
        }
    }
    Ok(None)
}
