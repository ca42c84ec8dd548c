use serde_json::{Value, json};

use super::*;

/// Judged with a Job, pods and what an event says.
fn judge(job: &Job, pods: &[Pod], told: Option<&str>, now: Timestamp) -> Outcome {
    super::judge(&Evidence {
        job,
        pods,
        told,
        now,
        scheduling_timeout: 600,
    })
}

fn running(stage: Stage) -> Outcome {
    Outcome::Running { stage, waits: None }
}

fn now() -> Timestamp {
    "2026-11-23T02:10:00Z".parse().unwrap()
}

fn pod(status: impl Into<Value>) -> Pod {
    let status: Value = status.into();
    serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap()
}

fn job(reason: Option<&str>) -> Job {
    let conditions: Vec<_> = reason
        .map(|reason| json!({ "type": "Failed", "status": "True", "reason": reason }))
        .into_iter()
        .collect();
    serde_json::from_value(json!({ "metadata": {}, "status": { "conditions": conditions } }))
        .unwrap()
}

fn scan_ended(code: i32, reason: &str, message: &str) -> Value {
    json!({ "phase": "Failed", "initContainerStatuses": [{
        "name": "scan", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": code, "reason": reason, "message": message } } }] })
}

fn upload_ended(code: i32, message: &str) -> Value {
    let mut status = scan_ended(0, "Completed", "");
    status["containerStatuses"] = json!([{
        "name": "upload", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": code, "message": message } } }]);
    status
}

fn reason(outcome: &Outcome) -> Reason {
    match outcome {
        Outcome::Failed { reason, .. } => *reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_way_to_end_has_one_reason() {
    let cases = [
        (scan_ended(1, "Error", "boom"), None, Reason::ScanFailed),
        (scan_ended(255, "Error", ""), None, Reason::ScanFailed),
        (
            scan_ended(2, "Error", "usage"),
            None,
            Reason::ScanArgumentsInvalid,
        ),
        (
            scan_ended(1, "Error", "CRITICAL: Invalid service(s) specified: s4"),
            None,
            Reason::ScanArgumentsInvalid,
        ),
        (
            scan_ended(1, "Error", "botocore: InvalidClientTokenId"),
            None,
            Reason::AuthenticationFailed,
        ),
        (scan_ended(137, "OOMKilled", ""), None, Reason::OOMKilled),
        (
            scan_ended(1, "OOMKilled", "child killed"),
            None,
            Reason::OOMKilled,
        ),
        (
            scan_ended(137, "Error", ""),
            Some("DeadlineExceeded"),
            Reason::DeadlineExceeded,
        ),
        (
            scan_ended(143, "Error", ""),
            Some("BackoffLimitExceeded"),
            Reason::PodLost,
        ),
        (
            json!({ "phase": "Failed", "reason": "Evicted", "message": "disk" }),
            None,
            Reason::Evicted,
        ),
        (upload_ended(75, "{}"), None, Reason::UploadFailed),
    ];
    for (status, failure, expected) in cases {
        let outcome = judge(&job(failure), &[pod(status.clone())], None, now());
        assert_eq!(reason(&outcome), expected, "{status}");
    }
}

#[test]
fn a_file_that_cannot_be_put_together_ends_the_scan_with_what_is_wrong() {
    let mut status = scan_ended(1, "Error", "Error: key_file is not a private key\n");
    status["initContainerStatuses"][0]["name"] = json!("compose");
    assert_eq!(
        judge(&job(None), &[pod(status)], None, now()),
        failed(
            Reason::InvalidSpec,
            "The Secret has changed since it was checked: Error: key_file is not a private key"
        )
    );
    let done = json!({ "phase": "Pending", "initContainerStatuses": [{
        "name": "compose", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "state": { "terminated": { "exitCode": 0 } } }] });
    assert_eq!(
        judge(&job(None), &[pod(done)], None, now()),
        running(Stage::Starting)
    );
}

#[test]
fn an_upload_that_is_done_or_refused_leaves_the_word_to_the_row() {
    let left = r#"{"reason":"Forbidden","message":"the token is of no scan"}"#;
    for code in [0, UPLOAD_REFUSED] {
        assert_eq!(
            judge(&job(None), &[pod(upload_ended(code, left))], None, now()),
            Outcome::Uploaded {
                said: "the token is of no scan".to_owned()
            }
        );
    }
}

#[test]
fn a_deadline_that_passes_while_findings_are_sent_is_an_upload_that_failed() {
    let outcome = judge(
        &job(Some("DeadlineExceeded")),
        &[pod(upload_ended(143, ""))],
        None,
        now(),
    );
    assert_eq!(reason(&outcome), Reason::UploadFailed);
}

#[test]
fn an_upload_that_gave_up_is_quoted_without_its_wrapping() {
    let left = "{\"reason\":\"UploadFailed\",\"message\":\"gave up after 3600 s\"}\n";
    for (left, said) in [
        (left, "gave up after 3600 s"),
        ("thread panicked\nat once", "thread panicked | at once"),
        ("", ""),
    ] {
        let outcome = judge(&job(None), &[pod(upload_ended(75, left))], None, now());
        let message = format!("The findings could not be sent (exit code 75): {said}");
        assert_eq!(outcome, failed(Reason::UploadFailed, message));
    }
}

#[test]
fn the_image_of_the_upload_is_given_time_from_when_prowler_was_done() {
    let waiting = |done: &str| {
        let mut status = scan_ended(0, "Completed", "");
        status["phase"] = json!("Pending");
        status["startTime"] = json!("2026-11-23T01:00:00Z");
        status["initContainerStatuses"][0]["state"]["terminated"]["finishedAt"] = json!(done);
        status["containerStatuses"] = json!([{
            "name": "upload", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ErrImagePull" } } }]);
        judge(&job(None), &[pod(status)], None, now())
    };
    assert_eq!(
        waiting("2026-11-23T02:09:30Z"),
        Outcome::Running {
            stage: Stage::Ingesting,
            waits: Some("Image i could not be pulled: ".to_owned())
        }
    );
    assert_eq!(
        reason(&waiting("2026-11-23T02:08:00Z")),
        Reason::ImagePullFailed
    );
}

#[test]
fn a_pod_that_never_came_is_refused_or_starting_or_lost() {
    assert_eq!(
        judge(&job(None), &[], None, now()),
        running(Stage::Starting)
    );
    assert_eq!(
        reason(&judge(&job(None), &[], Some("exceeded quota"), now())),
        Reason::PodRefused
    );
    assert_eq!(
        reason(&judge(&job(Some("BackoffLimitExceeded")), &[], None, now())),
        Reason::PodLost
    );
}

#[test]
fn a_second_pod_ends_the_attempt() {
    let two = [pod(json!({})), pod(json!({}))];
    assert_eq!(
        reason(&judge(&job(None), &two, None, now())),
        Reason::PodLost
    );
}

/// A pod that Kubernetes chose to end for this reason, while Prowler ran.
fn disrupted(reason: &str, more: &Value) -> Value {
    let mut status = json!({ "phase": "Pending", "conditions": [
        { "type": "DisruptionTarget", "status": "True", "reason": reason, "message": "m" }],
        "initContainerStatuses": [{
            "name": "scan", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "running": {} } }] });
    for (key, value) in more.as_object().unwrap() {
        status[key] = value.clone();
    }
    status
}

#[test]
fn what_ends_a_pod_from_outside_has_its_own_reason_however_its_containers_end() {
    let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "disk" });
    let shut_down = json!({ "phase": "Failed", "reason": "Terminated" });
    let critical = json!({ "phase": "Failed", "reason": "Preempting" });
    let none = json!({});
    for (disruption, more, expected) in [
        ("PreemptionByScheduler", &none, Reason::Preempted),
        ("DeletionByTaintManager", &none, Reason::NodeLost),
        ("DeletionByPodGC", &none, Reason::NodeLost),
        ("EvictionByEvictionAPI", &none, Reason::Evicted),
        ("TerminationByKubelet", &evicted, Reason::Evicted),
        ("TerminationByKubelet", &shut_down, Reason::NodeLost),
        ("TerminationByKubelet", &critical, Reason::Preempted),
        ("TerminationByKubelet", &none, Reason::Evicted),
    ] {
        let mut status = disrupted(disruption, more);
        for code in [None, Some(1), Some(137), Some(143)] {
            if let Some(code) = code {
                status["initContainerStatuses"][0]["state"] =
                    json!({ "terminated": { "exitCode": code, "reason": "Error" } });
            }
            let outcome = judge(&job(None), &[pod(status.clone())], None, now());
            assert_eq!(reason(&outcome), expected, "{disruption} {code:?}");
        }
        // The Job's own deadline came first.
        let late = judge(
            &job(Some("DeadlineExceeded")),
            &[pod(status.clone())],
            None,
            now(),
        );
        assert_eq!(reason(&late), Reason::DeadlineExceeded, "{disruption}");
    }
    // What was sent is sent.
    let mut sent = upload_ended(0, "{}");
    sent["conditions"] = disrupted("PreemptionByScheduler", &none)["conditions"].clone();
    assert!(matches!(
        judge(&job(None), &[pod(sent)], None, now()),
        Outcome::Uploaded { .. }
    ));
}

#[test]
fn a_node_that_refuses_the_pod_is_named_with_its_word() {
    for word in [
        "OutOfmemory",
        "OutOfcpu",
        "NodeAffinity",
        "UnexpectedAdmissionError",
    ] {
        let status = json!({ "phase": "Failed", "reason": word, "message": "no room" });
        let outcome = judge(&job(None), &[pod(status)], None, now());
        let message = format!("The node refused the scan's pod ({word}): no room");
        assert_eq!(outcome, failed(Reason::PodRefused, message));
    }
}

#[test]
fn a_pod_that_no_node_takes_says_so_and_is_given_up_in_time() {
    let unscheduled = |since: &str| {
        let status = json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
              "lastTransitionTime": since, "message": "0/1 nodes are available" }] });
        judge(&job(None), &[pod(status)], None, now())
    };
    let message = "No node takes the scan's pod: 0/1 nodes are available".to_owned();
    assert_eq!(
        unscheduled("2026-11-23T02:00:01Z"),
        Outcome::Running {
            stage: Stage::Starting,
            waits: Some(message.clone())
        }
    );
    assert_eq!(
        unscheduled("2026-11-23T01:59:59Z"),
        failed(Reason::Unschedulable, message)
    );
}

#[test]
fn what_is_not_there_to_mount_is_told_by_an_event_after_a_while() {
    let waits = |started: &str| {
        pod(
            json!({ "phase": "Pending", "startTime": started, "initContainerStatuses": [{
            "name": "scan", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "PodInitializing" } } }] }),
        )
    };
    let (early, late) = (waits("2026-11-23T02:09:30Z"), waits("2026-11-23T02:05:00Z"));
    assert!(!wants_events(&early, now()) && wants_events(&late, now()));
    let told = r#"MountVolume.SetUp failed for volume "credentials" : secret "keys" not found"#;
    assert_eq!(
        judge(&job(None), &[early], Some(told), now()),
        running(Stage::Starting)
    );
    let outcome = judge(&job(None), std::slice::from_ref(&late), Some(told), now());
    assert_eq!(reason(&outcome), Reason::SecretNotFound);
    for (told, expected) in [
        (
            "references non-existent secret key: kubeconfig_content",
            Reason::SecretKeyMissing,
        ),
        ("rpc error: no such volume", Reason::PodRefused),
    ] {
        let outcome = judge(&job(None), std::slice::from_ref(&late), Some(told), now());
        assert_eq!(reason(&outcome), expected);
    }
    // An old event says nothing of a pod that has begun.
    let mut begun = late;
    let status = begun.status.as_mut().unwrap();
    status.init_container_statuses.as_mut().unwrap()[0].state =
        Some(serde_json::from_value(json!({ "running": {} })).unwrap());
    assert!(!wants_events(&begun, now()));
    assert_eq!(
        judge(&job(None), &[begun], Some(told), now()),
        running(Stage::Scanning)
    );
}

#[test]
fn a_container_that_cannot_be_made_says_what_is_missing() {
    let waiting = |message: &str| {
        pod(
            json!({ "startTime": "2026-11-23T02:05:00Z", "initContainerStatuses": [{
            "name": "scan", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "CreateContainerConfigError", "message": message } } }] }),
        )
    };
    for (message, expected) in [
        (r#"secret "keys" not found"#, Reason::SecretNotFound),
        (
            "couldn't find key client_id in Secret a/keys",
            Reason::SecretKeyMissing,
        ),
        (
            "container has runAsNonRoot and image will run as root",
            Reason::PodRefused,
        ),
    ] {
        let outcome = judge(&job(None), &[waiting(message)], None, now());
        assert_eq!(reason(&outcome), expected, "{message}");
    }
}

#[test]
fn a_pod_that_cannot_be_made_names_the_account_that_is_gone() {
    let gone = r#"Error creating: pods "scan-1-" is forbidden: error looking up service account a/prowler: serviceaccount "prowler" not found"#;
    let outcome = judge(&job(None), &[], Some(gone), now());
    assert_eq!(reason(&outcome), Reason::ServiceAccountNotFound);
}

#[test]
fn an_account_waits_for_its_pod_as_long_as_somebody_may_tell_its_end() {
    let deleted = |seconds: i64, disruption: Option<&str>| {
        let at = now() - jiff::SignedDuration::from_secs(seconds);
        let status = disruption.map_or(json!({}), |reason| disrupted(reason, &json!({})));
        let mut pod = pod(status);
        pod.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        pod
    };
    assert!(!is_given_up(&pod(json!({})), now()));
    for (seconds, disruption, expected) in [
        // The time to end is not even over.
        (-30, None, false),
        (60, None, false),
        (61, None, true),
        (10, Some("DeletionByTaintManager"), false),
        (11, Some("DeletionByTaintManager"), true),
        (11, Some("DeletionByPodGC"), true),
        (11, Some("PreemptionByScheduler"), false),
    ] {
        let pod = deleted(seconds, disruption);
        assert_eq!(
            is_given_up(&pod, now()),
            expected,
            "{seconds} {disruption:?}"
        );
    }
}

#[test]
fn an_image_is_given_time_unless_it_can_never_be_pulled() {
    let waiting = |why: &str, started: &str| {
        pod(json!({ "startTime": started, "initContainerStatuses": [{
            "name": "scan", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": why } } }] }))
    };
    let early = judge(
        &job(None),
        &[waiting("ImagePullBackOff", "2026-11-23T02:09:30Z")],
        None,
        now(),
    );
    assert_eq!(
        early,
        Outcome::Running {
            stage: Stage::Starting,
            waits: Some("Image i could not be pulled: ".to_owned())
        }
    );
    let late = judge(
        &job(None),
        &[waiting("ImagePullBackOff", "2026-11-23T02:05:00Z")],
        None,
        now(),
    );
    assert_eq!(reason(&late), Reason::ImagePullFailed);
    let never = judge(
        &job(None),
        &[waiting("ErrImageNeverPull", "2026-11-23T02:09:59Z")],
        None,
        now(),
    );
    assert_eq!(reason(&never), Reason::ImagePullFailed);
}
