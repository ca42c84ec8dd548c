//! `TenantTx`: a transaction that sees exactly one tenant's rows.

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, SqlSafeStr as _, Transaction};

use super::{StoreError, pool};
use crate::domain::ids::TenantId;

/// A transaction that sees exactly one tenant's rows; dropping it rolls back.
///
/// Never await Kubernetes or the network while one is open: it holds a connection, and locks.
#[must_use = "a transaction that is not committed rolls back"]
#[derive(Debug)]
pub struct TenantTx {
    tx: Transaction<'static, Postgres>,
    tenant: TenantId,
}

impl TenantTx {
    /// Begins and names the tenant in one round trip; the setting ends with the transaction.
    pub(super) async fn begin(pool: &PgPool, tenant: TenantId) -> Result<Self, StoreError> {
        // A TenantId prints as hexadecimal digits and hyphens: nothing to escape.
        let begin = format!("begin; select set_config('api.tenant_id', '{tenant}', true)");
        // As `pool.begin_with` does, which does not tell how long a connection took.
        let conn = pool::acquire(pool, "user").await?;
        let tx = Transaction::begin(conn, Some(AssertSqlSafe(begin).into_sql_str())).await?;
        Ok(Self { tx, tenant })
    }

    /// Whose rows this transaction sees.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The connection, for the queries of this chapter.
    pub(in crate::store) fn conn(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// What the database's clock shows.
    pub async fn time(&mut self) -> Result<Timestamp, StoreError> {
        super::time(self.conn()).await
    }

    /// Takes the changes back, and waits until that is done; dropping it does not wait.
    pub(in crate::store) async fn abandon(self) -> Result<(), StoreError> {
        Ok(self.tx.rollback().await?)
    }

    /// Makes the changes stay.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.tx.commit().await?)
    }
}
