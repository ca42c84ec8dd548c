//! Arguments of `migrate`.

use clap::Args;

use super::database::AdminDatabaseArgs;

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// The database as `prowler_admin`.
    #[command(flatten)]
    pub admin: AdminDatabaseArgs,
}
