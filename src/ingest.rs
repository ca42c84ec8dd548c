//! OCSF as a stream of findings, and the rows they become.
//!
//! [`spool`] holds a compressed body on disk; [`publish`] reads it as a stream (`reader`,
//! `json`, `record`), makes of each record what the tables hold (`proof`, `finding`, `check`, `mask`,
//! `assembly`) and gives the rows to `store::publication` in batches: parsing and inserting go
//! on at the same time, and nothing is held but the present batches and what is known of the
//! account.

mod assembly;
mod check;
mod extent;
mod fault;
mod finding;
#[cfg(test)]
mod fuzz;
mod json;
mod lenient;
mod mask;
mod proof;
mod reader;
mod record;
pub mod spool;
mod text;

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use self::assembly::{Assembled, Assembly, Task};
use self::fault::Fault;
use self::spool::Spooled;
use crate::domain::clock::Clock;
use crate::domain::reason::Reason;
use crate::store::publication::{self, Attempt, Begun, Publication, Spent, Standing};
use crate::store::{Store, StoreError};

/// What came of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Published by this call.
    Published(Published),
    /// Not open: published before, refused, stale, or its account is deleted.
    Closed(Standing),
    /// Not now.
    Later(Wait),
}

/// What was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Findings.
    pub findings: i64,
    /// Records set aside.
    pub quarantined: u64,
    /// Where the time went, from the side of the database.
    pub spent: Spent,
    /// How long it took to read the file, without waiting for the database.
    pub reading: Duration,
}

/// What stands in the way for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Another publication of the account.
    Busy,
    /// The month of the scan has no partition yet.
    MonthMissing,
    /// The spool could not be read.
    Spool,
}

/// Publishes a spooled file as the findings of an attempt, or ends the attempt because of it.
///
/// Harmless to repeat after any error: what has been published is not published again.
pub async fn publish(
    store: &Store,
    clock: &dyn Clock,
    attempt: &Attempt,
    spooled: Spooled,
) -> Result<Outcome, StoreError> {
    let now = clock.now();
    let (publication, account, history, inventory) =
        match Publication::begin(store, attempt, now).await? {
            Begun::Open(publication, account, history, inventory) => {
                (publication, account, history, inventory)
            }
            Begun::Closed(standing) => return Ok(Outcome::Closed(standing)),
            Begun::Busy => return Ok(Outcome::Later(Wait::Busy)),
            Begun::MonthMissing => return Ok(Outcome::Later(Wait::MonthMissing)),
        };
    let task = Task {
        tenant: attempt.tenant,
        scan: attempt.scan,
        account,
        now: now.as_microsecond(),
        seed: clock.uuid7().as_u64_pair().1,
    };
    // One batch waits while one is inserted and one is made.
    let (sender, batches) = mpsc::channel(1);
    let mut spooled = spooled;
    let parsing = tokio::task::spawn_blocking(move || {
        let (begun, mut waited) = (Instant::now(), Duration::ZERO);
        let assembly = Assembly::new(task, history, inventory, |batch| {
            let made = Instant::now();
            let taken = sender.blocking_send(batch).is_ok();
            waited += made.elapsed();
            taken
        });
        let assembled = assembly.run(&mut spooled);
        assembled.map(|assembled| (assembled, begun.elapsed().saturating_sub(waited)))
    });
    let (publication, inserted) = insert(publication, batches).await;
    let assembled = parsing
        .await
        .unwrap_or_else(|error| Err(Fault::Disk(std::io::Error::other(error))));
    inserted?;
    match assembled {
        Ok((assembled, reading)) => complete(*publication, assembled, reading).await,
        Err(Fault::File(reason, message)) => {
            // What was inserted goes first: it may be much.
            publication.abandon().await;
            refuse(store, attempt, reason, &message, now).await
        }
        Err(Fault::Poisoned(message, quarantine)) => {
            publication.abandon().await;
            publication::refuse_poisoned(store, attempt, &message, &quarantine, now)
                .await
                .map(Outcome::Closed)
        }
        Err(fault @ (Fault::Disk(_) | Fault::Stopped)) => {
            tracing::warn!(scan = %attempt.scan, %fault, "the spooled file could not be read");
            Ok(Outcome::Later(Wait::Spool))
        }
    }
}

/// Ends an attempt without reading its file: for files that were not even taken.
pub async fn refuse(
    store: &Store,
    attempt: &Attempt,
    reason: Reason,
    message: &str,
    now: jiff::Timestamp,
) -> Result<Outcome, StoreError> {
    publication::refuse(store, attempt, reason, message, now)
        .await
        .map(Outcome::Closed)
}

async fn insert(
    mut publication: Box<Publication>,
    mut batches: mpsc::Receiver<crate::store::findings::Batch>,
) -> (Box<Publication>, Result<(), StoreError>) {
    while let Some(batch) = batches.recv().await {
        if let Err(error) = publication.add(batch).await {
            return (publication, Err(error));
        }
    }
    (publication, Ok(()))
}

async fn complete(
    mut publication: Publication,
    assembled: Assembled,
    reading: Duration,
) -> Result<Outcome, StoreError> {
    let Assembled {
        totals,
        unchanged,
        quarantine,
        history,
        inventory,
    } = assembled;
    publication.unchanged(&unchanged).await?;
    let (standing, spent) = publication
        .finish(&totals, &quarantine, inventory.tallies(), history)
        .await?;
    Ok(match standing {
        Standing::Published => Outcome::Published(Published {
            findings: totals.counts.total,
            quarantined: quarantine.count(),
            spent,
            reading,
        }),
        closed => Outcome::Closed(closed),
    })
}
