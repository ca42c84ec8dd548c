//! Tenant: its row, the namespaces it claims, and the right to read their labelled Secrets.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

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
            return Err(Error::Invalid(violations));
        }
        let record = self.record(&cx.config.limits)?;
        let mut tx = cx.store.tenant(id).await?;
        let change = tenants::upsert(&mut tx, &record).await?;
        tx.commit().await?;

        let claimed = claim(self, id, cx).await?;
        let released = release(id, &claimed.wanted, cx).await?;
        if change != Change::Unchanged || claimed.new || released.any {
            provider::retell_namespaces(cx).await?;
        }
        let mut tx = cx.store.tenant(id).await?;
        let (providers, active) = tenants::counts(&mut tx).await?;
        drop(tx);

        status.tenant_id = Some(id.to_string());
        status.namespaces = claimed.held.iter().cloned().collect();
        status.providers = Some(providers);
        status.active_scans = Some(active);
        if let Some((reason, message)) = claimed.refused {
            return Ok(Outcome::stalled(reason, message).again_in(Duration::from_secs(30)));
        }
        if let Some(message) = released.waiting {
            return Ok(
                Outcome::progressing(Reason::Progressing, message).again_in(Duration::from_secs(2))
            );
        }
        Ok(Outcome::settled(format!(
            "Holds {} namespaces.",
            claimed.held.len()
        )))
    }

    async fn cleanup(&self, status: &mut TenantStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        let Some(id) = tenant_of(&cx.admin, Mirrored::Tenant, object).await? else {
            return Ok(Cleanup::Done);
        };
        let retain = self.spec.deletion_policy == DeletionPolicy::Retain;
        let mut tx = cx.store.tenant(id).await?;
        tenants::retire(&mut tx).await?;
        tx.commit().await?;
        // From here on no pass over another kind stores anything for this tenant.
        provider::retell_namespaces(cx).await?;
        if let Some(waiting) = empty(id, None, retain, cx).await? {
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
        Ok(Cleanup::Done)
    }
}

impl Tenant {
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
    new: bool,
    refused: Option<(Reason, String)>,
}

/// Claims every namespace the spec names and may have.
async fn claim(tenant: &Tenant, id: TenantId, cx: &Context) -> Result<Claims, Error> {
    let wanted: BTreeSet<String> = tenant.spec.namespaces.iter().cloned().collect();
    let mut claims = Claims {
        wanted,
        held: BTreeSet::new(),
        new: false,
        refused: None,
    };
    for namespace in claims.wanted.clone() {
        if is_denied(&namespace, cx) {
            let message = format!(
                "Namespace {namespace} can belong to no tenant in this installation; remove it from spec.namespaces."
            );
            claims
                .refused
                .get_or_insert((Reason::NamespaceDenied, message));
            claims.wanted.remove(&namespace);
            continue;
        }
        match claims::claim(&cx.admin, id, &namespace).await? {
            Claim::Held => {
                if cx.tenancy.of(&namespace).is_none_or(|view| view.id != id) {
                    claims.new = true;
                }
                bind(&namespace, cx).await?;
                claims.held.insert(namespace);
            }
            Claim::Lost { to } => {
                let message = format!(
                    "Namespace {namespace} belongs to Tenant {to}; remove it from spec.namespaces here or there."
                );
                claims
                    .refused
                    .get_or_insert((Reason::NamespaceConflict, message));
            }
        }
    }
    Ok(claims)
}

/// A namespace may be claimed before it exists; the binding follows when it does.
async fn bind(namespace: &str, cx: &Context) -> Result<(), Error> {
    match access::grant(cx, namespace).await {
        Err(Error::Kube(error)) if super::driver::is_not_found(&error) => Ok(()),
        // A namespace on its way out takes no new objects.
        Err(Error::Kube(error)) if is_terminating(&error) => Ok(()),
        other => other,
    }
}

fn is_terminating(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403
        && status.message.contains("being terminated"))
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
    let mut released = Released {
        any: false,
        waiting: None,
    };
    for namespace in claims::of_tenant(&cx.admin, id).await? {
        if wanted.contains(&namespace) {
            continue;
        }
        if let Some(Cleanup::Waiting { message, .. }) =
            empty(id, Some(&namespace), false, cx).await?
        {
            released.waiting = Some(message);
        } else {
            access::revoke(cx, &namespace).await?;
            claims::release(&cx.admin, id, &namespace).await?;
            released.any = true;
        }
    }
    Ok(released)
}

/// Ends the scans and removes the rows of all providers of a tenant, or of one namespace of
/// it. `None`: nothing is left.
async fn empty(
    id: TenantId,
    namespace: Option<&str>,
    retain: bool,
    cx: &Context,
) -> Result<Option<Cleanup>, Error> {
    let mut tx = cx.store.tenant(id).await?;
    let rows = providers::retire_namespace(&mut tx, namespace).await?;
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let open = scans::cancel_all(
        &mut tx,
        &ids,
        "Its tenant no longer holds its namespace.",
        cx.clock.now(),
    )
    .await?;
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
    if let Some(namespace) = namespace {
        let mut tx = cx.store.tenant(id).await?;
        tenants::forget_namespace(&mut tx, namespace).await?;
        tx.commit().await?;
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
