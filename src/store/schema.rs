//! Which schema the database has, compared with the one this program carries.

use std::fmt;

use sqlx::PgConnection;
use sqlx::migrate::Migrator;

use super::StoreError;

/// The migrations this program carries.
pub(super) static MIGRATOR: Migrator = sqlx::migrate!();

/// The database's schema as this program sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// Exactly this program's.
    Fits,
    /// `migrate` has never run.
    Missing,
    /// Some of this program's migrations have not been applied.
    Older {
        /// First that is missing.
        missing: i64,
    },
    /// Holds a migration this program does not know.
    Newer {
        /// Newest that was found.
        found: i64,
    },
    /// A migration was applied with another text.
    Diverged {
        /// Which.
        version: i64,
    },
}

impl fmt::Display for SchemaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fits => f.write_str("The database schema is this program's."),
            Self::Missing => f.write_str(
                "The database has no schema yet: run `prowler-operator migrate` \
                 (the controller's init container does).",
            ),
            Self::Older { missing } => write!(
                f,
                "The database schema is older than this program (migration {missing} is missing): \
                 run this version's `prowler-operator migrate`."
            ),
            Self::Newer { found } => write!(
                f,
                "The database schema is newer than this program (it has migration {found}): \
                 run the program version that migrated it, or a later one."
            ),
            Self::Diverged { version } => write!(
                f,
                "Migration {version} was applied to this database with another text: \
                 it was migrated by a different build; use that build, or a fresh database."
            ),
        }
    }
}

/// Looks which schema there is. Works for both roles, and for a database without any schema.
pub async fn state(conn: &mut PgConnection) -> Result<SchemaState, StoreError> {
    let readable: Option<bool> = sqlx::query_scalar!(
        r#"select has_table_privilege(c.oid, 'select') from pg_class c
           where c.relnamespace = to_regnamespace('prowler')
             and c.relname = '_sqlx_migrations'"#
    )
    .fetch_optional(&mut *conn)
    .await?
    .flatten();
    // Not granted yet: the first migration is still on its way.
    if readable != Some(true) {
        return Ok(SchemaState::Missing);
    }
    let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "select version, checksum from prowler._sqlx_migrations where success order by version",
    )
    .fetch_all(&mut *conn)
    .await?;
    Ok(compare(&MIGRATOR, &applied))
}

/// An error unless the schema is this program's.
pub(super) async fn require_fit(conn: &mut PgConnection) -> Result<(), StoreError> {
    match state(conn).await? {
        SchemaState::Fits => Ok(()),
        other => Err(StoreError::Schema(other)),
    }
}

fn compare(migrator: &Migrator, applied: &[(i64, Vec<u8>)]) -> SchemaState {
    for (version, checksum) in applied {
        match migrator.iter().find(|known| known.version == *version) {
            Some(known) if known.checksum[..] != checksum[..] => {
                return SchemaState::Diverged { version: *version };
            }
            Some(_) => {}
            None => {
                let found = applied.last().map_or(*version, |(newest, _)| *newest);
                return SchemaState::Newer { found };
            }
        }
    }
    if applied.is_empty() {
        return SchemaState::Missing;
    }
    migrator
        .iter()
        .find(|known| !applied.iter().any(|(version, _)| *version == known.version))
        .map_or(SchemaState::Fits, |known| SchemaState::Older {
            missing: known.version,
        })
}
