//! `migrate --take-over`: this cluster goes on with a database that another one has used.
//!
//! Every derived id hangs on the installation's id, so the database's id goes into the cluster's
//! Secret, never the reverse. Refused while the other side says that it is alive.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::contents::{ID, value};
use super::secrets::renew;
use crate::config::migrate::MigrateArgs;
use crate::domain::ids::InstallationId;
use crate::store::{AdminStore, installation, migrate};

/// Migrates, then takes the database over.
pub async fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let client = Client::try_default()
        .await
        .context("no way to the Kubernetes API")?;
    migrate::migrate(&args.admin)
        .await
        .context("the schema was not migrated")?;
    let admin = AdminStore::connect("migrate", &args.admin).await?;
    let namespace = args.pod_namespace.as_deref().unwrap_or("default");
    if let Some(id) = take_over(client, namespace, &args.installation_secret, &admin).await? {
        tracing::info!(%id, "this cluster now goes on as the database's installation");
    } else {
        tracing::info!("nothing to take over");
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the database's id into the Secret; `None` if it is there already, or the database has
/// none yet. Safe to repeat.
pub async fn take_over(
    client: Client,
    namespace: &str,
    secret: &str,
    admin: &AdminStore,
) -> anyhow::Result<Option<InstallationId>> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let Some(id) = installation::read(admin).await? else {
        return Ok(None);
    };
    let Some(found) = api.get_opt(secret).await? else {
        bail!("Secret {namespace}/{secret} is not there: install the chart in this cluster first");
    };
    if holds(&found, id) {
        return Ok(None);
    }
    if let Some(holder) = installation::live_holder(admin).await? {
        bail!(
            "the database is in use: {holder} renewed its lease within the last {} minutes. \
             Stop the controller there, wait that long and try again",
            installation::LEASE_TERM.as_secs() / 60
        );
    }
    renew(&api, secret, |found| {
        if holds(found, id) {
            return Ok(None);
        }
        let mut next = found.clone();
        next.data
            .get_or_insert_default()
            .insert(ID.to_owned(), ByteString(id.to_string().into_bytes()));
        Ok(Some(next))
    })
    .await?;
    Ok(Some(id))
}

fn holds(secret: &Secret, id: InstallationId) -> bool {
    value(secret, ID).is_ok_and(|text| text.trim_ascii() == id.to_string().as_bytes())
}
