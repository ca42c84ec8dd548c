//! The time on which this machine and the database agree: what is decided of a due time stays decided.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::Context;
use crate::domain::clock::TOLERANCE;
use crate::store::StoreError;

/// How often it is told that the clocks differ.
const INTERVAL: Duration = Duration::from_mins(1);

/// What both clocks show, the earlier where they differ by more than [`TOLERANCE`]; `theirs` is the
/// database's. Whoever decides about due times asks anew: this machine may have slept since the last.
pub(super) async fn agreed(
    cx: &Context,
    theirs: impl Future<Output = Result<Timestamp, StoreError>>,
) -> Result<Timestamp, StoreError> {
    compare(cx, theirs).await?;
    Ok(cx.clock.now())
}

/// Holds the clocks against each other, before anything is decided.
pub(super) async fn compare_now(cx: &Context) -> Result<SignedDuration, StoreError> {
    let mut tx = cx.admin.begin().await?;
    compare(cx, tx.time()).await
}

/// By how much this machine's clock is ahead of the database's.
async fn compare(
    cx: &Context,
    theirs: impl Future<Output = Result<Timestamp, StoreError>>,
) -> Result<SignedDuration, StoreError> {
    let asked = Instant::now();
    let theirs = theirs.await?;
    let offset = cx.clock.compare(theirs, asked.elapsed());
    cx.metrics.schedules.clock_is_ahead_by(offset);
    Ok(offset)
}

/// Tells of clocks that differ, until dropped.
pub(super) async fn watch(cx: Arc<Context>) {
    loop {
        // Whether the database answers is told by those that need it.
        if let Ok(offset) = compare_now(&cx).await
            && offset.abs() > TOLERANCE
        {
            tell(offset);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn tell(offset: SignedDuration) {
    let seconds = offset.abs().as_secs();
    if offset.is_positive() {
        tracing::warn!(
            seconds,
            "this machine's clock is ahead of the database's, whose time counts until they agree: see \
             to the time synchronisation of the node and of the database's machine"
        );
    } else {
        tracing::warn!(
            seconds,
            "this machine's clock is behind the database's, and scans are late by as much: see to the \
             time synchronisation of the node and of the database's machine"
        );
    }
}
