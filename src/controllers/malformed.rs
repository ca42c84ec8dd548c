//! Objects that no longer decode: stored before their definition was changed, or while it did
//! not check. They hinder no other object; their status says so, written as plain JSON.

use k8s_controller::events::EventType;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::{ObjectMeta, PartialObjectMetaExt as _};
use serde_json::{Value, json};

use super::Context;
use super::driver::is_not_found;
use super::error::Error;
use super::status::{Readiness, set_readiness};
use crate::api::common::Condition;
use crate::api::{FIELD_MANAGER, FINALIZER, Kind};
use crate::domain::reason::Reason;
use crate::domain::redact::redact;

/// Says in the object's conditions what cannot be read; writes nothing when they say it already.
pub async fn tell<K: Kind>(meta: &ObjectMeta, error: &str, cx: &Context) -> Result<(), Error> {
    let name = meta.name.clone().unwrap_or_default();
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = match &meta.namespace {
        Some(namespace) => Api::namespaced_with(cx.client.clone(), namespace, &resource),
        None => Api::all_with(cx.client.clone(), &resource),
    };
    let Some(object) = api.get_opt(&name).await? else {
        return Ok(());
    };
    let conditions = &object.data["status"]["conditions"];
    // Conditions that cannot be read either are replaced.
    let before: Vec<Condition> = serde_json::from_value(conditions.clone()).unwrap_or_default();
    let mut after = before.clone();
    // It quotes what it cannot read.
    let error = redact(error);
    let mut message = format!("The object cannot be read: {error}; edit it.");
    let held = meta.finalizers.iter().flatten().any(|f| f == FINALIZER);
    if held && meta.deletion_timestamp.is_some() {
        message.push_str(" Until then it cannot be deleted.");
    }
    let stalled = Readiness::Stalled {
        reason: Reason::MalformedObject,
        message: message.clone(),
    };
    set_readiness(&mut after, meta.generation, &stalled);
    let observed = object.data["status"]["observedGeneration"].as_i64();
    if after == before && observed == meta.generation {
        return Ok(());
    }
    let patch: Value = json!({
        "metadata": { "resourceVersion": object.metadata.resource_version },
        "status": { "conditions": after, "observedGeneration": meta.generation },
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api
        .patch_status(&name, &params, &Patch::Merge(&patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        // A rule of the definition stumbles over the field itself: no write is taken until it is
        // mended, not even of the status. An event still shows in `kubectl describe`.
        Err(kube::Error::Api(status)) if status.code == 422 => {
            let object = object.metadata.into_request_partial::<K>();
            let reason = Reason::MalformedObject;
            cx.tell(&object, EventType::Warning, reason, "Reconcile", &message)
                .await;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
