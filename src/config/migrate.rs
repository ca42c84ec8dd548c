//! Arguments of `migrate`.

use clap::Args;

use super::database::AdminDatabaseArgs;

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// The database as `prowler_admin`.
    #[command(flatten)]
    pub admin: AdminDatabaseArgs,
    /// Let this cluster act for a database that another installation has used: writes the
    /// database's installation id into this cluster's Secret. Refused while the other is alive.
    #[arg(long, env = "TAKE_OVER", requires = "pod_namespace")]
    pub take_over: bool,
    /// Namespace of the installation; only for `--take-over`.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// Secret with the installation id (key `id`); only for `--take-over`.
    #[arg(
        long,
        env = "INSTALLATION_SECRET",
        default_value = "prowler-operator-installation"
    )]
    pub installation_secret: String,
    /// Seconds to wait for a database that does not answer.
    #[arg(long, env = "WAIT_SECONDS", default_value_t = 60)]
    pub wait_seconds: u32,
}
