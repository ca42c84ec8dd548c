//! The admission loop: lets queued scans start as the limits leave room, and calls the passes
//! that make their Jobs. What it decides is in the database; being called twice is harmless.
//!
//! It also looks who waits for something else than before, and calls those passes: each says why its
//! scan waits ([`why`]). Ten thousand that wait for the same cost one look and no pass.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Context, ledger};
use crate::api::Scan;
use crate::domain::ids::{ScanId, TenantId};
use crate::domain::queue::{FAR, Running};
use crate::store::StoreError;
use crate::store::admin::admission::{self, holders, in_line, place_of};
use crate::store::admin::ledger::holding;

/// Looks at least this often: retries come due without anybody ringing.
const INTERVAL: Duration = Duration::from_secs(2);
/// Between two turns of admission at least so many times what the one before took.
const BETWEEN: u32 = 4;
/// Between two looks at who waits for what; longer where a look takes long.
const EXPLAINED: Duration = Duration::from_secs(5);
/// As old may be what a pass says of those who run; the next look mends it.
const FRESH: Duration = Duration::from_millis(250);
/// Of the time a look takes.
const REST: u32 = 20;

/// Admits scans, and recounts those that are open, until dropped.
pub async fn run(cx: Arc<Context>) {
    tokio::join!(keep_admitting(&cx), ledger::run(&cx));
}

async fn keep_admitting(cx: &Context) {
    let mut next_look = Instant::now() + EXPLAINED;
    let mut is_sure = true;
    loop {
        let begun = Instant::now();
        match turn(cx, is_sure).await {
            Ok(()) => is_sure = true,
            Err(error) => {
                tracing::warn!(%error, "no scan was admitted; trying again");
                is_sure = false;
            }
        }
        let rest = (begun.elapsed() * BETWEEN).min(INTERVAL);
        let begun = Instant::now();
        if begun >= next_look {
            if let Err(error) = explain(cx).await {
                tracing::warn!(%error, "who waits for what was not told; trying again");
            }
            next_look = Instant::now() + EXPLAINED.max(begun.elapsed() * REST);
        }
        // Thousands that are queued one by one ring thousands of times.
        tokio::time::sleep(rest).await;
        let _ = tokio::time::timeout(INTERVAL, cx.wake.admission.notified()).await;
    }
}

/// Admits scans. Unless it `is_sure` what the turn before came to, its answer may have been lost: the
/// passes of those that were let in and have no Job are called.
pub async fn turn(cx: &Context, is_sure: bool) -> Result<(), StoreError> {
    // First: it waits for a transaction whose commit is still under way, which nobody sees before.
    admit(cx).await?;
    if !is_sure {
        for one in holding(&cx.admin).await? {
            if one.is_executing && one.scan.job.is_none() {
                cx.wake.call_named::<Scan>(&one.name);
            }
        }
    }
    Ok(())
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
        cx.line.look_anew();
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

/// Why a scan waits, in a sentence, which its pass is to tell. None: nothing stands in its way, or it
/// waits no more.
pub async fn why(
    cx: &Context,
    tenant: TenantId,
    scan: ScanId,
) -> Result<Option<String>, StoreError> {
    let Some(waiting) = place_of(&cx.admin, tenant, scan, FAR, cx.clock.now()).await? else {
        return Ok(None);
    };
    let why = cx.line.running(cx).await?.why(&waiting);
    if let Some(sentence) = &why {
        cx.line.told().insert(scan, hash(sentence));
    }
    Ok(why)
}

/// Calls those who wait for something else than they were told; how many.
pub async fn explain(cx: &Context) -> Result<usize, StoreError> {
    cx.line.look_anew();
    let waiting = in_line(&cx.admin, cx.clock.now()).await?;
    let running = cx.line.running(cx).await?;
    let mut told = cx.line.told();
    let before = std::mem::replace(&mut *told, HashMap::with_capacity(waiting.len()));
    let mut called = 0;
    for one in waiting {
        let before = before.get(&one.scan).copied();
        let now = running.why(&one).map(|sentence| hash(&sentence));
        // Who starts in a moment is left with what he was told.
        let Some(now) = now.or(before) else { continue };
        told.insert(one.scan, now);
        if before != Some(now) {
            called += 1;
            cx.wake.call_named::<Scan>(&one.name);
        }
    }
    Ok(called)
}

fn hash(sentence: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    sentence.hash(&mut hash);
    hash.finish()
}

/// What those who wait were told, and who runs: what a pass over one of them needs to say why.
#[derive(Debug, Default)]
pub struct Line {
    /// Hashes of sentences. What a pass told is kept too: it may have looked at another moment.
    told: Mutex<HashMap<ScanId, u64>>,
    running: tokio::sync::Mutex<Option<(Instant, Arc<Running>)>>,
    is_outdated: AtomicBool,
}

impl Line {
    fn told(&self) -> MutexGuard<'_, HashMap<ScanId, u64>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who runs, as of [`FRESH`] ago at most: thousands that are queued at once ask one by one.
    async fn running(&self, cx: &Context) -> Result<Arc<Running>, StoreError> {
        let mut kept = self.running.lock().await;
        // Before it is read: what happens meanwhile has it read again.
        let is_outdated = self.is_outdated.swap(false, Ordering::Relaxed);
        if let Some((at, running)) = &*kept
            && at.elapsed() < FRESH
            && !is_outdated
        {
            return Ok(running.clone());
        }
        *kept = None;
        let holders = holders(&cx.admin).await?;
        let running = Arc::new(Running::of(holders, cx.config.scan_limits()));
        *kept = Some((Instant::now(), running.clone()));
        Ok(running)
    }

    /// Others run than before: whoever asks next is to know.
    pub fn look_anew(&self) {
        self.is_outdated.store(true, Ordering::Relaxed);
    }
}
