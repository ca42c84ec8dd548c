//! The admission loop: lets queued scans start as the limits leave room, and calls the passes
//! that make their Jobs. What it decides is in the database; being called twice is harmless.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, ledger};
use crate::api::Scan;
use crate::store::admin::admission;

/// Looks at least this often: retries come due without anybody ringing.
const INTERVAL: Duration = Duration::from_secs(2);

/// Admits scans, and recounts those that are open, until dropped.
pub async fn run(cx: Arc<Context>) {
    tokio::join!(admit(&cx), ledger::run(&cx));
}

async fn admit(cx: &Context) {
    loop {
        let limit = cx.config.queues.scans.max_concurrent;
        match admission::admit(&cx.admin, limit, cx.clock.now()).await {
            Ok(admitted) => {
                for scan in admitted {
                    tracing::info!(
                        tenant = %scan.tenant, scan = %scan.scan, attempt = scan.attempt, "admitted"
                    );
                    cx.wake.call_named::<Scan>(&scan.name);
                }
            }
            Err(error) => tracing::warn!(%error, "no scan was admitted; trying again"),
        }
        let _ = tokio::time::timeout(INTERVAL, cx.wake.admission.notified()).await;
    }
}
