//! The ledger of accounts and schedules, recounted against what there is: whoever sees to a scan is the
//! pass over its object, and whatever keeps one from coming — an object that went without its
//! finalizer, a cluster restored, a call that was lost — would keep an account, and a place in the
//! queue, for ever. What the rows say and what the cluster has are compared on a timer; each
//! difference is put right, counted by its kind and told in an event.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::time::Duration;

use k8s_controller::events::EventType;
use k8s_openapi::api::batch::v1::Job;
use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::error::Error;
use super::wake::Wakes;
use super::{Context, HasApi, is_there, jobs};
use crate::api::scan::ScanSpec;
use crate::api::{Scan, ScanSchedule};
use crate::domain::ids::{ObjectName, ObjectUid, ScanId};
use crate::domain::reason::Reason;
use crate::metrics::queue::Repair;
use crate::store::admin::ledger::{self, Armed, Entry, Holding};
use crate::store::scans::JobRef;
use crate::store::{scans, schedules};

/// Counts this often.
const INTERVAL: Duration = Duration::from_mins(1);
/// The Jobs for the first time so soon.
const FIRST: Duration = Duration::from_secs(10);
/// A row that was written since is left alone: its object may just have come, or come back; so is a
/// Job as young as that.
const PATIENCE: Duration = Duration::from_mins(5);
/// A Job that is not there is missed after this, where nothing was written since.
const MISSED: Duration = Duration::from_mins(1);
/// An attempt may be so long without a Job: it gives itself up after ten minutes.
const PLANNING: Duration = Duration::from_mins(11);

/// Recounts until dropped.
pub async fn run(cx: &Context) {
    let mut ledger = Ledger::default();
    tokio::time::sleep(FIRST).await;
    let mut counted = ledger.recount_jobs(cx).await;
    loop {
        if let Err(error) = counted {
            tracing::warn!(%error, "the scans that are open were not recounted; trying again");
        }
        // Before objects are missed, the watch has shown what there is: nobody else need be asked.
        tokio::time::sleep(INTERVAL).await;
        counted = ledger.recount(cx).await;
    }
}

/// What was put right, so that it is counted once.
#[derive(Debug, Default)]
pub struct Ledger {
    told: HashSet<(ScanId, i32, Repair)>,
}

impl Ledger {
    /// Puts right what differs; what that was.
    pub async fn recount(&mut self, cx: &Context) -> Result<Vec<Repair>, Error> {
        let mut repairs = Vec::new();
        orphans(cx, &mut repairs).await?;
        repairs.extend(self.recount_jobs(cx).await?);
        Ok(repairs)
    }

    /// The same of Jobs alone.
    async fn recount_jobs(&mut self, cx: &Context) -> Result<Vec<Repair>, Error> {
        let mut repairs = Vec::new();
        let live = live_jobs(cx).await?;
        // After the Jobs: one that is made and recorded in between is among the rows.
        let holding = ledger::holding(&cx.admin).await?;
        self.told = self.hold_to(&holding, &live, cx, &mut repairs).await;
        unowned(&holding, &live, cx, &mut repairs).await;
        Ok(repairs)
    }

    /// Calls the passes of scans that wait for what has gone.
    async fn hold_to(
        &self,
        holding: &[Holding],
        live: &HashMap<String, PartialObjectMeta<Job>>,
        cx: &Context,
        repairs: &mut Vec<Repair>,
    ) -> HashSet<(ScanId, i32, Repair)> {
        let mut found = HashSet::new();
        for one in holding {
            let Some(repair) = differs(one, live) else {
                continue;
            };
            let this = (one.scan.id, one.scan.attempt, repair);
            found.insert(this);
            cx.wake.call_named::<Scan>(&one.name);
            if self.told.contains(&this) {
                continue;
            }
            put_right(repair, repairs, cx);
            tracing::warn!(
                tenant = %one.tenant, scan = %one.scan.id, attempt = one.scan.attempt,
                repair = repair.as_str(), "the ledger differs from the cluster"
            );
            let note = match repair {
                Repair::JobLost => "Its Job is gone from the cluster.",
                Repair::AttemptWithoutJob => "It was let in, and has no Job.",
                _ => "It has ended, and still holds its account.",
            };
            tell(one, note, cx).await;
        }
        found
    }
}

/// Counts what was put right.
fn put_right(repair: Repair, repairs: &mut Vec<Repair>, cx: &Context) {
    cx.metrics.queue.repaired(repair);
    repairs.push(repair);
}

/// How a scan that holds an account differs from what the cluster has of it.
fn differs(one: &Holding, live: &HashMap<String, PartialObjectMeta<Job>>) -> Option<Repair> {
    let uid = one.scan.job.as_ref().and_then(|job| job.uid);
    if uid.is_some_and(|uid| live.contains_key(&uid.to_string())) {
        return None;
    }
    let (repair, patience) = match (one.is_executing, uid) {
        (true, Some(_)) => (Repair::JobLost, MISSED),
        (true, None) => (Repair::AttemptWithoutJob, PLANNING),
        (false, _) => (Repair::AccountKept, PATIENCE),
    };
    (one.quiet >= patience).then_some(repair)
}

async fn tell(one: &Holding, note: &str, cx: &Context) {
    let mut scan = Scan::new(&one.name.name, ScanSpec::default());
    scan.metadata.namespace = Some(one.name.namespace.clone());
    scan.metadata.uid = one.scan.object.map(|uid| uid.to_string());
    cx.tell(&scan, EventType::Normal, Reason::Recounted, "Recount", note)
        .await;
}

/// Every Job of a scan that the operator may read, by its uid.
async fn live_jobs(cx: &Context) -> Result<HashMap<String, PartialObjectMeta<Job>>, Error> {
    let mut live = HashMap::new();
    for job in jobs::of_scans(cx).await? {
        if let Some(uid) = job.uid() {
            live.insert(uid, job);
        }
    }
    Ok(live)
}

/// Deletes Jobs that we made and that no scan knows: their pods would run beside those of others.
async fn unowned(
    holding: &[Holding],
    live: &HashMap<String, PartialObjectMeta<Job>>,
    cx: &Context,
    repairs: &mut Vec<Repair>,
) {
    let known: HashSet<_> = holding
        .iter()
        .filter_map(|one| Some(one.scan.job.as_ref()?.uid?.to_string()))
        .collect();
    // Made, and not recorded yet.
    let planned: HashSet<_> = holding
        .iter()
        .filter_map(|one| one.scan.job.as_ref())
        .map(|job| &job.name)
        .collect();
    for (uid, job) in live {
        let name = ObjectName {
            namespace: job.namespace().unwrap_or_default(),
            name: job.name_any(),
        };
        let age = job
            .creation_timestamp()
            .map(|made| cx.clock.now().duration_since(made.0))
            .and_then(|age| Duration::try_from(age).ok())
            .unwrap_or_default();
        let is_foreign = cx.tenancy.of(&name.namespace).is_none() || !jobs::is_ours(job);
        if known.contains(uid)
            || planned.contains(&name)
            || age < PATIENCE
            || is_foreign
            || job.meta().deletion_timestamp.is_some()
        {
            continue;
        }
        let Ok(uid) = uid.parse().map(ObjectUid) else {
            continue;
        };
        tracing::warn!(job = %name, "deleting a Job that no scan knows");
        let this = JobRef {
            name: name.clone(),
            uid: Some(uid),
        };
        match jobs::delete(cx, &this, uid).await {
            Ok(()) => {
                put_right(Repair::JobWithoutScan, repairs, cx);
                let mut gone = Job::default();
                gone.metadata.clone_from(&job.metadata);
                let note = "No scan knows this Job; it was deleted.";
                cx.tell(&gone, EventType::Normal, Reason::Recounted, "Recount", note)
                    .await;
            }
            Err(error) => tracing::warn!(job = %name, %error, "a Job was not deleted"),
        }
    }
}

/// Ends the open scans and retires the schedules whose objects are gone; frees the accounts of those
/// scans once no pod is left.
async fn orphans(cx: &Context, repairs: &mut Vec<Repair>) -> Result<(), Error> {
    let seen = seen::<Scan>(cx);
    let mut namespaces = BTreeSet::new();
    for entry in ledger::entries(&cx.admin, PATIENCE).await? {
        let (scan, object) = (entry.scan.id, entry.name.clone());
        match settle(entry, &seen, &mut namespaces, cx).await {
            Ok(true) => put_right(Repair::ScanWithoutObject, repairs, cx),
            Ok(false) => {}
            // One namespace that cannot be read must not keep the accounts of others.
            Err(error) => tracing::warn!(%scan, %object, %error, "a scan was not recounted"),
        }
    }
    // One of them may count what was ended.
    let namespaces: Vec<_> = namespaces.into_iter().collect();
    cx.wake.call_all::<ScanSchedule>(&namespaces);
    let seen = self::seen::<ScanSchedule>(cx);
    for armed in ledger::schedules(&cx.admin).await? {
        let object = armed.name.clone();
        match retire(armed, &seen, cx).await {
            Ok(true) => put_right(Repair::ScheduleWithoutObject, repairs, cx),
            Ok(false) => {}
            Err(error) => tracing::warn!(%object, %error, "a schedule was not recounted"),
        }
    }
    Ok(())
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
        name,
        object,
    } = armed;
    if is_known::<ScanSchedule>(object, &name, seen, cx).await? {
        return Ok(false);
    }
    tracing::warn!(%tenant, object = %name, "retiring a schedule whose object is gone");
    let mut tx = cx.store.tenant(tenant).await?;
    let retired = schedules::retire(&mut tx, object).await?;
    tx.commit().await?;
    Ok(retired)
}

/// Ends the scan if its object is gone, and notes where; whether that freed its account.
async fn settle(
    entry: Entry,
    seen: &HashSet<String>,
    ended: &mut BTreeSet<String>,
    cx: &Context,
) -> Result<bool, Error> {
    let Entry { tenant, scan, name } = entry;
    if let Some(object) = scan.object
        && is_known::<Scan>(object, &name, seen, cx).await?
    {
        return Ok(false);
    }
    tracing::warn!(%tenant, scan = %scan.id, object = %name, "ending a scan whose object is gone");
    let why = "Its Scan object is gone.";
    let mut tx = cx.store.tenant(tenant).await?;
    if scans::cancel(&mut tx, scan.id, Reason::Cancelled, why, cx.clock.now()).await? {
        // Before the answer, which may be lost: nobody finds the scan again.
        ended.insert(name.namespace);
    }
    tx.commit().await?;
    if !jobs::end(cx, tenant, &scan).await? {
        return Ok(false);
    }
    let mut tx = cx.store.tenant(tenant).await?;
    scans::detach(&mut tx, scan.id).await?;
    tx.commit().await?;
    Ok(true)
}

/// Whether this very object is there: in what the watch has shown, or else by asking.
async fn is_known<K: Wakes + HasApi + DeserializeOwned + Debug>(
    object: ObjectUid,
    name: &ObjectName,
    seen: &HashSet<String>,
    cx: &Context,
) -> Result<bool, Error> {
    let uid = object.to_string();
    Ok(seen.contains(&uid) || is_there::<K>(cx, Some(&name.namespace), &name.name, &uid).await?)
}
