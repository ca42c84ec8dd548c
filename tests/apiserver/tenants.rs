//! Tenants: who gets a namespace, and what becomes of all that lived in one that changes hands.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::RoleBinding;
use prowler_operator::api::{
    Integration, MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant,
};
use serde_json::json;

use crate::support::operator::{ACCOUNT, OWN_NAMESPACE, Operator, World, scanning, unique};

/// Whether the controller may read the labelled Secrets of the namespace.
pub async fn is_bound(operator: &Operator, namespace: &str) -> bool {
    let name = "prowler-operator-secret-reader";
    !operator.is_gone::<RoleBinding>(namespace, name).await
}

pub async fn holder(operator: &Operator, namespace: &str) -> String {
    operator
        .sql(&format!(
            "select t.name from tenants t join tenant_namespaces n on n.tenant_id = t.id
             where n.namespace = '{namespace}'"
        ))
        .await
}

#[tokio::test]
async fn a_tenant_holds_the_namespaces_it_lists_and_no_other() {
    let operator = Operator::new().await;
    let [a, b, other] = three_namespaces(&operator).await;
    let tenant = unique("tenant");
    operator.claim(&tenant, &[&b, &a]).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Current Succeeded"
    );
    let status = operator.status::<Tenant>("", &tenant).await;
    let mut both = [a.clone(), b.clone()];
    both.sort();
    assert_eq!(status["namespaces"], json!(both));
    let id = operator.cx.installation.tenant(&tenant);
    assert_eq!(status["tenantId"], json!(id.to_string()));
    assert_eq!(holder(&operator, &a).await, tenant);
    assert_eq!(holder(&operator, &other).await, "");
    assert!(is_bound(&operator, &a).await && is_bound(&operator, &b).await);
    assert!(!is_bound(&operator, &other).await);

    operator.claim(&tenant, &[&a, &other]).await;
    let status = operator.status::<Tenant>("", &tenant).await;
    let mut both = [a.clone(), other.clone()];
    both.sort();
    assert_eq!(status["namespaces"], json!(both));
    assert_eq!(holder(&operator, &b).await, "");
    assert!(!is_bound(&operator, &b).await, "the right is taken back");
    assert!(is_bound(&operator, &other).await);
}

async fn three_namespaces(operator: &Operator) -> [String; 3] {
    [
        operator.server.namespace().await,
        operator.server.namespace().await,
        operator.server.namespace().await,
    ]
}

#[tokio::test]
async fn the_second_to_claim_a_namespace_has_it_when_the_first_lets_go() {
    let operator = Operator::new().await;
    let [shared, home, own] = three_namespaces(&operator).await;
    let (one, two) = (unique("tenant"), unique("tenant"));
    operator.claim(&one, &[&home, &shared]).await;
    operator.claim(&two, &[&own, &shared]).await;
    assert_eq!(
        operator.says::<Tenant>("", &two).await,
        "Failed NamespaceConflict"
    );
    assert_eq!(
        operator.message::<Tenant>("", &two).await,
        format!(
            "Namespace {shared} belongs to Tenant {one}; remove it from spec.namespaces here, or have it given back there."
        )
    );
    // The rest is its own all the same.
    let status = operator.status::<Tenant>("", &two).await;
    assert_eq!(status["namespaces"], json!([own]));
    assert_eq!(operator.says::<Tenant>("", &one).await, "Current Succeeded");

    operator.claim(&one, &[&home]).await;
    assert_eq!(
        operator.now_says::<Tenant>("", &two).await,
        "Current Succeeded"
    );
    assert_eq!(holder(&operator, &shared).await, two);
    // And now the first is the second.
    operator.reload().await;
    operator.claim(&one, &[&home, &shared]).await;
    assert_eq!(
        operator.says::<Tenant>("", &one).await,
        "Failed NamespaceConflict"
    );
    operator.deletes::<Tenant>("", &two).await;
    assert_eq!(
        operator.now_says::<Tenant>("", &one).await,
        "Current Succeeded"
    );
    assert_eq!(holder(&operator, &shared).await, one);
}

#[tokio::test]
async fn a_namespace_that_nobody_holds_goes_to_the_elder_whoever_is_looked_at_first() {
    let operator = Operator::new().await;
    let namespace = operator.server.namespace().await;
    // Made within a second, the name decides.
    let (elder, younger) = (format!("{namespace}-a"), format!("{namespace}-b"));
    let spec = json!({ "namespaces": [namespace] });
    operator.apply::<Tenant>("", &elder, spec.clone()).await;
    operator.apply::<Tenant>("", &younger, spec).await;
    for (tenant, says) in [
        (&younger, "Failed NamespaceConflict"),
        (&elder, "Current Succeeded"),
        (&younger, "Failed NamespaceConflict"),
    ] {
        assert_eq!(operator.now_says::<Tenant>("", tenant).await, says);
        operator.reload().await;
    }
    assert_eq!(holder(&operator, &namespace).await, elder);
}

#[tokio::test]
async fn two_controllers_give_a_namespace_to_one_tenant() {
    let operator = Operator::new().await;
    let other = operator.beside(0).await;
    for _ in 0..5 {
        let namespace = operator.server.namespace().await;
        let tenants = [unique("tenant"), unique("tenant")];
        for tenant in &tenants {
            let spec = json!({ "namespaces": [namespace] });
            operator.apply::<Tenant>("", tenant, spec).await;
            operator.pass::<Tenant>("", tenant).await;
        }
        tokio::join!(
            operator.follow::<Tenant>("", &tenants[0]),
            other.follow::<Tenant>("", &tenants[1]),
        );
        let mut says = Vec::new();
        for tenant in &tenants {
            says.push(operator.says::<Tenant>("", tenant).await);
        }
        says.sort();
        assert_eq!(says, ["Current Succeeded", "Failed NamespaceConflict"]);
    }
}

#[tokio::test]
async fn namespaces_that_can_be_nobody_s_are_named_all_at_once_and_the_others_held() {
    let operator = Operator::new().await;
    let [own, taken, _] = three_namespaces(&operator).await;
    let (first, tenant) = (unique("tenant"), unique("tenant"));
    operator.claim(&first, &[&taken]).await;
    let namespaces = ["denied-here", OWN_NAMESPACE, &taken, &own];
    operator.claim(&tenant, &namespaces).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Failed NamespaceDenied"
    );
    let message = operator.message::<Tenant>("", &tenant).await;
    for part in [
        "Namespace denied-here can belong to no tenant",
        &format!("Namespace {OWN_NAMESPACE} can belong to no tenant"),
        &format!("Namespace {taken} belongs to Tenant {first}"),
    ] {
        assert!(message.contains(part), "{message}");
    }
    let status = operator.status::<Tenant>("", &tenant).await;
    assert_eq!(status["namespaces"], json!([own]));
    assert_eq!(holder(&operator, OWN_NAMESPACE).await, "");
    operator.claim(&tenant, &[&own]).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Current Succeeded"
    );
}

#[tokio::test]
async fn where_the_operator_has_no_rights_nothing_new_is_claimed_and_nothing_stored_is_lost() {
    let mut operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    let elsewhere = operator.server.namespace().await;
    operator
        .reconfigure(json!({ "rbac": { "namespaces": ["another"] } }))
        .await;
    operator
        .claim(&world.tenant, &[&world.namespace, &elsewhere])
        .await;
    assert_eq!(
        operator.says::<Tenant>("", &world.tenant).await,
        "Failed NamespaceDenied"
    );
    let message = operator.message::<Tenant>("", &world.tenant).await;
    for namespace in [&world.namespace, &elsewhere] {
        let sentence = format!("Namespace {namespace} is none of those in which the operator has");
        assert!(message.contains(&sentence), "{message}");
    }
    assert_eq!(holder(&operator, &elsewhere).await, "");
    assert_eq!(holder(&operator, &world.namespace).await, world.tenant);
    let kept = "select count(*) from providers where not is_deleted";
    assert_eq!(operator.sql(kept).await, "1");
}

#[tokio::test]
async fn a_namespace_may_be_claimed_before_it_exists_and_after_it_went() {
    let operator = Operator::new().await;
    let (tenant, later) = (unique("tenant"), unique("later"));
    operator.claim(&tenant, &[&later]).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Current Succeeded"
    );
    assert_eq!(holder(&operator, &later).await, tenant);
    operator.make_namespace(&later).await;
    assert_eq!(
        operator.now_says::<Tenant>("", &tenant).await,
        "Current Succeeded"
    );
    assert!(is_bound(&operator, &later).await);
}

#[tokio::test]
async fn a_namespace_given_back_is_emptied_before_another_tenant_has_it() {
    let operator = Operator::new().await;
    let [moving, home, _] = three_namespaces(&operator).await;
    let one = World {
        tenant: unique("tenant"),
        namespace: moving.clone(),
    };
    let two = unique("tenant");
    operator.claim(&one.tenant, &[&moving, &home]).await;
    operator.provider(&one, "production", ACCOUNT).await;
    let refs = json!([{ "name": "production" }]);
    let spec = json!({ "providerRefs": refs });
    operator
        .apply::<ProviderGroup>(&moving, "group", spec)
        .await;
    let spec =
        json!({ "permissions": ["MANAGE_SCANS"], "providerGroupRefs": [{ "name": "group" }] });
    operator.apply::<Role>(&moving, "auditor", spec).await;
    let spec = json!({ "schedule": "0 2 * * *", "providerRefs": refs });
    operator
        .apply::<ScanSchedule>(&moving, "nightly", spec)
        .await;
    let spec = json!({ "reason": "accepted", "findingUids": ["a"] });
    operator.apply::<MuteRule>(&moving, "rule", spec).await;
    let spec = json!({ "type": "amazon_s3", "configuration": { "bucketName": "acme" },
                       "providerRefs": [{ "name": "production" }],
                       "credentials": { "secretRef": { "name": "keys" } } });
    operator.apply::<Integration>(&moving, "bucket", spec).await;
    operator.running_scan(&one, "past", "production").await;
    operator.complete(&one, "past").await;
    operator.settle(&one).await;
    let job = operator.running_scan(&one, "now", "production").await;
    operator.pod(&job, scanning()).await;
    let before = operator.status::<Provider>(&moving, "production").await;
    assert_eq!(before["lastScan"]["name"], json!("past"));
    assert!(connected(&operator, &moving).await.is_some());
    operator.claim(&two, &[&moving]).await;

    let less = json!({ "namespaces": [home] });
    operator.apply::<Tenant>("", &one.tenant, less).await;
    operator.pass::<Tenant>("", &one.tenant).await;
    assert_eq!(
        operator.says::<Tenant>("", &one.tenant).await,
        "InProgress Progressing"
    );
    assert_eq!(
        operator.message::<Tenant>("", &one.tenant).await,
        "Waiting for the pods of 1 scans to end."
    );
    // As long as a pod runs the namespace is the first tenant's, and nothing new is stored there.
    operator.round(&one).await;
    assert_eq!(
        operator.now_says::<Tenant>("", &two).await,
        "Failed NamespaceConflict"
    );
    assert_eq!(
        operator.says::<Provider>(&moving, "production").await,
        "InProgress TenantNotFound"
    );
    shows_no_rows(&operator, &moving).await;

    operator.collect_garbage(&one).await;
    assert_eq!(
        operator.now_says::<Tenant>("", &one.tenant).await,
        "Current Succeeded"
    );
    let left = operator.rows(operator.tenant_id(&one)).await;
    let tables: Vec<_> = left.keys().collect();
    assert_eq!(tables, ["tenant_namespaces", "tenants"], "{left:#?}");
    assert_eq!(left["tenant_namespaces"][0]["namespace"], json!(home));

    assert_eq!(
        operator.now_says::<Tenant>("", &two).await,
        "Current Succeeded"
    );
    operator.reload().await;
    assert_eq!(
        operator.now_says::<Provider>(&moving, "production").await,
        "Current Succeeded"
    );
    let after = operator.status::<Provider>(&moving, "production").await;
    assert_eq!(after["tenant"], json!(two));
    assert_ne!(after["providerId"], before["providerId"]);
    assert!(after["lastScan"].is_null(), "the other tenant's: {after:#}");
    let now = connected(&operator, &moving).await.map(|(state, ..)| state);
    assert_eq!(now.as_deref(), Some("Unknown"), "the row is new");
    // Scans say how they went as long as they are there.
    for (scan, says) in [
        ("past", "Current Completed"),
        ("now", "Failed ProviderDeleted"),
    ] {
        assert_eq!(operator.now_says::<Scan>(&moving, scan).await, says);
    }
}

/// Nothing of a tenant that no longer holds the namespace is left in the objects' statuses.
async fn shows_no_rows(operator: &Operator, namespace: &str) {
    let provider = operator.status::<Provider>(namespace, "production").await;
    let group = operator.status::<ProviderGroup>(namespace, "group").await;
    let role = operator.status::<Role>(namespace, "auditor").await;
    let schedule = operator.status::<ScanSchedule>(namespace, "nightly").await;
    let muted = operator.status::<MuteRule>(namespace, "rule").await;
    let bucket = operator.status::<Integration>(namespace, "bucket").await;
    for shown in [
        &provider["tenant"],
        &provider["providerId"],
        &provider["lastScan"],
        &provider["deletion"],
        &group["groupId"],
        &group["providers"],
        &role["roleId"],
        &role["permissions"],
        &schedule["scheduleId"],
        &schedule["nextScheduleTime"],
        &muted["ruleId"],
        &muted["findings"],
        &bucket["integrationId"],
        &bucket["providers"],
    ] {
        assert!(
            shown.is_null(),
            "{provider:#} {group:#} {role:#} {schedule:#} {muted:#} {bucket:#}"
        );
    }
    for kind in ["Connected", "CredentialsResolved"] {
        let said = operator
            .condition::<Provider>(namespace, "production", kind)
            .await;
        assert_eq!(said, None, "{kind}");
    }
}

/// What the Provider says of the connection to its account.
async fn connected(operator: &Operator, namespace: &str) -> Option<(String, String, String)> {
    operator
        .condition::<Provider>(namespace, "production", "Connected")
        .await
}

#[tokio::test]
async fn a_provider_that_no_pass_saw_unclaimed_shows_nothing_from_before_either() {
    let operator = Operator::new().await;
    let [moving, home, _] = three_namespaces(&operator).await;
    let one = World {
        tenant: unique("tenant"),
        namespace: moving.clone(),
    };
    operator.claim(&one.tenant, &[&moving, &home]).await;
    operator.provider(&one, "production", ACCOUNT).await;
    operator.running_scan(&one, "past", "production").await;
    operator.complete(&one, "past").await;
    operator.settle(&one).await;
    let before = operator.status::<Provider>(&moving, "production").await;
    assert_eq!(before["lastScan"]["name"], json!("past"));
    assert!(connected(&operator, &moving).await.is_some());

    // Given back and claimed again: the same tenant, another row.
    operator.claim(&one.tenant, &[&home]).await;
    operator.claim(&one.tenant, &[&moving, &home]).await;
    assert_eq!(
        operator.now_says::<Provider>(&moving, "production").await,
        "Current Succeeded"
    );
    let after = operator.status::<Provider>(&moving, "production").await;
    assert_ne!(after["providerId"], before["providerId"]);
    assert!(after["lastScan"].is_null(), "{after:#}");
    let now = connected(&operator, &moving).await.map(|(state, ..)| state);
    assert_eq!(now.as_deref(), Some("Unknown"), "the row is new");

    // Another tenant, which has no row of it yet.
    let two = unique("tenant");
    operator.claim(&one.tenant, &[&home]).await;
    operator.claim(&two, &[&moving]).await;
    operator.delete::<Secret>(&moving, "production-keys").await;
    assert_eq!(
        operator.now_says::<Provider>(&moving, "production").await,
        "InProgress SecretNotFound"
    );
    let after = operator.status::<Provider>(&moving, "production").await;
    assert_eq!(
        json!([after["tenant"], after["providerId"]]),
        json!([null, null])
    );
}
