//! Which installation this is, and the lease that says it is alive.
//!
//! The lease keeps another cluster from taking the database over while this one acts for it, and
//! this one from starting beside another that has the same id (a copied Secret). Advice, never a
//! fence.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::patience::{may_pass, patiently};
use crate::config::controller::ControllerArgs;
use crate::domain::ids::InstallationId;
use crate::server::health::Readiness;
use crate::store::installation::{self, Claim, Lease};
use crate::store::{AdminStore, StoreError};

/// Well within the lease's term, so that a short outage of the database does not end it.
const RENEWAL: Duration = Duration::from_mins(1);
const RETRY: Duration = Duration::from_secs(10);

/// What tells this installation from another.
pub(super) struct Identity {
    /// The same in the cluster's Secret and in the database.
    pub(super) id: InstallationId,
    /// The same for all replicas, and another in every cluster, whatever was copied there.
    holder: String,
}

/// The installation's id: in the cluster's Secret and in the database, and the same in both.
///
/// Servers that are away are waited for; a Secret that is not there, or an id of somebody else's,
/// ends the program with a sentence.
pub(super) async fn identify(
    client: &Client,
    admin: &AdminStore,
    args: &ControllerArgs,
    readiness: &Readiness,
) -> anyhow::Result<Identity> {
    readiness.waiting("the API server");
    let api: Api<Secret> = Api::namespaced(client.clone(), &args.pod_namespace);
    let name = &args.installation_secret;
    let complaint = format!("Secret {name} was not read");
    let secret = patiently(&complaint, may_pass, || api.get(name))
        .await
        .with_context(|| format!("Secret {name} cannot be read; `bootstrap` makes it"))?;
    let uid = secret.metadata.uid.unwrap_or_default();
    let id: InstallationId = secret
        .data
        .and_then(|mut data| data.remove("id"))
        .and_then(|bytes| String::from_utf8(bytes.0).ok())
        .and_then(|text| text.trim().parse().ok())
        .with_context(|| format!("Secret {name} has no key `id` with a UUID"))?;
    readiness.waiting("the database");
    let complaint = "whose the database is was not read";
    let claim = patiently(complaint, StoreError::is_transient, || {
        installation::claim(admin, id)
    });
    match claim.await? {
        Claim::Claimed => Ok(Identity {
            id,
            holder: format!("Secret {}/{name} (uid {uid})", args.pod_namespace),
        }),
        Claim::Other(other) => anyhow::bail!(
            "the database belongs to installation {other}, this cluster to {id}; if this cluster is to take \
             the database over, run `prowler-operator migrate --take-over`"
        ),
    }
}

/// Waits until no other cluster acts for the database.
pub(super) async fn wait_for_lease(admin: &AdminStore, identity: &Identity, ready: &Readiness) {
    loop {
        match installation::renew(admin, &identity.holder).await {
            Ok(Lease::Ours) => return,
            Ok(Lease::Other { holder, renewed_at }) => {
                ready.waiting("another cluster to leave the database");
                tracing::warn!(
                    %holder, %renewed_at,
                    "another cluster acts for this database; waiting until it is silent"
                );
            }
            Err(error) => warn(&error),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Renews the lease for ever.
pub(super) async fn keep_lease(admin: AdminStore, identity: Identity) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        match installation::renew(&admin, &identity.holder).await {
            Ok(Lease::Ours) => {}
            Ok(Lease::Other { holder, .. }) => tracing::error!(
                %holder,
                "another cluster acts for this database, with the same installation id: stop one of them"
            ),
            Err(error) => warn(&error),
        }
    }
}

fn warn(error: &StoreError) {
    tracing::warn!(%error, "the installation's lease was not renewed; trying again");
}
