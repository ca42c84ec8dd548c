//! Arguments of `server`.

use clap::Args;

use super::database::UserDatabaseArgs;

/// Arguments of `server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The database as `prowler_user`.
    #[command(flatten)]
    pub user: UserDatabaseArgs,
}
