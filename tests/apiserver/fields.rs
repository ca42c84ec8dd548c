//! Every field of every kind, read off the definitions: a valid value, each class of invalid one,
//! and the valid one again. What is invalid is refused, or the object is told that nothing will
//! come of it, in either case with the field's name; and nothing of it stays.

use std::collections::{BTreeMap, BTreeSet};

use prowler_operator::api::{
    self, Integration, Kind, MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant,
};
use prowler_operator::controllers::driver::Reconcile;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::operator::{Operator, Placed, World};

#[path = "fields_invalid.rs"]
mod invalid;
#[path = "fields_valid.rs"]
mod valid;

use invalid::Case;
use valid::Sample;

#[tokio::test]
async fn whatever_was_wrong_with_a_field_the_object_recovers() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    valid::furnish(&operator, &world).await;
    let mut tried = Tried::default();
    tried.kind::<Tenant>(&operator, &world).await;
    tried.kind::<Provider>(&operator, &world).await;
    tried.kind::<ProviderGroup>(&operator, &world).await;
    tried.kind::<Role>(&operator, &world).await;
    tried.kind::<ScanSchedule>(&operator, &world).await;
    tried.kind::<Scan>(&operator, &world).await;
    tried.kind::<Integration>(&operator, &world).await;
    tried.kind::<MuteRule>(&operator, &world).await;
    println!("{tried}");
    assert!(tried.faults.is_empty(), "{tried}");
}

/// What was tried, and what did not go as it should.
#[derive(Default)]
struct Tried {
    /// For each field the classes of invalid values.
    classes: BTreeMap<String, BTreeSet<&'static str>>,
    refused: usize,
    told: usize,
    faults: Vec<String>,
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values: usize = self.classes.values().map(BTreeSet::len).sum();
        writeln!(
            f,
            "{} fields, {values} pairs of field and class: {} refused by the API server, {} told by the operator",
            self.classes.len(),
            self.refused,
            self.told
        )?;
        for fault in &self.faults {
            writeln!(f, "  {fault}")?;
        }
        Ok(())
    }
}

/// What the server and the operator said to a spec.
enum Answer {
    Refused(String),
    Told(String),
}

impl Tried {
    async fn kind<K>(&mut self, operator: &Operator, world: &World)
    where
        K: Kind + Reconcile + Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let crds = api::all_crds();
        let crd = crds.iter().find(|crd| crd.spec.names.kind == K::KIND);
        let schema = serde_json::to_value(&crd.unwrap().spec.versions[0].schema).unwrap();
        let schema = &schema["openAPIV3Schema"]["properties"]["spec"];
        let mut seen = BTreeSet::new();
        for sample in valid::samples(K::KIND, world) {
            operator
                .apply::<K>(&world.namespace, &sample.name, sample.spec.clone())
                .await;
            operator.follow::<K>(&world.namespace, &sample.name).await;
            let at_first = state::<K>(operator, world, &sample.name).await;
            if !at_first.starts_with(sample.says) {
                self.faults
                    .push(format!("{} {}: {at_first}", K::KIND, sample.name));
                continue;
            }
            let mut cases = invalid::cases(schema, &sample.spec, &mut seen);
            cases.extend(invalid::by_meaning(K::KIND, &sample));
            for case in cases {
                self.case::<K>(operator, world, &sample, &at_first, &case)
                    .await;
            }
        }
        for field in invalid::fields(schema) {
            if !seen.contains(&field) {
                self.faults.push(format!(
                    "{}: no sample has a valid {field}: add one to fields_valid.rs",
                    K::KIND
                ));
            }
        }
    }

    async fn case<K>(
        &mut self,
        operator: &Operator,
        world: &World,
        sample: &Sample,
        at_first: &str,
        case: &Case,
    ) where
        K: Kind + Reconcile + Placed + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let at = format!("{} {} ({})", K::KIND, case.field, case.class);
        self.classes
            .entry(format!("{} {}", K::KIND, case.field))
            .or_default()
            .insert(case.class);
        // A Scan cannot be changed; what is wrong with it is wrong from the start.
        let immutable = K::KIND == "Scan";
        let name = if immutable { "wrong" } else { &sample.name };
        let before = version::<K>(operator, world, name).await;
        let answer = write::<K>(operator, world, name, &case.spec).await;
        let (kind, text) = match answer {
            Answer::Refused(text) => {
                self.refused += 1;
                if version::<K>(operator, world, name).await != before {
                    self.faults.push(format!("{at}: refused, and changed"));
                }
                ("refused", text)
            }
            Answer::Told(text) => {
                self.told += 1;
                if text.starts_with("Current") || !text.starts_with(case.says) {
                    self.faults.push(format!("{at}: taken: {text}"));
                }
                ("told", text)
            }
        };
        if !case.named_in(&text) {
            self.faults
                .push(format!("{at}: {kind} without its name: {text}"));
        }
        if kind == "refused" {
            return;
        }
        if immutable {
            operator.delete::<K>(&world.namespace, name).await;
            operator.pass::<K>(&world.namespace, name).await;
            operator.pass::<K>(&world.namespace, name).await;
            return;
        }
        let (Answer::Refused(after) | Answer::Told(after)) =
            write::<K>(operator, world, name, &sample.spec).await;
        if after != at_first {
            self.faults
                .push(format!("{at}: does not recover: {at_first} became {after}"));
        }
    }
}

/// What writing this spec leads to, with the API server as strict as `kubectl` asks it to be.
async fn write<K>(operator: &Operator, world: &World, name: &str, spec: &Value) -> Answer
where
    K: Reconcile + Placed + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api = K::typed(&operator.client, &world.namespace);
    let stored = api.get_opt(name).await.unwrap();
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "spec": spec,
        "metadata": match &stored {
            Some(stored) => serde_json::to_value(stored.meta()).unwrap(),
            None => json!({ "name": name }),
        },
    });
    let url = api.resource_url();
    let request = match stored {
        Some(_) => http::Request::put(format!("{url}/{name}?fieldValidation=Strict")),
        None => http::Request::post(format!("{url}?fieldValidation=Strict")),
    };
    let body = serde_json::to_vec(&object).unwrap();
    let request = request
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .unwrap();
    match operator.client.request::<Value>(request).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) => return Answer::Refused(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
    operator.follow::<K>(&world.namespace, name).await;
    Answer::Told(state::<K>(operator, world, name).await)
}

/// What people see of the object: kstatus, reason and message.
async fn state<K>(operator: &Operator, world: &World, name: &str) -> String
where
    K: Reconcile + Placed + Clone + DeserializeOwned + std::fmt::Debug,
{
    let (namespace, name) = (&world.namespace, name);
    format!(
        "{}: {}",
        operator.says::<K>(namespace, name).await,
        operator.message::<K>(namespace, name).await
    )
}

async fn version<K>(operator: &Operator, world: &World, name: &str) -> Option<String>
where
    K: Reconcile + Placed + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api = K::typed(&operator.client, &world.namespace);
    api.get_opt(name)
        .await
        .unwrap()?
        .meta()
        .resource_version
        .clone()
}
