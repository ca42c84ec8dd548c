//! Publication: the findings of one attempt, all of them or nothing, in one transaction.
//!
//! Whether the attempt may publish is looked at three times: before anything is read, again
//! once no other publication of the provider can run (an advisory lock), and with the scan's
//! row locked right before the commit. Only the last one decides; it keeps the row locked for
//! moments, so that a scan can be cancelled while its findings are on their way.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use uuid::Uuid;

use super::findings::{self, Batch, Owner};
use super::quarantine::{self, Quarantine};
use super::scans::Counts;
pub use super::spent::{Part, Spent};
pub use super::standing::{Account, Attempt, Standing, Unrecorded, standing, unrecorded};
use super::standing::{locked, standing as look};
use super::{Store, StoreError, TenantTx, partitions, past};
use crate::domain::history::History;
use crate::domain::inventory::{Inventory, Tally};
use crate::domain::reason::Reason;

/// Most characters of a scan's message.
const MESSAGE_MAX: usize = 1024;

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
    spent: Spent,
}

/// What a whole file adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// For the scan's row.
    pub counts: Counts,
    /// Distinct pairs of resource and region.
    pub resources: i32,
}

impl Publication {
    /// Begins to publish, unless the attempt may not.
    pub async fn begin(
        store: &Store,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Result<Begun, StoreError> {
        let mut spent = Spent::begin();
        let mut tx = store.tenant(attempt.tenant).await?;
        let account = match look(&mut tx, attempt).await? {
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
        match look(&mut tx, attempt).await? {
            Standing::Open(_) => {}
            closed => return Ok(Begun::Closed(closed)),
        }
        if !partitions::month_exists(&mut tx, attempt.scan).await? {
            return Ok(Begun::MonthMissing);
        }
        findings::stage(&mut tx).await?;
        spent.end(Part::Begin);
        let history = past::load_history(&mut tx, account.provider).await?;
        let inventory = past::load_inventory(&mut tx, account.provider).await?;
        spent.end(Part::Past);
        let owner = Owner {
            scan: attempt.scan,
            provider: account.provider,
            now,
        };
        let publication = Self {
            tx,
            attempt: attempt.clone(),
            owner,
            spent,
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
        self.spent.end(Part::Reading);
        findings::insert_batch(&mut self.tx, &self.owner, batch, &mut self.spent).await
    }

    /// Gives it up, and waits until the account is free for the next.
    pub async fn abandon(self) {
        // Where the connection is gone, so is the transaction.
        let _ = self.tx.abandon().await;
    }

    /// Takes back of findings that were added that they changed.
    pub async fn unchanged(&mut self, findings: &[Uuid]) -> Result<(), StoreError> {
        self.spent.end(Part::Reading);
        findings::set_unchanged(&mut self.tx, findings).await?;
        self.spent.end(Part::Findings);
        Ok(())
    }

    /// Completes the scan and commits, and says where the time went. Anything but
    /// [`Standing::Published`] left no trace.
    ///
    /// After an error it is unknown whether the commit happened: look again.
    pub async fn finish(
        mut self,
        totals: &Totals,
        quarantine: &Quarantine,
        tallies: impl Iterator<Item = Tally>,
        history: History,
    ) -> Result<(Standing, Spent), StoreError> {
        match locked(&mut self.tx, &self.attempt).await? {
            Standing::Open(_) => {}
            closed => return Ok((closed, self.spent)),
        }
        findings::insert_staged(&mut self.tx, &self.owner, tallies).await?;
        self.spent.end(Part::Resources);
        past::save_history(&mut self.tx, self.owner.provider, history).await?;
        self.spent.end(Part::History);
        let counts = serde_json::to_value(totals.counts)
            .map_err(|_| StoreError::inconsistent("scans", "counts", self.attempt.scan))?;
        sqlx::query!(
            "update scans set state = 'completed', progress = 100, completed_at = $4,
               duration = extract(epoch from $4::timestamptz - coalesce(started_at, $4))::integer,
               unique_resource_count = $5, counts = $6,
               published_attempt = $3, reason = $7, message = null, updated_at = now()
             where tenant_id = $1 and id = $2 and attempt = $3",
            self.tx.tenant().0,
            self.attempt.scan.0,
            self.attempt.attempt,
            self.owner.now.to_sqlx() as _,
            totals.resources,
            counts,
            Reason::Completed.as_str(),
        )
        .execute(self.tx.conn())
        .await?;
        let (scan, attempt) = (self.attempt.scan, self.attempt.attempt);
        quarantine::store(&mut self.tx, scan, attempt, quarantine).await?;
        self.tx.commit().await?;
        self.spent.end(Part::Commit);
        Ok((Standing::Published, self.spent))
    }
}

/// Ends the attempt: its file is of no use. The scan fails with it, unless the reason is worth
/// another attempt: then the controller has the last word, as for whatever else ends an attempt.
/// Answers where the attempt stands then, which is something else than `Refused` when it was no
/// longer open.
pub async fn refuse(
    store: &Store,
    attempt: &Attempt,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> Result<Standing, StoreError> {
    let state = if reason.is_retried_once() {
        "executing"
    } else {
        "failed"
    };
    let nothing = Quarantine::default();
    end(store, attempt, state, reason, message, &nothing, now).await
}

/// As [`refuse`], for what was set aside of the file: that is kept, so that it can be looked at.
pub async fn refuse_poisoned(
    store: &Store,
    attempt: &Attempt,
    message: &str,
    quarantine: &Quarantine,
    now: Timestamp,
) -> Result<Standing, StoreError> {
    let reason = Reason::OutputPoisoned;
    end(store, attempt, "failed", reason, message, quarantine, now).await
}

/// Ends the attempt of an account that is deleted as cancelled.
pub async fn cancel_deleted(
    store: &Store,
    attempt: &Attempt,
    now: Timestamp,
) -> Result<(), StoreError> {
    let reason = Reason::ProviderDeleted;
    let (message, nothing) = (reason.meaning(), Quarantine::default());
    end(store, attempt, "cancelled", reason, message, &nothing, now).await?;
    Ok(())
}

async fn end(
    store: &Store,
    attempt: &Attempt,
    state: &str,
    reason: Reason,
    message: &str,
    quarantine: &Quarantine,
    now: Timestamp,
) -> Result<Standing, StoreError> {
    let message: String = message.chars().take(MESSAGE_MAX).collect();
    let mut tx = store.tenant(attempt.tenant).await?;
    let standing = locked(&mut tx, attempt).await?;
    let may = match standing {
        Standing::Open(_) => true,
        Standing::ProviderDeleted => state == "cancelled",
        _ => false,
    };
    if !may {
        return Ok(standing);
    }
    sqlx::query!(
        "update scans set state = $4, reason = $5, message = $6,
           refused_attempt = case when $4 <> 'cancelled' then attempt else refused_attempt end,
           failed_attempts = case when $4 <> 'failed' then failed_attempts else failed_attempts
             || jsonb_build_object('attempt', attempt, 'reason', $5::text, 'at', $8::text) end,
           completed_at = case when $4 <> 'executing' then $7::timestamptz end,
           duration = case when $4 <> 'executing'
             then extract(epoch from $7::timestamptz - coalesce(started_at, $7))::integer end,
           updated_at = now()
         where tenant_id = $1 and id = $2 and attempt = $3 and state = 'executing'",
        tx.tenant().0,
        attempt.scan.0,
        attempt.attempt,
        state,
        reason.as_str(),
        message,
        now.to_sqlx() as _,
        now.to_string(),
    )
    .execute(tx.conn())
    .await?;
    quarantine::store(&mut tx, attempt.scan, attempt.attempt, quarantine).await?;
    tx.commit().await?;
    Ok(Standing::Refused { reason, message })
}
