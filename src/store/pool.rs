//! How connections are made: the same few settings for every pool.
//!
//! | | user | admin |
//! |---|---|---|
//! | connections | `--database-pool-size` (10) | 4 |
//! | wait for one | 5 s, then `Unavailable` | the same |
//! | idle / lifetime | 10 min / 30 min | the same |
//! | a statement | 5 min; a lock 30 s; an idle transaction 60 s | the same |

use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgPool, Postgres};

use super::StoreError;
use crate::config::database::DatabaseUrl;
use crate::metrics::database::{Connections, DATABASE, Pools};

/// Connections of the admin role: it acts rarely, and mostly one act at a time.
const ADMIN_CONNECTIONS: u32 = 4;
/// Longer than a primary's blip, shorter than a caller's patience.
const ACQUIRE: Duration = Duration::from_secs(5);
/// A connection idle for longer may have been cut by the network or a restarted server.
const TRUSTED_IDLE: Duration = Duration::from_secs(2);

/// The pool of the role bound by row security; made without connecting.
pub(super) fn user(
    url: &DatabaseUrl,
    component: &str,
    alias: &str,
    size: u32,
) -> Result<PgPool, StoreError> {
    Ok(pool(size).connect_lazy_with(options(url, component, alias)?))
}

/// The pool of the schema's owner; made without connecting.
pub(super) fn admin(url: &DatabaseUrl, component: &str, alias: &str) -> Result<PgPool, StoreError> {
    Ok(pool(ADMIN_CONNECTIONS).connect_lazy_with(options(url, component, alias)?))
}

/// One connection's options: schema, label and time limits.
pub(super) fn options(
    url: &DatabaseUrl,
    component: &str,
    alias: &str,
) -> Result<PgConnectOptions, StoreError> {
    let text = url.expose();
    let schemes = ["postgres://", "postgresql://"];
    let options = schemes
        .iter()
        .any(|scheme| text.starts_with(scheme))
        .then(|| text.parse::<PgConnectOptions>().ok())
        .flatten()
        // Neither the text, which may be a password, nor the parser's words, which may quote it.
        .ok_or_else(|| {
            StoreError::Refused(format!(
                "The database URL of {alias} cannot be read: \
                 expected postgres://user:password@host:port/database"
            ))
        })?;
    Ok(options
        .application_name(&format!("{component}:{alias}"))
        .options([
            ("search_path", "prowler"),
            ("statement_timeout", "5min"),
            ("lock_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ]))
}

/// A connection of the pool, however long it takes to get one; counted under this name.
pub(super) async fn acquire(
    pool: &PgPool,
    name: &'static str,
) -> Result<PoolConnection<Postgres>, StoreError> {
    let asked = Instant::now();
    let conn = pool.acquire().await;
    // The longest waits are those in vain.
    DATABASE.waited(name, asked.elapsed());
    Ok(conn?)
}

/// Lets `pools` look at this one under this name.
pub(super) fn watch(pool: &PgPool, pools: &Pools, name: &'static str) {
    let pool = pool.clone();
    pools.watch(name, move || {
        // Not one look at both: a connection may come or go in between.
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        Connections {
            idle,
            in_use: pool.size().saturating_sub(idle),
            limit: pool.options().get_max_connections(),
        }
    });
}

fn pool(size: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(Duration::from_mins(10))
        .max_lifetime(Duration::from_mins(30))
        // A ping before every transaction would be a round trip too many.
        .test_before_acquire(false)
        .before_acquire(|conn, meta| {
            Box::pin(async move {
                if meta.idle_for < TRUSTED_IDLE {
                    return Ok(true);
                }
                Ok(conn.ping().await.is_ok())
            })
        })
}
