//! A database that changes clusters: its id wins, and a live installation is left alone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use prowler_operator::bootstrap::take_over::take_over;
use prowler_operator::domain::ids::InstallationId;
use prowler_operator::store::installation::{self, Claim};
use uuid::Uuid;

use crate::support::apiserver::ApiServer;
use crate::support::db::{Db, run};

const SECRET: &str = "prowler-operator-installation";
const OLD: InstallationId = InstallationId(Uuid::from_u128(0x01d));
const NEW: InstallationId = InstallationId(Uuid::from_u128(0x2e3));

async fn cluster() -> (Client, String) {
    let server = ApiServer::shared().await;
    let (client, namespace) = (server.client(), server.namespace().await);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            ..ObjectMeta::default()
        },
        string_data: Some(BTreeMap::from([
            ("id".to_owned(), NEW.to_string()),
            ("other".to_owned(), "stays".to_owned()),
        ])),
        ..Secret::default()
    };
    Api::namespaced(client.clone(), &namespace)
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    (client, namespace)
}

async fn held(client: &Client, namespace: &str, key: &str) -> String {
    let secret: Secret = Api::namespaced(client.clone(), namespace)
        .get(SECRET)
        .await
        .unwrap();
    String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap()
}

#[tokio::test]
async fn the_databases_id_goes_into_the_secret_once_the_other_side_is_silent() {
    let db = Db::new().await;
    let admin = db.admin().await;
    let (client, namespace) = cluster().await;
    let go = || take_over(client.clone(), &namespace, SECRET, &admin);

    assert_eq!(go().await.unwrap(), None, "nobody's database");

    installation::claim(&admin, OLD).await.unwrap();
    installation::renew(&admin, "the old cluster")
        .await
        .unwrap();
    assert_eq!(
        installation::claim(&admin, NEW).await.unwrap(),
        Claim::Other(OLD)
    );
    let refused = go().await.unwrap_err().to_string();
    assert!(
        refused.contains("the old cluster renewed its lease"),
        "{refused}"
    );
    assert_eq!(held(&client, &namespace, "id").await, NEW.to_string());

    run(
        &mut db.admin_conn().await,
        "update leases set renewed_at = now() - interval '5 minutes 1 second'",
    )
    .await;
    assert_eq!(go().await.unwrap(), Some(OLD));
    assert_eq!(held(&client, &namespace, "id").await, OLD.to_string());
    assert_eq!(held(&client, &namespace, "other").await, "stays");
    assert_eq!(installation::read(&admin).await.unwrap(), Some(OLD));
    assert_eq!(go().await.unwrap(), None, "a second time");
}

#[tokio::test]
async fn without_a_secret_the_sentence_says_what_comes_first() {
    let db = Db::new().await;
    let admin = db.admin().await;
    installation::claim(&admin, OLD).await.unwrap();
    let server = ApiServer::shared().await;
    let error = take_over(server.client(), &server.namespace().await, SECRET, &admin)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("install the chart"), "{error}");
}
