//! Events about objects.

use k8s_controller::events::{Event, EventType};
use kube::Resource;

use crate::controllers::Context;
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
        let event = Event {
            type_,
            reason: reason.as_str().to_owned(),
            action: action.to_owned(),
            note: Some(note.to_owned()),
            related: None,
        };
        if let Err(error) = self.events.publish(object, &event).await {
            tracing::debug!(%error, "an event was not published");
        }
    }
}
