//! The controller's metrics as Prometheus scrapes them, after real work.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::PostParams;
use prowler_operator::api::{Provider, Tenant};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::apiserver::ApiServer;
use crate::support::controller::{CONCURRENCY, Operator};
use crate::support::db::{Db, run};
use crate::support::metrics::{check, value};

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// The metrics once `wanted` holds of them.
async fn until(operator: &Operator, wanted: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let metrics = operator.metrics().await;
        if wanted(&metrics) {
            return metrics;
        }
        let log = operator.log();
        assert!(begun.elapsed() < Duration::from_mins(1), "{metrics}\n{log}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const WAITING: &str = "prowler_operator_reconcile_queue_depth{kind=\"Provider\"}";
const IN_USE: &str = "prowler_operator_database_pool_connections{pool=\"user\",state=\"in_use\"}";

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one life, told once")]
async fn the_controllers_metrics_pass_promtool_name_nobody_and_count_what_happens() {
    let server = ApiServer::alone().await;
    let client = server.client();
    let database = Db::alone().await;
    let operator = Operator::prepare(server, &database, &client).await;
    let namespaces = Api::<Namespace>::all(client.clone());
    create(
        &namespaces,
        json!({ "metadata": { "name": "payments-ns" } }),
    )
    .await;
    let tenants = Api::<Tenant>::all(client.clone());
    let spec = json!({ "namespaces": ["payments-ns"] });
    create(
        &tenants,
        json!({ "metadata": { "name": "acme-tenant" }, "spec": spec }),
    )
    .await;
    let _running = operator.start();
    let settled = |kind: &str| {
        format!("prowler_operator_reconciles_total{{kind=\"{kind}\",result=\"settled\"}}")
    };
    until(&operator, |text| {
        value(text, &settled("Tenant")) >= Some(1.0)
            // The lock that follows would be in its way.
            && value(text, "prowler_operator_isolation_canary_broken") == Some(0.0)
    })
    .await;

    // Passes begin, as many as may at once, and cannot go on; the others wait.
    let mut lock = database.admin_conn().await;
    run(
        &mut lock,
        "begin; lock table providers in access exclusive mode",
    )
    .await;
    let providers = Api::<Provider>::namespaced(client.clone(), "payments-ns");
    let more = 5;
    for number in 0..CONCURRENCY + more {
        let spec = json!({ "provider": "aws", "uid": format!("{number:012}") });
        let name = format!("account-{number}");
        create(
            &providers,
            json!({ "metadata": { "name": name }, "spec": spec }),
        )
        .await;
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let (waiting, busy) = (more as f64, CONCURRENCY as f64);
    until(&operator, |text| value(text, WAITING) == Some(waiting)).await;
    until(&operator, |text| value(text, IN_USE) >= Some(busy)).await;
    run(&mut lock, "rollback").await;
    let all = waiting + busy;
    let metrics = until(&operator, |text| {
        value(text, &settled("Provider")) >= Some(all)
            && value(text, WAITING) == Some(0.0)
            && value(text, "prowler_operator_scans_active_limit") == Some(20.0)
    })
    .await;
    for (name, least) in [
        ("prowler_operator_leader", 1.0),
        ("prowler_operator_scans_waiting", 0.0),
        (
            "prowler_operator_kubernetes_requests_total{class=\"ok\"}",
            all,
        ),
        (
            "prowler_operator_isolation_canary_last_run_timestamp_seconds",
            1.7e9,
        ),
        (
            "prowler_operator_isolation_canary_runs_total{result=\"held\"}",
            1.0,
        ),
        (
            "prowler_operator_reconcile_duration_seconds_count{kind=\"Provider\"}",
            all,
        ),
        (
            "prowler_operator_database_pool_wait_duration_seconds_count{pool=\"user\"}",
            all,
        ),
        (
            "prowler_operator_database_pool_connections_limit{pool=\"user\"}",
            10.0,
        ),
        (
            "prowler_operator_database_pool_connections_limit{pool=\"admin\"}",
            4.0,
        ),
        (
            "prowler_operator_database_pool_connections{pool=\"admin\",state=\"idle\"}",
            0.0,
        ),
    ] {
        assert!(value(&metrics, name) >= Some(least), "{name}\n{metrics}");
    }
    assert!(
        metrics.contains("prowler_operator_build_info{version=\"0.1.0\",commit=\""),
        "{metrics}"
    );

    database.server().stop();
    let lost = "prowler_operator_database_errors_total{class=\"unavailable\"}";
    let metrics = until(&operator, |text| value(text, lost) >= Some(1.0)).await;
    check(
        &metrics,
        &[
            "acme-tenant",
            "payments-ns",
            "account-",
            "000000000001",
            "team",
        ],
    );
}
