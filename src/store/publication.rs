//! Publication: the findings of one attempt, all of them or nothing, in one transaction.
//!
//! Whether the attempt may publish is looked at three times: before anything is read, again
//! once no other publication of the provider can run (an advisory lock), and with the scan's
//! row locked right before the commit. Only the last one decides; it keeps the row locked for
//! moments, so that a scan can be cancelled while its findings are on their way.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;

use super::findings::{self, Batch, Owner};
use super::scans::Counts;
use super::{Store, StoreError, TenantTx, partitions, past};
use crate::api::account::ProviderType;
use crate::domain::history::History;
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, TenantId};
use crate::domain::inventory::{Inventory, Tally};
use crate::domain::reason::Reason;

/// Most characters of a scan's message.
const MESSAGE_MAX: usize = 1024;

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

/// What began.
#[derive(Debug)]
pub enum Begun {
    /// A publication, and what is known of the account.
    Open(Box<Publication>, Account, History, Inventory),
    /// Nothing: this is why.
    Closed(Standing),
    /// Nothing yet: another publication of the account is running.
    Busy,
    /// Nothing yet: the month of the scan has no partition.
    MonthMissing,
}

/// A publication on its way; dropping it leaves no trace.
#[derive(Debug)]
pub struct Publication {
    tx: TenantTx,
    attempt: Attempt,
    owner: Owner,
}

/// What a whole file adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// For the scan's row.
    pub counts: Counts,
    /// Distinct pairs of resource and region.
    pub resources: i32,
    /// Records set aside.
    pub quarantined: i32,
}

/// What an attempt may do at this moment; nothing is locked.
pub async fn standing(tx: &mut TenantTx, attempt: &Attempt) -> Result<Standing, StoreError> {
    look(tx, attempt, false).await
}

impl Publication {
    /// Begins to publish, unless the attempt may not.
    pub async fn begin(
        store: &Store,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Result<Begun, StoreError> {
        let mut tx = store.tenant(attempt.tenant).await?;
        let account = match look(&mut tx, attempt, false).await? {
            Standing::Open(account) => account,
            closed => return Ok(Begun::Closed(closed)),
        };
        // Held until the transaction ends; fixes what "previous" means.
        let alone = sqlx::query_scalar!(
            r#"select pg_try_advisory_xact_lock(hashtextextended('prowler-operator publication ' || $1, 0))
               as "alone!""#,
            account.provider.to_string(),
        )
        .fetch_one(tx.conn())
        .await?;
        if !alone {
            return Ok(Begun::Busy);
        }
        // Whoever held the lock until now may have been another upload of this attempt.
        match look(&mut tx, attempt, false).await? {
            Standing::Open(_) => {}
            closed => return Ok(Begun::Closed(closed)),
        }
        if !partitions::month_exists(&mut tx, attempt.scan).await? {
            return Ok(Begun::MonthMissing);
        }
        let history = past::load_history(&mut tx, account.provider).await?;
        let inventory = past::load_inventory(&mut tx, account.provider).await?;
        findings::stage(&mut tx).await?;
        let owner = Owner {
            scan: attempt.scan,
            provider: account.provider,
            attempt: attempt.attempt,
            now,
        };
        let publication = Self {
            tx,
            attempt: attempt.clone(),
            owner,
        };
        Ok(Begun::Open(
            Box::new(publication),
            account,
            history,
            inventory,
        ))
    }

    /// Adds a batch.
    pub async fn add(&mut self, batch: Batch) -> Result<(), StoreError> {
        findings::insert_batch(&mut self.tx, &self.owner, batch).await
    }

    /// Completes the scan and commits. Anything but [`Standing::Published`] left no trace.
    ///
    /// After an error it is unknown whether the commit happened: look again.
    pub async fn finish(
        mut self,
        totals: &Totals,
        tallies: impl Iterator<Item = Tally>,
        history: History,
    ) -> Result<Standing, StoreError> {
        match look(&mut self.tx, &self.attempt, true).await? {
            Standing::Open(_) => {}
            closed => return Ok(closed),
        }
        findings::insert_staged(&mut self.tx, &self.owner, tallies).await?;
        past::save_history(&mut self.tx, self.owner.provider, history).await?;
        let counts = serde_json::to_value(totals.counts)
            .map_err(|_| StoreError::inconsistent("scans", "counts", self.attempt.scan))?;
        sqlx::query!(
            "update scans set state = 'completed', progress = 100, completed_at = $4,
               duration = extract(epoch from $4::timestamptz - coalesce(started_at, $4))::integer,
               unique_resource_count = $5, counts = $6, quarantined = $7,
               published_attempt = $3, reason = $8, message = null, updated_at = now()
             where tenant_id = $1 and id = $2 and attempt = $3",
            self.tx.tenant().0,
            self.attempt.scan.0,
            self.attempt.attempt,
            self.owner.now.to_sqlx() as _,
            totals.resources,
            counts,
            totals.quarantined,
            Reason::Completed.as_str(),
        )
        .execute(self.tx.conn())
        .await?;
        self.tx.commit().await?;
        Ok(Standing::Published)
    }
}

/// Ends the attempt as failed: its file is of no use. Answers where the attempt stands then,
/// which is something else than `Refused` when it was no longer open.
pub async fn refuse(
    store: &Store,
    attempt: &Attempt,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> Result<Standing, StoreError> {
    end(store, attempt, "failed", reason, message, now).await
}

/// Ends the attempt of an account that is deleted as cancelled.
pub async fn cancel_deleted(
    store: &Store,
    attempt: &Attempt,
    now: Timestamp,
) -> Result<(), StoreError> {
    let reason = Reason::ProviderDeleted;
    end(store, attempt, "cancelled", reason, reason.meaning(), now).await?;
    Ok(())
}

async fn end(
    store: &Store,
    attempt: &Attempt,
    state: &str,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> Result<Standing, StoreError> {
    let message: String = message.chars().take(MESSAGE_MAX).collect();
    let mut tx = store.tenant(attempt.tenant).await?;
    let standing = look(&mut tx, attempt, true).await?;
    let may = match standing {
        Standing::Open(_) => true,
        Standing::ProviderDeleted => state == "cancelled",
        _ => false,
    };
    if !may {
        return Ok(standing);
    }
    sqlx::query!(
        "update scans set state = $4, reason = $5, message = $6, completed_at = $7,
           duration = extract(epoch from $7::timestamptz - coalesce(started_at, $7))::integer,
           updated_at = now()
         where tenant_id = $1 and id = $2 and attempt = $3 and state = 'executing'",
        tx.tenant().0,
        attempt.scan.0,
        attempt.attempt,
        state,
        reason.as_str(),
        message,
        now.to_sqlx() as _,
    )
    .execute(tx.conn())
    .await?;
    tx.commit().await?;
    Ok(Standing::Refused { reason, message })
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

async fn look(tx: &mut TenantTx, attempt: &Attempt, lock: bool) -> Result<Standing, StoreError> {
    let tenant = tx.tenant().0;
    if lock {
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
    }
    let facts = sqlx::query_as!(
        Facts,
        r#"select s.state, s.is_deleted, s.attempt, s.published_attempt, s.job_uid as job,
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
                | Reason::OutputInvalid
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
