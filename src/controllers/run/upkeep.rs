//! What a leader does by the clock: reads the claims and the mirrors again, makes partitions
//! ahead, counts the queue, and casts the net under missed events.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::controllers::{Context, provider};
use crate::store::admin::admission;
use crate::store::{StoreError, partitions};

/// Reads the claims again every half minute: another leader may have written some.
pub(super) async fn follow_tenancy(cx: Arc<Context>, claimed: watch::Sender<Vec<String>>) {
    let mut interval = tokio::time::interval(Duration::from_secs(30));
    loop {
        tokio::select! {
            _ = interval.tick() => {
                if let Err(error) = provider::retell_namespaces(&cx).await {
                    tracing::warn!(%error, "the claims of namespaces were not read; trying again");
                }
            }
            () = cx.tenancy.changed() => {}
        }
        claimed.send_if_modified(|names| {
            let fresh = cx.tenancy.namespaces();
            let differs = *names != fresh;
            *names = fresh;
            differs
        });
    }
}

pub(super) async fn ensure_partitions(cx: &Context) -> Result<(), StoreError> {
    let months = u32::try_from(cx.config.partitions.months_ahead.max(1)).unwrap_or(1);
    partitions::ensure_months(&cx.admin, cx.clock.now(), months + 1)
        .await
        .map(drop)
}

pub(super) async fn keep_partitions(cx: Arc<Context>) {
    loop {
        tokio::time::sleep(Duration::from_hours(1)).await;
        if let Err(error) = ensure_partitions(&cx).await {
            tracing::warn!(%error, "partitions were not made ahead; trying again in an hour");
        }
    }
}

pub(super) async fn keep_mirrors(cx: Arc<Context>) {
    loop {
        tokio::time::sleep(Duration::from_mins(5)).await;
        if let Err(error) = cx.mirrors.load(&cx.admin).await {
            tracing::warn!(%error, "the stored providers were not read; trying again");
        }
    }
}

/// Counts the queue of scans for the metrics, about as often as they are asked for.
pub(super) async fn count_scans(cx: Arc<Context>) {
    let limit = cx.config.scan_limits().all.map_or(0, i64::from);
    loop {
        match admission::count(&cx.admin).await {
            Ok((waiting, active)) => cx.metrics.queue.set(waiting, active, limit),
            Err(error) => tracing::debug!(%error, "the queue of scans was not counted"),
        }
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
}

/// Minutes in which every object is looked at again, without any event.
const NET_MINUTES: u64 = 55;

/// The net under missed events. Calls by the clock, a few objects each minute, cost no memory; a
/// timer for each settled object would take more than what is stored of it.
pub(super) async fn cast_net(cx: Arc<Context>) {
    let minute = Duration::from_mins(1);
    for share in (0..NET_MINUTES).cycle() {
        tokio::time::sleep(minute).await;
        cx.wake.call_share(share, NET_MINUTES);
    }
}
