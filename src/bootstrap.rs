//! What must exist once in the cluster before anything else starts: the installation's id, the
//! embedded database's passwords, an evaluation certificate for the server.
//!
//! Everything is created if absent and never overwritten, so that any number of runs, also at
//! the same time or cut off in between, end with the same Secrets. Nothing secret is logged.

pub mod certificate;
pub mod contents;
pub mod secrets;
pub mod take_over;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::config::bootstrap::BootstrapArgs;
use crate::domain::clock::{Clock, SystemClock};

use contents::{Database, Labels, ServerTls};
use secrets::{BootstrapError, Ensured};

/// Runs the subcommand once.
pub async fn run(args: BootstrapArgs) -> anyhow::Result<ExitCode> {
    let client = Client::try_default()
        .await
        .context("no way to the Kubernetes API")?;
    bootstrap(client, &args, &SystemClock).await?;
    Ok(ExitCode::SUCCESS)
}

/// Makes what is absent. Safe to repeat from any point, and beside another run of itself.
pub async fn bootstrap(
    client: Client,
    args: &BootstrapArgs,
    clock: &dyn Clock,
) -> Result<(), BootstrapError> {
    let api: Api<Secret> = Api::namespaced(client, &args.pod_namespace);
    let labels = Labels::new(&args.release);

    let name = &args.installation_secret;
    let installation = secrets::ensure(&api, name, &contents::INSTALLATION, || {
        contents::installation(name, &labels)
    })
    .await?;
    contents::check_installation(installation.secret())?;
    report(&installation, name);

    if let (Some(name), Some(host)) = (&args.database_secret, &args.database_host) {
        let database = Database {
            host,
            ca_file: &args.database_ca_file,
        };
        let ensured = secrets::ensure(&api, name, &contents::DATABASE, || {
            contents::database(name, &labels, &database, clock.now())
        })
        .await?;
        report(&ensured, name);
        let ca = contents::value(ensured.secret(), contents::CA)?;
        write(&args.database_ca_file, &ca)?;
    }

    if let Some(name) = &args.server_tls_secret {
        let tls = ServerTls {
            names: &args.server_names,
        };
        let ensured = secrets::ensure(&api, name, &contents::SERVER_TLS, || {
            contents::server_tls(name, &labels, &tls, clock.now())
        })
        .await?;
        report(&ensured, name);
        let renewed = secrets::renew(&api, name, |secret| {
            contents::renewed_server_tls(secret, &tls, clock.now())
        })
        .await?;
        if renewed {
            tracing::info!(
                secret = name,
                "server certificate renewed under the same CA"
            );
        }
    }
    Ok(())
}

fn report(ensured: &Ensured, name: &str) {
    match ensured {
        Ensured::Created(_) => tracing::info!(secret = name, "Secret made"),
        Ensured::Found(_) => tracing::info!(secret = name, "Secret is there"),
    }
}

/// Puts a file where the pod's next containers read it; never half of one.
fn write(path: &Path, content: &[u8]) -> Result<(), BootstrapError> {
    let failed = |source| BootstrapError::File {
        path: path.to_owned(),
        source,
    };
    let part = path.with_extension("part");
    std::fs::write(&part, content).map_err(failed)?;
    std::fs::rename(&part, path).map_err(failed)
}
