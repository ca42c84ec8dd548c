//! Providers that an object names and that are not stored: they are not there, or they are and
//! wait for something themselves. Who reads it is sent to the right one of the two.

use kube::Api;
use kube::core::DeserializeGuard;

use super::Context;
use super::error::Error;
use crate::api::common::condition;
use crate::api::{Kind as _, Provider};
use crate::domain::reason::Reason;

/// So many are looked at and named; a list may have a thousand.
const SHOWN: usize = 5;

/// Why Providers of these names are not stored, as a reason and sentences.
pub(super) async fn awaited(
    namespace: &str,
    missing: &[String],
    cx: &Context,
) -> Result<(Reason, String), Error> {
    let api = Api::<DeserializeGuard<Provider>>::namespaced(cx.client.clone(), namespace);
    let (mut absent, mut unready) = (Vec::new(), Vec::new());
    for name in missing.iter().take(SHOWN) {
        match api.get_opt(name).await? {
            None => absent.push(name.as_str()),
            Some(provider) => unready.push(match waits_for(&provider) {
                Some(reason) => format!("Provider {name} is not ready: {reason}."),
                None => format!("Provider {name} is not ready yet."),
            }),
        }
    }
    let reason = if absent.is_empty() {
        Reason::DependencyNotReady
    } else {
        unready.insert(
            0,
            format!("No stored Provider here is named {}.", absent.join(", ")),
        );
        Reason::ProviderNotFound
    };
    if missing.len() > SHOWN {
        unready.push(format!("So it is with {} more.", missing.len() - SHOWN));
    }
    Ok((reason, unready.join(" ")))
}

/// The reason for which a Provider is not Ready, as it says itself.
fn waits_for(provider: &DeserializeGuard<Provider>) -> Option<&str> {
    let Ok(provider) = &provider.0 else {
        return Some(Reason::MalformedObject.as_str());
    };
    let mut conditions = provider.conditions().iter();
    conditions
        .find(|c| c.type_ == condition::READY && c.status != "True")
        .map(|c| c.reason.as_str())
}
