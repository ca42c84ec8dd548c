//! Outages: a database that is away for a moment leaves no trace, one that stays away is shown,
//! and all is well again when it comes back.

use kube::ResourceExt as _;
use prowler_operator::api::{
    Integration, MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant,
};
use prowler_operator::controllers::driver::Reconcile;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::operator::{ACCOUNT, Operator, Placed};

async fn law<K>(operator: &Operator, namespace: &str, name: &str, change: Value)
where
    K: Reconcile + Placed + Clone + DeserializeOwned + std::fmt::Debug,
{
    operator.follow::<K>(namespace, name).await;
    let before = operator.says::<K>(namespace, name).await;
    let written: K = operator.patch(namespace, name, change).await;
    operator.sql.set_away(true);
    for _ in 0..3 {
        operator.pass::<K>(namespace, name).await;
        let now: K = operator.get(namespace, name).await;
        // Ten thousand objects are not written because the database was away for a second.
        assert_eq!(
            now.resource_version(),
            written.resource_version(),
            "{}",
            K::KIND
        );
    }
    operator.pass::<K>(namespace, name).await;
    assert_eq!(
        operator.says::<K>(namespace, name).await,
        "InProgress DatabaseUnavailable",
        "{}",
        K::KIND
    );
    let shown: K = operator.get(namespace, name).await;
    // Said once, though the same server is away in many words.
    let mut status = serde_json::to_value(&shown).unwrap()["status"].take();
    for condition in status["conditions"].as_array_mut().unwrap() {
        if condition["reason"] == "DatabaseUnavailable" {
            condition["message"] = json!("the database is not available: in other words");
        }
    }
    let other = operator.write_status::<K>(namespace, name, status).await;
    assert_ne!(other.resource_version(), shown.resource_version());
    operator.pass::<K>(namespace, name).await;
    let again: K = operator.get(namespace, name).await;
    assert_eq!(again.resource_version(), other.resource_version());
    operator.database_returns().await;
    operator.pass::<K>(namespace, name).await;
    assert_eq!(
        operator.says::<K>(namespace, name).await,
        before,
        "{}",
        K::KIND
    );
    // And the count begins anew.
    operator.sql.set_away(true);
    operator.pass::<K>(namespace, name).await;
    assert_eq!(
        operator.says::<K>(namespace, name).await,
        before,
        "{}",
        K::KIND
    );
    operator.database_returns().await;
}

#[tokio::test]
async fn a_database_that_is_away_shows_from_the_fourth_failure_on_and_heals() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let namespace = &world.namespace;
    operator.provider(&world, "p", ACCOUNT).await;
    let refs = json!([{ "name": "p" }]);
    operator
        .apply::<ProviderGroup>(namespace, "group", json!({ "providerRefs": refs }))
        .await;
    operator
        .apply::<Role>(
            namespace,
            "auditor",
            json!({ "permissions": ["MANAGE_SCANS"] }),
        )
        .await;
    let spec = json!({ "schedule": "0 2 * * *", "providerRefs": refs });
    operator
        .apply::<ScanSchedule>(namespace, "nightly", spec)
        .await;
    operator.scan(&world, "s", "p").await;
    let rule = json!({ "reason": "accepted", "findingUids": ["a"] });
    operator.apply::<MuteRule>(namespace, "rule", rule).await;
    let bucket = json!({ "type": "amazon_s3", "configuration": { "bucketName": "acme" },
                         "credentials": { "secretRef": { "name": "keys" } } });
    operator
        .apply::<Integration>(namespace, "bucket", bucket)
        .await;
    let label = || json!({ "metadata": { "labels": { "touched": "yes" } } });
    Box::pin(law::<Tenant>(&operator, "", &world.tenant, label())).await;
    Box::pin(law::<Provider>(&operator, namespace, "p", label())).await;
    Box::pin(law::<ProviderGroup>(&operator, namespace, "group", label())).await;
    Box::pin(law::<Role>(&operator, namespace, "auditor", label())).await;
    Box::pin(law::<ScanSchedule>(
        &operator,
        namespace,
        "nightly",
        label(),
    ))
    .await;
    Box::pin(law::<Scan>(&operator, namespace, "s", label())).await;
    Box::pin(law::<Integration>(&operator, namespace, "bucket", label())).await;
    Box::pin(law::<MuteRule>(&operator, namespace, "rule", label())).await;
}

#[tokio::test]
async fn a_scan_that_ends_while_the_database_is_away_is_judged_when_it_is_back() {
    use crate::support::operator::scan_ended;

    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    let job = operator.running_scan(&world, "s", "p").await;
    operator.sql.set_away(true);
    operator.pod(&job, scan_ended(2, "Error", "usage")).await;
    for _ in 0..4 {
        operator.pass::<Scan>(&world.namespace, "s").await;
    }
    assert_eq!(
        operator.says::<Scan>(&world.namespace, "s").await,
        "InProgress DatabaseUnavailable"
    );
    operator.database_returns().await;
    operator.pass::<Scan>(&world.namespace, "s").await;
    operator.pass::<Scan>(&world.namespace, "s").await;
    assert_eq!(
        operator.says::<Scan>(&world.namespace, "s").await,
        "Failed ScanArgumentsInvalid"
    );
    operator.collect_garbage(&world).await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(operator.count("scans where holds_account").await, 0);
}

#[tokio::test]
async fn two_deletions_that_two_controllers_work_at_end_once() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let other = operator.beside(0).await;
    for n in 0..4 {
        operator.provider(&world, "p", &format!("{n:012}")).await;
        let scan = format!("s-{n}");
        operator.running_scan(&world, &scan, "p").await;
        operator.complete(&world, &scan).await;
        operator.delete::<Provider>(&world.namespace, "p").await;
        tokio::join!(
            operator.pass::<Provider>(&world.namespace, "p"),
            other.pass::<Provider>(&world.namespace, "p"),
        );
        operator.follow::<Provider>(&world.namespace, "p").await;
        assert!(operator.is_gone::<Provider>(&world.namespace, "p").await);
        assert_eq!(operator.count("providers").await, 0);
        operator
            .delete::<k8s_openapi::api::core::v1::Secret>(&world.namespace, "p-keys")
            .await;
    }
}
