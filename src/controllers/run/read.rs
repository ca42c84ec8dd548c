//! Objects as a watch reads them: decoded at once from their text, a broken one kept by its
//! metadata.
//!
//! kube's own [`DeserializeGuard`] builds a tree of values and decodes a copy of it, which at ten
//! thousand objects took more time than all passes over them together.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::error_boundary::InvalidObject;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher::Event;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object on its way from the API server.
#[derive(Debug, Clone)]
pub(super) struct Read<K>(DeserializeGuard<K>);

impl<'de, K: DeserializeOwned + Resource> Deserialize<'de> for Read<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let object = match serde_json::from_str(text.get()) {
            Ok(object) => Ok(object),
            Err(error) => {
                let found: PartialObjectMeta<K> =
                    serde_json::from_str(text.get()).map_err(D::Error::custom)?;
                Err(InvalidObject {
                    error: without_place(&error),
                    metadata: found.metadata,
                })
            }
        };
        Ok(Self(DeserializeGuard(object)))
    }
}

/// What is wrong, without line and column: nobody sees the text they count in.
fn without_place(error: &serde_json::Error) -> String {
    let sentence = error.to_string();
    match sentence.rfind(" at line ") {
        Some(end) => sentence[..end].to_owned(),
        None => sentence,
    }
}

impl<K: Resource> Resource for Read<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &K::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &K::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// The event as every other part of the program knows it.
pub(super) fn event<K>(event: Event<Read<K>>) -> Event<DeserializeGuard<K>> {
    match event {
        Event::Apply(object) => Event::Apply(object.0),
        Event::Delete(object) => Event::Delete(object.0),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(object.0),
        Event::InitDone => Event::InitDone,
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use kube::core::{ObjectList, WatchEvent};

    use super::*;
    use crate::api::Provider;

    const GOOD: &str = r#"{"apiVersion": "prowler-operator.dev/v1alpha1", "kind": "Provider",
        "metadata": {"name": "good", "namespace": "n"},
        "spec": {"provider": "aws", "uid": "123456789012"}}"#;
    const BROKEN: &str = r#"{"apiVersion": "prowler-operator.dev/v1alpha1", "kind": "Provider",
        "metadata": {"name": "broken", "namespace": "n"}, "spec": {"provider": "aws"}}"#;

    fn guarded(text: &str) -> DeserializeGuard<Provider> {
        let event = format!(r#"{{"type": "ADDED", "object": {text}}}"#);
        match serde_json::from_str(&event).unwrap() {
            WatchEvent::Added(Read(object)) => object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_object_is_read_and_a_broken_one_says_what_is_wrong() {
        assert_eq!(guarded(GOOD).0.unwrap().spec.uid, "123456789012");
        let broken = guarded(BROKEN);
        assert_eq!(broken.name_any(), "broken");
        assert_eq!(broken.0.unwrap_err().error, "missing field `uid`");
    }

    #[test]
    fn a_broken_one_does_not_break_its_list() {
        let list = format!(r#"{{"metadata": {{}}, "items": [{BROKEN}, {GOOD}]}}"#);
        let list: ObjectList<Read<Provider>> = serde_json::from_str(&list).unwrap();
        let read: Vec<_> = list.items.iter().map(|item| item.0.0.is_ok()).collect();
        assert_eq!(read, [false, true]);
    }

    #[test]
    fn what_is_no_object_at_all_is_an_error() {
        assert!(serde_json::from_str::<Read<Provider>>("null").is_err());
    }
}
