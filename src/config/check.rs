//! Arguments of `check`.

use clap::Args;

use super::database::{AdminDatabaseArgs, UserDatabaseArgs};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The database as `prowler_user`.
    #[command(flatten)]
    pub user: UserDatabaseArgs,
    /// The database as `prowler_admin`.
    #[command(flatten)]
    pub admin: AdminDatabaseArgs,
}
