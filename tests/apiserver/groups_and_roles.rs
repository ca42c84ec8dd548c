//! Provider groups and roles: who belongs, who may what, and that the rows follow every change.

use prowler_operator::api::{Provider, ProviderGroup, Role};
use serde_json::{Value, json};

use crate::support::operator::{ACCOUNT, Operator, World, aws};

/// A stored Provider with this label.
async fn labelled(operator: &Operator, world: &World, name: &str, uid: &str, env: &str) {
    let keys = format!("{name}-keys");
    operator.aws_secret(&world.namespace, &keys).await;
    let object = json!({ "metadata": { "labels": { "env": env } }, "spec": aws(uid, &keys) });
    operator
        .try_apply::<Provider>(&world.namespace, name, object)
        .await
        .unwrap();
    operator.follow::<Provider>(&world.namespace, name).await;
}

/// Passes over the group; the members its row has, as namespace/name.
async fn members(operator: &Operator, world: &World, group: &str) -> Vec<String> {
    operator
        .follow::<ProviderGroup>(&world.namespace, group)
        .await;
    let members = operator
        .list_of(&format!(
            "select p.namespace || '/' || p.name from provider_group_memberships m
             join providers p on p.tenant_id = m.tenant_id and p.id = m.provider_id
             join provider_groups g on g.tenant_id = m.tenant_id and g.id = m.provider_group_id
             where g.namespace = '{}' and g.name = '{group}'",
            world.namespace
        ))
        .await;
    let status = operator
        .status::<ProviderGroup>(&world.namespace, group)
        .await;
    assert_eq!(status["providers"], json!(members.len()));
    members
}

fn chosen(env: &str) -> Value {
    json!({ "matchLabels": { "env": env } })
}

/// A tenant with a second namespace.
async fn two_places(operator: &Operator) -> (World, World) {
    let world = operator.tenant().await;
    let more = operator.server.namespace().await;
    let both = [&*world.namespace, &*more];
    operator.claim(&world.tenant, &both).await;
    let there = world.at(&more);
    (world, there)
}

#[tokio::test]
async fn members_are_those_named_and_those_chosen_and_follow_their_labels() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let place = |name: &str| format!("{}/{name}", world.namespace);
    labelled(&operator, &world, "a", ACCOUNT, "prod").await;
    labelled(&operator, &world, "b", "222222222222", "dev").await;
    labelled(&operator, &world, "c", "333333333333", "dev").await;
    let spec = json!({ "providerRefs": [{ "name": "b" }], "selector": chosen("prod") });
    let says = operator
        .becomes::<ProviderGroup>(&world.namespace, "group", spec)
        .await;
    assert_eq!(says, "Current Succeeded");
    let group = async || members(&operator, &world, "group").await;
    assert_eq!(group().await, [place("a"), place("b")]);
    // A label moves a provider in, another out; a name stays.
    let label = |env: &str| json!({ "metadata": { "labels": { "env": env } } });
    for (name, env, expected) in [
        ("c", "prod", vec![place("a"), place("b"), place("c")]),
        ("a", "dev", vec![place("b"), place("c")]),
        ("b", "prod", vec![place("b"), place("c")]),
    ] {
        operator
            .patch::<Provider>(&world.namespace, name, label(env))
            .await;
        operator.follow::<Provider>(&world.namespace, name).await;
        assert_eq!(group().await, expected, "{name} becomes {env}");
    }
    // Its own spec changes: the rows are those of the new one.
    let spec = json!({ "selector": chosen("dev") });
    operator
        .apply::<ProviderGroup>(&world.namespace, "group", spec)
        .await;
    assert_eq!(group().await, [place("a")]);
    operator.deletes::<Provider>(&world.namespace, "a").await;
    assert_eq!(group().await, [""; 0]);
    operator
        .deletes::<ProviderGroup>(&world.namespace, "group")
        .await;
    assert_eq!(operator.count("provider_groups").await, 0);
}

#[tokio::test]
async fn a_selector_reaches_the_whole_tenant_only_where_roles_count() {
    let operator = Operator::new().await;
    let (here, there) = two_places(&operator).await;
    labelled(&operator, &here, "a", ACCOUNT, "prod").await;
    labelled(&operator, &there, "b", "222222222222", "prod").await;
    let stranger = operator.tenant().await;
    labelled(&operator, &stranger, "c", "333333333333", "prod").await;
    let spec = json!({ "selector": chosen("prod") });
    for world in [&here, &there] {
        operator
            .apply::<ProviderGroup>(&world.namespace, "group", spec.clone())
            .await;
    }
    let (a, b) = (
        format!("{}/a", here.namespace),
        format!("{}/b", there.namespace),
    );
    let mut both = [a.clone(), b.clone()];
    both.sort();
    assert_eq!(members(&operator, &here, "group").await, both);
    assert_eq!(members(&operator, &there, "group").await, [b]);
    let spec = json!({ "namespaces": [here.namespace, there.namespace],
                       "roleNamespaces": [there.namespace] });
    operator.tenant_is(&here.tenant, spec).await;
    assert_eq!(members(&operator, &here, "group").await, [a]);
    assert_eq!(members(&operator, &there, "group").await, both);
}

#[tokio::test]
async fn a_name_that_is_missing_is_waited_for_and_the_others_belong() {
    let operator = Operator::new().await;
    let (here, there) = two_places(&operator).await;
    labelled(&operator, &here, "a", ACCOUNT, "prod").await;
    // Of that name, but elsewhere.
    labelled(&operator, &there, "late", "222222222222", "prod").await;
    let spec = json!({ "providerRefs": [{ "name": "late" }, { "name": "a" }] });
    let says = operator
        .becomes::<ProviderGroup>(&here.namespace, "group", spec)
        .await;
    assert_eq!(says, "InProgress ProviderNotFound");
    assert_eq!(
        operator
            .message::<ProviderGroup>(&here.namespace, "group")
            .await,
        "No stored Provider here is named late."
    );
    let a = format!("{}/a", here.namespace);
    assert_eq!(members(&operator, &here, "group").await, [&*a]);
    // There, but itself not ready: that is something else to mend.
    let spec = json!({ "providerRefs": [{ "name": "unready" }, { "name": "a" }] });
    operator
        .becomes::<Provider>(&here.namespace, "unready", aws("444444444444", "none"))
        .await;
    let says = operator
        .becomes::<ProviderGroup>(&here.namespace, "another", spec)
        .await;
    assert_eq!(says, "InProgress DependencyNotReady");
    assert_eq!(
        operator
            .message::<ProviderGroup>(&here.namespace, "another")
            .await,
        "Provider unready is not ready: SecretNotFound."
    );
    labelled(&operator, &here, "late", "333333333333", "prod").await;
    let late = format!("{}/late", here.namespace);
    assert_eq!(members(&operator, &here, "group").await, [a, late]);
    let says = operator
        .says::<ProviderGroup>(&here.namespace, "group")
        .await;
    assert_eq!(says, "Current Succeeded");
}

/// What the role's row permits, in the words of the spec.
async fn permits(operator: &Operator, role: &str) -> Vec<String> {
    let mut held = Vec::new();
    for permission in [
        "manage_users",
        "manage_account",
        "manage_billing",
        "manage_providers",
        "manage_integrations",
        "manage_scans",
        "unlimited_visibility",
    ] {
        let query = format!("select {permission} from roles where name = '{role}'");
        if operator.sql(&query).await == "true" {
            held.push(permission.to_uppercase());
        }
    }
    held
}

async fn subjects(operator: &Operator) -> Vec<String> {
    operator
        .list_of("select kind || ' ' || namespace || '/' || name from role_subjects")
        .await
}

async fn links(operator: &Operator) -> Vec<String> {
    operator
        .list_of(
            "select r.name || '-' || g.name from role_provider_group_relationship l
             join roles r on r.id = l.role_id join provider_groups g on g.id = l.provider_group_id",
        )
        .await
}

async fn role_is(operator: &Operator, world: &World, spec: Value) -> String {
    operator
        .becomes::<Role>(&world.namespace, "auditor", spec)
        .await
}

#[tokio::test]
async fn a_role_gives_what_its_spec_says_and_takes_back_what_it_no_longer_says() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let ada = json!({ "kind": "User", "name": "ada" });
    let auditors = json!({ "kind": "Group", "name": "oidc:auditors" });
    let bot = json!({ "kind": "ServiceAccount", "namespace": "ci", "name": "bot" });
    let spec = json!({ "permissions": ["MANAGE_PROVIDERS", "MANAGE_BILLING"],
                       "subjects": [ada, auditors, bot, ada] });
    assert_eq!(role_is(&operator, &world, spec).await, "Current Succeeded");
    // Who may write Providers sees them all.
    assert_eq!(
        permits(&operator, "auditor").await,
        ["MANAGE_BILLING", "MANAGE_PROVIDERS", "UNLIMITED_VISIBILITY"]
    );
    assert_eq!(
        subjects(&operator).await,
        ["Group /oidc:auditors", "ServiceAccount ci/bot", "User /ada"]
    );
    let status = operator.status::<Role>(&world.namespace, "auditor").await;
    assert_eq!(status["permissions"], json!(3));

    let spec = json!({ "permissions": ["MANAGE_SCANS"], "subjects": [bot] });
    assert_eq!(role_is(&operator, &world, spec).await, "Current Succeeded");
    assert_eq!(permits(&operator, "auditor").await, ["MANAGE_SCANS"]);
    assert_eq!(subjects(&operator).await, ["ServiceAccount ci/bot"]);
    operator.deletes::<Role>(&world.namespace, "auditor").await;
    assert_eq!(operator.count("roles").await, 0);
    assert_eq!(operator.count("role_subjects").await, 0);
}

#[tokio::test]
async fn a_role_waits_for_its_groups_and_loses_those_that_go() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    labelled(&operator, &world, "a", ACCOUNT, "prod").await;
    let group = json!({ "providerRefs": [{ "name": "a" }] });
    operator
        .becomes::<ProviderGroup>(&world.namespace, "web", group.clone())
        .await;
    let spec = json!({ "permissions": ["MANAGE_SCANS"],
                       "providerGroupRefs": [{ "name": "late" }, { "name": "web" }],
                       "subjects": [{ "kind": "User", "name": "ada" }] });
    let says = role_is(&operator, &world, spec).await;
    assert_eq!(says, "InProgress ProviderGroupNotFound");
    assert_eq!(
        operator.message::<Role>(&world.namespace, "auditor").await,
        "No stored ProviderGroup here is named late."
    );
    assert_eq!(links(&operator).await, ["auditor-web"]);
    let now = async || operator.now_says::<Role>(&world.namespace, "auditor").await;
    operator
        .becomes::<ProviderGroup>(&world.namespace, "late", group)
        .await;
    assert_eq!(now().await, "Current Succeeded");
    assert_eq!(links(&operator).await, ["auditor-late", "auditor-web"]);
    let status = operator.status::<Role>(&world.namespace, "auditor").await;
    assert_eq!(status["providerGroups"], json!(2));
    operator
        .deletes::<ProviderGroup>(&world.namespace, "web")
        .await;
    assert_eq!(links(&operator).await, ["auditor-late"]);
    assert_eq!(now().await, "InProgress ProviderGroupNotFound");
}

#[tokio::test]
async fn a_role_counts_only_where_its_tenant_lets_roles_count() {
    let operator = Operator::new().await;
    let (here, there) = two_places(&operator).await;
    let spec = json!({ "permissions": ["MANAGE_USERS"],
                       "subjects": [{ "kind": "User", "name": "mallory" }] });
    let says = role_is(&operator, &there, spec.clone()).await;
    assert_eq!(says, "Failed RoleNotAllowedHere");
    assert_eq!(
        operator.message::<Role>(&there.namespace, "auditor").await,
        format!(
            "Roles of Tenant {} do not count in namespace {}; put this Role into one of its spec.roleNamespaces.",
            here.tenant, there.namespace
        )
    );
    assert_eq!(operator.count("roles").await, 0);
    let both = [&here.namespace, &there.namespace];
    for (role_namespaces, says, rows) in [
        (json!([there.namespace]), "Current Succeeded", 1),
        (json!([here.namespace]), "Failed RoleNotAllowedHere", 0),
        (json!(both), "Current Succeeded", 1),
    ] {
        let spec = json!({ "namespaces": both, "roleNamespaces": role_namespaces });
        operator.tenant_is(&here.tenant, spec).await;
        let now = operator.now_says::<Role>(&there.namespace, "auditor").await;
        assert_eq!(now, says, "{role_namespaces}");
        assert_eq!(operator.count("roles").await, rows);
        assert_eq!(operator.count("role_subjects").await, rows);
    }
}

#[tokio::test]
async fn objects_that_come_back_with_other_uids_find_their_rows() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    labelled(&operator, &world, "a", ACCOUNT, "prod").await;
    let group = json!({ "selector": chosen("prod") });
    let role = json!({ "permissions": ["MANAGE_SCANS"], "providerGroupRefs": [{ "name": "web" }] });
    let make = async || {
        let group = operator.becomes::<ProviderGroup>(&world.namespace, "web", group.clone());
        assert_eq!(group.await, "Current Succeeded");
        assert_eq!(
            role_is(&operator, &world, role.clone()).await,
            "Current Succeeded"
        );
        let ids = "select string_agg(id::text, ',') from (select id from roles union all
                   select id from provider_groups) both_kinds";
        operator.sql(ids).await
    };
    let before = make().await;
    operator.vanishes::<Role>(&world.namespace, "auditor").await;
    operator
        .vanishes::<ProviderGroup>(&world.namespace, "web")
        .await;
    assert_eq!(make().await, before);
    assert_eq!(links(&operator).await, ["auditor-web"]);
    // And their deletion finds them too.
    operator.deletes::<Role>(&world.namespace, "auditor").await;
    operator
        .deletes::<ProviderGroup>(&world.namespace, "web")
        .await;
    assert_eq!(operator.count("roles").await, 0);
    assert_eq!(operator.count("provider_groups").await, 0);
}

#[tokio::test]
async fn a_name_serves_in_every_namespace_of_its_own() {
    let operator = Operator::new().await;
    let (here, there) = two_places(&operator).await;
    labelled(&operator, &here, "a", ACCOUNT, "prod").await;
    labelled(&operator, &there, "a", "222222222222", "prod").await;
    let spec = json!({ "providerRefs": [{ "name": "a" }] });
    for world in [&here, &there] {
        operator
            .becomes::<ProviderGroup>(&world.namespace, "web", spec.clone())
            .await;
        let own = format!("{}/a", world.namespace);
        assert_eq!(members(&operator, world, "web").await, [own]);
    }
    assert_eq!(operator.count("provider_groups").await, 2);
}
