//! The ledger of accounts, recounted: a scan holds its account until its pod is gone, and whoever
//! sees to that is the pass over its object. Where the object went without being asked for — its
//! finalizer taken off by hand, a cluster restored — no pass ever comes, and this does it.

use std::collections::HashSet;
use std::time::Duration;

use kube::ResourceExt;

use super::error::Error;
use super::{Context, is_there, jobs};
use crate::api::Scan;
use crate::domain::ids::ObjectName;
use crate::domain::reason::Reason;
use crate::store::admin::ledger::{self, Entry};
use crate::store::scans;

/// Counts this often.
const INTERVAL: Duration = Duration::from_mins(1);
/// A row that was written since is left alone: its object may just have come, or come back.
const PATIENCE: Duration = Duration::from_mins(5);

/// Recounts until dropped.
pub async fn run(cx: &Context) {
    loop {
        // First: by then the watch has shown what there is, and nobody else need be asked.
        tokio::time::sleep(INTERVAL).await;
        if let Err(error) = recount(cx).await {
            tracing::warn!(%error, "the scans that are open were not recounted; trying again");
        }
    }
}

/// Ends the open scans whose objects are gone, and frees their accounts once no pod is left; how
/// many were freed.
pub async fn recount(cx: &Context) -> Result<usize, Error> {
    let seen: HashSet<String> = cx
        .wake
        .known::<Scan>()
        .unwrap_or_default()
        .iter()
        .filter_map(|object| object.uid())
        .collect();
    let mut freed = 0;
    for entry in ledger::entries(&cx.admin, PATIENCE).await? {
        let (scan, object) = (entry.scan.id, entry.name.clone());
        match settle(entry, &seen, cx).await {
            Ok(true) => freed += 1,
            Ok(false) => {}
            // One namespace that cannot be read must not keep the accounts of others.
            Err(error) => tracing::warn!(%scan, %object, %error, "a scan was not recounted"),
        }
    }
    Ok(freed)
}

/// Ends the scan if its object is gone; whether that freed its account.
async fn settle(entry: Entry, seen: &HashSet<String>, cx: &Context) -> Result<bool, Error> {
    if has_object(&entry, seen, cx).await? {
        return Ok(false);
    }
    let Entry { tenant, scan, name } = entry;
    tracing::warn!(%tenant, scan = %scan.id, object = %name, "ending a scan whose object is gone");
    let why = "Its Scan object is gone.";
    let mut tx = cx.store.tenant(tenant).await?;
    scans::cancel(&mut tx, scan.id, Reason::Cancelled, why, cx.clock.now()).await?;
    tx.commit().await?;
    if !jobs::end(cx, tenant, &scan).await? {
        return Ok(false);
    }
    let mut tx = cx.store.tenant(tenant).await?;
    scans::detach(&mut tx, scan.id).await?;
    tx.commit().await?;
    cx.metrics.scan_recounted();
    Ok(true)
}

/// Whether the scan's very object is there: in what the watch has shown, or else by asking.
async fn has_object(entry: &Entry, seen: &HashSet<String>, cx: &Context) -> Result<bool, Error> {
    let Some(uid) = entry.scan.object.map(|object| object.to_string()) else {
        return Ok(false);
    };
    let ObjectName { namespace, name } = &entry.name;
    Ok(seen.contains(&uid) || is_there::<Scan>(cx, Some(namespace), name, &uid).await?)
}
