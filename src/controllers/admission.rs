//! The admission loop: lets queued scans start as the limits leave room, and calls the passes
//! that make their Jobs. What it decides is in the database; being called twice is harmless.
//!
//! It also looks who waits for something else than before, and calls those passes: each says why its
//! scan waits ([`why`]). Ten thousand that wait for the same cost one look and no pass.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Context, ledger};
use crate::api::Scan;
use crate::domain::ids::{ScanId, TenantId};
use crate::domain::queue::{FAR, Running};
use crate::store::StoreError;
use crate::store::admin::admission::{self, holders, in_line, place_of};

/// Looks at least this often: retries come due without anybody ringing.
const INTERVAL: Duration = Duration::from_secs(2);
/// Between two looks at who waits for what; longer where a look takes long.
const EXPLAINED: Duration = Duration::from_secs(5);
/// Of the time a look takes.
const REST: u32 = 20;

/// Admits scans, and recounts those that are open, until dropped.
pub async fn run(cx: Arc<Context>) {
    tokio::join!(keep_admitting(&cx), ledger::run(&cx));
}

async fn keep_admitting(cx: &Context) {
    let mut line = Line::default();
    let mut next_look = Instant::now() + EXPLAINED;
    loop {
        if let Err(error) = admit(cx).await {
            tracing::warn!(%error, "no scan was admitted; trying again");
        }
        let begun = Instant::now();
        if begun >= next_look {
            if let Err(error) = line.explain(cx).await {
                tracing::warn!(%error, "who waits for what was not told; trying again");
            }
            next_look = Instant::now() + EXPLAINED.max(begun.elapsed() * REST);
        }
        let _ = tokio::time::timeout(INTERVAL, cx.wake.admission.notified()).await;
    }
}

/// Admits scans until there is no room or nobody left; how many.
pub async fn admit(cx: &Context) -> Result<usize, StoreError> {
    let limits = cx.config.scan_limits();
    let mut all = 0;
    loop {
        let admitted = admission::admit(&cx.admin, &limits, cx.clock.now()).await?;
        if admitted.is_empty() {
            return Ok(all);
        }
        all += admitted.len();
        for scan in admitted {
            tracing::info!(
                tenant = %scan.tenant, scan = %scan.scan, attempt = scan.attempt, "admitted"
            );
            cx.metrics.queue.admitted(scan.waited);
            cx.wake.call_named::<Scan>(&scan.name);
        }
    }
}

/// Why a scan waits, in a sentence. None: nothing stands in its way, or it waits no more.
pub async fn why(
    cx: &Context,
    tenant: TenantId,
    scan: ScanId,
) -> Result<Option<String>, StoreError> {
    let Some(waiting) = place_of(&cx.admin, tenant, scan, FAR, cx.clock.now()).await? else {
        return Ok(None);
    };
    let limits = cx.config.scan_limits();
    let holders = holders(&cx.admin).await?;
    Ok(Running::of(&holders, &limits).why(&waiting))
}

/// What everybody who waits was told, as a hash.
#[derive(Debug, Default)]
pub struct Line(HashMap<ScanId, u64>);

impl Line {
    /// Calls those who wait for something else than they were told; how many.
    pub async fn explain(&mut self, cx: &Context) -> Result<usize, StoreError> {
        let waiting = in_line(&cx.admin, cx.clock.now()).await?;
        let limits = cx.config.scan_limits();
        let holders = holders(&cx.admin).await?;
        let running = Running::of(&holders, &limits);
        let mut told = HashMap::with_capacity(waiting.len());
        let mut called = 0;
        for one in waiting {
            let before = self.0.get(&one.scan).copied();
            let now = running.why(&one).map(|sentence| {
                let mut hash = DefaultHasher::new();
                sentence.hash(&mut hash);
                hash.finish()
            });
            // Who starts in a moment is left with what he was told.
            let Some(now) = now.or(before) else { continue };
            told.insert(one.scan, now);
            if before != Some(now) {
                called += 1;
                cx.wake.call_named::<Scan>(&one.name);
            }
        }
        self.0 = told;
        Ok(called)
    }
}
