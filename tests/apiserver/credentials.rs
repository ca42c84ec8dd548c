//! Credentials: which Secrets and service accounts a Provider may name, and what is said while they
//! are missing, lack something or are not meant for scans.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use prowler_operator::api::Provider;
use serde_json::json;

use super::providers::{aws_with, message, now_says, provider_is};
use crate::support::operator::{ACCOUNT, Operator, World, aws};

/// Status and reason of `CredentialsResolved`.
async fn credentials(operator: &Operator, world: &World) -> String {
    let found = operator
        .condition::<Provider>(&world.namespace, "production", "CredentialsResolved")
        .await;
    let (status, reason, _) = found.unwrap();
    format!("{status} {reason}")
}

#[tokio::test]
async fn a_secret_may_come_after_the_provider_and_go_before_it() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    // Reconciling, not Stalled: it heals without an edit.
    let says = provider_is(&operator, &world, aws(ACCOUNT, "keys")).await;
    assert_eq!(says, "InProgress SecretNotFound");
    assert_eq!(credentials(&operator, &world).await, "False SecretNotFound");
    assert_eq!(
        message(&operator, &world).await,
        "spec.credentials.secretRef: there is no Secret 'keys' in this namespace."
    );
    assert_eq!(operator.count("providers").await, 0);
    operator.aws_secret(&world.namespace, "keys").await;
    assert_eq!(now_says(&operator, &world).await, "Current Succeeded");
    assert_eq!(credentials(&operator, &world).await, "True Succeeded");
    operator.delete::<Secret>(&world.namespace, "keys").await;
    assert_eq!(
        now_says(&operator, &world).await,
        "InProgress SecretNotFound"
    );
    assert_eq!(operator.count("providers").await, 1);
    operator.aws_secret(&world.namespace, "keys").await;
    assert_eq!(now_says(&operator, &world).await, "Current Succeeded");
}

#[tokio::test]
async fn every_key_that_a_secret_lacks_is_named_at_once() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    // An empty value is none.
    let data = [("aws_access_key_id", ""), ("AWS_SECRET_ACCESS_KEY", "x")];
    operator.secret(&world.namespace, "keys", true, &data).await;
    let says = provider_is(&operator, &world, aws(ACCOUNT, "keys")).await;
    assert_eq!(says, "Failed SecretKeyMissing");
    let message = message(&operator, &world).await;
    for key in ["aws_access_key_id", "aws_secret_access_key"] {
        let part = format!("Secret 'keys' lacks the key {key}.");
        assert!(message.contains(&part), "{message}");
    }
    let whole = json!({ "stringData": { "aws_access_key_id": "a", "aws_secret_access_key": "b" } });
    operator
        .patch::<Secret>(&world.namespace, "keys", whole)
        .await;
    assert_eq!(now_says(&operator, &world).await, "Current Succeeded");
}

#[tokio::test]
async fn a_secret_is_used_only_with_its_owner_s_leave() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let data = [("aws_access_key_id", "a"), ("aws_secret_access_key", "b")];
    operator
        .secret(&world.namespace, "keys", false, &data)
        .await;
    let says = provider_is(&operator, &world, aws(ACCOUNT, "keys")).await;
    assert_eq!(says, "Failed SecretNotAllowed");
    assert_eq!(
        message(&operator, &world).await,
        "spec.credentials.secretRef: Secret 'keys' is not meant for this: give it the label \
         prowler-operator.dev/credentials: \"true\"."
    );
    for (label, says) in [
        (json!("true"), "Current Succeeded"),
        (json!("yes"), "Failed SecretNotAllowed"),
        (json!("true"), "Current Succeeded"),
        (json!(null), "Failed SecretNotAllowed"),
    ] {
        let labels =
            json!({ "metadata": { "labels": { "prowler-operator.dev/credentials": label } } });
        operator
            .patch::<Secret>(&world.namespace, "keys", labels)
            .await;
        assert_eq!(now_says(&operator, &world).await, says);
    }
}

#[tokio::test]
async fn a_service_account_is_used_only_with_its_owner_s_leave() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let spec = json!({ "provider": "aws", "uid": ACCOUNT,
                       "credentials": { "serviceAccountName": "scanner" } });
    let says = provider_is(&operator, &world, spec).await;
    assert_eq!(says, "InProgress ServiceAccountNotFound");
    operator
        .service_account(&world.namespace, "scanner", false)
        .await;
    assert_eq!(
        now_says(&operator, &world).await,
        "Failed ServiceAccountNotAllowed"
    );
    let annotation =
        json!({ "metadata": { "annotations": { "prowler-operator.dev/scanner": "true" } } });
    operator
        .patch::<ServiceAccount>(&world.namespace, "scanner", annotation)
        .await;
    assert_eq!(now_says(&operator, &world).await, "Current Succeeded");
    assert_eq!(credentials(&operator, &world).await, "True Succeeded");
}

#[tokio::test]
async fn what_only_an_edit_cures_is_said_before_what_waiting_cures() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let spec = aws_with(&json!({ "scan": { "image": "evil:1" } }));
    assert_eq!(
        provider_is(&operator, &world, spec).await,
        "Failed ImageNotAllowed"
    );
    let message = message(&operator, &world).await;
    let image = message.find("evil:1").unwrap();
    let secret = message.find("no Secret 'keys'").unwrap();
    assert!(image < secret, "{message}");
    assert_eq!(credentials(&operator, &world).await, "False SecretNotFound");
    let spec = aws(ACCOUNT, "keys");
    assert_eq!(
        provider_is(&operator, &world, spec).await,
        "InProgress SecretNotFound"
    );
}
