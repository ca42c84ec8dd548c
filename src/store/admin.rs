//! The schema's owner: the few acts that reach across tenants, each a named function.

pub mod admission;
pub mod checks;
pub mod claims;
pub mod due;
pub mod ledger;
pub mod ownership;

use jiff::Timestamp;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::{StoreError, isolation, pool, schema};
use crate::config::database::AdminDatabaseArgs;
use crate::metrics::database::Pools;

/// The database as `prowler_admin`. Given only to `migrate` and `controller`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AdminStore {
    pool: PgPool,
}

impl AdminStore {
    /// Connects as the schema's owner and requires the schema to be this program's;
    /// `component` labels the sessions (`<component>:admin`).
    pub async fn connect(component: &str, urls: &AdminDatabaseArgs) -> Result<Self, StoreError> {
        let store = Self::open(component, urls)?;
        let mut conn = store.pool.acquire().await?;
        isolation::refuse_wrong_admin(&mut conn).await?;
        schema::require_fit(&mut conn).await?;
        drop(conn);
        Ok(store)
    }

    /// Prepares the pool without connecting or examining anything.
    pub(super) fn open(component: &str, urls: &AdminDatabaseArgs) -> Result<Self, StoreError> {
        Ok(Self {
            pool: pool::admin(&urls.database_admin_url, component, "admin")?,
        })
    }

    /// The pool, for single statements of this chapter.
    pub(in crate::store) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Begins a transaction across tenants.
    pub async fn begin(&self) -> Result<AdminTx, StoreError> {
        Ok(AdminTx {
            tx: Transaction::begin(pool::acquire(&self.pool, "admin").await?, None).await?,
        })
    }

    /// Lets `pools` look at the pool.
    pub fn watch(&self, pools: &Pools) {
        pool::watch(&self.pool, pools, "admin");
    }

    /// Closes the pool.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A transaction across tenants; dropping it rolls back.
#[must_use = "a transaction that is not committed rolls back"]
#[derive(Debug)]
pub struct AdminTx {
    tx: Transaction<'static, Postgres>,
}

impl AdminTx {
    /// The connection, for the queries of this chapter.
    pub(in crate::store) fn conn(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// What the database's clock shows.
    pub async fn time(&mut self) -> Result<Timestamp, StoreError> {
        super::time(self.conn()).await
    }

    /// Makes the changes stay.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.tx.commit().await?)
    }
}
