//! Providers: what is stored of a spec, and what is said of one that may not be.

use futures::channel::mpsc;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use prowler_operator::api::{Provider, ProviderGroup, Scan, ScanSchedule, Tenant};
use prowler_operator::controllers::driver;
use serde_json::{Value, json};

use crate::support::operator::{ACCOUNT, Operator, Placed as _, World, aws, unique};

/// Applies this and passes over it until it rests; what `Ready` says then.
pub async fn provider_is(operator: &Operator, world: &World, spec: Value) -> String {
    operator
        .becomes::<Provider>(&world.namespace, "production", spec)
        .await
}

pub async fn now_says(operator: &Operator, world: &World) -> String {
    operator
        .now_says::<Provider>(&world.namespace, "production")
        .await
}

pub async fn message(operator: &Operator, world: &World) -> String {
    operator
        .message::<Provider>(&world.namespace, "production")
        .await
}

/// An AWS Provider with more in its spec.
pub fn aws_with(changes: &Value) -> Value {
    let mut spec = aws(ACCOUNT, "keys");
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

#[tokio::test]
async fn a_provider_becomes_a_row_of_its_tenant_with_names_and_never_values() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.aws_secret(&world.namespace, "keys").await;
    let alias = "Produktion – 本番 🚀 ñ";
    let spec = aws_with(&json!({ "alias": alias, "scan": { "regions": ["eu-west-1"] } }));
    let object = json!({ "metadata": { "labels": { "env": "prod" } }, "spec": spec });
    operator
        .try_apply::<Provider>(&world.namespace, "production", object)
        .await
        .unwrap();
    assert_eq!(now_says(&operator, &world).await, "Current Succeeded");
    let rows = operator.rows(operator.tenant_id(&world)).await;
    let row = &rows["providers"][0];
    let object: Provider = operator.get(&world.namespace, "production").await;
    for (column, value) in [
        ("provider", json!("aws")),
        ("uid", json!(ACCOUNT)),
        ("alias", json!(alias)),
        ("labels", json!({ "env": "prod" })),
        ("scanner_args", json!({ "regions": ["eu-west-1"] })),
        ("object_uid", json!(object.metadata.uid)),
        ("namespace", json!(world.namespace)),
        ("name", json!("production")),
        (
            "credentials",
            json!({ "type": "static", "secret": "keys",
                    "keys": ["aws_access_key_id", "aws_secret_access_key"] }),
        ),
    ] {
        assert_eq!(row[column], value, "{column}");
    }
    let status = operator
        .status::<Provider>(&world.namespace, "production")
        .await;
    assert_eq!(status["providerId"], row["id"]);
    assert_eq!(status["tenant"], json!(world.tenant));
    let everything = format!("{rows:?} {}", operator.objects(&world).await);
    assert!(!everything.contains("very-secret-value"));
    operator.pass::<Tenant>("", &world.tenant).await;
    let tenant = operator.status::<Tenant>("", &world.tenant).await;
    assert_eq!(tenant["providers"], json!(1));

    // What is taken out of the spec is taken out of the row.
    let spec = aws(ACCOUNT, "keys");
    assert_eq!(
        provider_is(&operator, &world, spec).await,
        "Current Succeeded"
    );
    let rows = operator.rows(operator.tenant_id(&world)).await;
    let row = &rows["providers"][0];
    assert_eq!(row["id"], status["providerId"]);
    assert_eq!(
        json!([row["alias"], row["labels"], row["scanner_args"]]),
        json!([null, {}, {}])
    );
}

#[tokio::test]
async fn images_scopes_and_wishes_that_may_not_be_are_refused_until_they_are_mended() {
    let operator = Operator::new().await;
    let limits = json!({ "limits": { "scanMemory": "1Gi", "scanDeadlineSeconds": 600 } });
    let world = operator.tenant_with(limits).await;
    operator.aws_secret(&world.namespace, "keys").await;
    let wish = |memory| json!({ "resources": { "limits": { "memory": memory } } });
    for (scan, says, parts) in [
        (json!({}), "Current Succeeded", &[][..]),
        (
            json!({ "image": "evil:1" }),
            "Failed ImageNotAllowed",
            &["spec.scan.image: image 'evil:1' is none"],
        ),
        (
            json!({ "image": "prowler:other" }),
            "Current Succeeded",
            &[],
        ),
        (
            json!({ "image": "mirror.example/p:1" }),
            "Current Succeeded",
            &[],
        ),
        (
            wish("1025Mi"),
            "Failed LimitExceeded",
            &[
                "spec.scan.resources.limits.memory: memory 1025Mi is above the limit of a scan, 1Gi; lower it, or have spec.limits.scanMemory of the Tenant raised.",
            ],
        ),
        (wish("1024Mi"), "Current Succeeded", &[]),
        (
            json!({ "activeDeadlineSeconds": 601, "image": "evil:1" }),
            "Failed ImageNotAllowed",
            &[
                "spec.scan.activeDeadlineSeconds: a scan may run 600 s at most",
                "'evil:1'",
            ],
        ),
    ] {
        let spec = aws_with(&json!({ "scan": scan }));
        assert_eq!(provider_is(&operator, &world, spec).await, says, "{scan}");
        let message = message(&operator, &world).await;
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    }
    // What no account of the type can be asked: the API server says so of a Provider, the
    // reconciler of a Scan, which does not name the type.
    let iac = json!({ "provider": "iac", "uid": "https://example.com/r.git" });
    let asking = json!({ "scan": { "checks": ["s3_bucket_public_access"] } });
    let mut spec = iac.clone();
    spec["scan"] = asking["scan"].clone();
    let refused = operator
        .try_apply::<Provider>(&world.namespace, "infrastructure", json!({ "spec": spec }))
        .await;
    let sentence = "Prowler knows checks only for the provider types aws, azure, ";
    assert!(refused.unwrap_err().to_string().contains(sentence));
    let says = operator
        .becomes::<Provider>(&world.namespace, "infrastructure", iac)
        .await;
    assert_eq!(says, "Current Succeeded");
    let mut spec = asking;
    spec["providerRef"] = json!({ "name": "infrastructure" });
    operator
        .apply::<Scan>(&world.namespace, "asking", spec)
        .await;
    operator.follow::<Scan>(&world.namespace, "asking").await;
    operator.admit().await;
    operator.follow::<Scan>(&world.namespace, "asking").await;
    let told = operator.message::<Scan>(&world.namespace, "asking").await;
    assert!(told.contains(sentence), "{told}");
    let says = operator.says::<Scan>(&world.namespace, "asking").await;
    assert!(says.ends_with(" InvalidScope"), "{says}");
    // What would be an option of the command line does not even get past the API server.
    let spec = aws_with(&json!({ "scan": { "checks": ["--shodan"] } }));
    let refused = operator
        .try_apply::<Provider>(&world.namespace, "production", json!({ "spec": spec }))
        .await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("spec.scan.checks")
    );
}

#[tokio::test]
async fn a_provider_follows_the_limits_of_its_tenant_both_ways() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.aws_secret(&world.namespace, "keys").await;
    let scan = json!({ "resources": { "limits": { "memory": "4Gi" } } });
    let spec = aws_with(&json!({ "scan": scan }));
    assert_eq!(
        provider_is(&operator, &world, spec).await,
        "Current Succeeded"
    );
    for (limit, says) in [
        ("3Gi", "Failed LimitExceeded"),
        ("4Gi", "Current Succeeded"),
    ] {
        let spec = json!({ "namespaces": [world.namespace], "limits": { "scanMemory": limit } });
        operator.tenant_is(&world.tenant, spec).await;
        assert_eq!(now_says(&operator, &world).await, says);
    }
}

#[tokio::test]
async fn a_provider_in_nobody_s_namespace_waits_for_a_tenant() {
    let operator = Operator::new().await;
    let world = World {
        tenant: unique("tenant"),
        namespace: operator.server.namespace().await,
    };
    operator.aws_secret(&world.namespace, "keys").await;
    let says = provider_is(&operator, &world, aws(ACCOUNT, "keys")).await;
    assert_eq!(says, "InProgress TenantNotFound");
    assert_eq!(
        message(&operator, &world).await,
        format!(
            "No Tenant holds namespace {}; name it in the spec.namespaces of one.",
            world.namespace
        )
    );
    assert_eq!(operator.count("providers").await, 0);
    operator.claim(&world.tenant, &[&world.namespace]).await;
    assert_eq!(now_says(&operator, &world).await, "Current Succeeded");
}

#[tokio::test]
async fn a_uid_that_an_earlier_definition_let_through_is_refused_by_name() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "old", ACCOUNT).await;
    let old = |object: &mut Value| object["spec"]["uid"] = json!("12345");
    operator
        .server
        .rewrite::<Provider>(&world.namespace, "old", old)
        .await;
    loop {
        let seen: Provider = operator.get(&world.namespace, "old").await;
        if seen.spec.uid == "12345" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    operator.follow::<Provider>(&world.namespace, "old").await;
    assert_eq!(
        operator.says::<Provider>(&world.namespace, "old").await,
        "Failed InvalidUID"
    );
    let message = operator.message::<Provider>(&world.namespace, "old").await;
    assert!(message.contains("12 digits"), "{message}");
}

#[tokio::test]
async fn what_the_database_refuses_is_tried_again_and_said_from_the_fourth_time_on() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    operator
        .change("revoke update on providers from prowler_user")
        .await;
    let alias = json!({ "spec": { "alias": "other" } });
    operator
        .patch::<Provider>(&world.namespace, "p", alias)
        .await;
    for _ in 0..4 {
        operator.pass::<Provider>(&world.namespace, "p").await;
    }
    assert_eq!(
        operator.says::<Provider>(&world.namespace, "p").await,
        "InProgress ProgressingWithRetry"
    );
    let message = operator.message::<Provider>(&world.namespace, "p").await;
    assert!(message.contains("permission denied"), "{message}");
    operator
        .change("grant update on providers to prowler_user")
        .await;
    operator.follow::<Provider>(&world.namespace, "p").await;
    assert_eq!(
        operator.says::<Provider>(&world.namespace, "p").await,
        "Current Succeeded"
    );
}

#[tokio::test]
async fn the_uid_of_another_type_is_refused_at_the_door() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    for (kind, uid) in [
        ("aws", "my-project-123"),
        ("gcp", ACCOUNT),
        ("azure", ACCOUNT),
    ] {
        let spec = json!({ "spec": { "provider": kind, "uid": uid } });
        let refused = operator
            .try_apply::<Provider>(&world.namespace, "production", spec)
            .await;
        let told = refused.unwrap_err().to_string();
        assert!(told.contains(&format!("provider type {kind}")), "{told}");
    }
}

#[tokio::test]
async fn names_of_253_characters_are_no_trouble() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let long = |head: &str| {
        format!(
            "{head}-{}.{}",
            "n".repeat(100),
            "m".repeat(151 - head.len())
        )
    };
    let (provider, secret, scan, schedule) = (long("p"), long("k"), long("s"), long("d"));
    assert_eq!(provider.len(), 253);
    operator.aws_secret(&world.namespace, &secret).await;
    let says = operator
        .becomes::<Provider>(&world.namespace, &provider, aws(ACCOUNT, &secret))
        .await;
    assert_eq!(says, "Current Succeeded");
    operator.running_scan(&world, &scan, &provider).await;
    operator.complete(&world, &scan).await;
    assert_eq!(
        operator.says::<Scan>(&world.namespace, &scan).await,
        "Current Completed"
    );
    let spec = json!({ "interval": "24h", "providerRefs": [{ "name": provider }] });
    operator
        .apply::<ScanSchedule>(&world.namespace, &schedule, spec)
        .await;
    operator.schedules_rest(&world).await;
    let says = operator
        .says::<ScanSchedule>(&world.namespace, &schedule)
        .await;
    assert_eq!(says, "Current Succeeded");
    let made = operator.names::<Scan>(&world.namespace).await;
    assert_eq!(made.len(), 2);
    operator.settle(&world).await;
    operator
        .deletes::<ScanSchedule>(&world.namespace, &schedule)
        .await;
    operator
        .delete::<Provider>(&world.namespace, &provider)
        .await;
    operator.collect_garbage(&world).await;
    operator.settle(&world).await;
    assert!(
        operator
            .is_gone::<Provider>(&world.namespace, &provider)
            .await
    );
}

#[tokio::test]
async fn a_provider_deleted_in_its_first_pass_leaves_nothing() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let namespace = &world.namespace;
    operator.aws_secret(namespace, "keys").await;
    operator
        .apply::<Provider>(namespace, "production", aws(ACCOUNT, "keys"))
        .await;
    operator.pass::<Provider>(namespace, "production").await;
    let api = Provider::guarded(&operator.client, namespace);
    let before = api.get("production").await.unwrap();
    operator.delete::<Provider>(namespace, "production").await;
    // The pass began before the deletion was seen.
    driver::pass::<Provider>(before.into(), operator.cx.clone()).await;
    assert_eq!(operator.count("providers").await, 1);
    operator.follow::<Provider>(namespace, "production").await;
    assert!(operator.is_gone::<Provider>(namespace, "production").await);
    assert_eq!(operator.count("providers").await, 0);
}

#[tokio::test]
async fn a_provider_is_suspended_though_it_is_refused() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    operator.scan(&world, "waiting", "production").await;
    operator
        .delete::<Secret>(&world.namespace, "production-keys")
        .await;
    for (suspend, admitted) in [(true, 0), (false, 1)] {
        let mut spec = aws(ACCOUNT, "production-keys");
        spec["suspend"] = json!(suspend);
        let says = provider_is(&operator, &world, spec).await;
        assert_eq!(says, "InProgress SecretNotFound");
        assert_eq!(operator.admit().await, admitted, "suspend: {suspend}");
    }
}

#[tokio::test]
async fn a_refused_provider_is_chosen_and_kept_as_its_object_says_by_now() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let namespace = &world.namespace;
    operator.provider(&world, "production", ACCOUNT).await;
    let spec = json!({ "selector": { "matchLabels": { "env": "prod" } } });
    operator
        .apply::<ProviderGroup>(namespace, "group", spec)
        .await;
    operator.follow::<ProviderGroup>(namespace, "group").await;
    // What the watch would have shown of the group.
    let (known, mut writer) = reflector::store();
    let groups = ProviderGroup::guarded(&operator.client, namespace);
    writer.apply_watcher_event(&Event::Apply(groups.get("group").await.unwrap()));
    operator.cx.wake.remember::<ProviderGroup>(known);
    let mut calls = std::pin::pin!(
        operator
            .cx
            .wake
            .listen::<ProviderGroup>(mpsc::unbounded().0)
    );

    operator
        .delete::<Secret>(namespace, "production-keys")
        .await;
    let mut spec = aws(ACCOUNT, "production-keys");
    spec["deletionPolicy"] = json!("Retain");
    let object = json!({ "metadata": { "labels": { "env": "prod" } }, "spec": spec });
    operator
        .try_apply::<Provider>(namespace, "production", object)
        .await
        .unwrap();
    assert_eq!(
        now_says(&operator, &world).await,
        "InProgress SecretNotFound"
    );
    let rows = operator.rows(operator.tenant_id(&world)).await;
    let row = &rows["providers"][0];
    assert_eq!(
        json!([row["deletion_policy"], row["labels"]]),
        json!(["Retain", { "env": "prod" }])
    );
    let called = calls.next().now_or_never().flatten();
    assert_eq!(called.map(|group| group.name), Some("group".to_owned()));
    operator.follow::<ProviderGroup>(namespace, "group").await;
    let group = operator.status::<ProviderGroup>(namespace, "group").await;
    assert_eq!(group["providers"], json!(1));
    // Once is enough.
    let versions = operator.row_versions().await;
    operator.pass::<Provider>(namespace, "production").await;
    assert_eq!(operator.row_versions().await, versions);
    assert!(calls.next().now_or_never().is_none());

    let more = operator.server.namespace().await;
    operator.claim(&world.tenant, &[&more]).await;
    assert_eq!(operator.count("tenant_namespaces").await, 1);
    assert_eq!(operator.count("providers where retained").await, 1);
}
