//! Who uploads: from a token, by way of the live pod and its Job, to an attempt of a scan.
//!
//! The API server vouches for the token and the pod, our row for the Job. Labels and owner
//! references can be written by whoever may create pods, so an owner reference counts only if
//! the row holds a Job of that uid, name and namespace; labels never let anybody in, they only
//! tell "not yet" from "not any more" among those who are refused.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::PostParams;
use kube::{Api, Client};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::answer::Answer;
use crate::api::labels;
use crate::domain::ids::{ObjectName, ObjectUid, ScanId, TenantId};
use crate::store::publication::{self, Attempt, Unrecorded};
use crate::store::{Store, StoreError};

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Why the caller is not known, or not now.
#[derive(Debug)]
pub(super) enum Refusal {
    Answer(Answer),
    Store(StoreError),
}

impl From<Answer> for Refusal {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The attempt whose pod holds this token.
pub(super) async fn identify(
    client: &Client,
    store: &Store,
    audience: &str,
    token: &SecretString,
) -> Result<Attempt, Refusal> {
    let user = review(client, audience, token).await?;
    let claimed =
        claimed_pod(&user).ok_or_else(|| Answer::no_scan_pod("The token is bound to no pod."))?;
    let pod = live_pod(client, &claimed).await?;
    let (job, job_name) =
        job(&pod).ok_or_else(|| Answer::no_scan_pod("The pod belongs to no Job."))?;
    let job_name = ObjectName {
        namespace: claimed.namespace,
        name: job_name,
    };
    if let Some(found) = store.scan_of_job(job).await? {
        return Ok(Attempt {
            tenant: found.tenant,
            scan: found.scan,
            attempt: found.attempt,
            job,
            job_name,
        });
    }
    Err(unrecorded(store, &pod, &job_name).await?.into())
}

/// Asks the API server whose token this is.
async fn review(
    client: &Client,
    audience: &str,
    token: &SecretString,
) -> Result<UserInfo, Refusal> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            audiences: Some(vec![audience.to_owned()]),
            token: token.expose_secret().to_owned(),
        },
        ..TokenReview::default()
    };
    let answered = Api::<TokenReview>::all(client.clone())
        .create(&PostParams::default(), &review)
        .await
        .map_err(|error| unavailable("TokenReview", &error))?;
    let status = answered.status.unwrap_or_default();
    // An authenticator that does not know of audiences answers without any.
    let for_us = status
        .audiences
        .unwrap_or_default()
        .iter()
        .any(|granted| granted == audience);
    match status.user {
        Some(user) if status.authenticated == Some(true) && for_us => Ok(user),
        _ => Err(Answer::unknown_token("The token is not valid for this server.").into()),
    }
}

/// The pod a token is bound to.
#[derive(Debug, PartialEq, Eq)]
struct ClaimedPod {
    namespace: String,
    name: String,
    uid: String,
}

fn claimed_pod(user: &UserInfo) -> Option<ClaimedPod> {
    let account = user
        .username
        .as_deref()?
        .strip_prefix("system:serviceaccount:")?;
    let (namespace, _) = account.split_once(':')?;
    let extra = user.extra.as_ref()?;
    let one = |key: &str| match extra.get(key)?.as_slice() {
        [value] => Some(value.clone()),
        _ => None,
    };
    Some(ClaimedPod {
        namespace: namespace.to_owned(),
        name: one(POD_NAME)?,
        uid: one(POD_UID)?,
    })
}

/// The pod itself: a token outlives it by seconds.
async fn live_pod(client: &Client, claimed: &ClaimedPod) -> Result<Pod, Refusal> {
    let pod = Api::<Pod>::namespaced(client.clone(), &claimed.namespace)
        .get_opt(&claimed.name)
        .await
        .map_err(|error| unavailable("the pod", &error))?;
    pod.filter(|pod| pod.metadata.uid.as_deref() == Some(&claimed.uid))
        .ok_or_else(|| Answer::no_scan_pod("The token's pod is gone.").into())
}

/// The Job that controls a pod.
fn job(pod: &Pod) -> Option<(ObjectUid, String)> {
    let owner: &OwnerReference = pod
        .metadata
        .owner_references
        .as_ref()?
        .iter()
        .find(|owner| owner.controller == Some(true))?;
    if owner.kind != "Job" || owner.api_version != "batch/v1" {
        return None;
    }
    Some((owner.uid.parse().ok()?, owner.name.clone()))
}

/// What to tell a pod whose Job no scan holds.
async fn unrecorded(store: &Store, pod: &Pod, job: &ObjectName) -> Result<Answer, StoreError> {
    let unknown = || Answer::no_scan_pod("The pod's Job runs no scan.");
    let Some((tenant, scan, attempt)) = labelled(pod) else {
        return Ok(unknown());
    };
    Ok(
        match publication::unrecorded(store, tenant, scan, attempt, job).await? {
            Unrecorded::NotYet => {
                Answer::later(2, "JobNotRecorded", "The scan's Job is not recorded yet.")
            }
            Unrecorded::NotAnyMore => Answer::stale(),
            Unrecorded::Unknown => unknown(),
        },
    )
}

fn labelled(pod: &Pod) -> Option<(TenantId, ScanId, i32)> {
    let labels = pod.metadata.labels.as_ref()?;
    let id = |key: &str| labels.get(key)?.parse::<Uuid>().ok();
    Some((
        TenantId(id(labels::TENANT)?),
        ScanId(id(labels::SCAN)?),
        labels.get(labels::ATTEMPT)?.parse().ok()?,
    ))
}

fn unavailable(what: &str, error: &kube::Error) -> Refusal {
    // Of an answer only its code and words: the request, with its token, is in neither.
    tracing::warn!(what, %error, "the Kubernetes API could not be asked");
    Answer::kubernetes_unavailable().into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(value: serde_json::Value) -> UserInfo {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_token_names_its_pod_only_if_it_is_bound_to_one() {
        let bound = json!({"username": "system:serviceaccount:team-a:scanner", "extra": {
            "authentication.kubernetes.io/pod-name": ["p"],
            "authentication.kubernetes.io/pod-uid": ["u"]}});
        let expected = ClaimedPod {
            namespace: "team-a".into(),
            name: "p".into(),
            uid: "u".into(),
        };
        assert_eq!(claimed_pod(&user(bound)), Some(expected));
        for other in [
            json!({"username": "jane", "extra": {
                "authentication.kubernetes.io/pod-name": ["p"],
                "authentication.kubernetes.io/pod-uid": ["u"]}}),
            json!({"username": "system:serviceaccount:team-a:scanner"}),
            json!({"username": "system:serviceaccount:team-a:scanner", "extra": {
                "authentication.kubernetes.io/pod-name": ["p", "q"],
                "authentication.kubernetes.io/pod-uid": ["u"]}}),
        ] {
            assert_eq!(claimed_pod(&user(other)), None);
        }
    }

    #[test]
    fn only_a_controlling_job_counts_as_owner() {
        let uid = "0a8e5d5e-6f6b-4a53-8d5b-4f4a3c1f0a11";
        let pod = |owner: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"ownerReferences": [owner]}})).unwrap()
        };
        let whole = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": uid, "controller": true});
        assert_eq!(
            job(&pod(whole.clone())),
            Some((uid.parse().unwrap(), "j".to_owned()))
        );
        for (key, value) in [
            ("controller", json!(false)),
            ("kind", json!("ReplicaSet")),
            ("apiVersion", json!("batch/v2")),
            ("uid", json!("no uid")),
        ] {
            let mut other = whole.clone();
            other[key] = value;
            assert_eq!(job(&pod(other)), None, "{key}");
        }
    }
}
