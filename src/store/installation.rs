//! Which installation the database belongs to, and who acts for it.
//!
//! Every derived id hangs on the installation's id, so the database's id wins over the
//! cluster's, never the reverse. The lease says which cluster acted last: advice that keeps a
//! take-over from a live installation, never a fence.

use std::time::Duration;

use jiff::Timestamp;

use super::{AdminStore, StoreError};
use crate::domain::ids::InstallationId;

/// A lease not renewed for this long no longer stands in the way of a take-over.
pub const LEASE_TERM: Duration = Duration::from_mins(5);

const LEASE: &str = "installation";

/// Whose database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Ours, now or already.
    Claimed,
    /// It belongs to another installation: stop, and name `migrate --take-over`.
    Other(InstallationId),
}

/// Gives the database the cluster's id if it has none yet.
pub async fn claim(admin: &AdminStore, id: InstallationId) -> Result<Claim, StoreError> {
    // Two statements: the loser of a race sees the winner's row only in a new snapshot.
    sqlx::query!(
        "insert into installation (id) values ($1) on conflict do nothing",
        id.0
    )
    .execute(admin.pool())
    .await?;
    match read(admin).await? {
        Some(found) if found == id => Ok(Claim::Claimed),
        Some(found) => Ok(Claim::Other(found)),
        None => Err(StoreError::Unavailable(
            "the installation row vanished while it was read".to_owned(),
        )),
    }
}

/// The id the database holds, if an installation has claimed it.
pub async fn read(admin: &AdminStore) -> Result<Option<InstallationId>, StoreError> {
    Ok(sqlx::query_scalar!("select id from installation")
        .fetch_optional(admin.pool())
        .await?
        .map(InstallationId))
}

/// Whether the lease is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// Renewed just now, in our name.
    Ours,
    /// Another holder renewed it within [`LEASE_TERM`].
    Other {
        /// Who.
        holder: String,
        /// When, by the database's clock.
        renewed_at: Timestamp,
    },
}

/// Renews the lease as `holder` (what tells one cluster from another), or takes it if its
/// holder has been silent for [`LEASE_TERM`]. Call it more often than that.
///
/// All times are the database's: no two machines' clocks are compared.
pub async fn renew(admin: &AdminStore, holder: &str) -> Result<Lease, StoreError> {
    let mut tx = admin.begin().await?;
    let ours = sqlx::query_scalar!(
        r#"insert into leases as l (name, holder, renewed_at) values ($1, $2, now())
           on conflict (name) do update set holder = excluded.holder, renewed_at = now()
           where l.holder = excluded.holder
              or l.renewed_at < now() - make_interval(secs => $3)
           returning true as "ours!""#,
        LEASE,
        holder,
        LEASE_TERM.as_secs_f64()
    )
    .fetch_optional(tx.conn())
    .await?;
    let lease = if ours.is_some() {
        Lease::Ours
    } else {
        // The refused upsert has locked the row: what is read here is what refused it.
        let found = sqlx::query!(
            r#"select holder, renewed_at as "renewed_at: jiff_sqlx::Timestamp"
               from leases where name = $1"#,
            LEASE
        )
        .fetch_one(tx.conn())
        .await?;
        Lease::Other {
            holder: found.holder,
            renewed_at: found.renewed_at.to_jiff(),
        }
    };
    tx.commit().await?;
    Ok(lease)
}

/// Who acts for the database now: the holder that renewed the lease within [`LEASE_TERM`]. A
/// take-over asks this first and refuses while there is one.
pub async fn live_holder(admin: &AdminStore) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        "select holder from leases
         where name = $1 and renewed_at >= now() - make_interval(secs => $2)",
        LEASE,
        LEASE_TERM.as_secs_f64()
    )
    .fetch_optional(admin.pool())
    .await?)
}

/// Gives the lease up, so that another cluster need not wait for it to run out.
pub async fn release(admin: &AdminStore, holder: &str) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from leases where name = $1 and holder = $2",
        LEASE,
        holder
    )
    .execute(admin.pool())
    .await?;
    Ok(())
}
