//! Ways in which an attempt ends: what the cluster does to its pod, what its file is worth, and
//! when its account is free again. How each is told from a pod's status is in
//! `dispatch::outcome`; that clusters write such a status, `tests/cluster` shows.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, PostParams};
use kube::core::Request;
use kube::{Api, Resource as _, ResourceExt as _};
use prowler_operator::api::{Provider, Scan};
use prowler_operator::domain::clock::Clock as _;
use serde_json::{Value, json};

use crate::support::operator::{ACCOUNT, Operator, World, container, scanning, upload_ended};

async fn one_provider(operator: &Operator) -> World {
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    world
}

async fn says(operator: &Operator, world: &World) -> String {
    operator.says::<Scan>(&world.namespace, "s").await
}

async fn pass(operator: &Operator, world: &World) {
    operator.pass::<Scan>(&world.namespace, "s").await;
}

async fn free(operator: &Operator) -> bool {
    operator.count("scans where holds_account").await == 0
}

/// The status of a pod that Kubernetes chose to end, while Prowler runs in it.
fn disrupted(reason: &str) -> Value {
    let mut status = scanning();
    status["conditions"] = json!([{ "type": "DisruptionTarget", "status": "True",
        "reason": reason, "message": "told by a test" }]);
    status
}

#[tokio::test]
async fn what_kubernetes_does_to_a_pod_is_another_attempt_and_said_by_its_name() {
    let operator = Operator::configured(json!({ "retry": { "maxAttempts": 4 } })).await;
    let world = one_provider(&operator).await;
    operator.scan(&world, "s", "p").await;
    for (disruption, attempt) in [
        ("PreemptionByScheduler", "1 Preempted"),
        ("DeletionByTaintManager", "2 NodeLost"),
        ("EvictionByEvictionAPI", "3 Evicted"),
    ] {
        operator.wait(3600);
        assert_eq!(operator.admit().await, 1);
        operator.follow::<Scan>(&world.namespace, "s").await;
        operator.ends(&world, "s", disrupted(disruption)).await;
        let attempts = operator.failures(&world, "s").await;
        assert_eq!(attempts.last().unwrap(), attempt);
        assert!(free(&operator).await);
    }
    assert_eq!(says(&operator, &world).await, "InProgress Queued");
}

#[tokio::test]
async fn a_scan_waits_for_a_node_and_says_why_until_its_time_is_over() {
    let timeout =
        json!({ "scanner": { "schedulingTimeoutSeconds": 300 }, "retry": { "maxAttempts": 1 } });
    let operator = Operator::configured(timeout).await;
    let world = one_provider(&operator).await;
    let job = operator.running_scan(&world, "s", "p").await;
    let since = operator.clock.now().to_string();
    let unscheduled = json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled",
        "status": "False", "reason": "Unschedulable", "lastTransitionTime": since,
        "message": "0/1 nodes are available: 1 Insufficient memory." }] });
    operator.pod(&job, unscheduled).await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world).await, "InProgress Starting");
    let message = operator.message::<Scan>(&world.namespace, "s").await;
    assert_eq!(
        message,
        "No node takes the scan's pod: 0/1 nodes are available: 1 Insufficient memory."
    );
    operator.wait(301);
    pass(&operator, &world).await;
    assert_eq!(says(&operator, &world).await, "Failed Unschedulable");
}

#[tokio::test]
async fn what_no_container_tells_is_read_from_the_pod_s_events() {
    let operator = Operator::configured(json!({ "retry": { "maxAttempts": 1 } })).await;
    let world = one_provider(&operator).await;
    let job = operator.running_scan(&world, "s", "p").await;
    let state = json!({ "waiting": { "reason": "PodInitializing" } });
    let since = operator.clock.now().to_string();
    let waiting = json!({ "phase": "Pending", "startTime": since,
                          "initContainerStatuses": [container("scan", state)] });
    let pod = operator.pod(&job, waiting).await;
    let note = r#"MountVolume.SetUp failed for volume "credentials" : secret "p-keys" not found"#;
    tell(&operator, &pod, "FailedMount", note).await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world).await, "InProgress Starting");
    operator.wait(91);
    pass(&operator, &world).await;
    assert_eq!(says(&operator, &world).await, "Failed SecretNotFound");
    let message = operator.message::<Scan>(&world.namespace, "s").await;
    assert!(message.contains("not found"), "{message}");
}

/// An event about a pod, as the kubelet writes it.
async fn tell(operator: &Operator, pod: &Pod, reason: &str, note: &str) {
    let namespace = pod.namespace().unwrap();
    let now = operator.clock.now();
    let event: Event = serde_json::from_value(json!({
        "metadata": { "generateName": "told-", "namespace": namespace },
        "eventTime": format!("{now:.6}"), "type": "Warning", "reason": reason, "note": note,
        "action": "Mount", "reportingController": "kubelet", "reportingInstance": "node1",
        "regarding": { "kind": "Pod", "namespace": namespace, "name": pod.name_any(),
                       "uid": pod.uid() },
    }))
    .unwrap();
    Api::<Event>::namespaced(operator.client.clone(), &namespace)
        .create(&PostParams::default(), &event)
        .await
        .unwrap();
}

/// Deletes a pod that nobody will ever end: its node is gone. The API server keeps it, for it
/// is bound to a node.
async fn delete_on_a_dead_node(operator: &Operator, job: &Job, status: Value) -> Pod {
    let pod = operator.pod(job, status).await;
    let api: Api<Pod> = Api::namespaced(operator.client.clone(), &pod.namespace().unwrap());
    let binding = json!({ "metadata": { "name": pod.name_any() },
                          "target": { "kind": "Node", "name": "gone" } });
    let url = Pod::url_path(&(), pod.namespace().as_deref());
    let bind = Request::new(url)
        .create_subresource(
            "binding",
            &pod.name_any(),
            &PostParams::default(),
            binding.to_string().into_bytes(),
        )
        .unwrap();
    operator.client.request::<Value>(bind).await.unwrap();
    api.delete(&pod.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    api.get(&pod.name_any()).await.unwrap()
}

#[tokio::test]
async fn an_account_is_free_in_time_though_nobody_tells_the_end_of_its_pod() {
    for (disruption, seconds) in [(Some("DeletionByTaintManager"), 10), (None, 60)] {
        let operator = Operator::configured(json!({ "retry": { "maxAttempts": 2 } })).await;
        let world = one_provider(&operator).await;
        let job = operator.running_scan(&world, "s", "p").await;
        let status = disruption.map_or_else(scanning, disrupted);
        let pod = delete_on_a_dead_node(&operator, &job, status).await;
        // Of the API server's own clock.
        let over = pod.metadata.deletion_timestamp.unwrap().0;
        operator.clock.set(over);
        operator.job_failed(&job, "BackoffLimitExceeded").await;
        // Fenced at once: what the pod may still send is of no attempt that runs.
        pass(&operator, &world).await;
        assert_eq!(says(&operator, &world).await, "InProgress Queued");
        assert_eq!(operator.count("scans where state = 'executing'").await, 0);
        pass(&operator, &world).await;
        assert!(!free(&operator).await, "its pod may still run");

        operator
            .clock
            .set(over + jiff::SignedDuration::from_secs(seconds));
        pass(&operator, &world).await;
        assert!(!free(&operator).await, "{disruption:?}");
        operator.wait(1);
        pass(&operator, &world).await;
        assert!(free(&operator).await, "{disruption:?}");
        // The pod is still there, and nobody waits for it any more.
        operator.wait(3600);
        assert_eq!(operator.admit().await, 1);
        operator.follow::<Scan>(&world.namespace, "s").await;
        assert_ne!(
            operator.job_of(&world, "s").await.name_any(),
            job.name_any()
        );
        operator.forget(&world).await;
    }
}

/// What the ingest server does with a file that is of no use, for a reason worth another try.
async fn refuse(operator: &Operator, reason: &str) {
    operator
        .change(&format!(
            "update scans set refused_attempt = attempt, reason = '{reason}', message = 'the file is bad'
             where state = 'executing'"
        ))
        .await;
}

#[tokio::test]
async fn a_file_that_ends_too_early_is_worth_one_more_attempt_and_no_third() {
    let operator = Operator::configured(json!({ "retry": { "maxAttempts": 10 } })).await;
    let world = one_provider(&operator).await;
    operator.scan(&world, "s", "p").await;
    for (number, reason) in ["OutputTruncated", "NoOutput", "OutputTruncated"]
        .into_iter()
        .enumerate()
    {
        operator.wait(3600);
        assert_eq!(operator.admit().await, 1, "{number} {reason}");
        operator.follow::<Scan>(&world.namespace, "s").await;
        let job = operator.job_of(&world, "s").await;
        let pod = operator.pod(&job, scanning()).await;
        // Whatever becomes of the pod first: what the server read of the file is the reason.
        refuse(&operator, reason).await;
        if number == 0 {
            operator.pod_status(&pod, upload_ended(3)).await;
        }
        pass(&operator, &world).await;
        pass(&operator, &world).await;
        assert!(!free(&operator).await || number == 3);
        operator.collect_garbage(&world).await;
        operator.follow::<Scan>(&world.namespace, "s").await;
        assert!(free(&operator).await);
    }
    assert_eq!(says(&operator, &world).await, "Failed OutputTruncated");
    assert_eq!(
        operator.failures(&world, "s").await,
        ["1 OutputTruncated", "2 NoOutput", "3 OutputTruncated"]
    );
}

#[tokio::test]
async fn findings_of_another_account_say_that_the_credentials_are_of_another() {
    let operator = Operator::new().await;
    let world = one_provider(&operator).await;
    operator.running_scan(&world, "s", "p").await;
    let why = "the file is of account 999999999999";
    operator
        .change(&format!(
            "update scans set state = 'failed', reason = 'WrongAccount', message = '{why}',
               refused_attempt = attempt, completed_at = now(),
               failed_attempts = jsonb_build_array(jsonb_build_object(
                 'attempt', attempt, 'reason', 'WrongAccount', 'at', '2026-11-26T10:00:00Z'))"
        ))
        .await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world).await, "Failed WrongAccount");
    assert_eq!(operator.failures(&world, "s").await, ["1 WrongAccount"]);
    operator.cx.mirrors.load(&operator.cx.admin).await.unwrap();
    operator.follow::<Provider>(&world.namespace, "p").await;
    let (status, reason, message) = operator
        .condition::<Provider>(&world.namespace, "p", "Connected")
        .await
        .unwrap();
    assert_eq!((&*status, &*reason), ("False", "WrongAccount"));
    assert!(message.contains(why), "{message}");
}
