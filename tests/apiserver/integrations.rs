//! Integrations: what is stored of them, what they may name, and that no two send one account's
//! findings to Security Hub.

use k8s_openapi::api::core::v1::Secret;
use prowler_operator::api::{Integration, Provider, Tenant};
use serde_json::{Value, json};

use crate::support::operator::{ACCOUNT, Operator, World};

const ROWS: &str = "select string_agg(concat_ws(' ', i.name, integration_type, enabled, configuration, credentials->>'secret',
                      (select string_agg(p.name, ',' order by p.name) from integration_provider_mappings m
                       join providers p on p.id = m.provider_id where m.integration_id = i.id)), '; ' order by i.name)
                    from integrations i";

fn bucket(providers: &[&str]) -> Value {
    let providers: Vec<_> = providers
        .iter()
        .map(|name| json!({ "name": name }))
        .collect();
    json!({ "type": "amazon_s3", "configuration": { "bucketName": "acme", "outputDirectory": "/a//b/" },
            "providerRefs": providers, "credentials": { "secretRef": { "name": "keys" } } })
}

fn hub(provider: &str) -> Value {
    json!({ "type": "aws_security_hub", "providerRefs": [{ "name": provider }] })
}

async fn becomes(operator: &Operator, world: &World, name: &str, spec: Value) -> String {
    operator
        .becomes::<Integration>(&world.namespace, name, spec)
        .await
}

async fn message(operator: &Operator, world: &World, name: &str) -> String {
    operator
        .message::<Integration>(&world.namespace, name)
        .await
}

async fn now_says(operator: &Operator, world: &World, name: &str) -> String {
    operator
        .now_says::<Integration>(&world.namespace, name)
        .await
}

#[tokio::test]
async fn an_integration_is_stored_as_it_is_and_goes_with_its_object() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    operator.provider(&world, "q", "210987654321").await;
    operator.aws_secret(&world.namespace, "keys").await;
    let says = becomes(&operator, &world, "bucket", bucket(&["p", "q"])).await;
    assert_eq!(says, "Current Succeeded");
    assert_eq!(
        message(&operator, &world, "bucket").await,
        "amazon_s3 for 2 providers is stored."
    );
    let stored = r#"{"bucket_name": "acme", "output_directory": "a/b"}"#;
    assert_eq!(
        operator.sql(ROWS).await,
        format!("bucket amazon_s3 t {stored} keys p,q")
    );
    let mut spec = bucket(&["q"]);
    spec["enabled"] = json!(false);
    becomes(&operator, &world, "bucket", spec).await;
    assert_eq!(
        operator.sql(ROWS).await,
        format!("bucket amazon_s3 f {stored} keys q")
    );
    assert_eq!(
        message(&operator, &world, "bucket").await,
        "amazon_s3 for 1 provider is stored; nothing is sent while spec.enabled is false."
    );
    operator
        .deletes::<Integration>(&world.namespace, "bucket")
        .await;
    assert_eq!(operator.count("integrations").await, 0);
    assert_eq!(operator.count("integration_provider_mappings").await, 0);
}

#[tokio::test]
async fn a_provider_may_come_later_and_go_first() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    operator.aws_secret(&world.namespace, "keys").await;
    let says = becomes(&operator, &world, "bucket", bucket(&["p", "q"])).await;
    assert_eq!(says, "InProgress ProviderNotFound");
    assert_eq!(
        message(&operator, &world, "bucket").await,
        "No stored Provider here is named q."
    );
    // The one that is there does not wait for the other.
    assert_eq!(operator.count("integration_provider_mappings").await, 1);
    operator.provider(&world, "q", "210987654321").await;
    assert_eq!(
        now_says(&operator, &world, "bucket").await,
        "Current Succeeded"
    );
    operator.deletes::<Provider>(&world.namespace, "p").await;
    assert_eq!(
        now_says(&operator, &world, "bucket").await,
        "InProgress ProviderNotFound"
    );
    let status = operator
        .status::<Integration>(&world.namespace, "bucket")
        .await;
    assert_eq!(status["providers"], json!(1));
}

#[tokio::test]
async fn a_secret_is_asked_for_key_by_key_and_no_value_is_told() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let jira = json!({ "type": "jira", "credentials": { "secretRef": { "name": "jira" } } });
    let says = becomes(&operator, &world, "tracker", jira).await;
    assert_eq!(says, "InProgress SecretNotFound");
    let data = [("user_mail", "hush"), ("domain", "acme.atlassian.net")];
    operator
        .secret(&world.namespace, "jira", false, &data)
        .await;
    assert_eq!(
        now_says(&operator, &world, "tracker").await,
        "Failed SecretNotAllowed"
    );
    let label = json!({ "metadata": { "labels": { "prowler-operator.dev/credentials": "true" } } });
    operator
        .patch::<Secret>(&world.namespace, "jira", label)
        .await;
    assert_eq!(
        now_says(&operator, &world, "tracker").await,
        "Failed SecretKeyMissing"
    );
    let told = message(&operator, &world, "tracker").await;
    for part in [
        "Secret 'jira' lacks the key api_token.",
        "Secret 'jira': user_mail is not an e-mail address.",
        "Secret 'jira': domain is not the name of a site",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains("hush"), "{told}");
    let whole = json!({ "stringData": { "user_mail": "a@example.com", "api_token": "x", "domain": "acme" } });
    operator
        .patch::<Secret>(&world.namespace, "jira", whole)
        .await;
    assert_eq!(
        now_says(&operator, &world, "tracker").await,
        "Current Succeeded"
    );
    assert_eq!(
        message(&operator, &world, "tracker").await,
        "jira for the tenant is stored."
    );
}

#[tokio::test]
async fn no_two_send_an_account_s_findings_to_one_hub() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    let says = becomes(&operator, &world, "one", hub("p")).await;
    assert_eq!(says, "Current Succeeded");
    let says = becomes(&operator, &world, "two", hub("p")).await;
    assert_eq!(says, "Failed DuplicateIntegration");
    assert_eq!(
        message(&operator, &world, "two").await,
        format!(
            "Integration {}/one already sends the findings of this Provider to Security Hub; \
             delete one of the two.",
            world.namespace
        )
    );
    assert_eq!(operator.count("integrations").await, 1);
    operator
        .deletes::<Integration>(&world.namespace, "one")
        .await;
    assert_eq!(
        now_says(&operator, &world, "two").await,
        "Current Succeeded"
    );
    // An object that went without its finalizer holds nothing.
    operator
        .vanishes::<Integration>(&world.namespace, "two")
        .await;
    let says = becomes(&operator, &world, "three", hub("p")).await;
    assert_eq!(says, "Current Succeeded");
    assert_eq!(operator.count("integrations").await, 1);
}

#[tokio::test]
async fn a_hub_takes_only_aws_accounts_and_a_refused_one_rests_all_the_same() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    let repository = json!({ "provider": "iac", "uid": "https://example.com/acme.git" });
    operator
        .becomes::<Provider>(&world.namespace, "code", repository)
        .await;
    becomes(&operator, &world, "hub", hub("p")).await;
    let mut spec = hub("code");
    spec["enabled"] = json!(false);
    let says = becomes(&operator, &world, "hub", spec).await;
    assert_eq!(says, "Failed InvalidSpec");
    assert_eq!(
        message(&operator, &world, "hub").await,
        "spec.providerRefs: Provider 'code' is of type iac: Security Hub takes the findings of aws accounts."
    );
    let stored = r#"{"send_only_fails": false, "archive_previous_findings": false}"#;
    assert_eq!(
        operator.sql(ROWS).await,
        format!("hub aws_security_hub f {stored} p")
    );
}

#[tokio::test]
async fn an_integration_of_a_namespace_that_is_given_back_goes() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    becomes(&operator, &world, "hub", hub("p")).await;
    operator.deletes::<Tenant>("", &world.tenant).await;
    assert_eq!(operator.count("integrations").await, 0);
    assert_eq!(
        now_says(&operator, &world, "hub").await,
        "InProgress TenantNotFound"
    );
    let status = operator
        .status::<Integration>(&world.namespace, "hub")
        .await;
    assert_eq!(
        (&status["integrationId"], &status["providers"]),
        (&json!(null), &json!(null))
    );
}
