//! What a tenant may ask for, and that it can be suspended whatever else it asks for.

use prowler_operator::api::{Scan, Tenant};
use serde_json::json;

use super::tenants::holder;
use crate::support::operator::{ACCOUNT, Operator, unique};

#[tokio::test]
async fn wishes_above_the_ceilings_are_all_named_and_nothing_of_them_is_stored() {
    let operator = Operator::new().await;
    let (tenant, namespace) = (unique("tenant"), operator.server.namespace().await);
    let with = |limits: serde_json::Value| json!({ "namespaces": [namespace], "limits": limits });
    let greedy = with(json!({ "concurrentScans": 51, "providers": 3, "scanMemory": "17Gi" }));
    operator.tenant_is(&tenant, greedy.clone()).await;
    let message = operator.message::<Tenant>("", &tenant).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Failed LimitExceeded"
    );
    for part in [
        "spec.limits.concurrentScans: 51 is more than the 50",
        "spec.limits.scanMemory: 17Gi is more than the 16Gi",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(holder(&operator, &namespace).await, "");

    let modest = with(json!({ "concurrentScans": 50, "providers": 3, "scanMemory": "16Gi" }));
    operator.tenant_is(&tenant, modest).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Current Succeeded"
    );
    operator.tenant_is(&tenant, greedy).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Failed LimitExceeded"
    );
    // What it had it keeps.
    assert_eq!(holder(&operator, &namespace).await, tenant);
    let stored = format!("select concurrent_scans from tenants where name = '{tenant}'");
    assert_eq!(operator.sql(&stored).await, "50");
}

#[tokio::test]
async fn a_ceiling_that_is_lowered_holds_for_tenants_stored_before() {
    let mut operator = Operator::new().await;
    let limits = json!({ "limits": { "concurrentScans": 3 } });
    let world = operator.tenant_with(limits).await;
    for n in 0..3 {
        let name = format!("p-{n}");
        operator.provider(&world, &name, &format!("{n:012}")).await;
        operator.scan(&world, &format!("s-{n}"), &name).await;
    }
    let lower = json!({ "limits": { "concurrentScans": { "default": 1, "ceiling": 2 } } });
    operator.reconfigure(lower).await;
    operator.follow::<Tenant>("", &world.tenant).await;
    assert_eq!(
        operator.says::<Tenant>("", &world.tenant).await,
        "Failed LimitExceeded"
    );
    assert_eq!(operator.admit().await, 2);
}

#[tokio::test]
async fn a_suspended_tenant_starts_nothing_and_lets_what_runs_end() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "runs", ACCOUNT).await;
    operator.running_scan(&world, "running", "runs").await;
    let spec = |suspend| json!({ "namespaces": [world.namespace], "suspend": suspend });
    operator.tenant_is(&world.tenant, spec(true)).await;
    let suspended = operator
        .condition::<Tenant>("", &world.tenant, "Suspended")
        .await;
    assert_eq!(suspended.unwrap().0, "True");
    assert_eq!(
        operator.says::<Tenant>("", &world.tenant).await,
        "Current Succeeded"
    );
    // Definitions are stored, what ran goes on.
    let provider = operator.provider(&world, "waits", "210987654321").await;
    assert!(provider.status.unwrap().provider_id.is_some());
    operator.scan(&world, "waiting", "waits").await;
    assert_eq!(operator.admit().await, 0);
    assert_eq!(
        operator.message::<Scan>(&world.namespace, "waiting").await,
        "Its Tenant is suspended."
    );
    operator.complete(&world, "running").await;
    assert_eq!(
        operator.says::<Scan>(&world.namespace, "running").await,
        "Current Completed"
    );
    operator.tenant_is(&world.tenant, spec(false)).await;
    let suspended = operator
        .condition::<Tenant>("", &world.tenant, "Suspended")
        .await;
    assert!(suspended.is_none());
    assert_eq!(operator.admit().await, 1);
}

#[tokio::test]
async fn a_tenant_is_suspended_though_another_of_its_wishes_is_refused() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    operator.scan(&world, "waiting", "production").await;
    let spec = |suspend, scans| {
        json!({ "namespaces": [world.namespace], "suspend": suspend,
                "limits": { "concurrentScans": scans } })
    };
    operator.tenant_is(&world.tenant, spec(true, 51)).await;
    assert_eq!(
        operator.says::<Tenant>("", &world.tenant).await,
        "Failed LimitExceeded"
    );
    assert_eq!(operator.admit().await, 0, "it says that it is suspended");
    operator.tenant_is(&world.tenant, spec(false, 51)).await;
    assert_eq!(operator.admit().await, 1);
}
