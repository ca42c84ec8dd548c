//! Database URLs, kept out of logs and error messages.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

/// A libpq-style URL whose text, which holds a password, is never shown.
#[derive(Clone)]
pub struct DatabaseUrl(SecretString);

impl DatabaseUrl {
    /// The URL itself; for handing to the driver only.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

impl FromStr for DatabaseUrl {
    type Err = Infallible;

    /// Takes any text: clap repeats what it refuses, and this may be a password. The store says
    /// what is wrong with a URL, without repeating it.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(SecretString::from(text.to_owned())))
    }
}

/// The role bound by row security.
#[derive(Debug, Clone, Args)]
pub struct UserDatabaseArgs {
    /// URL of the primary as role `prowler_user`, bound by row-level security.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: DatabaseUrl,
    /// URL of a read replica as role `prowler_user`; the primary when absent.
    #[arg(long, env = "DATABASE_REPLICA_URL", hide_env_values = true)]
    pub database_replica_url: Option<DatabaseUrl>,
    /// Most connections one process holds to the primary, and as many to the replica.
    #[arg(long, env = "DATABASE_POOL_SIZE", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=500))]
    pub database_pool_size: u32,
}

impl UserDatabaseArgs {
    /// Refuses a pool that `users`, set by the flag and the variable of this name, would take up
    /// wholly: whoever comes then waits longer than the pool's patience, as if the database were
    /// away.
    pub fn leaves_room(&self, flag: &str, variable: &str, users: u16) -> Result<(), String> {
        let pool = self.database_pool_size;
        if u32::from(users) < pool {
            return Ok(());
        }
        Err(format!(
            "--{flag} {users} needs a database pool of more than {users} connections, not {pool}: \
             lower {variable} or raise DATABASE_POOL_SIZE"
        ))
    }
}

/// The owner of the schema.
#[derive(Debug, Clone, Args)]
pub struct AdminDatabaseArgs {
    /// URL of the primary as role `prowler_admin`, owner of schema `prowler`.
    #[arg(long, env = "DATABASE_ADMIN_URL", hide_env_values = true)]
    pub database_admin_url: DatabaseUrl,
    /// URL of a read replica as role `prowler_admin`; the primary when absent.
    #[arg(long, env = "DATABASE_ADMIN_REPLICA_URL", hide_env_values = true)]
    pub database_admin_replica_url: Option<DatabaseUrl>,
}
