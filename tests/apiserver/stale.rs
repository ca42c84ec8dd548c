//! What was once true and is not any more: limits that were lowered, memory that was not enough,
//! objects and tenants that went.

use k8s_openapi::api::batch::v1::Job;
use prowler_operator::api::{Provider, Scan, Tenant};
use prowler_operator::controllers::driver;
use serde_json::json;

use crate::support::operator::{ACCOUNT, Operator, Placed as _, aws};

fn memory(job: &Job) -> String {
    let pod = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let scan = &pod.init_containers.as_ref().unwrap()[0];
    let limits = scan.resources.as_ref().unwrap().limits.as_ref().unwrap();
    limits["memory"].0.clone()
}

#[tokio::test]
async fn the_memory_that_a_provider_needed_is_remembered_for_its_next_scan() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    operator.running_scan(&world, "first", "p").await;
    operator.fails(&world, "first", 137, "OOMKilled", "").await;
    operator.wait(3600);
    operator.admit().await;
    operator.follow::<Scan>(&world.namespace, "first").await;
    operator.complete(&world, "first").await;
    let job = operator.running_scan(&world, "next", "p").await;
    assert_eq!(memory(&job), (3_i64 << 30).to_string());
}

#[tokio::test]
async fn a_retry_after_the_limit_was_lowered_stays_below_it() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    operator.running_scan(&world, "s", "p").await;
    operator.fails(&world, "s", 137, "OOMKilled", "").await;
    let spec = json!({ "namespaces": [world.namespace], "limits": { "scanMemory": "1Gi" } });
    operator.tenant_is(&world.tenant, spec).await;
    operator.wait(3600);
    operator.admit().await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    let job = operator.job_of(&world, "s").await;
    assert_eq!(memory(&job), "1Gi");
}

#[tokio::test]
async fn a_pass_that_outlives_its_object_leaves_no_row() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let namespace = &world.namespace;
    operator.aws_secret(namespace, "keys").await;
    operator
        .apply::<Provider>(namespace, "p", aws(ACCOUNT, "keys"))
        .await;
    operator.pass::<Provider>(namespace, "p").await;
    let before = Provider::guarded(&operator.client, namespace)
        .get("p")
        .await
        .unwrap();
    // Another controller finishes its deletion first.
    operator.deletes::<Provider>(namespace, "p").await;
    driver::pass::<Provider>(before.into(), operator.cx.clone()).await;
    assert_eq!(operator.count("providers").await, 0);
}

#[tokio::test]
async fn a_scan_whose_tenant_went_says_that_it_has_ended() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    operator.running_scan(&world, "s", "p").await;
    operator.deletes::<Tenant>("", &world.tenant).await;
    operator.reload().await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    let status = operator.status::<Scan>(&world.namespace, "s").await;
    assert_eq!(status["state"], json!("cancelled"), "{status:#}");
}
