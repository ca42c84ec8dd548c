//! Brings the schema to this program's version.
//!
//! Runs as `prowler_admin`, before the controller; any number may run at once. Creates the
//! schema, never a role.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use super::schema::{self, MIGRATOR};
use super::{SchemaState, StoreError, isolation, pool};
use crate::config::database::AdminDatabaseArgs;
use crate::config::migrate::MigrateArgs;

/// Runs the subcommand.
pub async fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let before = migrate_when_reachable(&args)
        .await
        .context("the schema was not migrated")?;
    match before {
        SchemaState::Fits => tracing::info!("the schema is up to date"),
        before => tracing::info!(?before, "the schema was migrated"),
    }
    Ok(ExitCode::SUCCESS)
}

/// A database that is only starting is waited for: ending here would cost the pod's growing
/// pauses between restarts.
async fn migrate_when_reachable(args: &MigrateArgs) -> Result<SchemaState, StoreError> {
    let pause = Duration::from_secs(1);
    let mut pauses = args.wait_seconds;
    loop {
        match migrate(&args.admin).await {
            Err(error) if error.is_transient() && pauses > 0 => {
                tracing::warn!(%error, "waiting for the database");
                pauses -= 1;
                tokio::time::sleep(pause).await;
            }
            result => return result,
        }
    }
}

/// Brings the schema to this program's version and answers what was found before.
///
/// Refuses a schema that is newer or has another history, before it changes anything. Waits
/// while another one migrates.
pub async fn migrate(urls: &AdminDatabaseArgs) -> Result<SchemaState, StoreError> {
    let mut conn = pool::options(&urls.database_admin_url, "migrate", "admin")?
        // An index may take its time; a lock may not, for everyone queues behind who waits.
        .options([("statement_timeout", "0"), ("lock_timeout", "10s")])
        .connect()
        .await?;
    isolation::refuse_wrong_admin(&mut conn).await?;
    lock(&mut conn).await?;
    let before = schema::state(&mut conn).await?;
    match before {
        SchemaState::Fits => {}
        SchemaState::Missing | SchemaState::Older { .. } => {
            create_schema(&mut conn).await?;
            MIGRATOR.run(&mut conn).await?;
        }
        SchemaState::Newer { .. } | SchemaState::Diverged { .. } => {
            return Err(StoreError::Schema(before));
        }
    }
    // Ends the session, and the lock with it.
    conn.close().await?;
    Ok(before)
}

/// Polls instead of waiting inside the server: a waiting statement holds a snapshot, and an
/// index built concurrently by the other one would wait for us in turn.
async fn lock(conn: &mut PgConnection) -> Result<(), StoreError> {
    let mut waiting = false;
    loop {
        let got = sqlx::query_scalar!(
            r#"select pg_try_advisory_lock(hashtextextended('prowler-operator migrate', 0)) as "got!""#
        )
        .fetch_one(&mut *conn)
        .await?;
        if got {
            return Ok(());
        }
        if !waiting {
            tracing::info!("another one is migrating this database; waiting for it");
            waiting = true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// `create schema if not exists` would ask for CREATE on the database even where a DBA made
/// the schema and gave it to us.
async fn create_schema(conn: &mut PgConnection) -> Result<(), StoreError> {
    let exists =
        sqlx::query_scalar!(r#"select to_regnamespace('prowler') is not null as "exists!""#)
            .fetch_one(&mut *conn)
            .await?;
    if !exists {
        sqlx::query("create schema prowler authorization prowler_admin")
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
