//! Who is not let in: everything that is not the live pod of the recorded Job.

use serde_json::{Value, json};

use crate::site::Site;
use crate::support::apiserver::ApiServer;
use crate::support::ocsf::{file, record};

const AUDIENCE: &str = "prowler-operator";

async fn refused(site: &Site, token: &str, status: u16) {
    let (found, after, answer) = site.send(token, &file(&[record("c", "a")])).await;
    assert_eq!(found, status, "{answer}");
    assert_eq!(after, None);
    assert_eq!(site.world.stored().await, []);
}

#[tokio::test]
async fn a_token_that_is_none_for_us_is_refused() {
    let site = Site::new().await;
    let running = site.running().await;
    let body = b"[]";
    for headers in [
        &[][..],
        &[("authorization", "Bearer ")],
        &[("authorization", "Basic dXNlcjpwYXNz")],
        &[("authorization", "Bearer not.a.token")],
    ] {
        let (status, _, answer) = site.post(headers, body).await;
        assert_eq!(
            (status, &answer["reason"]),
            (401, &json!("Unauthenticated"))
        );
    }
    let other = site.token(&running.pod, "vault").await;
    refused(&site, &other, 401).await;
    // One for the API server itself is not for us either.
    let api = site
        .token(&running.pod, "https://kubernetes.default.svc.cluster.local")
        .await;
    refused(&site, &api, 401).await;
    // The same pod's own token is.
    assert_eq!(site.send(&running.token, body).await.0, 200);
}

#[tokio::test]
async fn a_token_of_a_pod_that_is_gone_is_refused() {
    let site = Site::new().await;
    let running = site.running().await;
    site.delete_pod(&running.pod).await;
    // The API server may know it already, or still vouch for the token: we look ourselves.
    let (status, ..) = site.send(&running.token, b"[]").await;
    assert!([401, 403].contains(&status), "{status}");
    assert_eq!(site.world.state(&running.attempt).await.0, "executing");
}

#[tokio::test]
async fn forged_pods_are_refused_whatever_they_carry() {
    let site = Site::new().await;
    let victim = site.running().await;
    let namespace = site.world.namespace.clone();
    let labels = site.labels(victim.attempt.scan, 1);
    let job = |name: &str, uid: &str| json!([{"apiVersion": "batch/v1", "kind": "Job", "controller": true, "name": name, "uid": uid}]);
    let real = victim.attempt.job.to_string();
    let real_name = victim.attempt.job_name.name.clone();
    let made_up = "0a8e5d5e-6f6b-4a53-8d5b-4f4a3c1f0a11";
    let mut no_controller = job(&real_name, &real);
    no_controller[0]["controller"] = json!(false);
    let forged: [(&str, Value, Value); 6] = [
        ("labels alone", json!([]), labels.clone()),
        (
            "labels and a made-up Job",
            job("scan", made_up),
            labels.clone(),
        ),
        (
            "a made-up Job of the real name",
            job(&real_name, made_up),
            labels.clone(),
        ),
        (
            "a made-up Job without labels",
            job("scan", made_up),
            json!({}),
        ),
        (
            "the real Job's uid under another name",
            job("scan", &real),
            labels.clone(),
        ),
        ("the real Job as mere owner", no_controller, labels.clone()),
    ];
    for (what, owners, labels) in forged {
        let owners = if owners == json!([]) {
            Value::Null
        } else {
            owners
        };
        let pod = site.pod_owned_by(&namespace, owners, labels).await;
        let token = site.token(&pod, AUDIENCE).await;
        let (status, _, answer) = site.send(&token, &file(&[record("c", "a")])).await;
        assert_eq!(
            (status, &answer["reason"]),
            (403, &json!("NotAScanPod")),
            "{what}"
        );
    }
    assert_eq!(site.world.stored().await, []);
    assert_eq!(site.world.state(&victim.attempt).await.0, "executing");
}

#[tokio::test]
async fn a_pod_of_another_namespace_cannot_speak_for_the_job() {
    let site = Site::new().await;
    let victim = site.running().await;
    let elsewhere = ApiServer::shared().await.namespace().await;
    site.create_account(&elsewhere).await;
    // Uids are no secrets: whoever learns the Job's may write it into a pod of his own.
    let owners = json!([{"apiVersion": "batch/v1", "kind": "Job", "controller": true,
        "name": victim.attempt.job_name.name, "uid": victim.attempt.job.to_string()}]);
    let pod = site
        .pod_owned_by(&elsewhere, owners, site.labels(victim.attempt.scan, 1))
        .await;
    let token = site.token(&pod, AUDIENCE).await;
    refused(&site, &token, 403).await;
    assert_eq!(site.world.state(&victim.attempt).await.0, "executing");
}

#[tokio::test]
async fn a_job_of_the_users_own_is_no_scan() {
    let site = Site::new().await;
    let scan = site.running().await.attempt.scan;
    let job = site.job(scan, 9).await;
    let pod = site.pod(&job, json!({})).await;
    let token = site.token(&pod, AUDIENCE).await;
    refused(&site, &token, 403).await;
}
