//! Tenant: its row, the namespaces it claims, and the right to read their labelled Secrets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};

use super::access;
use super::driver::{Cleanup, Outcome, Reconcile};
use super::error::Error;
use super::{Context, provider};
use crate::api::Tenant;
use crate::api::common::DeletionPolicy;
use crate::api::tenant::{TenantSpec, TenantStatus};
use crate::config::file::Limits;
use crate::domain::ids::{ObjectUid, TenantId};
use crate::domain::provider::Violation;
use crate::domain::quantity;
use crate::domain::reason::Reason;
use crate::store::admin::claims::{self, Claim};
use crate::store::admin::ownership::{Mirrored, tenant_of};
use crate::store::tenants::{self, TenantRecord};
use crate::store::{Change, providers, scans};

impl Reconcile for Tenant {
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

        let claimed = claim(self, id, cx).await?;
        if change != Change::Unchanged || !self.is_told(id, cx).await? {
            // First: a namespace that is given back must get no more rows while it is emptied.
            provider::retell_namespaces(cx).await?;
        }
        let released = release(id, &claimed.wanted, cx).await?;
        if released.any {
            provider::retell_namespaces(cx).await?;
            cx.wake.call_where::<Self>(|other| {
                let name = other.name_any();
                name != self.name_any()
                    && other
                        .spec
                        .namespaces
                        .iter()
                        .any(|n| !self.spec.namespaces.contains(n))
            });
        }
        let mut tx = cx.store.tenant(id).await?;
        let (providers, active) = tenants::counts(&mut tx).await?;
        drop(tx);

        status.tenant_id = Some(id.to_string());
        status.namespaces = claimed.held.iter().cloned().collect();
        status.providers = Some(providers);
        status.active_scans = Some(active);
        if let Some((reason, _)) = claimed.refused.first() {
            let sentences: Vec<_> = claimed.refused.iter().map(|(_, why)| &**why).collect();
            return Ok(
                Outcome::stalled(*reason, sentences.join(" ")).again_in(Duration::from_secs(30))
            );
        }
        if let Some(message) = released.waiting {
            return Ok(
                Outcome::progressing(Reason::Progressing, message).again_in(Duration::from_secs(2))
            );
        }
        let settled = Outcome::settled(format!("Holds {} namespaces.", claimed.held.len()));
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
        for namespace in claims::of_tenant(&cx.admin, id).await? {
            access::revoke(cx, &namespace).await?;
            claims::release(&cx.admin, id, &namespace).await?;
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
            other.name_any() != self.name_any() && other.spec.namespaces.iter().any(shared)
        });
        Ok(Cleanup::Done)
    }
}

impl Tenant {
    /// Whether passes over other kinds already go by what is stored of this tenant.
    async fn is_told(&self, id: TenantId, cx: &Context) -> Result<bool, Error> {
        let held = claims::of_tenant(&cx.admin, id).await?;
        Ok(held.iter().all(|namespace| {
            cx.tenancy
                .of(namespace)
                .is_some_and(|view| view.id == id && !view.is_deleted && view.spec == self.spec)
        }))
    }

    /// Another Tenant that names the namespace and was there first: it goes before this one as
    /// long as nobody has claimed the namespace.
    async fn elder(&self, namespace: &String, cx: &Context) -> Result<Option<String>, Error> {
        let objects = match cx.wake.known::<Self>() {
            Some(objects) => objects,
            None => Api::<DeserializeGuard<Self>>::all(cx.client.clone())
                .list(&ListParams::default())
                .await?
                .items
                .into_iter()
                .map(Arc::new)
                .collect(),
        };
        let age = |tenant: &Self| {
            let created = tenant
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0);
            (created, tenant.name_any())
        };
        Ok(objects
            .iter()
            .filter_map(|object| object.0.as_ref().ok())
            .find(|other| {
                other.metadata.deletion_timestamp.is_none()
                    && other.spec.namespaces.contains(namespace)
                    && age(other) < age(self)
            })
            .map(ResourceExt::name_any))
    }

    fn record(&self, limits: &Limits) -> Result<TenantRecord, Error> {
        let wishes = self.spec.limits.clone().unwrap_or_default();
        let spec = serde_json::to_value(&self.spec)
            .map_err(|error| Error::Operator(format!("the spec cannot be encoded: {error}")))?;
        Ok(TenantRecord {
            object: uid_of(self)?,
            name: self.name_any(),
            display_name: self.spec.display_name.clone().unwrap_or_default(),
            deletion_policy: match self.spec.deletion_policy {
                DeletionPolicy::Delete => "Delete",
                DeletionPolicy::Retain => "Retain",
            }
            .to_owned(),
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

/// Wishes above the installation's ceilings, all at once.
fn violations(spec: &TenantSpec, limits: &Limits) -> Vec<Violation> {
    let wishes = spec.limits.clone().unwrap_or_default();
    let mut found = Vec::new();
    let mut check = |field: &str, over: bool, wish: String, ceiling: String| {
        if over {
            let sentence = format!(
                "{wish} is more than the {ceiling} this installation allows; lower it, or have limits.{field}.ceiling raised in the chart's values"
            );
            found.push(Violation::new(
                Reason::LimitExceeded,
                format!("spec.limits.{field}"),
                sentence,
            ));
        }
    };
    let numbers = [
        (
            "concurrentScans",
            wishes.concurrent_scans.map(i64::from),
            i64::from(limits.concurrent_scans.ceiling),
        ),
        (
            "providers",
            wishes.providers.map(i64::from),
            i64::from(limits.providers.ceiling),
        ),
        (
            "scanDeadlineSeconds",
            wishes.scan_deadline_seconds,
            limits.scan_deadline_seconds.ceiling,
        ),
    ];
    for (field, wish, ceiling) in numbers {
        if let Some(wish) = wish {
            check(field, wish > ceiling, wish.to_string(), ceiling.to_string());
        }
    }
    let quantities = [
        (
            "scanMemory",
            &wishes.scan_memory,
            &limits.scan_memory.ceiling,
        ),
        ("scanCPU", &wishes.scan_cpu, &limits.scan_cpu.ceiling),
    ];
    for (field, wish, ceiling) in quantities {
        if let Some(Quantity(wish)) = wish {
            check(
                field,
                quantity::exceeds(wish, ceiling),
                wish.clone(),
                ceiling.clone(),
            );
        }
    }
    found
}

struct Claims {
    wanted: BTreeSet<String>,
    held: BTreeSet<String>,
    refused: Vec<(Reason, String)>,
}

/// Claims every namespace the spec names and may have.
async fn claim(tenant: &Tenant, id: TenantId, cx: &Context) -> Result<Claims, Error> {
    let wanted: BTreeSet<String> = tenant.spec.namespaces.iter().cloned().collect();
    let mut claims = Claims {
        wanted,
        held: BTreeSet::new(),
        refused: Vec::new(),
    };
    for namespace in claims.wanted.clone() {
        if is_denied(&namespace, cx) {
            let message = format!(
                "Namespace {namespace} can belong to no tenant in this installation; remove it from spec.namespaces."
            );
            claims.refused.push((Reason::NamespaceDenied, message));
            claims.wanted.remove(&namespace);
            continue;
        }
        let claim = match cx.tenancy.of(&namespace) {
            Some(_) => claims::claim(&cx.admin, id, &namespace).await?,
            // Age decides only who is first.
            None => match tenant.elder(&namespace, cx).await? {
                Some(to) if !claims::is_held_by(&cx.admin, id, &namespace).await? => {
                    Claim::Lost { to }
                }
                _ => claims::claim(&cx.admin, id, &namespace).await?,
            },
        };
        match claim {
            Claim::Held => {
                access::grant(cx, &namespace).await?;
                claims.held.insert(namespace);
            }
            Claim::Lost { to } => {
                let message = format!(
                    "Namespace {namespace} belongs to Tenant {to}; remove it from spec.namespaces here or there."
                );
                claims.refused.push((Reason::NamespaceConflict, message));
            }
        }
    }
    Ok(claims)
}

fn is_denied(namespace: &str, cx: &Context) -> bool {
    let listed = cx.config.tenancy.denied_namespaces.iter().any(|rule| {
        rule.strip_suffix('*')
            .map_or(rule == namespace, |prefix| namespace.starts_with(prefix))
    });
    listed || namespace.starts_with("kube-") || namespace == cx.settings.namespace
}

struct Released {
    any: bool,
    waiting: Option<String>,
}

/// Gives back namespaces the spec no longer names. What lived in them is treated as deleted in
/// this tenant, wholly, before anybody else can have the namespace.
async fn release(id: TenantId, wanted: &BTreeSet<String>, cx: &Context) -> Result<Released, Error> {
    let mut tx = cx.store.tenant(id).await?;
    let in_use = tenants::namespaces_in_use(&mut tx).await?;
    drop(tx);
    let held = claims::of_tenant(&cx.admin, id).await?;
    let unwanted: BTreeSet<_> = in_use
        .into_iter()
        .chain(held)
        .filter(|namespace| !wanted.contains(namespace))
        .collect();
    for namespace in &unwanted {
        retire(id, Some(namespace), cx).await?;
    }
    // Also what an earlier pass began to give back and the spec names again by now.
    if let Some(Cleanup::Waiting { message, .. }) = empty(id, false, cx).await? {
        return Ok(Released {
            any: false,
            waiting: Some(message),
        });
    }
    for namespace in &unwanted {
        let mut tx = cx.store.tenant(id).await?;
        tenants::forget_namespace(&mut tx, namespace).await?;
        tx.commit().await?;
        access::revoke(cx, namespace).await?;
        claims::release(&cx.admin, id, namespace).await?;
    }
    Ok(Released {
        any: !unwanted.is_empty(),
        waiting: None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tenant::TenantLimits;

    #[test]
    fn every_wish_above_a_ceiling_is_named_at_once() {
        let spec = TenantSpec {
            limits: Some(TenantLimits {
                concurrent_scans: Some(51),
                providers: Some(10),
                scan_memory: Some(Quantity("17Gi".into())),
                scan_cpu: Some(Quantity("500m".into())),
                scan_deadline_seconds: Some(60),
            }),
            ..TenantSpec::default()
        };
        let found = violations(&spec, &Limits::default());
        let fields: Vec<_> = found.iter().map(Violation::field).collect();
        assert_eq!(
            fields,
            ["spec.limits.concurrentScans", "spec.limits.scanMemory"]
        );
        assert!(
            found
                .iter()
                .all(|violation| violation.reason() == Reason::LimitExceeded)
        );
    }
}
