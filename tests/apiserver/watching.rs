//! The program as it runs, driven by its own watches: on an API server that streams lists, and on
//! one that gives them in pages.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::DeserializeGuard;
use prowler_operator::api::{Kind as _, Provider, Tenant};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::apiserver::ApiServer;
use crate::support::controller::Operator;
use crate::support::db::Db;

const PAGES: &str = "reading them in pages";

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

fn is_ready(provider: &Provider) -> bool {
    let conditions = provider.conditions();
    conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// One Provider is there before the program, one comes later; both become Ready, and go. A third
/// cannot be read, which hinders neither.
async fn lives_by_its_watches(server: &ApiServer) -> String {
    let client = server.client();
    let database = Db::new().await;
    let operator = Operator::prepare(server, &database, &client).await;
    let namespaces = Api::<Namespace>::all(client.clone());
    create(&namespaces, json!({ "metadata": { "name": "team" } })).await;
    let tenants = Api::<Tenant>::all(client.clone());
    let tenant = json!({ "metadata": { "name": "acme" }, "spec": { "namespaces": ["team"] } });
    create(&tenants, tenant).await;
    let providers = Api::<Provider>::namespaced(client.clone(), "team");
    let provider = |name: &str, uid: &str| json!({ "metadata": { "name": name }, "spec": { "provider": "aws", "uid": uid } });
    create(&providers, provider("before", "111111111111")).await;
    create(&providers, provider("broken", "333333333333")).await;
    let damage = |object: &mut Value| object["spec"]["alias"] = json!({ "no": "such" });
    server.rewrite::<Provider>("team", "broken", damage).await;

    let running = operator.start_logging("info");
    let begun = Instant::now();
    let all = async || -> Vec<Provider> {
        let readable = Api::<DeserializeGuard<Provider>>::namespaced(client.clone(), "team");
        let found = readable.list(&ListParams::default()).await.unwrap();
        found.into_iter().filter_map(|one| one.0.ok()).collect()
    };
    let until = async |wanted: &dyn Fn(&[Provider]) -> bool| {
        while !wanted(&all().await) {
            assert!(
                begun.elapsed() < Duration::from_mins(2),
                "{}",
                operator.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    until(&|all| all.len() == 1 && all.iter().all(is_ready)).await;
    create(&providers, provider("later", "222222222222")).await;
    until(&|all| all.len() == 2 && all.iter().all(is_ready)).await;
    for name in ["before", "later"] {
        providers
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    until(&|all| all.is_empty()).await;
    let resource = ApiResource::erase::<Provider>(&());
    let raw = Api::<DynamicObject>::namespaced_with(client.clone(), "team", &resource);
    let broken = raw.get("broken").await.unwrap();
    let reason = &broken.data["status"]["conditions"][0]["reason"];
    assert_eq!(reason, "MalformedObject", "{:#}", broken.data);
    drop(running);
    operator.log()
}

#[tokio::test]
async fn the_program_lives_by_streamed_lists() {
    let log = lives_by_its_watches(ApiServer::alone().await).await;
    assert!(!log.contains(PAGES), "{log}");
}

#[tokio::test]
async fn the_program_lives_by_pages_where_lists_are_not_streamed() {
    let server = ApiServer::alone_with(&["--feature-gates=WatchList=false"]).await;
    let log = lives_by_its_watches(server).await;
    assert!(log.contains(PAGES), "{log}");
}
