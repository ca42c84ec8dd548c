//! The pools, and the only way to rows: a transaction that names its tenant.
//!
//! Outside this chapter no query can be written without a tenant: the pool is private, and
//! [`TenantTx`] has no other constructor than [`Store::tenant`]. The few acts across tenants
//! are named functions over an [`AdminStore`]. A store serves nothing until the role it runs
//! as and the schema it found have been examined ([`isolation`], [`schema`]).

pub mod admin;
pub mod checks;
mod copy;
pub mod deletion;
pub mod error;
pub mod findings;
pub mod groups;
pub mod installation;
pub mod integrations;
pub mod isolation;
pub mod migrate;
pub mod mute_rules;
pub mod partitions;
mod past;
mod pool;
pub mod providers;
pub mod publication;
pub mod quarantine;
pub mod requests;
pub mod roles;
pub mod scans;
pub mod schedules;
pub mod schema;
mod spent;
mod standing;
pub mod survey;
mod tags;
pub mod tenant_tx;
pub mod tenants;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

pub use self::admin::{AdminStore, AdminTx};
pub use self::error::StoreError;
pub use self::schema::SchemaState;
pub use self::tenant_tx::TenantTx;
use crate::config::database::UserDatabaseArgs;
use crate::domain::ids::{ProviderId, TenantId};
use crate::metrics::database::Pools;

/// What an upsert did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A row was inserted.
    Created,
    /// A row was changed.
    Updated,
    /// The row already said so; nothing was written.
    Unchanged,
}

impl Change {
    /// From an upsert's `returning (xmax = 0)`: no row means that nothing was written.
    fn from_created(created: Option<bool>) -> Self {
        match created {
            Some(true) => Self::Created,
            Some(false) => Self::Updated,
            None => Self::Unchanged,
        }
    }
}

/// The database as `prowler_user`, bound by row-level security. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    replica: Option<PgPool>,
    examined: Arc<AtomicBool>,
}

impl Store {
    /// Prepares the pools without connecting; `component` labels the sessions
    /// (`<component>:default`, `<component>:replica`).
    ///
    /// The first use examines role and schema; a server that must come up before its database
    /// does opens, and asks [`Store::ready`] for its readiness.
    pub fn open(component: &str, urls: &UserDatabaseArgs) -> Result<Self, StoreError> {
        let replica = urls
            .database_replica_url
            .as_ref()
            .map(|url| pool::user(url, component, "replica", urls.database_pool_size))
            .transpose()?;
        Ok(Self {
            pool: pool::user(
                &urls.database_url,
                component,
                "default",
                urls.database_pool_size,
            )?,
            replica,
            examined: Arc::default(),
        })
    }

    /// Connects, and refuses a role or schema under which isolation would not hold.
    pub async fn connect(component: &str, urls: &UserDatabaseArgs) -> Result<Self, StoreError> {
        let store = Self::open(component, urls)?;
        store.examine().await?;
        Ok(store)
    }

    /// Begins the only kind of transaction there is: one that sees one tenant's rows.
    pub async fn tenant(&self, tenant: TenantId) -> Result<TenantTx, StoreError> {
        self.examine().await?;
        TenantTx::begin(&self.pool, tenant).await
    }

    /// As [`Store::tenant`], from text; what is no UUID is refused before any connection.
    pub async fn tenant_from_text(&self, text: &str) -> Result<TenantTx, StoreError> {
        let tenant = Uuid::try_parse(text)
            .map_err(|_| StoreError::Refused("Must be a valid UUID".to_owned()))?;
        self.tenant(TenantId(tenant)).await
    }

    /// Whether the store can serve now: schema and role fit, and the database answers.
    ///
    /// The schema is judged once. Under expand/contract a newer schema that arrives while the
    /// program runs does not make it unready.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.examine().await?;
        sqlx::query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Which Job's pod this is: tenant, scan and attempt of the Job with this uid, if a scan
    /// holds it. The one look-up without a tenant; it answers ids only.
    pub async fn scan_of_job(
        &self,
        job: crate::domain::ids::ObjectUid,
    ) -> Result<Option<ScanOfJob>, StoreError> {
        self.examine().await?;
        let found = sqlx::query!(
            r#"select tenant_id as "tenant_id!", scan_id as "scan_id!", attempt as "attempt!"
               from scan_of_job($1)"#,
            job.0
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(found.map(|row| ScanOfJob {
            tenant: TenantId(row.tenant_id),
            scan: crate::domain::ids::ScanId(row.scan_id),
            attempt: row.attempt,
        }))
    }

    /// Lets `pools` look at these.
    pub fn watch(&self, pools: &Pools) {
        pool::watch(&self.pool, pools, "user");
        if let Some(replica) = &self.replica {
            pool::watch(replica, pools, "replica");
        }
    }

    /// Closes the pools; transactions that are open may end first.
    pub async fn close(&self) {
        self.pool.close().await;
        if let Some(replica) = &self.replica {
            replica.close().await;
        }
    }

    /// Once it has succeeded, never again. Until then every caller examines for itself: whoever
    /// comes while the database is away waits for its own attempt only.
    async fn examine(&self) -> Result<(), StoreError> {
        if self.examined.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut conn = self.pool.acquire().await?;
        isolation::refuse_unsafe_role(&mut conn, "DATABASE_URL").await?;
        schema::require_fit(&mut conn).await?;
        isolation::refuse_unsafe_schema(&mut conn).await?;
        if let Some(replica) = &self.replica {
            let mut conn = replica.acquire().await?;
            isolation::refuse_unsafe_role(&mut conn, "DATABASE_REPLICA_URL").await?;
        }
        self.examined.store(true, Ordering::Release);
        Ok(())
    }
}

/// The scan that holds a Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanOfJob {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub scan: crate::domain::ids::ScanId,
    /// The scan's present attempt.
    pub attempt: i32,
}

/// What the database's clock shows, whenever its transaction began.
async fn time(conn: &mut PgConnection) -> Result<Timestamp, StoreError> {
    let time = sqlx::query_scalar!(r#"select clock_timestamp() as "time!: jiff_sqlx::Timestamp""#)
        .fetch_one(conn)
        .await?;
    Ok(time.to_jiff())
}

/// Ids as the database takes them.
fn uuids(providers: &[ProviderId]) -> Vec<Uuid> {
    providers.iter().map(|provider| provider.0).collect()
}
