//! The Job of an attempt on the API server: made once, found again, watched by its pods, and
//! taken away with the account freed when its pod is gone.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, PostParams, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::{Api, Resource, ResourceExt};

use super::driver::is_not_found;
use super::error::Error;
use super::{Context, network, only};
use crate::api::{FIELD_MANAGER, labels};
use crate::dispatch::job::{QUEUE, SPEC_HASH};
use crate::dispatch::outcome;
use crate::domain::ids::{ObjectUid, TenantId};
use crate::store::scans::{self, JobRef, Open};

/// What became of making a Job.
#[derive(Debug, Clone)]
pub enum Made {
    /// It is there and it is the one planned.
    Ours(ObjectUid),
    /// Something else has its name.
    Foreign,
}

/// Makes the Job, or finds the one that an earlier pass made and whose answer was lost.
pub async fn make(cx: &Context, wanted: &Job) -> Result<Made, Error> {
    let namespace = wanted.namespace().unwrap_or_default();
    if cx.config.scanner.network_policy.enabled {
        // No pod runs where nothing bounds it: somebody may have taken the policy away.
        network::isolate(cx, &namespace).await?;
    }
    let api: Api<Job> = Api::namespaced(cx.client.clone(), &namespace);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, wanted).await {
        Ok(job) => Ok(Made::Ours(super::tenant::uid_of(&job)?)),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let Some(found) = api.get_opt(&wanted.name_any()).await? else {
                // Gone between the two calls: the next pass makes it.
                return Err(Error::Outdated);
            };
            Ok(if is_planned(&found, wanted) {
                Made::Ours(super::tenant::uid_of(&found)?)
            } else {
                Made::Foreign
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Labels and names can be forged by whoever may make Jobs; owner, hash and who wrote the spec
/// together cannot be had by accident, and by a forger only with the tenant's own findings.
fn is_planned(found: &Job, wanted: &Job) -> bool {
    let hash = |job: &Job| job.annotations().get(SPEC_HASH).cloned();
    is_ours(found)
        && found.metadata.deletion_timestamp.is_none()
        && hash(found) == hash(wanted)
        && owner(found) == owner(wanted)
}

/// Whether we wrote the spec: labels and names can be forged by whoever may make Jobs.
pub fn is_ours(job: &impl Resource) -> bool {
    job.meta().managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.operation.as_deref() == Some("Update")
    })
}

fn owner(job: &Job) -> Option<&str> {
    job.owner_references()
        .iter()
        .find(|o| o.controller == Some(true))
        .map(|o| o.uid.as_str())
}

/// The Job of an attempt, read live: an old copy could show one that was deleted.
pub async fn get(cx: &Context, job: &JobRef) -> Result<Option<Job>, Error> {
    let api: Api<Job> = Api::namespaced(cx.client.clone(), &job.name.namespace);
    let found = api.get_opt(&job.name.name).await?;
    Ok(found.filter(|found| {
        job.uid
            .is_none_or(|uid| found.uid() == Some(uid.to_string()))
    }))
}

/// The Jobs of scans, wherever the operator may read them.
pub async fn of_scans(cx: &Context) -> Result<Vec<PartialObjectMeta<Job>>, Error> {
    const PAGE: u32 = 500;
    let mut found = Vec::new();
    for api in cx.reach::<Job>() {
        let mut params = ListParams::default()
            .labels(&format!("{}={QUEUE}", labels::QUEUE))
            .limit(PAGE);
        loop {
            let page = api.list(&params).await?;
            found.extend(page.items);
            match page.metadata.continue_.filter(|more| !more.is_empty()) {
                Some(more) => params = params.continue_token(&more),
                None => break,
            }
        }
    }
    Ok(found)
}

/// The pods that belong to the Job by owner, whatever their labels say.
pub async fn pods(cx: &Context, namespace: &str, job: ObjectUid) -> Result<Vec<Pod>, Error> {
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), namespace);
    let params = ListParams::default().labels(&format!("batch.kubernetes.io/controller-uid={job}"));
    let found = api.list(&params).await?;
    let uid = job.to_string();
    Ok(found
        .items
        .into_iter()
        .filter(|pod| {
            pod.owner_references()
                .iter()
                .any(|o| o.controller == Some(true) && o.uid == uid)
        })
        .collect())
}

/// The newest event of this reason about the object of this uid: for what nothing but events says,
/// as why the Job controller could not make a pod.
pub async fn told(
    cx: &Context,
    namespace: &str,
    uid: &str,
    reason: &str,
) -> Result<Option<String>, Error> {
    let api: Api<Event> = Api::namespaced(cx.client.clone(), namespace);
    let params = ListParams::default().fields(&format!("regarding.uid={uid},reason={reason}"));
    let mut events = api.list(&params).await?.items;
    events.sort_by_key(|event| {
        event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0)
    });
    Ok(events.pop().and_then(|event| event.note))
}

/// Deletes the attempt's Job, if it still is the one meant, and frees the account once no pod
/// of it is left. Whether that is so now.
pub async fn end(cx: &Context, tenant: TenantId, open: &Open) -> Result<bool, Error> {
    if let Some(job) = &open.job {
        // Without a recorded uid the Job may have been made by a pass whose answer was lost; or
        // it is somebody else's, and the reason why this attempt ended.
        let uid = match job.uid {
            Some(uid) => Some(uid),
            None => get(cx, job)
                .await?
                .filter(|found| {
                    let object = open.object.map(|uid| uid.to_string());
                    is_ours(found) && owner(found) == object.as_deref()
                })
                .map(|found| super::tenant::uid_of(&found))
                .transpose()?,
        };
        if let Some(uid) = uid {
            delete(cx, job, uid).await?;
            let left = pods(cx, &job.name.namespace, uid).await?;
            let now = cx.clock.now();
            if !left.iter().all(|pod| outcome::is_given_up(pod, now)) {
                return Ok(false);
            }
            for pod in &left {
                tracing::warn!(
                    scan = %open.id, pod = pod.name_any(),
                    "freeing the account of a pod whose end nobody tells: its node is lost or stuck"
                );
                cx.metrics.pod_given_up();
            }
        }
    }
    let mut tx = cx.store.tenant(tenant).await?;
    scans::release(&mut tx, open.id, open.attempt).await?;
    let done = tx.commit().await;
    // Whatever the answer: the account may be free.
    cx.wake.admission.notify_one();
    done?;
    Ok(true)
}

/// Deletes this very Job; its pods go with it.
pub async fn delete(cx: &Context, job: &JobRef, uid: ObjectUid) -> Result<(), Error> {
    let api: Api<Job> = Api::namespaced(cx.client.clone(), &job.name.namespace);
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        // A later Job of the same name is safe from an old copy's order.
        ..only(Some(uid.to_string()))
    };
    match api.delete(&job.name.name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        // Another object has the name, or the API server was too busy with ours to delete it: a
        // Job that is left may still start its pod.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let this = JobRef {
                name: job.name.clone(),
                uid: Some(uid),
            };
            match get(cx, &this).await? {
                None => Ok(()),
                Some(_) => Err(Error::Outdated),
            }
        }
        Err(error) => Err(error.into()),
    }
}
