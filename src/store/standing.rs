//! Where an attempt stands: whether it may publish, has done so, or is over.

use super::{Store, StoreError, TenantTx};
use crate::api::account::ProviderType;
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, TenantId};
use crate::domain::reason::Reason;

/// Who wants to publish: an attempt of a scan, known by the Job whose pod is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Whose scan.
    pub tenant: TenantId,
    /// The scan.
    pub scan: ScanId,
    /// The attempt that held the Job when it was looked up.
    pub attempt: i32,
    /// The Job.
    pub job: ObjectUid,
    /// Where the Job is, as the API server tells it.
    pub job_name: ObjectName,
}

/// What an attempt may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Publish.
    Open(Account),
    /// Nothing more: it has published.
    Published,
    /// Nothing more: its file was refused for this reason.
    Refused {
        /// Why.
        reason: Reason,
        /// The same in a sentence.
        message: String,
    },
    /// Nothing: the scan has gone on without it, or was cancelled.
    Stale,
    /// Nothing: the account or its tenant is deleted.
    ProviderDeleted,
    /// Nothing: the Job of this uid is another one, elsewhere.
    NotItsJob,
}

/// The account that a file must be of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its provider.
    pub provider: ProviderId,
    /// Its type.
    pub kind: ProviderType,
    /// Its uid.
    pub uid: String,
}

/// What the rows say of a Job that no scan holds, by what its pod's labels claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrecorded {
    /// It is the Job planned for the scan's present attempt; its uid follows.
    NotYet,
    /// The scan has gone on to a later attempt, or has ended.
    NotAnyMore,
    /// No scan knows of it.
    Unknown,
}

/// Looks a Job up by what is claimed of it. Claims decide nothing: whatever comes of it, the
/// upload is refused for now. A scan of another namespace is not even spoken of.
pub async fn unrecorded(
    store: &Store,
    tenant: TenantId,
    scan: ScanId,
    attempt: i32,
    job: &ObjectName,
) -> Result<Unrecorded, StoreError> {
    let mut tx = store.tenant(tenant).await?;
    let row = sqlx::query!(
        "select attempt, state, job_uid, job_name from scans
         where tenant_id = $1 and id = $2 and job_namespace = $3",
        tenant.0,
        scan.0,
        job.namespace,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(match row {
        Some(row) if row.attempt > attempt => Unrecorded::NotAnyMore,
        Some(row)
            if row.attempt == attempt
                && row.job_name.as_deref() == Some(&job.name)
                && row.job_uid.is_none() =>
        {
            if row.state == "executing" {
                Unrecorded::NotYet
            } else {
                Unrecorded::NotAnyMore
            }
        }
        _ => Unrecorded::Unknown,
    })
}

/// The facts that decide what an attempt may do.
#[derive(Debug)]
struct Facts {
    state: String,
    is_deleted: bool,
    attempt: i32,
    published_attempt: Option<i32>,
    refused_attempt: Option<i32>,
    job: Option<uuid::Uuid>,
    job_namespace: Option<String>,
    job_name: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    provider_id: uuid::Uuid,
    provider: String,
    provider_uid: String,
    gone: bool,
}

/// What an attempt may do, and keeps so until the transaction ends.
pub(super) async fn locked(tx: &mut TenantTx, attempt: &Attempt) -> Result<Standing, StoreError> {
    let tenant = tx.tenant().0;
    // In the order of deletion: the provider, then its scan.
    sqlx::query!(
        "select p.id from scans s
         join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
         where s.tenant_id = $1 and s.id = $2 for share of p",
        tenant,
        attempt.scan.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    sqlx::query!(
        "select id from scans where tenant_id = $1 and id = $2 for update",
        tenant,
        attempt.scan.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    standing(tx, attempt).await
}

/// What an attempt may do at this moment; nothing is locked.
pub async fn standing(tx: &mut TenantTx, attempt: &Attempt) -> Result<Standing, StoreError> {
    let tenant = tx.tenant().0;
    let facts = sqlx::query_as!(
        Facts,
        r#"select s.state, s.is_deleted, s.attempt, s.published_attempt, s.refused_attempt,
             s.job_uid as job,
             s.job_namespace, s.job_name, s.reason, s.message, s.provider_id, p.provider,
             p.uid as provider_uid, (p.is_deleted or t.is_deleted) as "gone!"
           from scans s
           join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
           join tenants t on t.id = s.tenant_id
           where s.tenant_id = $1 and s.id = $2"#,
        tenant,
        attempt.scan.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    match facts {
        Some(facts) => judge(attempt, facts),
        None => Ok(Standing::Stale),
    }
}

fn judge(attempt: &Attempt, facts: Facts) -> Result<Standing, StoreError> {
    if facts.job != Some(attempt.job.0) || facts.attempt != attempt.attempt {
        return Ok(Standing::Stale);
    }
    if facts.job_namespace.as_deref() != Some(&attempt.job_name.namespace)
        || facts.job_name.as_deref() != Some(&attempt.job_name.name)
    {
        return Ok(Standing::NotItsJob);
    }
    if facts.published_attempt == Some(attempt.attempt) {
        return Ok(Standing::Published);
    }
    if facts.gone {
        return Ok(Standing::ProviderDeleted);
    }
    let reason = facts.reason.as_deref().and_then(Reason::from_name);
    if let (true, "executing", Some(reason)) = (
        facts.refused_attempt == Some(attempt.attempt),
        facts.state.as_str(),
        reason,
    ) {
        return Ok(Standing::Refused {
            reason,
            message: facts.message.unwrap_or_default(),
        });
    }
    Ok(match (facts.state.as_str(), reason) {
        ("executing", _) if !facts.is_deleted => Standing::Open(Account {
            provider: ProviderId(facts.provider_id),
            kind: ProviderType::from_name(&facts.provider).ok_or_else(|| {
                StoreError::inconsistent("providers", "provider", facts.provider_id)
            })?,
            uid: facts.provider_uid,
        }),
        (
            "failed",
            Some(
                reason @ (Reason::NoOutput
                | Reason::OutputTruncated
                | Reason::OutputUnreadable
                | Reason::OutputPoisoned
                | Reason::OutputTooLarge
                | Reason::WrongAccount),
            ),
        ) => Standing::Refused {
            reason,
            message: facts.message.unwrap_or_default(),
        },
        _ => Standing::Stale,
    })
}
