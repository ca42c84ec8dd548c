//! Namespaces that a selector claims: only with their own label's leave, and given back when
//! either no longer wants it.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use prowler_operator::api::{Provider, Tenant};
use serde_json::{Value, json};

use super::tenants::{holder, is_bound};
use crate::support::operator::{ACCOUNT, OWN_NAMESPACE, Operator, World, unique};

const LABEL: &str = "prowler-operator.dev/tenant";

/// Lays labels over those of a namespace; null takes one off.
async fn label(operator: &Operator, namespace: &str, labels: Value) {
    let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
    Api::<Namespace>::all(operator.client.clone())
        .patch(namespace, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

fn of_team(team: &str) -> Value {
    json!({ "namespaceSelector": { "matchLabels": { "team": team } } })
}

/// A tenant that chooses the namespaces of a team of its own, and one that it chose.
async fn chosen(operator: &Operator) -> World {
    let world = World {
        tenant: unique("tenant"),
        namespace: operator.server.namespace().await,
    };
    let labels = json!({ "team": world.tenant, LABEL: world.tenant });
    label(operator, &world.namespace, labels).await;
    operator
        .tenant_is(&world.tenant, of_team(&world.tenant))
        .await;
    assert_eq!(holder(operator, &world.namespace).await, world.tenant);
    world
}

#[tokio::test]
async fn a_namespace_is_chosen_only_where_both_sides_want_it() {
    let operator = Operator::new().await;
    let (tenant, team) = (unique("tenant"), unique("team"));
    let mut namespaces = Vec::new();
    for labels in [
        json!({ "team": team, LABEL: tenant }),
        json!({ "team": team }),
        json!({ "team": team, LABEL: "somebody-else" }),
        json!({ "team": "another", LABEL: tenant }),
        json!({ LABEL: tenant }),
    ] {
        let namespace = operator.server.namespace().await;
        label(&operator, &namespace, labels).await;
        namespaces.push(namespace);
    }
    let listed = operator.server.namespace().await;
    let mut spec = of_team(&team);
    spec["namespaces"] = json!([listed]);
    operator.tenant_is(&tenant, spec).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Current Succeeded"
    );
    let mut held = [namespaces[0].clone(), listed.clone()];
    held.sort();
    let status = operator.status::<Tenant>("", &tenant).await;
    assert_eq!(status["namespaces"], json!(held));
    assert!(is_bound(&operator, &namespaces[0]).await);
    for namespace in &namespaces[1..] {
        assert_eq!(holder(&operator, namespace).await, "", "{namespace}");
        assert!(!is_bound(&operator, namespace).await);
    }
}

#[tokio::test]
async fn a_namespace_whose_label_goes_is_given_back_with_all_that_lived_in_it() {
    for taken in [LABEL, "team"] {
        let operator = Operator::new().await;
        let world = chosen(&operator).await;
        operator.provider(&world, "production", ACCOUNT).await;
        label(&operator, &world.namespace, json!({ taken: null })).await;
        operator.follow::<Tenant>("", &world.tenant).await;
        assert_eq!(holder(&operator, &world.namespace).await, "", "{taken}");
        assert_eq!(operator.count("providers").await, 0);
        assert!(!is_bound(&operator, &world.namespace).await);
        operator.reload().await;
        assert_eq!(
            operator
                .now_says::<Provider>(&world.namespace, "production")
                .await,
            "InProgress TenantNotFound"
        );
    }
}

#[tokio::test]
async fn a_namespace_that_is_away_is_kept_until_it_is_back_as_another_s() {
    let operator = Operator::on(
        crate::support::apiserver::ApiServer::alone().await,
        crate::support::db::Db::new().await,
        crate::support::operator::config(),
    )
    .await;
    let world = chosen(&operator).await;
    operator.provider(&world, "production", ACCOUNT).await;
    let stored = operator.sql("select id from providers").await;
    operator
        .server
        .run_controllers(&["namespace-controller", "garbage-collector-controller"]);
    // A cluster that lost its objects: no finalizer was asked.
    let none = json!({ "metadata": { "finalizers": null } });
    operator
        .patch::<Provider>(&world.namespace, "production", none)
        .await;
    let namespaces = Api::<Namespace>::all(operator.client.clone());
    namespaces
        .delete(&world.namespace, &DeleteParams::default())
        .await
        .unwrap();
    while namespaces
        .get_opt(&world.namespace)
        .await
        .unwrap()
        .is_some()
    {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    operator.follow::<Tenant>("", &world.tenant).await;
    assert_eq!(holder(&operator, &world.namespace).await, world.tenant);
    assert_eq!(operator.sql("select id from providers").await, stored);

    operator.make_namespace(&world.namespace).await;
    let labels = json!({ "team": world.tenant, LABEL: world.tenant });
    label(&operator, &world.namespace, labels).await;
    operator.follow::<Tenant>("", &world.tenant).await;
    operator.provider(&world, "production", ACCOUNT).await;
    assert_eq!(operator.sql("select id from providers").await, stored);

    // Now somebody else's.
    label(&operator, &world.namespace, json!({ LABEL: "somebody" })).await;
    operator.follow::<Tenant>("", &world.tenant).await;
    assert_eq!(holder(&operator, &world.namespace).await, "");
}

#[tokio::test]
async fn whoever_was_first_has_it_whether_by_list_or_by_selector() {
    let operator = Operator::new().await;
    // The elder chooses, the younger lists; nobody has claimed yet.
    let (elder, younger) = (unique("tenant"), unique("tenant"));
    let namespace = operator.server.namespace().await;
    let labels = json!({ "team": elder, LABEL: elder });
    label(&operator, &namespace, labels).await;
    operator.apply::<Tenant>("", &elder, of_team(&elder)).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    operator.claim(&younger, &[&namespace]).await;
    assert_eq!(
        operator.says::<Tenant>("", &younger).await,
        "Failed NamespaceConflict"
    );
    operator.follow::<Tenant>("", &elder).await;
    assert_eq!(holder(&operator, &namespace).await, elder);

    // The row decides from now on, whatever the labels say of the younger.
    label(&operator, &namespace, json!({ LABEL: younger })).await;
    operator.follow::<Tenant>("", &elder).await;
    assert_eq!(
        operator.now_says::<Tenant>("", &younger).await,
        "Current Succeeded"
    );
    label(&operator, &namespace, json!({ LABEL: elder })).await;
    operator.follow::<Tenant>("", &younger).await;
    assert_eq!(holder(&operator, &namespace).await, younger);
    operator.follow::<Tenant>("", &elder).await;
    let message = operator.message::<Tenant>("", &elder).await;
    assert_eq!(
        message,
        format!(
            "Namespace {namespace} belongs to Tenant {younger}; remove its label {LABEL} here, or have it given back there."
        )
    );
}

#[tokio::test]
async fn what_no_tenant_may_have_no_label_gives_it() {
    let operator = Operator::new().await;
    let tenant = unique("tenant");
    let denied = unique("denied");
    for namespace in [OWN_NAMESPACE, &denied] {
        operator.make_namespace(namespace).await;
        let labels = json!({ "team": tenant, LABEL: tenant });
        label(&operator, namespace, labels).await;
    }
    operator.tenant_is(&tenant, of_team(&tenant)).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Failed NamespaceDenied"
    );
    let message = operator.message::<Tenant>("", &tenant).await;
    for namespace in [OWN_NAMESPACE, &denied] {
        let part = format!(
            "Namespace {namespace} can belong to no tenant in this installation; remove its label {LABEL}."
        );
        assert!(message.contains(&part), "{message}");
        assert_eq!(holder(&operator, namespace).await, "");
        label(&operator, namespace, json!({ LABEL: null })).await;
    }
    operator.follow::<Tenant>("", &tenant).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Current Succeeded"
    );
}

#[tokio::test]
async fn a_status_names_a_hundred_namespaces_of_as_many_as_there_are() {
    let operator = Operator::new().await;
    let tenant = unique("tenant");
    for n in 0..101 {
        let namespace = format!("{tenant}-{n}");
        operator.make_namespace(&namespace).await;
        label(
            &operator,
            &namespace,
            json!({ "team": tenant, LABEL: tenant }),
        )
        .await;
    }
    operator.tenant_is(&tenant, of_team(&tenant)).await;
    assert_eq!(
        operator.message::<Tenant>("", &tenant).await,
        "Holds 101 namespaces."
    );
    let status = operator.status::<Tenant>("", &tenant).await;
    assert_eq!(status["namespaces"].as_array().unwrap().len(), 100);
    assert_eq!(operator.count("tenant_namespaces").await, 101);
}

#[tokio::test]
async fn a_name_that_no_label_can_carry_is_told() {
    let operator = Operator::new().await;
    let tenant = format!("{}-{}", unique("tenant"), "x".repeat(60));
    operator.tenant_is(&tenant, of_team("a")).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Failed InvalidSpec"
    );
    let message = operator.message::<Tenant>("", &tenant).await;
    assert!(message.starts_with("spec.namespaceSelector: the name of this Tenant is longer"));
}
