//! Objects that no longer decode: they say so, even if that fails the first time, and go once they
//! are mended.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use prowler_operator::api::{
    FINALIZER, Kind, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant,
};
use prowler_operator::controllers::driver::Reconcile;
use serde_json::{Value, json};

use crate::support::faults::Fault;
use crate::support::operator::{ACCOUNT, Operator, Placed, kstatus, unique};

/// An object of which one field is of another type than its definition says.
struct Broken {
    api: Api<DynamicObject>,
    namespace: String,
    name: String,
}

impl Broken {
    fn new<K: Kind>(operator: &Operator, namespace: &str) -> Self {
        let resource = ApiResource::erase::<K>(&());
        let (client, name) = (operator.client.clone(), unique("broken"));
        if K::KIND == Tenant::KIND {
            return Self {
                api: Api::all_with(client, &resource),
                namespace: String::new(),
                name,
            };
        }
        Self {
            api: Api::namespaced_with(client, namespace, &resource),
            namespace: namespace.to_owned(),
            name,
        }
    }

    async fn read(&self) -> Value {
        serde_json::to_value(self.api.get(&self.name).await.unwrap()).unwrap()
    }

    /// Changes a field as it is stored, and waits until the API server's own cache knows.
    async fn damage<K: Kind>(&self, operator: &Operator, field: &str, damaged: Value) {
        let damage = |object: &mut Value| object["spec"][field] = damaged.clone();
        operator
            .server
            .rewrite::<K>(&self.namespace, &self.name, damage)
            .await;
        while self.read().await["spec"][field] != damaged {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn patch(&self, patch: Value) {
        let params = PatchParams::default();
        let patch = Patch::Merge(&patch);
        self.api.patch(&self.name, &params, &patch).await.unwrap();
    }

    /// Takes back what was said of it.
    async fn hush(&self) {
        let silent = json!({ "status": { "conditions": [], "observedGeneration": -1 } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&silent));
        let done = self.api.patch_status(&self.name, &params, &patch).await;
        done.unwrap();
    }

    /// What kstatus makes of it, with reason and message of `Ready`.
    async fn says(&self) -> (String, String) {
        let object = self.read().await;
        let conditions = object["status"]["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready")
            .unwrap_or(&Value::Null);
        let word = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        (
            format!("{} {}", kstatus(&object), word("reason")),
            word("message"),
        )
    }
}

/// `field`, which may be changed, is not what it was when `spec` was stored.
async fn law<K: Reconcile + Placed>(
    operator: &Operator,
    namespace: &str,
    spec: Value,
    (field, damaged): (&str, Value),
) {
    let broken = Broken::new::<K>(operator, namespace);
    let (namespace, name) = (&*broken.namespace, &*broken.name);
    let pass = async || operator.pass::<K>(namespace, name).await.unwrap();
    let sound = spec[field].clone();
    operator.apply::<K>(namespace, name, spec).await;
    // It has its finalizer from better days.
    pass().await;
    broken.damage::<K>(operator, field, damaged).await;

    // Whichever call goes wrong on the way to saying so, it is tried again.
    operator.api.reset();
    pass().await;
    let calls = operator.api.calls();
    assert!(calls > 0, "{}", K::KIND);
    for n in 1..=calls {
        for fault in [Fault::Refuse, Fault::Lose, Fault::Answer(409)] {
            broken.hush().await;
            operator.api.arm(n, fault);
            let again = pass().await;
            assert!(operator.api.fired().is_some(), "{} {n} {fault:?}", K::KIND);
            assert_ne!(again, Action::await_change(), "{} {n} {fault:?}", K::KIND);
            operator.api.reset();
            assert_eq!(pass().await, Action::await_change(), "{}", K::KIND);
            let (says, message) = broken.says().await;
            assert_eq!(says, "Failed MalformedObject", "{}", K::KIND);
            assert!(
                message.starts_with("The object cannot be read: ")
                    && message.ends_with("; edit it."),
                "{}: {message}",
                K::KIND
            );
        }
    }
    operator.api.reset();
    pass().await;
    assert_eq!(operator.api.changes(), [""; 0], "{}: said once", K::KIND);

    // On its way out it says what keeps it, and goes when it is mended.
    assert_eq!(
        broken.read().await["metadata"]["finalizers"],
        json!([FINALIZER])
    );
    let params = DeleteParams::background();
    broken.api.delete(name, &params).await.unwrap();
    pass().await;
    let (_, message) = broken.says().await;
    assert!(
        message.ends_with("Until then it cannot be deleted."),
        "{}: {message}",
        K::KIND
    );
    if K::KIND == Scan::KIND {
        // Nothing of a Scan may be changed: the way out that docs/reasons.md names.
        broken
            .patch(json!({ "metadata": { "finalizers": null } }))
            .await;
    } else {
        broken.patch(json!({ "spec": { field: sound } })).await;
        operator.follow::<K>(namespace, name).await;
    }
    assert!(
        operator.is_gone::<K>(namespace, name).await,
        "{} stays",
        K::KIND
    );
}

#[tokio::test]
async fn an_object_that_no_longer_decodes_says_so_and_goes_once_it_is_mended() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let (operator, namespace) = (&operator, &*world.namespace);
    let spec = json!({ "namespaces": [namespace], "displayName": "Acme" });
    let damage = ("displayName", json!(5));
    Box::pin(law::<Tenant>(operator, "", spec, damage)).await;
    let spec = json!({ "provider": "aws", "uid": ACCOUNT, "alias": "production" });
    let damage = ("alias", json!(5));
    Box::pin(law::<Provider>(operator, namespace, spec, damage)).await;
    let spec = json!({ "providerRefs": [{ "name": "p" }] });
    let damage = ("providerRefs", json!([{ "name": 5 }]));
    Box::pin(law::<ProviderGroup>(operator, namespace, spec, damage)).await;
    let spec = json!({ "permissions": ["MANAGE_SCANS"] });
    let damage = ("permissions", json!(["MANAGE_EVERYTHING"]));
    Box::pin(law::<Role>(operator, namespace, spec, damage)).await;
    let spec =
        json!({ "schedule": "0 2 * * *", "providerRefs": [{ "name": "p" }], "jitterSeconds": 5 });
    let damage = ("jitterSeconds", json!("a while"));
    Box::pin(law::<ScanSchedule>(operator, namespace, spec, damage)).await;
    let spec = json!({ "providerRef": { "name": "p" }, "trigger": "manual" });
    let damage = ("trigger", json!("cron"));
    Box::pin(law::<Scan>(operator, namespace, spec, damage)).await;
}

#[tokio::test]
async fn one_whose_status_cannot_be_written_either_says_so_in_an_event() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let broken = Broken::new::<ProviderGroup>(&operator, &world.namespace);
    let spec = json!({ "providerRefs": [{ "name": "p" }] });
    operator
        .apply::<ProviderGroup>(&world.namespace, &broken.name, spec)
        .await;
    // A rule of the definition looks into selectors, and finds nothing it can look into.
    broken
        .damage::<ProviderGroup>(&operator, "selector", json!(5))
        .await;
    let again = operator
        .pass::<ProviderGroup>(&world.namespace, &broken.name)
        .await;
    assert_eq!(again, Some(Action::await_change()));
    let events = Api::<Event>::namespaced(operator.client.clone(), &world.namespace);
    let events = events.list(&ListParams::default()).await.unwrap();
    let told = events.items.iter().find(|event| {
        let regarding = event
            .regarding
            .as_ref()
            .and_then(|object| object.name.as_ref());
        regarding == Some(&broken.name)
    });
    let told = told.unwrap();
    assert_eq!(told.reason.as_deref(), Some("MalformedObject"));
    let note = told.note.as_deref().unwrap_or_default();
    assert!(note.starts_with("The object cannot be read: "), "{note}");
}
