//! The right to read Secrets where somebody is in its way: the binding is had all the same, and
//! what cannot be cured in one namespace is that namespace's trouble alone.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::PostParams;
use prowler_operator::api::Tenant;
use serde_json::json;

use super::tenants::{holder, is_bound};
use crate::support::faults::Fault;
use crate::support::operator::{Operator, Placed as _, unique};

const READER: &str = "prowler-operator-secret-reader";

/// What a user of the namespace may make: a binding of the controller's name to a role of theirs.
async fn made_by_a_user(operator: &Operator, namespace: &str, finalizers: &[&str]) {
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": READER, "finalizers": finalizers },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "theirs" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "somebody" }],
    }))
    .unwrap();
    RoleBinding::typed(&operator.client, namespace)
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
}

/// A Tenant that holds `before` and is to give it back for the other two, of which the first is
/// claimed first: (tenant, before, first, second).
async fn about_to_change(operator: &Operator) -> (String, String, String, String) {
    let before = operator.server.namespace().await;
    let mut wanted = [
        operator.server.namespace().await,
        operator.server.namespace().await,
    ];
    wanted.sort();
    let tenant = unique("tenant");
    operator.claim(&tenant, &[&before]).await;
    assert!(is_bound(operator, &before).await);
    let spec = json!({ "namespaces": wanted });
    operator.apply::<Tenant>("", &tenant, spec).await;
    let [first, second] = wanted;
    (tenant, before, first, second)
}

#[tokio::test]
async fn a_binding_of_the_controller_s_name_to_another_role_is_replaced() {
    let operator = Operator::new().await;
    let namespace = operator.server.namespace().await;
    made_by_a_user(&operator, &namespace, &[]).await;
    let tenant = unique("tenant");
    operator.claim(&tenant, &[&namespace]).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Current Succeeded"
    );
    let bound: RoleBinding = operator.get(&namespace, READER).await;
    assert_eq!(
        (&*bound.role_ref.kind, &*bound.role_ref.name),
        ("ClusterRole", READER)
    );
    let subjects = bound.subjects.unwrap_or_default();
    let names: Vec<_> = subjects.iter().map(|subject| &*subject.name).collect();
    assert_eq!(names, ["prowler-operator-controller"]);
}

#[tokio::test]
async fn a_binding_that_does_not_go_stops_its_own_namespace_and_no_other() {
    let operator = Operator::new().await;
    let (tenant, before, stuck, fine) = about_to_change(&operator).await;
    made_by_a_user(&operator, &stuck, &["example.com/stays"]).await;
    operator.pass::<Tenant>("", &tenant).await;
    assert_eq!(holder(&operator, &fine).await, tenant);
    assert!(is_bound(&operator, &fine).await);
    assert_eq!(holder(&operator, &before).await, "", "given back");
    assert!(!is_bound(&operator, &before).await);
    // Shown, as any failure, from the fourth on, and beside it what went well.
    for _ in 0..3 {
        operator.reload().await;
        operator.pass::<Tenant>("", &tenant).await;
    }
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "InProgress KubernetesUnavailable"
    );
    let message = operator.message::<Tenant>("", &tenant).await;
    let head = format!("namespace {stuck}: the Kubernetes API: ");
    assert!(message.starts_with(&head), "{message}");
    let status = operator.status::<Tenant>("", &tenant).await;
    assert_eq!(status["namespaces"], json!([stuck, fine]));

    let bare = json!({ "metadata": { "finalizers": null } });
    operator.patch::<RoleBinding>(&stuck, READER, bare).await;
    assert_eq!(
        operator.now_says::<Tenant>("", &tenant).await,
        "Current Succeeded"
    );
    let bound: RoleBinding = operator.get(&stuck, READER).await;
    assert_eq!(bound.role_ref.name, READER);
}

#[tokio::test]
async fn a_call_that_fails_in_one_namespace_stops_no_other() {
    let operator = Operator::new().await;
    let (tenant, before, hit, fine) = about_to_change(&operator).await;
    // Before the binding it is asked which Tenants there are, and for the namespace's labels.
    operator.api.arm(3, Fault::Answer(500));
    operator.pass::<Tenant>("", &tenant).await;
    let fired = operator.api.fired().unwrap_or_default();
    assert!(
        fired.contains(&format!("/namespaces/{hit}/rolebindings/")),
        "{fired}"
    );
    assert!(!is_bound(&operator, &hit).await);
    assert_eq!(holder(&operator, &fine).await, tenant);
    assert!(is_bound(&operator, &fine).await);
    assert_eq!(holder(&operator, &before).await, "", "given back");
    assert_eq!(
        operator.now_says::<Tenant>("", &tenant).await,
        "Current Succeeded"
    );
    assert!(is_bound(&operator, &hit).await);
}

#[tokio::test]
async fn a_right_that_is_not_taken_back_keeps_its_own_namespace_and_no_other() {
    let operator = Operator::new().await;
    let home = operator.server.namespace().await;
    let mut both = [
        operator.server.namespace().await,
        operator.server.namespace().await,
    ];
    both.sort();
    let [hit, fine] = &both;
    let tenant = unique("tenant");
    operator.claim(&tenant, &[&home, hit, fine]).await;
    let spec = json!({ "namespaces": [home] });
    operator.apply::<Tenant>("", &tenant, spec).await;
    // The first call asks for the binding of the namespace that stays; that it has no network
    // policy is known.
    operator.api.arm(2, Fault::Answer(500));
    operator.pass::<Tenant>("", &tenant).await;
    let fired = operator.api.fired().unwrap_or_default();
    assert!(
        fired.starts_with("DELETE ") && fired.contains(&format!("/namespaces/{hit}/")),
        "{fired}"
    );
    assert_eq!(holder(&operator, hit).await, tenant, "nobody else's yet");
    assert_eq!(holder(&operator, fine).await, "");
    assert_eq!(
        operator.now_says::<Tenant>("", &tenant).await,
        "Current Succeeded"
    );
    assert_eq!(holder(&operator, hit).await, "");
}
