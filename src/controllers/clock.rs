//! This machine's clock held against the database's, before a due time is decided: what is decided
//! stays so.

use std::time::{Duration, Instant};

use jiff::SignedDuration;

use super::Context;
use crate::domain::clock::TOLERANCE;
use crate::store::StoreError;
use crate::store::admin::AdminTx;

/// How often it is told that the clocks differ.
const INTERVAL: Duration = Duration::from_mins(1);

/// Holds the clocks against each other: from here on, [`Context::clock`] shows no time that the
/// database's does not show too. Each act asks anew, for this machine may have slept since the last.
pub(super) async fn compare(cx: &Context, tx: &mut AdminTx) -> Result<SignedDuration, StoreError> {
    let asked = Instant::now();
    let theirs = tx.time().await?;
    let offset = cx.clock.compare(theirs, asked.elapsed());
    cx.metrics.schedules.clock_is_ahead_by(offset);
    Ok(offset)
}

/// The same outside an act; by how much this machine's clock is ahead of the database's.
pub(super) async fn compare_now(cx: &Context) -> Result<SignedDuration, StoreError> {
    compare(cx, &mut cx.admin.begin().await?).await
}

/// Tells of clocks that differ, until dropped.
pub(super) async fn watch(cx: std::sync::Arc<Context>) {
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
