//! Events about objects.

use k8s_controller::events::{Event, EventType};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;

use crate::controllers::Context;
use crate::controllers::status::Readiness;
use crate::domain::reason::Reason;

impl Context {
    /// Publishes an event about `object`; a failure to do so is only logged.
    pub async fn tell<K>(
        &self,
        object: &K,
        type_: EventType,
        reason: Reason,
        action: &str,
        note: &str,
    ) where
        K: Resource<DynamicType = ()>,
    {
        self.publish(object, &event(type_, reason, action, note))
            .await;
    }

    async fn publish<K>(&self, object: &K, event: &Event)
    where
        K: Resource<DynamicType = ()>,
    {
        if let Err(error) = self.events.publish(object, event).await {
            tracing::debug!(%error, "an event was not published");
        }
    }
}

/// Tells that an object became ready, or something else than it was.
pub(super) async fn announce<K>(
    object: &K,
    readiness: &Readiness,
    related: Option<ObjectReference>,
    cx: &Context,
) where
    K: Resource<DynamicType = ()>,
{
    let (type_, reason, message) = match readiness {
        Readiness::Ready { reason, message } | Readiness::Progressing { reason, message } => {
            (EventType::Normal, reason, message)
        }
        Readiness::Stalled { reason, message } => (EventType::Warning, reason, message),
    };
    let event = event(type_, *reason, "Reconcile", message);
    cx.publish(object, &Event { related, ..event }).await;
}

fn event(type_: EventType, reason: Reason, action: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.as_str().to_owned(),
        action: action.to_owned(),
        note: Some(note.to_owned()),
        related: None,
    }
}
