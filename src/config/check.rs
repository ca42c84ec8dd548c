//! Arguments of `check`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::database::{AdminDatabaseArgs, DatabaseUrl, UserDatabaseArgs};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The database as `prowler_user`.
    #[command(flatten)]
    pub user: UserDatabaseArgs,
    /// URL of the primary as role `prowler_admin`; what only that role sees is not examined when absent.
    #[arg(long, env = "DATABASE_ADMIN_URL", hide_env_values = true)]
    pub database_admin_url: Option<DatabaseUrl>,
    /// URL of a read replica as role `prowler_admin`.
    #[arg(
        long,
        env = "DATABASE_ADMIN_REPLICA_URL",
        hide_env_values = true,
        requires = "database_admin_url"
    )]
    pub database_admin_replica_url: Option<DatabaseUrl>,
    /// Examine also what only matters in production: encryption, durability, and what runs in the cluster.
    #[arg(long, env = "DEPLOY")]
    pub deploy: bool,
    /// Namespace of the installation; only for `--deploy`.
    #[arg(long, env = "POD_NAMESPACE", default_value = "prowler-operator-system")]
    pub pod_namespace: String,
    /// What the names of the installation's resources begin with (the chart's `fullnameOverride`, else made of the release's name); only for `--deploy`.
    #[arg(long, env = "FULLNAME", default_value = "prowler-operator")]
    pub fullname: String,
    /// The controller's configuration file; its ConfigMap in the cluster is read when absent; only for `--deploy`.
    #[arg(long = "config", env = "CONFIG_FILE")]
    pub config_file: Option<PathBuf>,
    /// How to print what was found.
    #[arg(long, env = "OUTPUT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// From which severity on the exit code is not 0.
    #[arg(long, env = "FAIL_ON", value_enum, default_value_t = FailOn::Warning)]
    pub fail_on: FailOn,
}

impl CheckArgs {
    /// The database as `prowler_admin`, if it is to be examined.
    pub fn admin(&self) -> Option<AdminDatabaseArgs> {
        Some(AdminDatabaseArgs {
            database_admin_url: self.database_admin_url.clone()?,
            database_admin_replica_url: self.database_admin_replica_url.clone(),
        })
    }
}

/// The shape of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line a finding.
    Text,
    /// One JSON document.
    Json,
}

/// What the caller counts as a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Errors alone.
    Error,
    /// Warnings as well.
    Warning,
}
