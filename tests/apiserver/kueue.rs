//! Kueue lets Jobs start, by its documented protocol: a Job with the name of a queue is made
//! suspended, Kueue makes a Workload of it, says there why it waits, and takes the suspension off.
//! Here the test is Kueue: <https://kueue.sigs.k8s.io/docs/tasks/run/jobs/>.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use prowler_operator::api::Scan;
use serde_json::{Value, json};

use crate::support::operator::{Operator, Placed as _, World, scanning};

/// As much of Kueue's definition as this protocol needs.
async fn install(operator: &Operator) {
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "workloads.kueue.x-k8s.io" },
        "spec": {
            "group": "kueue.x-k8s.io", "scope": "Namespaced",
            "names": { "kind": "Workload", "plural": "workloads", "singular": "workload" },
            "versions": [{
                "name": "v1beta1", "served": true, "storage": true,
                "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                } },
            }],
        },
    });
    let crd: CustomResourceDefinition = serde_json::from_value(crd).unwrap();
    Api::<CustomResourceDefinition>::all(operator.client.clone())
        .create(&PostParams::default(), &crd)
        .await
        .unwrap();
}

/// Kueue's Workload of a Job, as long as there is no room.
async fn keep_waiting(operator: &Operator, job: &Job, why: &str) {
    let kind = GroupVersionKind::gvk("kueue.x-k8s.io", "v1beta1", "Workload");
    let kind = ApiResource::from_gvk_with_plural(&kind, "workloads");
    let namespace = job.namespace().unwrap();
    let api: Api<DynamicObject> = Api::namespaced_with(operator.client.clone(), &namespace, &kind);
    let name = format!("job-{}", job.name_any());
    let mut workload = DynamicObject::new(&name, &kind);
    let labels = workload.labels_mut();
    labels.insert("kueue.x-k8s.io/job-uid".to_owned(), job.uid().unwrap());
    // The API server serves a definition a little after it has taken it.
    let mut tries = 0;
    while let Err(error) = api.create(&PostParams::default(), &workload).await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let status = json!({ "status": { "conditions": [
        { "type": "QuotaReserved", "status": "False", "reason": "Pending", "message": why },
    ] } });
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
}

async fn unsuspend(operator: &Operator, job: &Job) {
    let patch: Value = json!({ "spec": { "suspend": false } });
    Job::typed(&operator.client, &job.namespace().unwrap())
        .patch(
            &job.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await
        .unwrap();
}

async fn says(operator: &Operator, world: &World, scan: &str) -> String {
    operator.pass::<Scan>(&world.namespace, scan).await;
    let says = operator.says::<Scan>(&world.namespace, scan).await;
    let message = operator.message::<Scan>(&world.namespace, scan).await;
    format!("{says}: {message}")
}

#[tokio::test]
async fn kueue_starts_jobs_and_says_why_not_while_tenants_and_accounts_keep_their_limits() {
    let operator = Operator::configured(json!({
        "kueue": { "enabled": true, "localQueue": "audits" },
        "queues": { "scans": { "maxConcurrent": 1 } },
    }))
    .await;
    let limits = json!({ "limits": { "concurrentScans": 2 } });
    let world = operator.tenant_with(limits).await;
    for (name, account) in [
        ("a", "123456789012"),
        ("b", "210987654321"),
        ("c", "345678901234"),
    ] {
        operator.provider(&world, name, account).await;
        operator.scan(&world, name, name).await;
    }
    // Our limit over all tenants steps aside, that of the tenant does not.
    assert_eq!(operator.admit().await, 2);
    let told = says(&operator, &world, "c").await;
    assert!(told.ends_with("which runs 2 of 2 scans: a, b."), "{told}");

    // No Kueue: no Job, and a sentence that helps.
    let told = says(&operator, &world, "a").await;
    assert!(
        told.starts_with("InProgress KueueMissing: This installation lets Kueue"),
        "{told}"
    );
    assert_eq!(operator.jobs(&world).await.len(), 0);
    install(&operator).await;
    let mut tries = 0;
    while operator.jobs(&world).await.is_empty() {
        tries += 1;
        assert!(tries < 100, "{}", says(&operator, &world, "a").await);
        operator.pass::<Scan>(&world.namespace, "a").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    operator.pass::<Scan>(&world.namespace, "a").await;
    let job = operator.job_of(&world, "a").await;
    assert_eq!(job.spec.as_ref().unwrap().suspend, Some(true));
    assert_eq!(job.labels()["kueue.x-k8s.io/queue-name"], "audits");
    let pod = job
        .spec
        .as_ref()
        .unwrap()
        .template
        .metadata
        .as_ref()
        .unwrap();
    let labels = pod.labels.as_ref().unwrap();
    assert!(
        !labels.contains_key("kueue.x-k8s.io/queue-name"),
        "the Job is the workload, not its pod"
    );
    assert_eq!(
        says(&operator, &world, "a").await,
        "InProgress Starting: Waits for Kueue, LocalQueue audits: It has not seen the Job yet."
    );
    let full = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, 1 more needed";
    keep_waiting(&operator, &job, full).await;
    let waits = format!("InProgress Starting: Waits for Kueue, LocalQueue audits: {full}");
    assert_eq!(says(&operator, &world, "a").await, waits);
    // However long that lasts.
    operator.wait(7 * 24 * 3600);
    operator.api.reset();
    assert_eq!(says(&operator, &world, "a").await, waits);
    assert!(
        operator.api.changes().is_empty(),
        "{:?}",
        operator.api.changes()
    );

    unsuspend(&operator, &job).await;
    operator.pod(&job, scanning()).await;
    assert_eq!(
        says(&operator, &world, "a").await,
        "InProgress Scanning: Prowler runs."
    );
    operator.complete(&world, "a").await;
    assert_eq!(
        operator.says::<Scan>(&world.namespace, "a").await,
        "Current Completed"
    );
    assert_eq!(operator.admit().await, 1, "the tenant has room again");

    // Cancelled while it waits for Kueue, it goes, and so does its Job.
    operator.follow::<Scan>(&world.namespace, "b").await;
    let cancel = json!({ "spec": { "cancel": true } });
    operator.patch::<Scan>(&world.namespace, "b", cancel).await;
    operator.follow::<Scan>(&world.namespace, "b").await;
    assert_eq!(
        operator.says::<Scan>(&world.namespace, "b").await,
        "Failed Cancelled"
    );
    let held = "scans where holds_account and name = 'b'";
    assert_eq!(operator.count(held).await, 0);
}
