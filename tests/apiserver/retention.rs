//! What is kept when objects go: rows under `deletionPolicy: Retain`, and who may have them again.

use prowler_operator::api::{Provider, Tenant};
use serde_json::{Value, json};

use crate::support::operator::{ACCOUNT, Operator, World, aws, unique};

/// Applies an AWS Provider of the account with this policy and these annotations; its row's id.
async fn provider(
    operator: &Operator,
    world: &World,
    name: &str,
    policy: &str,
    annotations: Value,
) -> String {
    let mut spec = aws(ACCOUNT, "p-keys");
    spec["deletionPolicy"] = json!(policy);
    let object = json!({ "metadata": { "annotations": annotations }, "spec": spec });
    operator
        .try_apply::<Provider>(&world.namespace, name, object)
        .await
        .unwrap();
    let says = operator.now_says::<Provider>(&world.namespace, name).await;
    assert_eq!(says, "Current Succeeded");
    let status = operator.status::<Provider>(&world.namespace, name).await;
    status["providerId"].as_str().unwrap().to_owned()
}

fn adopt() -> Value {
    json!({ "prowler-operator.dev/adopt": "true" })
}

/// A tenant with one Provider that has been scanned once.
async fn scanned(operator: &Operator, policy: &str) -> (World, String) {
    let world = operator.tenant().await;
    operator.aws_secret(&world.namespace, "p-keys").await;
    let id = provider(operator, &world, "p", policy, json!({})).await;
    operator.running_scan(&world, "s", "p").await;
    operator.complete(&world, "s").await;
    (world, id)
}

#[tokio::test]
async fn retained_rows_are_out_of_sight_and_come_back_only_when_asked_for() {
    let operator = Operator::new().await;
    let (world, old) = scanned(&operator, "Retain").await;
    operator.deletes::<Provider>(&world.namespace, "p").await;
    assert_eq!(
        operator
            .count("providers where retained and object_uid is null")
            .await,
        1
    );
    assert_eq!(operator.count("active_providers").await, 0);
    assert_eq!(operator.count("scans where state = 'completed'").await, 1);
    // Declared again it is a new row; the old one stays as it is.
    let new = provider(&operator, &world, "p", "Delete", json!({})).await;
    assert_ne!(new, old);
    let status = operator.status::<Provider>(&world.namespace, "p").await;
    assert!(status["lastScan"].is_null(), "{status:#}");
    operator.deletes::<Provider>(&world.namespace, "p").await;
    assert_eq!(operator.sql("select id from providers").await, old);
    // Unless it is asked for.
    let again = provider(&operator, &world, "again", "Delete", adopt()).await;
    assert_eq!(again, old);
    let status = operator.status::<Provider>(&world.namespace, "again").await;
    assert_eq!(status["lastScan"]["name"], json!("s"));
    operator
        .deletes::<Provider>(&world.namespace, "again")
        .await;
    assert_eq!(operator.count("providers").await, 0);
    assert_eq!(operator.count("scans").await, 0);
}

#[tokio::test]
async fn a_deleted_row_is_never_revived_by_the_wish_to_adopt() {
    let operator = Operator::new().await;
    let (world, old) = scanned(&operator, "Delete").await;
    let job = operator.running_scan(&world, "now", "p").await;
    operator
        .pod(&job, crate::support::operator::scanning())
        .await;
    operator.delete::<Provider>(&world.namespace, "p").await;
    operator.pass::<Provider>(&world.namespace, "p").await;
    let new = provider(&operator, &world, "again", "Delete", adopt()).await;
    assert_ne!(new, old);
}

#[tokio::test]
async fn retained_rows_count_as_no_provider_of_the_tenant() {
    let operator = Operator::new().await;
    let (world, _) = scanned(&operator, "Retain").await;
    operator.deletes::<Provider>(&world.namespace, "p").await;
    let spec = json!({ "namespaces": [world.namespace], "limits": { "providers": 1 } });
    operator.tenant_is(&world.tenant, spec).await;
    let status = operator.status::<Tenant>("", &world.tenant).await;
    assert_eq!(status["providers"], json!(0));
    provider(&operator, &world, "p", "Delete", json!({})).await;
}

#[tokio::test]
async fn a_tenant_that_retains_frees_its_namespace_and_has_its_rows_again_when_it_comes_back() {
    let operator = Operator::new().await;
    let (world, old) = scanned(&operator, "Delete").await;
    let retain = json!({ "namespaces": [world.namespace], "deletionPolicy": "Retain" });
    operator.tenant_is(&world.tenant, retain.clone()).await;
    operator.deletes::<Tenant>("", &world.tenant).await;
    operator.reload().await;
    assert_eq!(operator.count("providers where retained").await, 1);
    assert_eq!(operator.count("scans").await, 1);
    assert_eq!(operator.count("tenant_namespaces").await, 0);
    let says = operator.now_says::<Provider>(&world.namespace, "p").await;
    assert_eq!(says, "InProgress TenantNotFound");
    // Another tenant may have the namespace and the account, and sees nothing of the rows.
    let other = unique("tenant");
    operator.claim(&other, &[&world.namespace]).await;
    let theirs = provider(&operator, &world, "p", "Delete", adopt()).await;
    assert_ne!(theirs, old);
    operator.deletes::<Tenant>("", &other).await;
    operator.reload().await;

    operator.tenant_is(&world.tenant, retain).await;
    operator.deletes::<Provider>(&world.namespace, "p").await;
    let again = provider(&operator, &world, "p", "Delete", adopt()).await;
    assert_eq!(again, old);
}

#[tokio::test]
async fn a_tenant_that_goes_for_good_takes_what_its_providers_kept() {
    let operator = Operator::new().await;
    let (world, _) = scanned(&operator, "Retain").await;
    operator.deletes::<Provider>(&world.namespace, "p").await;
    provider(&operator, &world, "kept", "Retain", json!({})).await;
    operator.deletes::<Tenant>("", &world.tenant).await;
    let left = operator.rows(operator.tenant_id(&world)).await;
    assert!(left.is_empty(), "{left:#?}");
    // Its Provider is left to be deleted, and goes at once.
    operator.reload().await;
    operator.deletes::<Provider>(&world.namespace, "kept").await;
}

#[tokio::test]
async fn a_namespace_given_back_keeps_the_rows_of_providers_that_retain() {
    let operator = Operator::new().await;
    let (world, old) = scanned(&operator, "Retain").await;
    let more = operator.server.namespace().await;
    operator.claim(&world.tenant, &[&more]).await;
    assert_eq!(
        operator.says::<Tenant>("", &world.tenant).await,
        "Current Succeeded"
    );
    assert_eq!(
        operator
            .sql("select id from providers where retained")
            .await,
        old
    );
    assert_eq!(operator.count("tenant_namespaces").await, 1);
    operator
        .claim(&world.tenant, &[&more, &world.namespace])
        .await;
    operator.deletes::<Provider>(&world.namespace, "p").await;
    let again = provider(&operator, &world, "p", "Delete", adopt()).await;
    assert_eq!(again, old);
}
