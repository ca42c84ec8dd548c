//! Arguments of `check`.

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
    /// Examine also what only matters in production: encryption and durability.
    #[arg(long, env = "DEPLOY")]
    pub deploy: bool,
    /// How to print what was found.
    #[arg(long, env = "OUTPUT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
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
