//! Attempts: what is tried again, how often and with what; what is not; and how a scan is ended
//! by people.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::ResourceExt as _;
use prowler_operator::api::{Provider, Scan, Tenant};
use prowler_operator::domain::clock::Clock as _;
use serde_json::{Value, json};

use crate::support::faults::Fault;
use crate::support::operator::{ACCOUNT, Operator, World, aws, container, scanning};

async fn one_provider(operator: &Operator, limits: Value) -> World {
    let world = operator.tenant_with(json!({ "limits": limits })).await;
    operator.provider(&world, "p", ACCOUNT).await;
    world
}

async fn says(operator: &Operator, world: &World) -> String {
    operator.says::<Scan>(&world.namespace, "s").await
}

async fn status(operator: &Operator, world: &World) -> Value {
    operator.status::<Scan>(&world.namespace, "s").await
}

/// Lets the next attempt start; its Job.
async fn start(operator: &Operator, world: &World) -> Job {
    assert_eq!(operator.admit().await, 1);
    operator.follow::<Scan>(&world.namespace, "s").await;
    operator.job_of(world, "s").await
}

/// Seconds until the next attempt.
async fn pause(operator: &Operator) -> i64 {
    let at = operator.sql("select extract(epoch from next_attempt_at)::bigint from scans");
    at.await.parse::<i64>().unwrap() - operator.clock.now().as_second()
}

fn memory(job: &Job) -> String {
    let pod = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let scan = &pod.init_containers.as_ref().unwrap()[0];
    let limits = scan.resources.as_ref().unwrap().limits.as_ref().unwrap();
    limits["memory"].0.clone()
}

#[tokio::test]
async fn an_attempt_that_failed_is_made_again_after_a_pause_that_doubles_up_to_the_last() {
    let operator = Operator::new().await;
    let world = one_provider(&operator, json!({})).await;
    operator.scan(&world, "s", "p").await;
    let first = start(&operator, &world).await;
    operator.fails(&world, "s", 1, "Error", "boom").await;
    assert_eq!(says(&operator, &world).await, "InProgress Queued");
    let message = operator.message::<Scan>(&world.namespace, "s").await;
    assert!(
        message.starts_with("Attempt 1 failed; the next starts at ")
            && message.ends_with("Prowler ended with exit code 1: boom"),
        "{message}"
    );
    assert_eq!(operator.failures(&world, "s").await, ["1 ScanFailed"]);
    assert_eq!(pause(&operator).await, 30);
    assert_eq!(operator.admit().await, 0, "not before the pause is over");
    // The account is free for others in the meantime.
    assert_eq!(operator.count("scans where holds_account").await, 0);
    operator.wait(30);
    let second = start(&operator, &world).await;
    assert_ne!(first.name_any(), second.name_any());
    operator.fails(&world, "s", 1, "Error", "boom").await;
    assert_eq!(pause(&operator).await, 60);
    operator.wait(60);
    start(&operator, &world).await;
    operator.fails(&world, "s", 1, "Error", "boom").await;
    assert_eq!(says(&operator, &world).await, "Failed ScanFailed");
    assert_eq!(
        operator.failures(&world, "s").await,
        ["1 ScanFailed", "2 ScanFailed", "3 ScanFailed"]
    );
    let shown = status(&operator, &world).await;
    assert_eq!(
        json!([shown["state"], shown["stage"], shown["attempt"]]),
        json!(["failed", "Done", 3])
    );
    assert_eq!(shown["durationSeconds"], json!(90));
    operator.wait(24 * 3600);
    assert_eq!(operator.admit().await, 0, "three are enough");
    operator.follow::<Provider>(&world.namespace, "p").await;
    let provider = operator.status::<Provider>(&world.namespace, "p").await;
    assert_eq!(provider["lastScan"]["state"], json!("failed"));
    // Not zero: nobody knows.
    for count in ["fail", "total"] {
        assert!(provider["lastScan"][count].is_null(), "{provider:#}");
    }
}

#[tokio::test]
async fn what_the_cluster_did_to_the_pod_is_another_attempt_and_said_by_its_name() {
    let retry = json!({ "retry": { "maxAttempts": 2 } });
    let operator = Operator::configured(retry).await;
    let world = one_provider(&operator, json!({})).await;
    operator.scan(&world, "s", "p").await;
    start(&operator, &world).await;
    let evicted = json!({ "phase": "Failed", "reason": "Evicted",
                          "message": "The node was low on resource: memory." });
    operator.ends(&world, "s", evicted).await;
    assert_eq!(operator.failures(&world, "s").await, ["1 Evicted"]);
    operator.wait(60);
    let second = start(&operator, &world).await;
    let state = json!({ "waiting": { "reason": "ErrImageNeverPull", "message": "not present" } });
    let stuck = json!({ "phase": "Pending", "initContainerStatuses": [container("scan", state)] });
    operator.ends(&world, "s", stuck).await;
    assert_eq!(says(&operator, &world).await, "Failed ImagePullFailed");
    // Each stage is an event of its own, with the Job that it is about; none is told twice.
    let told = operator.told(&world.namespace, "s").await;
    let words: Vec<_> = told
        .iter()
        .map(|told| format!("{} {} {}", told.type_, told.action, told.reason))
        .collect();
    assert_eq!(
        words,
        [
            "Normal Reconcile Queued",
            "Normal Reconcile Starting",
            "Normal Reconcile Queued",
            "Normal Reconcile Starting",
            "Warning Reconcile ImagePullFailed",
        ],
        "{told:#?}"
    );
    assert!(told.iter().all(|told| told.times == 1), "{told:#?}");
    assert_eq!(told[3].related, Some(second.name_any()));
}

#[tokio::test]
async fn out_of_memory_gets_half_as_much_again_and_never_more_than_the_limit() {
    let retry = json!({ "retry": { "maxAttempts": 4 } });
    let operator = Operator::configured(retry).await;
    let world = one_provider(&operator, json!({ "scanMemory": "4Gi" })).await;
    operator.scan(&world, "s", "p").await;
    let gib: i64 = 1 << 30;
    for expected in [
        "2Gi".to_owned(),
        (3 * gib).to_string(),
        (4 * gib).to_string(),
        (4 * gib).to_string(),
    ] {
        operator.wait(3600);
        let job = start(&operator, &world).await;
        assert_eq!(memory(&job), expected);
        operator.fails(&world, "s", 137, "OOMKilled", "").await;
    }
    assert_eq!(says(&operator, &world).await, "Failed OOMKilled");
    let message = operator.message::<Scan>(&world.namespace, "s").await;
    assert_eq!(
        message,
        "Prowler needed more memory than its limit. It had 4Gi. That is the limit: raise limits.scanMemory of its Tenant."
    );
    assert_eq!(status(&operator, &world).await["memory"], "4Gi");
    operator.follow::<Provider>(&world.namespace, "p").await;
    let provider = operator.status::<Provider>(&world.namespace, "p").await;
    assert_eq!(provider["lastScan"]["memory"], "4Gi");
    // The status shows the last three of four.
    assert_eq!(
        operator.failures(&world, "s").await,
        ["2 OOMKilled", "3 OOMKilled", "4 OOMKilled"]
    );
}

#[tokio::test]
async fn credentials_that_do_not_open_the_account_are_not_tried_again() {
    let operator = Operator::new().await;
    let world = one_provider(&operator, json!({})).await;
    operator.scan(&world, "s", "p").await;
    start(&operator, &world).await;
    let said = "botocore.exceptions.ClientError: (InvalidClientTokenId)";
    operator.fails(&world, "s", 1, "Error", said).await;
    assert_eq!(says(&operator, &world).await, "Failed AuthenticationFailed");
    assert_eq!(operator.admit().await, 0);
    operator.follow::<Provider>(&world.namespace, "p").await;
    let connected = operator
        .condition::<Provider>(&world.namespace, "p", "Connected")
        .await;
    let (status, reason, _) = connected.unwrap();
    assert_eq!((&*status, &*reason), ("False", "AuthenticationFailed"));
    // The account is stored all the same: Connected never gates Ready.
    assert_eq!(
        operator.says::<Provider>(&world.namespace, "p").await,
        "Current Succeeded"
    );
}

#[tokio::test]
async fn a_job_that_somebody_deleted_is_made_again() {
    let operator = Operator::new().await;
    let world = one_provider(&operator, json!({})).await;
    let job = operator.running_scan(&world, "s", "p").await;
    operator
        .delete::<Job>(&world.namespace, &job.name_any())
        .await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(operator.failures(&world, "s").await, ["1 PodLost"]);
    operator.wait(3600);
    let again = start(&operator, &world).await;
    assert_ne!(again.uid(), job.uid());
    operator.complete(&world, "s").await;
    assert_eq!(says(&operator, &world).await, "Current Completed");
    assert_eq!(operator.failures(&world, "s").await, ["1 PodLost"]);
}

#[tokio::test]
async fn what_was_taken_back_since_admission_is_not_given_to_the_pod() {
    let operator = Operator::new().await;
    let world = one_provider(&operator, json!({})).await;
    operator.scan(&world, "s", "p").await;
    operator.admit().await;
    let label = json!({ "metadata": { "labels": { "prowler-operator.dev/credentials": null } } });
    operator
        .patch::<Secret>(&world.namespace, "p-keys", label)
        .await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world).await, "Failed SecretNotAllowed");
    assert_eq!(operator.jobs(&world).await.len(), 0);
    assert_eq!(operator.count("scans where holds_account").await, 0);
}

#[tokio::test]
async fn a_service_account_that_was_taken_back_since_admission_runs_no_scan() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator
        .service_account(&world.namespace, "scanner", true)
        .await;
    let spec = json!({ "provider": "kubernetes", "uid": "here",
                       "credentials": { "serviceAccountName": "scanner" } });
    operator
        .becomes::<Provider>(&world.namespace, "p", spec)
        .await;
    operator.scan(&world, "s", "p").await;
    operator.admit().await;
    let annotation =
        json!({ "metadata": { "annotations": { "prowler-operator.dev/scanner": null } } });
    operator
        .patch::<ServiceAccount>(&world.namespace, "scanner", annotation)
        .await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(
        says(&operator, &world).await,
        "Failed ServiceAccountNotAllowed"
    );
    assert_eq!(operator.jobs(&world).await.len(), 0);
    assert_eq!(operator.count("scans where holds_account").await, 0);
}

#[tokio::test]
async fn sizes_of_every_legal_form_make_jobs_that_the_api_server_takes() {
    let operator = Operator::configured(json!({
        "scanner": { "resources": { "requests": { "cpu": "100m", "memory": "384Mi" } } },
    }))
    .await;
    let world = operator.tenant().await;
    operator.aws_secret(&world.namespace, "keys").await;
    for (n, resources) in [
        json!({ "limits": { "cpu": "50m" } }),
        json!({ "requests": { "cpu": "20m" } }),
        json!({ "requests": { "cpu": "1" }, "limits": { "memory": "256Mi" } }),
        json!({ "limits": { "ephemeral-storage": "64Mi" } }),
        json!({ "requests": { "ephemeral-storage": "6Gi" } }),
        json!({ "requests": { "memory": "3Gi" } }),
    ]
    .iter()
    .enumerate()
    {
        let (name, uid) = (format!("p-{n}"), format!("{n:012}"));
        let mut spec = aws(&uid, "keys");
        spec["scan"] = json!({ "resources": resources });
        let says = operator
            .becomes::<Provider>(&world.namespace, &name, spec)
            .await;
        assert_eq!(says, "Current Succeeded", "{resources}");
        // The API server refuses a Job whose requests are above its limits.
        let job = operator.running_scan(&world, &name, &name).await;
        let pod = job.spec.unwrap().template.spec.unwrap();
        let scan = pod.init_containers.unwrap().remove(0);
        let made = serde_json::to_value(scan.resources.unwrap()).unwrap();
        for side in ["requests", "limits"] {
            for (what, amount) in resources[side].as_object().into_iter().flatten() {
                assert_eq!(&made[side][what], amount, "{resources} {made}");
            }
        }
        operator.complete(&world, &name).await;
    }
}

#[tokio::test]
async fn an_account_without_credentials_is_not_scanned() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let spec = json!({ "provider": "aws", "uid": ACCOUNT });
    let says_provider = operator
        .becomes::<Provider>(&world.namespace, "p", spec)
        .await;
    assert_eq!(says_provider, "Current Succeeded");
    operator.scan(&world, "s", "p").await;
    operator.admit().await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world).await, "Failed CredentialsMissing");
    assert_eq!(operator.jobs(&world).await.len(), 0);
}

#[tokio::test]
async fn a_secret_that_is_being_replaced_costs_an_attempt_and_not_the_scan() {
    let operator = Operator::new().await;
    let world = one_provider(&operator, json!({})).await;
    operator.scan(&world, "s", "p").await;
    operator.admit().await;
    operator.delete::<Secret>(&world.namespace, "p-keys").await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world).await, "InProgress Queued");
    let attempts = status(&operator, &world).await["attempts"].clone();
    assert_eq!(attempts[0]["reason"], "SecretNotFound");
    assert_eq!(operator.count("scans where holds_account").await, 0);
    operator.aws_secret(&world.namespace, "p-keys").await;
    operator.wait(pause(&operator).await + 1);
    start(&operator, &world).await;
    operator.complete(&world, "s").await;
    assert_eq!(says(&operator, &world).await, "Current Completed");
}

#[tokio::test]
async fn an_attempt_that_cannot_be_planned_gives_its_place_back() {
    let operator = Operator::new().await;
    let world = one_provider(&operator, json!({})).await;
    // The operator may not read the Secret: somebody took its binding away.
    operator.scan(&world, "s", "p").await;
    operator.admit().await;
    operator.api.reset();
    operator.api.arm(1, Fault::Answer(403));
    operator.pass::<Scan>(&world.namespace, "s").await;
    let asked = operator.api.fired().unwrap();
    assert!(asked.contains("/secrets/"), "{asked}");
    operator.api.reset();
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world).await, "InProgress Queued");
    let attempts = status(&operator, &world).await["attempts"].clone();
    assert_eq!(attempts[0]["reason"], "PodRefused");
    assert_eq!(operator.count("scans where holds_account").await, 0);

    // Nor is anything else waited for for ever.
    operator.wait(pause(&operator).await + 1);
    assert_eq!(operator.admit().await, 1);
    operator.change("update scans set admitted = '{}'").await;
    operator.pass::<Scan>(&world.namespace, "s").await;
    assert_eq!(operator.count("scans where holds_account").await, 1);
    operator.wait(601);
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(operator.count("scans where holds_account").await, 0);
    let message = operator.message::<Scan>(&world.namespace, "s").await;
    assert!(
        message.contains("The scan's Job could not be made: scan "),
        "{message}"
    );
}

#[tokio::test]
async fn a_scan_is_cancelled_before_it_was_ever_queued() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let elsewhere = operator.server.namespace().await;
    for namespace in [&world.namespace, &elsewhere] {
        let spec = json!({ "providerRef": { "name": "nobody" } });
        let says = operator.becomes::<Scan>(namespace, "s", spec).await;
        assert!(says.starts_with("InProgress "), "{says}");
        let cancel = json!({ "spec": { "cancel": true } });
        operator.patch::<Scan>(namespace, "s", cancel).await;
        operator.follow::<Scan>(namespace, "s").await;
        let says = operator.says::<Scan>(namespace, "s").await;
        assert_eq!(says, "Failed Cancelled");
        let status = operator.status::<Scan>(namespace, "s").await;
        assert_eq!(status["state"], "cancelled");
        assert_eq!(status["message"], "Cancelled by its spec.");
        // It goes like any other that is over.
        operator.wait(7 * 24 * 3600 + 1);
        operator.pass::<Scan>(namespace, "s").await;
        operator.follow::<Scan>(namespace, "s").await;
        assert!(operator.is_gone::<Scan>(namespace, "s").await);
    }
    assert_eq!(operator.count("scans").await, 0);
}

#[tokio::test]
async fn a_scan_that_waits_is_cancelled_at_once_and_stays_so() {
    let operator = Operator::new().await;
    let world = one_provider(&operator, json!({})).await;
    operator.scan(&world, "s", "p").await;
    let cancel = |yes: bool| json!({ "spec": { "cancel": yes } });
    operator
        .patch::<Scan>(&world.namespace, "s", cancel(true))
        .await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world).await, "Failed Cancelled");
    let message = operator.message::<Scan>(&world.namespace, "s").await;
    assert_eq!(message, "Cancelled by its spec.");
    assert_eq!(operator.admit().await, 0);
    let back = json!({ "spec": { "providerRef": { "name": "p" }, "cancel": false } });
    let refused = operator
        .try_apply::<Scan>(&world.namespace, "s", back)
        .await;
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("a cancelled scan stays cancelled"), "{told}");
}

#[tokio::test]
async fn a_scan_that_runs_is_cancelled_and_holds_its_account_until_its_pod_is_gone() {
    let operator = Operator::new().await;
    let world = one_provider(&operator, json!({})).await;
    let job = operator.running_scan(&world, "s", "p").await;
    operator.pod(&job, scanning()).await;
    operator.scan(&world, "next", "p").await;
    let cancel = json!({ "spec": { "cancel": true } });
    operator.patch::<Scan>(&world.namespace, "s", cancel).await;
    operator.pass::<Scan>(&world.namespace, "s").await;
    operator.pass::<Scan>(&world.namespace, "s").await;
    assert_eq!(says(&operator, &world).await, "Failed Cancelled");
    assert!(
        operator
            .is_gone::<Job>(&world.namespace, &job.name_any())
            .await
    );
    assert_eq!(operator.admit().await, 0, "a pod with keys still runs");
    operator.collect_garbage(&world).await;
    operator.pass::<Scan>(&world.namespace, "s").await;
    assert_eq!(operator.admit().await, 1);
    // Its zombie may not publish: the row no longer is an attempt that runs.
    assert_eq!(
        operator.count("scans where state = 'executing'").await,
        1,
        "the next one"
    );
}

#[tokio::test]
async fn a_scan_whose_provider_goes_says_so_as_long_as_it_is_there() {
    let operator = Operator::new().await;
    let world = one_provider(&operator, json!({})).await;
    operator.scan(&world, "s", "p").await;
    operator.deletes::<Provider>(&world.namespace, "p").await;
    for _ in 0..2 {
        operator.follow::<Scan>(&world.namespace, "s").await;
        assert_eq!(says(&operator, &world).await, "Failed ProviderDeleted");
        // A namesake is another account.
        operator.aws_secret(&world.namespace, "other-keys").await;
        let spec = crate::support::operator::aws("210987654321", "other-keys");
        operator
            .becomes::<Provider>(&world.namespace, "p", spec)
            .await;
        operator
            .delete::<Secret>(&world.namespace, "other-keys")
            .await;
    }
    assert_eq!(operator.count("scans").await, 0);
    operator.wait(8 * 24 * 3600);
    for _ in 0..2 {
        operator.pass::<Scan>(&world.namespace, "s").await;
    }
    assert!(operator.is_gone::<Scan>(&world.namespace, "s").await);
}

#[tokio::test]
async fn a_wish_that_no_attempt_could_have_is_refused_before_it_queues() {
    let operator = Operator::new().await;
    let world = one_provider(&operator, json!({ "scanMemory": "4Gi" })).await;
    let namespace = &world.namespace;
    let scan = json!({ "image": "mine:1", "resources": { "limits": { "memory": "5Gi" } } });
    let spec = json!({ "providerRef": { "name": "p" }, "scan": scan });
    operator.apply::<Scan>(namespace, "s", spec).await;
    operator.follow::<Scan>(namespace, "s").await;
    assert_eq!(says(&operator, &world).await, "Failed ImageNotAllowed");
    let message = operator.message::<Scan>(namespace, "s").await;
    assert!(message.contains("spec.scan.image"), "{message}");
    assert!(
        message.contains("spec.scan.resources.limits.memory"),
        "{message}"
    );
    assert_eq!(operator.sql("select count(*) from scans").await, "0");

    // What a tenant may have since is not refused any more.
    operator
        .apply::<Tenant>(
            "",
            &world.tenant,
            json!({ "namespaces": [namespace], "limits": { "scanMemory": "8Gi" } }),
        )
        .await;
    operator.follow::<Tenant>("", &world.tenant).await;
    let scan = json!({ "resources": { "limits": { "memory": "5Gi" } } });
    let spec = json!({ "providerRef": { "name": "p" }, "scan": scan });
    operator.apply::<Scan>(namespace, "t", spec).await;
    operator.follow::<Scan>(namespace, "t").await;
    assert_eq!(operator.sql("select count(*) from scans").await, "1");
}
