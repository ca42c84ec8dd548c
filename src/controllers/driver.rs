//! The loop every kind shares: one pass over one object, from the finalizer to the status.
//!
//! A kind says what is particular to it ([`Reconcile`]); adding and taking off the finalizer,
//! conditions, events, metrics, the pause before a retry — all of that is here, once.

mod outcome;
mod tell;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::core::object::HasStatus;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;
use tracing::Instrument as _;

pub use self::outcome::{Cleanup, News, Outcome};
use self::tell::announce;
use super::error::{Error, Retry, backoff};
use super::status::{Readiness, merge_patch, set_readiness};
use super::{Context, HasApi, is_there, malformed};
use crate::api::{FIELD_MANAGER, FINALIZER, Kind, StatusExt};
use crate::domain::reason::Reason;

/// The status of a kind.
pub type StatusOf<K> = <K as HasStatus>::Status;

/// A kind the operator converges.
pub trait Reconcile: Kind + HasApi {
    /// Whether a pass that wrote its status has nothing to learn from seeing it. True of kinds
    /// whose status changes far more often than anything else of them.
    const IGNORES_ECHO: bool = false;

    /// Makes the world match the spec and fills in `status`. Safe to repeat from any point.
    fn apply(
        &self,
        status: &mut StatusOf<Self>,
        cx: &Context,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send;

    /// Undoes `apply`, also when it never ran.
    fn cleanup(
        &self,
        status: &mut StatusOf<Self>,
        cx: &Context,
    ) -> impl Future<Output = Result<Cleanup, Error>> + Send;

    /// Fills in what holds however a pass ended; what to tell of it that is new.
    fn besides(&self, _status: &mut StatusOf<Self>, _cx: &Context) -> Vec<News> {
        Vec::new()
    }

    /// The object that does the work of which events tell: a Scan's Job.
    fn related(&self, _status: &StatusOf<Self>) -> Option<ObjectReference> {
        None
    }
}

/// Failed passes in a row, per object, for the pause before the next one.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<String, u32>>);

impl Attempts {
    fn failed(&self, uid: &str) -> u32 {
        let mut attempts = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = attempts.entry(uid.to_owned()).or_insert(0);
        *count += 1;
        *count - 1
    }

    fn forget(&self, uid: &str) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(uid);
    }
}

/// A transient failure is shown in the status only from this attempt on: a database that is
/// away for a second must not rewrite ten thousand objects.
const SHOWN_FROM_ATTEMPT: u32 = 3;

/// One pass over one object. Never fails: what went wrong is in the status and the metrics.
pub async fn pass<K: Reconcile>(guarded: Arc<DeserializeGuard<K>>, cx: Arc<Context>) -> Action {
    let kind = K::kind(&()).into_owned();
    let meta = guarded.meta();
    let span = tracing::info_span!(
        "pass",
        kind,
        namespace = meta.namespace,
        object = meta.name,
        generation = meta.generation
    );
    let started = std::time::Instant::now();
    let (action, outcome) = async {
        match &guarded.0 {
            Ok(object) => reconcile(object, &cx).await,
            Err(invalid) => {
                tracing::warn!(error = %invalid.error, "the stored object does not fit its schema; edit it");
                let uid = invalid.metadata.uid.as_deref().unwrap_or_default();
                let told = malformed::tell::<K>(&invalid.metadata, &invalid.error, &cx).await;
                let action = match told {
                    Ok(()) => {
                        cx.attempts.forget(uid);
                        Action::await_change()
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the status was not written");
                        Action::requeue(backoff(cx.attempts.failed(uid), cx.clock.jitter()))
                    }
                };
                (action, Reason::MalformedObject.as_str())
            }
        }
    }
    .instrument(span)
    .await;
    cx.metrics.reconciled(&kind, outcome, started.elapsed());
    action
}

async fn reconcile<K: Reconcile>(object: &K, cx: &Context) -> (Action, &'static str) {
    let uid = object.uid().unwrap_or_default();
    let mut status = object.status().cloned().unwrap_or_default();
    match step(object, &mut status, cx).await {
        Ok((action, outcome)) => {
            cx.attempts.forget(&uid);
            (action, outcome)
        }
        Err(error) => {
            if !error.is_partial() {
                // The pass broke off: what it filled in is half of something.
                status = object.status().cloned().unwrap_or_default();
            }
            failed(object, &mut status, &uid, &error, cx).await
        }
    }
}

async fn step<K: Reconcile>(
    object: &K,
    status: &mut StatusOf<K>,
    cx: &Context,
) -> Result<(Action, &'static str), Error> {
    let finalized = object.finalizers().iter().any(|name| name == FINALIZER);
    // Deletion first, before any gate: a suspended, invalid or unclaimed object must go too.
    if object.meta().deletion_timestamp.is_some() {
        if !finalized {
            return Ok((Action::await_change(), "gone"));
        }
        return delete(object, status, cx).await;
    }
    if !finalized {
        set_finalizers(object, cx, |names| names.push(FINALIZER.to_owned())).await?;
        // The patch comes back as an event; doing more now would act on an old object.
        return Ok((Action::await_change(), "finalizer"));
    }
    // A suspended object is stored as such, so that nothing of it is started; it is not skipped.
    let applied = object.apply(status, cx).await;
    mark_suspended(object, status);
    let outcome = applied?;
    let told = report(object, status, &outcome.readiness, cx).await?;
    if told == Written::NotFound && !is_still_there(object, cx).await? {
        // A pass over an old copy, which stored the object after its deletion was done: nobody
        // else will ever look for those rows.
        let mut status = StatusOf::<K>::default();
        object.cleanup(&mut status, cx).await?;
        return Ok((Action::await_change(), "gone"));
    }
    let label = match outcome.readiness {
        Readiness::Ready { .. } => "settled",
        Readiness::Progressing { .. } => "progressing",
        Readiness::Stalled { .. } => "stalled",
    };
    let next = outcome
        .again_in
        .map_or_else(Action::await_change, Action::requeue);
    Ok((next, label))
}

async fn delete<K: Reconcile>(
    object: &K,
    status: &mut StatusOf<K>,
    cx: &Context,
) -> Result<(Action, &'static str), Error> {
    match object.cleanup(status, cx).await? {
        Cleanup::Done => {
            match set_finalizers(object, cx, |names| names.retain(|name| name != FINALIZER)).await {
                // Somebody else took it off: it is gone, which is what we wanted.
                Err(Error::Kube(error)) if is_not_found(&error) => {}
                other => other?,
            }
            Ok((Action::await_change(), "deleted"))
        }
        Cleanup::Waiting { message, again_in } => {
            let readiness = Readiness::Progressing {
                reason: Reason::Deleting,
                message,
            };
            report(object, status, &readiness, cx).await?;
            Ok((Action::requeue(again_in), "deleting"))
        }
    }
}

async fn failed<K: Reconcile>(
    object: &K,
    status: &mut StatusOf<K>,
    uid: &str,
    error: &Error,
    cx: &Context,
) -> (Action, &'static str) {
    let reason = error.reason();
    let retry = error.retry();
    let attempt = match retry {
        Retry::Backoff => cx.attempts.failed(uid),
        Retry::Soon | Retry::OnChange => 0,
    };
    let readiness = match retry {
        Retry::Soon => {
            tracing::debug!("the object changed meanwhile; looking again");
            return (Action::requeue(Duration::from_millis(200)), "outdated");
        }
        Retry::OnChange => {
            cx.attempts.forget(uid);
            Readiness::Stalled {
                reason,
                message: error.to_string(),
            }
        }
        Retry::Backoff => {
            tracing::warn!(%error, attempt, %reason, "pass failed; trying again");
            let message =
                stands(object, reason).unwrap_or_else(|| format!("{error}; trying again."));
            Readiness::Progressing { reason, message }
        }
    };
    let stalled = matches!(readiness, Readiness::Stalled { .. });
    let mut told = true;
    if (stalled || attempt >= SHOWN_FROM_ATTEMPT)
        && let Err(error) = report(object, status, &readiness, cx).await
    {
        tracing::debug!(%error, "the status was not written");
        told = false;
    }
    let next = if stalled && told {
        Action::await_change()
    } else {
        Action::requeue(backoff(attempt, cx.clock.jitter()))
    };
    (next, reason.as_str())
}

/// What the object already says of an outage. A server that is away is away in many words
/// (refused, reset, timed out), and each other word would write ten thousand objects anew.
fn stands<K: Reconcile>(object: &K, reason: Reason) -> Option<String> {
    use Reason::{DatabaseUnavailable, KubernetesUnavailable};
    if !matches!(reason, DatabaseUnavailable | KubernetesUnavailable) {
        return None;
    }
    let shown = k8s_controller::conditions::find(object.status()?.conditions(), "Reconciling")?;
    (shown.reason == reason.as_str()).then(|| shown.message.clone())
}

/// Computes the conditions, writes the status if it says something new, and tells the user by
/// an event when `Ready` changed.
async fn report<K: Reconcile>(
    object: &K,
    status: &mut StatusOf<K>,
    readiness: &Readiness,
    cx: &Context,
) -> Result<Written, Error> {
    let generation = object.meta().generation;
    let before = ready_reason(object.status());
    set_readiness(status.conditions_mut(), generation, readiness);
    if let Some(generation) = generation {
        status.set_observed_generation(generation);
    }
    let news = object.besides(status, cx);
    let written = write(object, status, cx).await?;
    if written != Written::Yes {
        return Ok(written);
    }
    for News(type_, reason, note) in news {
        cx.tell(object, type_, reason, "Check", &note).await;
    }
    if before != ready_reason(Some(&*status)) {
        announce(object, readiness, object.related(status), cx).await;
    }
    Ok(written)
}

/// What became of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// It was written.
    Yes,
    /// It says what was there.
    Same,
    /// The API server knows no such object.
    NotFound,
}

async fn is_still_there<K: Reconcile>(object: &K, cx: &Context) -> Result<bool, Error> {
    let namespace = object.namespace();
    let uid = object.uid().unwrap_or_default();
    Ok(is_there::<K>(cx, namespace.as_deref(), &object.name_any(), &uid).await?)
}

fn ready_reason<S: StatusExt>(status: Option<&S>) -> Option<(String, String)> {
    let ready = k8s_controller::conditions::find(status?.conditions(), "Ready")?;
    Some((ready.status.clone(), ready.reason.clone()))
}

/// Writes the status if it differs.
async fn write<K: Reconcile>(
    object: &K,
    status: &StatusOf<K>,
    cx: &Context,
) -> Result<Written, Error> {
    let default = StatusOf::<K>::default();
    let patch = merge_patch(object.status().unwrap_or(&default), status)
        .map_err(|error| Error::Operator(format!("the status cannot be encoded: {error}")))?;
    let Some(patch) = patch else {
        cx.echoes.looked_at(object);
        return Ok(Written::Same);
    };
    // The resource version makes the write conditional: a pass over an old copy must not win.
    let patch = json!({
        "metadata": { "resourceVersion": object.resource_version() },
        "status": patch,
    });
    let api = K::api(cx, object.namespace().as_deref());
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..Default::default()
    };
    match api
        .patch_status(&object.name_any(), &params, &Patch::Merge(&patch))
        .await
    {
        Ok(written) => {
            if K::IGNORES_ECHO {
                cx.echoes.wrote(&written);
            }
            Ok(Written::Yes)
        }
        Err(error) if is_not_found(&error) => Ok(Written::NotFound),
        Err(error) => Err(error.into()),
    }
}

async fn set_finalizers<K: Reconcile>(
    object: &K,
    cx: &Context,
    change: impl FnOnce(&mut Vec<String>),
) -> Result<(), Error> {
    let mut names = object.finalizers().to_vec();
    change(&mut names);
    let patch = json!({
        "metadata": { "resourceVersion": object.resource_version(), "finalizers": names },
    });
    let api = K::api(cx, object.namespace().as_deref());
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..Default::default()
    };
    api.patch_metadata(&object.name_any(), &params, &Patch::Merge(&patch))
        .await?;
    Ok(())
}

fn mark_suspended<K: Reconcile>(object: &K, status: &mut StatusOf<K>) {
    if object.suspended() {
        super::status::set(
            status.conditions_mut(),
            object.meta().generation,
            "Suspended",
            k8s_controller::conditions::ConditionStatus::True,
            Reason::Suspended,
            "spec.suspend is true: nothing is started until it is false.",
        );
    } else {
        k8s_controller::conditions::remove(status.conditions_mut(), "Suspended");
    }
}

pub(super) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
