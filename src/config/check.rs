//! Arguments of `check`.

use clap::{Args, ValueEnum};

use super::database::{AdminDatabaseArgs, UserDatabaseArgs};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The database as `prowler_user`.
    #[command(flatten)]
    pub user: UserDatabaseArgs,
    /// The database as `prowler_admin`; not examined when absent.
    #[command(flatten)]
    pub admin: Option<AdminDatabaseArgs>,
    /// Examine also what only matters in production: encryption and durability.
    #[arg(long, env = "DEPLOY")]
    pub deploy: bool,
    /// How to print what was found.
    #[arg(long, env = "OUTPUT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// The shape of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line a finding.
    Text,
    /// One JSON document.
    Json,
}
