//! The loop that lets connection checks in: so many at once, and calls the passes that make their
//! Jobs. What it decides is in the database; being called twice is harmless.

use std::sync::Arc;
use std::time::Duration;

use super::Context;
use crate::api::Provider;
use crate::store::StoreError;
use crate::store::admin::checks;

/// Looks at least this often: checks come due without anybody ringing.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks at most this often: each of ten thousand new Providers rings.
const PAUSE: Duration = Duration::from_millis(250);

/// Lets checks in until dropped.
pub async fn run(cx: Arc<Context>) {
    loop {
        if let Err(error) = admit(&cx).await {
            tracing::warn!(%error, "no connection check was let in; trying again");
        }
        tokio::time::sleep(PAUSE).await;
        let _ = tokio::time::timeout(INTERVAL, cx.wake.checks.notified()).await;
    }
}

/// Lets in as many as there is room for; how many that were.
pub async fn admit(cx: &Context) -> Result<u64, StoreError> {
    let parallelism = cx.config.connection_checks.parallelism;
    let admitted = checks::admit(&cx.admin, parallelism, cx.clock.now()).await?;
    for check in &admitted.without_job {
        // A pass that finds everything settled looks no further.
        cx.mirrors.forget_row(check.provider);
        cx.wake.call_named::<Provider>(&check.name);
    }
    Ok(admitted.count)
}
