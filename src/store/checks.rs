//! Connection checks of accounts: when the next is due, and the Job of the one that runs. Which of
//! them may run is decided in `store::admin::checks`.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use super::scans::JobRef;
use super::{StoreError, TenantTx};
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId};
use crate::domain::reason::Reason;

/// What a check depends on, and how often it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Seconds between two checks; 0: none are made.
    pub interval_seconds: i64,
    /// Hash of the account, its credentials and the image: another one means that what the last
    /// check found says nothing any more.
    pub subject: i64,
}

/// Notes what is to be checked. Whether that is something new, so that it goes first.
pub async fn expect(
    tx: &mut TenantTx,
    provider: ProviderId,
    wish: Wish,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let urgent = sqlx::query_scalar!(
        r#"insert into connection_checks as c
             (tenant_id, provider_id, due_at, urgent, interval_seconds, subject)
           values ($1, $2, case when $3::bigint > 0 then $5::timestamptz end, true, $3, $4)
           on conflict (tenant_id, provider_id) do update set
             due_at = case
               when excluded.interval_seconds = 0 then null
               when c.subject <> excluded.subject or c.due_at is null then excluded.due_at
               else least(c.due_at, excluded.due_at + make_interval(secs => excluded.interval_seconds)) end,
             urgent = c.urgent or c.subject <> excluded.subject,
             credentials_expire_at = case when c.subject = excluded.subject
               then c.credentials_expire_at end,
             interval_seconds = excluded.interval_seconds, subject = excluded.subject
           where c.interval_seconds <> excluded.interval_seconds or c.subject <> excluded.subject
           returning urgent as "urgent!""#,
        tx.tenant().0,
        provider.0,
        wish.interval_seconds,
        wish.subject,
        now.to_sqlx() as _,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(urgent.unwrap_or(false))
}

/// A check that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Which check of the account it is, from 1.
    pub number: i32,
    /// Whether it looks at what the spec says now.
    pub current: bool,
    /// Its Job, once there is to be one.
    pub job: Option<JobRef>,
    /// When it was let in.
    pub since: Timestamp,
}

/// How a Provider stands with its checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The check that runs.
    pub running: Option<Running>,
    /// One is due or will be.
    pub awaited: bool,
    /// When the credentials end, as the last check found it.
    pub expires: Option<Timestamp>,
}

impl Standing {
    /// Of a row that was just made.
    pub fn new(wish: Wish) -> Self {
        Self {
            running: None,
            awaited: wish.interval_seconds > 0,
            expires: None,
        }
    }
}

/// How a Provider stands with its checks.
pub async fn standing(tx: &mut TenantTx, provider: ProviderId) -> Result<Standing, StoreError> {
    let row = sqlx::query!(
        r#"select due_at is not null as "awaited!", subject, running_subject, number, slot,
             started_at as "since: jiff_sqlx::Timestamp",
             credentials_expire_at as "expires: jiff_sqlx::Timestamp", job_namespace, job_name, job_uid
           from connection_checks where tenant_id = $1 and provider_id = $2"#,
        tx.tenant().0,
        provider.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else {
        return Ok(Standing {
            running: None,
            awaited: false,
            expires: None,
        });
    };
    let job = row
        .job_namespace
        .zip(row.job_name)
        .map(|(namespace, name)| JobRef {
            name: ObjectName { namespace, name },
            uid: row.job_uid.map(ObjectUid),
        });
    let running = row.slot.zip(row.since).map(|(_, since)| Running {
        number: row.number,
        current: row.running_subject == Some(row.subject),
        job,
        since: since.to_jiff(),
    });
    Ok(Standing {
        running,
        awaited: row.awaited,
        expires: row.expires.map(jiff_sqlx::Timestamp::to_jiff),
    })
}

/// Writes down the Job of the check of this number, before and after it is made. Whether that
/// check is still the one that runs.
pub async fn set_job(
    tx: &mut TenantTx,
    provider: ProviderId,
    number: i32,
    job: &JobRef,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update connection_checks set job_namespace = $4, job_name = $5, job_uid = $6
         where tenant_id = $1 and provider_id = $2 and number = $3 and slot is not null",
        tx.tenant().0,
        provider.0,
        number,
        job.name.namespace,
        job.name.name,
        job.uid.map(|uid| uid.0),
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends the check of this number, says when the next is due and, if it found that out, when the
/// credentials end. A change that came meanwhile stays due at once. Whether that check was still
/// the one that ran.
pub async fn finish(
    tx: &mut TenantTx,
    provider: ProviderId,
    number: i32,
    next: Timestamp,
    expires: Option<Timestamp>,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update connection_checks set
           urgent = urgent and subject <> running_subject,
           due_at = case when interval_seconds = 0 then null
             when subject <> running_subject then due_at else $4 end,
           credentials_expire_at = case when subject = running_subject
             then coalesce($5, credentials_expire_at) end,
           slot = null, running_subject = null, started_at = null,
           job_namespace = null, job_name = null, job_uid = null
         where tenant_id = $1 and provider_id = $2 and number = $3 and slot is not null",
        tx.tenant().0,
        provider.0,
        number,
        next.to_sqlx() as _,
        expires.map(ToSqlx::to_sqlx) as _,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// What the last check or scan found of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Whether the account let Prowler in; none if the check itself came to nothing.
    pub connected: Option<bool>,
    /// Why, in a word.
    pub reason: Option<String>,
    /// Why, in a sentence.
    pub message: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What was found when the connection was last tried; `None`: never tried.
pub async fn connection(
    tx: &mut TenantTx,
    provider: ProviderId,
) -> Result<Option<Connection>, StoreError> {
    let row = sqlx::query!(
        r#"select connected, connection_reason, connection_message,
             connection_last_checked_at as "at: jiff_sqlx::Timestamp"
           from providers where tenant_id = $1 and id = $2"#,
        tx.tenant().0,
        provider.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.and_then(|row| {
        Some(Connection {
            connected: row.connected,
            reason: row.connection_reason,
            message: row.connection_message,
            at: row.at?.to_jiff(),
        })
    }))
}

/// Writes only what was found of the connection; never the whole row, which would undo a deletion
/// that came in between. Without its fingerprint the row is read again, by whoever is there then,
/// until the object shows what was found.
pub async fn set_connection(
    tx: &mut TenantTx,
    provider: ProviderId,
    connected: Option<bool>,
    reason: Reason,
    message: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update providers set connected = $3, connection_reason = $4, connection_message = $5,
           connection_last_checked_at = $6, fingerprint = 0
         where tenant_id = $1 and id = $2 and not is_deleted",
        tx.tenant().0,
        provider.0,
        connected,
        reason.as_str(),
        message,
        at.to_sqlx() as _,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}
