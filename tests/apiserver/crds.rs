//! The definitions as the API server takes them: what is refused, in which words, and that
//! applying the same thing twice changes nothing.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::Status;
use kube::{Client, Error};
use prowler_operator::api;
use serde_json::{Value, json};

use crate::support::apiserver::ApiServer;

#[path = "crds_changes.rs"]
mod changes;
#[path = "crds_rules.rs"]
mod rules;
#[path = "crds_uids.rs"]
mod uids;

/// A namespace on the server, and its objects.
pub struct Place {
    client: Client,
    namespace: String,
}

impl Place {
    pub async fn new() -> Self {
        let server = ApiServer::shared().await;
        Self {
            client: server.client(),
            namespace: server.namespace().await,
        }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn objects(&self, kind: &str) -> Api<DynamicObject> {
        // Made once: making them takes longer than asking the server.
        static CRDS: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(api::all_crds);
        let crd = CRDS.iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        let gvk = GroupVersionKind::gvk(api::GROUP, api::VERSION, kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, &crd.spec.names.plural);
        if crd.spec.scope == "Cluster" {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        }
    }

    /// An object named `name`; cluster-scoped ones get the namespace's name before it.
    pub fn object(&self, kind: &str, name: &str, spec: &Value) -> DynamicObject {
        let name = if kind == "Tenant" {
            format!("{}-{name}", self.namespace)
        } else {
            name.to_owned()
        };
        serde_json::from_value(json!({
            "apiVersion": format!("{}/{}", api::GROUP, api::VERSION),
            "kind": kind,
            "metadata": { "name": name },
            "spec": spec,
        }))
        .unwrap()
    }

    /// What `kubectl apply --dry-run=server` would say to a new object.
    pub async fn try_create(&self, kind: &str, spec: &Value) -> Result<(), Box<Status>> {
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let result = self
            .objects(kind)
            .create(&dry_run, &self.object(kind, "new", spec))
            .await;
        refusal(result)
    }

    pub async fn create(&self, kind: &str, name: &str, spec: &Value) -> DynamicObject {
        self.objects(kind)
            .create(&PostParams::default(), &self.object(kind, name, spec))
            .await
            .unwrap()
    }

    /// What the server would say to this change of a stored object.
    pub async fn try_change(
        &self,
        stored: &DynamicObject,
        spec: &Value,
    ) -> Result<(), Box<Status>> {
        let kind = &stored.types.as_ref().unwrap().kind;
        let mut changed = stored.clone();
        changed.metadata.managed_fields = None;
        changed.data["spec"] = spec.clone();
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let name = stored.metadata.name.as_deref().unwrap();
        refusal(self.objects(kind).replace(name, &dry_run, &changed).await)
    }
}

fn refusal<T>(result: Result<T, Error>) -> Result<(), Box<Status>> {
    match result {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 422 => Err(status),
        Err(error) => panic!("{error}"),
    }
}

/// A spec that is accepted, of each kind.
pub fn sound(kind: &str) -> Value {
    match kind {
        "Tenant" => json!({ "namespaces": ["team-a"] }),
        "Provider" => json!({ "provider": "aws", "uid": "123456789012" }),
        "ProviderGroup" => json!({ "providerRefs": [{ "name": "a" }] }),
        "Role" => json!({ "permissions": ["MANAGE_SCANS"] }),
        "ScanSchedule" => json!({ "schedule": "0 2 * * *", "providerRefs": [{ "name": "a" }] }),
        "Scan" => json!({ "providerRef": { "name": "a" } }),
        "Integration" => json!({ "type": "amazon_s3", "configuration": { "bucketName": "acme" },
            "credentials": { "secretRef": { "name": "keys" } } }),
        "MuteRule" => json!({ "reason": "accepted", "findingUids": ["a"] }),
        _ => panic!("{kind}"),
    }
}

#[tokio::test]
async fn the_eight_kinds_are_served_and_a_sound_object_of_each_is_accepted() {
    let place = Place::new().await;
    let crds = api::all_crds();
    assert_eq!(crds.len(), 8);
    for crd in crds {
        let kind = crd.spec.names.kind.as_str();
        place.try_create(kind, &sound(kind)).await.unwrap();
    }
}

#[tokio::test]
async fn the_core_kinds_keep_their_names() {
    // `kubectl get roles` prefers whoever has the plural, singular or short name first.
    let taken = [
        "roles",
        "role",
        "providers",
        "provider",
        "tenants",
        "tenant",
        "scans",
        "scan",
        "schedules",
    ];
    for crd in api::all_crds() {
        let names = crd.spec.names;
        let short = names.short_names.unwrap();
        for name in [&names.plural, names.singular.as_ref().unwrap()]
            .into_iter()
            .chain(&short)
        {
            assert!(!taken.contains(&name.as_str()), "{name}");
        }
        assert_eq!(names.categories.unwrap(), ["prowler"]);
    }
}

#[tokio::test]
async fn a_new_object_counts_as_not_yet_observed() {
    let place = Place::new().await;
    for crd in api::all_crds() {
        let kind = &crd.spec.names.kind;
        let object = place.create(kind, "new", &sound(kind)).await;
        assert_eq!(
            object.data["status"],
            json!({ "observedGeneration": -1 }),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn applying_the_same_twice_changes_nothing() {
    let place = Place::new().await;
    for crd in api::all_crds() {
        let kind = &crd.spec.names.kind;
        let object = place.object(kind, "twice", &sound(kind));
        let name = object.metadata.name.clone().unwrap();
        let params = PatchParams::apply("kubectl").force();
        let apply = async || {
            place
                .objects(kind)
                .patch(&name, &params, &Patch::Apply(&object))
                .await
                .unwrap()
                .metadata
        };
        apply().await;
        // The server stores the default of status with the first write after the creation, which
        // is the operator's.
        let status = json!({ "status": { "observedGeneration": 1 } });
        place
            .objects(kind)
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .unwrap();
        let (first, second) = (apply().await, apply().await);
        assert_eq!(first.generation, second.generation, "{kind}");
        assert_eq!(first.resource_version, second.resource_version, "{kind}");
    }
}

#[tokio::test]
async fn what_the_types_write_is_what_the_server_keeps() {
    let place = Place::new().await;
    let spec = json!({
        "provider": "kubernetes",
        "uid": "arn:aws:eks:eu-west-1:123456789012:cluster/prod",
        "alias": "Produktion größer 🚀",
        "credentials": { "type": "static", "secretRef": { "name": "kubeconfig" } },
        "scan": {
            "services": ["core"],
            "severities": ["critical", "high"],
            "excludedChecks": ["core_x"],
            "image": "registry.example.com:5000/prowler@sha256:0123",
            "resources": { "limits": { "cpu": 2, "memory": "1.5Gi", "ephemeral-storage": "1e9" } },
            "activeDeadlineSeconds": 3600,
        },
        "connectionCheck": { "interval": "12h" },
        "deletionPolicy": "Retain",
        "suspend": true,
    });
    let stored = place.create("Provider", "full", &spec).await;
    let read: api::Provider =
        serde_json::from_value(serde_json::to_value(&stored).unwrap()).unwrap();
    let mut written = serde_json::to_value(&read.spec).unwrap();
    // The type keeps quantities as text.
    written["scan"]["resources"]["limits"]["cpu"] = json!(2);
    assert_eq!(written, spec);
}

#[tokio::test]
async fn the_longest_names_and_foreign_letters_are_accepted() {
    let place = Place::new().await;
    let name = format!("{}.{}", "a".repeat(126), "b".repeat(126));
    assert_eq!(name.len(), 253);
    place.create("Provider", &name, &sound("Provider")).await;
    place
        .try_create("Scan", &json!({ "providerRef": { "name": name } }))
        .await
        .unwrap();
    for alias in ["日本語の名前", "Ünïcödé", "a'b\"c<d>&", &"ü".repeat(100)] {
        let mut spec = sound("Provider");
        spec["alias"] = json!(alias);
        place.try_create("Provider", &spec).await.unwrap();
    }
}

#[tokio::test]
async fn objects_can_be_chosen_by_the_fields_people_ask_for() {
    let place = Place::new().await;
    place.create("Provider", "one", &sound("Provider")).await;
    place
        .create(
            "Provider",
            "two",
            &json!({ "provider": "github", "uid": "prowler-cloud" }),
        )
        .await;
    for selector in ["spec.provider=github", "spec.uid=prowler-cloud"] {
        let found = place
            .objects("Provider")
            .list(&ListParams::default().fields(selector))
            .await
            .unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|p| p.metadata.name.as_deref().unwrap())
            .collect();
        assert_eq!(names, ["two"], "{selector}");
    }
    place.create("Scan", "s", &sound("Scan")).await;
    let of = ListParams::default().fields("spec.providerRef.name=a");
    assert_eq!(
        place.objects("Scan").list(&of).await.unwrap().items.len(),
        1
    );
}

#[tokio::test]
async fn every_field_is_described_and_every_text_and_list_bounded() {
    let mut wrong = Vec::new();
    for crd in api::all_crds() {
        let value = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let schema = &value["openAPIV3Schema"];
        for part in ["spec", "status"] {
            let path = format!("{}.{part}", crd.spec.names.kind);
            inspect(&schema["properties"][part], &path, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Collects what is not described or not bounded.
fn inspect(schema: &Value, path: &str, wrong: &mut Vec<String>) {
    let lacks = |key: &str| schema.get(key).is_none();
    let mut fault = |what: &str| wrong.push(format!("{path} {what}"));
    let condition = path.contains(".status.conditions[]");
    if lacks("description") && !path.ends_with("[]") && !path.ends_with("{}") {
        fault("has no description");
    }
    if schema.get("nullable").is_some() {
        fault("may be null");
    }
    if let Some(format) = schema["format"].as_str()
        && !["int32", "int64", "date-time"].contains(&format)
    {
        fault(&format!("has format {format}"));
    }
    match schema["type"].as_str() {
        Some("string") if lacks("maxLength") && lacks("enum") && lacks("format") => {
            fault("has no maxLength");
        }
        Some("array") => {
            if lacks("maxItems") {
                fault("has no maxItems");
            }
            if lacks("x-kubernetes-list-type") {
                fault("has no list type");
            }
            inspect(&schema["items"], &format!("{path}[]"), wrong);
        }
        Some("object") => {
            if let Some(values) = schema.get("additionalProperties") {
                if lacks("maxProperties") {
                    fault("has no maxProperties");
                }
                inspect(values, &format!("{path}{{}}"), wrong);
            }
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                inspect(field, &format!("{path}.{name}"), wrong);
            }
        }
        Some("integer") if path.contains(".spec") && lacks("maximum") => fault("has no maximum"),
        None if lacks("x-kubernetes-int-or-string") && !condition => fault("has no type"),
        _ => {}
    }
}
