//! The ledger of accounts and schedules, recounted: a scan holds its account until its pod is gone, and whoever
//! sees to that is the pass over its object. Where the object went without being asked for — its
//! finalizer taken off by hand, a cluster restored — no pass ever comes, and this does it.

use std::collections::HashSet;
use std::time::Duration;

use kube::ResourceExt;

use super::error::Error;
use super::wake::Wakes;
use super::{Context, is_there, jobs};
use crate::api::{Scan, ScanSchedule};
use crate::domain::ids::ObjectName;
use crate::domain::reason::Reason;
use crate::store::admin::ledger::{self, Armed, Entry};
use crate::store::{scans, schedules};

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

/// Ends the open scans and retires the schedules whose objects are gone; frees the accounts of those
/// scans once no pod is left. How many accounts were freed and schedules retired.
pub async fn recount(cx: &Context) -> Result<usize, Error> {
    let seen = seen::<Scan>(cx);
    let mut repaired = 0;
    for entry in ledger::entries(&cx.admin, PATIENCE).await? {
        let (scan, object) = (entry.scan.id, entry.name.clone());
        match settle(entry, &seen, cx).await {
            Ok(true) => repaired += 1,
            Ok(false) => {}
            // One namespace that cannot be read must not keep the accounts of others.
            Err(error) => tracing::warn!(%scan, %object, %error, "a scan was not recounted"),
        }
    }
    let seen = self::seen::<ScanSchedule>(cx);
    for armed in ledger::schedules(&cx.admin).await? {
        let object = armed.name.clone();
        match retire(armed, &seen, cx).await {
            Ok(true) => repaired += 1,
            Ok(false) => {}
            Err(error) => tracing::warn!(%object, %error, "a schedule was not recounted"),
        }
    }
    Ok(repaired)
}

/// The uids of the objects that the watch has shown.
fn seen<K: Wakes>(cx: &Context) -> HashSet<String> {
    let known = cx.wake.known::<K>().unwrap_or_default();
    known.iter().filter_map(|object| object.uid()).collect()
}

/// Claims nothing more for a schedule whose object is gone; whether it is.
async fn retire(armed: Armed, seen: &HashSet<String>, cx: &Context) -> Result<bool, Error> {
    let Armed {
        tenant,
        name: ObjectName { namespace, name },
        object,
    } = armed;
    let uid = object.to_string();
    if seen.contains(&uid) || is_there::<ScanSchedule>(cx, Some(&namespace), &name, &uid).await? {
        return Ok(false);
    }
    tracing::warn!(%tenant, namespace, object = name, "retiring a schedule whose object is gone");
    let mut tx = cx.store.tenant(tenant).await?;
    let retired = schedules::retire(&mut tx, object).await?;
    tx.commit().await?;
    Ok(retired)
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
