//! Namespaces: claimed where nobody was first, and given back only when all that lived in them is
//! gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};

use super::wanted::{Wanted, chooses, is_away};
use super::{empty, retire};
use crate::api::Tenant;
use crate::controllers::driver::Cleanup;
use crate::controllers::error::Error;
use crate::controllers::provider::DELETION_SLICE;
use crate::controllers::{Context, access, namespace_meta, network};
use crate::domain::ids::TenantId;
use crate::domain::reason::Reason;
use crate::store::admin::claims::{self, Claim};
use crate::store::{deletion, providers, tenants};

#[derive(Default)]
pub(super) struct Claims {
    pub(super) held: BTreeSet<String>,
    pub(super) refused: Vec<(Reason, String)>,
    /// The first thing that went wrong.
    pub(super) failed: Option<Error>,
}

/// Claims every namespace the tenant wants and may have. What goes wrong in one of them, where its
/// users may have a hand in it, keeps no other from being claimed.
pub(super) async fn claim(
    tenant: &Tenant,
    id: TenantId,
    wanted: &Wanted,
    cx: &Context,
) -> Result<Claims, Error> {
    let mut claims = Claims::default();
    for namespace in wanted.names() {
        let cure = wanted.cure(namespace);
        if is_denied(namespace, cx) {
            let message = format!(
                "Namespace {namespace} can belong to no tenant in this installation; {cure}."
            );
            // Not given back either: a slip in the values must not take away what is stored.
            claims.refused.push((Reason::NamespaceDenied, message));
            continue;
        }
        if !is_in_reach(namespace, cx) {
            let message = format!(
                "Namespace {namespace} is none of those in which the operator has rights; add it to rbac.namespaces of the chart's values, or {cure}."
            );
            claims.refused.push((Reason::NamespaceDenied, message));
            continue;
        }
        let claim = match cx.tenancy.of(namespace) {
            Some(_) => claims::claim(&cx.admin, id, namespace).await?,
            // Age decides only who is first.
            None => match tenant.elder(namespace, cx).await? {
                Some(to) if !claims::is_held_by(&cx.admin, id, namespace).await? => {
                    Claim::Lost { to }
                }
                _ => claims::claim(&cx.admin, id, namespace).await?,
            },
        };
        match claim {
            Claim::Held => {
                if let Err(error) = access::grant(cx, namespace).await {
                    note(&mut claims.failed, namespace, error);
                }
                if let Err(error) = network::isolate(cx, namespace).await {
                    note(&mut claims.failed, namespace, error);
                }
                claims.held.insert(namespace.clone());
            }
            Claim::Lost { to } => {
                let message = format!(
                    "Namespace {namespace} belongs to Tenant {to}; {cure} here, or have it given back there."
                );
                claims.refused.push((Reason::NamespaceConflict, message));
            }
        }
    }
    Ok(claims)
}

/// Keeps the first failure for the status; the log has all of them.
pub(super) fn note(failed: &mut Option<Error>, namespace: &str, error: Error) {
    tracing::warn!(namespace, %error, "going on with the other namespaces");
    if failed.is_none() {
        *failed = Some(error.in_namespace(namespace));
    }
}

fn is_denied(namespace: &str, cx: &Context) -> bool {
    let listed = cx.config.tenancy.denied_namespaces.iter().any(|rule| {
        rule.strip_suffix('*')
            .map_or(rule == namespace, |prefix| namespace.starts_with(prefix))
    });
    listed || namespace.starts_with("kube-") || namespace == cx.settings.namespace
}

/// Whether the chart gives the operator the rights that scans there need.
fn is_in_reach(namespace: &String, cx: &Context) -> bool {
    let listed = &cx.config.rbac.namespaces;
    listed.is_empty() || listed.contains(namespace)
}

#[derive(Default)]
pub(super) struct Released {
    pub(super) any: bool,
    /// Providers and active scans, where nothing was to be given back.
    pub(super) counts: Option<(i64, i64)>,
    pub(super) waiting: Option<String>,
    /// The first thing that went wrong.
    pub(super) failed: Option<Error>,
}

/// Gives back namespaces the tenant no longer wants. What lived in them is treated as deleted in
/// this tenant, wholly, before anybody else can have the namespace. One whose right cannot be
/// taken back stays the tenant's, and keeps no other from being given back.
pub(super) async fn release(
    tenant: &Tenant,
    id: TenantId,
    wanted: &Wanted,
    held: &[String],
    cx: &Context,
) -> Result<Released, Error> {
    let mut tx = cx.store.tenant(id).await?;
    let in_use = tenants::namespaces_in_use(&mut tx).await?;
    let doomed = providers::doomed(&mut tx).await?;
    let counts = tenants::counts(&mut tx).await?;
    drop(tx);
    let mut unwanted: BTreeSet<_> = in_use
        .into_iter()
        .chain(held.iter().cloned())
        .filter(|namespace| !wanted.contains(namespace))
        .collect();
    if tenant.spec.namespace_selector.is_some() {
        for namespace in unwanted.clone() {
            if is_away(&namespace, cx).await? {
                unwanted.remove(&namespace);
            }
        }
    }
    if unwanted.is_empty() && doomed.is_empty() {
        return Ok(Released {
            counts: Some(counts),
            ..Released::default()
        });
    }
    for namespace in &unwanted {
        retire(id, Some(namespace), cx).await?;
    }
    let mut released = Released::default();
    // Also what an earlier pass began to give back and the spec names again by now.
    if let Some(Cleanup::Waiting { message, .. }) = empty(id, false, cx).await? {
        released.waiting = Some(message);
        return Ok(released);
    }
    let started = Instant::now();
    for namespace in &unwanted {
        while deletion::schedules_step(&cx.store, id, namespace).await? > 0 {
            if started.elapsed() >= DELETION_SLICE {
                let message = format!("Deleting the due times of schedules in {namespace}.");
                released.waiting = Some(message);
                return Ok(released);
            }
        }
    }
    for namespace in &unwanted {
        let mut tx = cx.store.tenant(id).await?;
        tenants::forget_namespace(&mut tx, namespace).await?;
        tx.commit().await?;
        if let Err(error) = leave(cx, namespace).await {
            note(&mut released.failed, namespace, error);
            continue;
        }
        claims::release(&cx.admin, id, namespace).await?;
        released.any = true;
    }
    Ok(released)
}

/// Takes away what the controller made in a namespace for its tenant.
pub(super) async fn leave(cx: &Context, namespace: &str) -> Result<(), Error> {
    access::revoke(cx, namespace).await?;
    network::open(cx, namespace).await
}

impl Tenant {
    /// Another Tenant that wants the namespace and was there first: it goes before this one as
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
        let found = namespace_meta(cx, namespace).await?;
        let labels = found.as_ref().map(ResourceExt::labels);
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
                    && (other.spec.namespaces.contains(namespace)
                        || labels.is_some_and(|labels| chooses(other, labels)))
                    && age(other) < age(self)
            })
            .map(ResourceExt::name_any))
    }
}
