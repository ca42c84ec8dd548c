//! Connection checks: who has a turn, what the Job is, what its answer means, and that none of it
//! outlives what it was about.

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use prowler_operator::api::{Provider, Scan, Tenant};
use prowler_operator::controllers::checks;
use prowler_operator::domain::clock::Clock as _;
use serde_json::{Value, json};

use crate::support::operator::{ACCOUNT, Operator, Placed, World, check_said, container, unique};

fn reached() -> Value {
    check_said(&json!({ "connected": true }))
}

fn refused() -> Value {
    check_said(
        &json!({ "connected": false, "error": "AWSInvalidAccessKeyIdError",
                      "message": "The security token included in the request is invalid." }),
    )
}

impl Operator {
    pub async fn let_in(&self) -> u64 {
        checks::admit(&self.cx).await.unwrap()
    }

    /// The Job of the check that runs for a Provider, made by a pass.
    pub async fn check_of(&self, world: &World, name: &str) -> Job {
        self.pass::<Provider>(&world.namespace, name).await;
        let provider: Provider = self.get(&world.namespace, name).await;
        let uid = provider.uid().unwrap();
        let mut jobs = self.jobs(world).await;
        jobs.retain(|job| job.owner_references().iter().any(|o| o.uid == uid));
        assert_eq!(jobs.len(), 1, "of {name}");
        jobs.remove(0)
    }

    /// Lets the check of a Provider run to this end.
    async fn checked(&self, world: &World, name: &str, status: Value) {
        let job = self.check_of(world, name).await;
        self.pod(&job, status).await;
        self.follow::<Provider>(&world.namespace, name).await;
    }

    async fn connected(&self, world: &World, name: &str) -> (String, String, String) {
        self.condition::<Provider>(&world.namespace, name, "Connected")
            .await
            .unwrap()
    }

    /// Seconds until the next check, and whether it goes first.
    async fn due(&self) -> (i64, bool) {
        let now = self.clock.now();
        let seconds = self
            .sql(&format!(
                "select round(extract(epoch from due_at - '{now}'::timestamptz)) from connection_checks"
            ))
            .await;
        let urgent = self.sql("select urgent from connection_checks").await;
        (seconds.parse().unwrap(), urgent == "true")
    }
}

#[tokio::test]
async fn a_new_account_is_checked_and_ready_does_not_wait_for_it() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    let namespace = &world.namespace;
    assert_eq!(
        operator.says::<Provider>(namespace, "production").await,
        "Current Succeeded"
    );
    let (state, reason, message) = operator.connected(&world, "production").await;
    assert_eq!((&*state, &*reason), ("Unknown", "Progressing"));
    assert_eq!(message, "The connection is checked when its turn comes.");

    assert_eq!(operator.let_in().await, 1);
    let job = operator.check_of(&world, "production").await;
    let spec = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let volumes = spec.volumes.as_ref().unwrap();
    let keys = volumes.iter().find_map(|v| v.secret.as_ref()).unwrap();
    assert_eq!(keys.secret_name.as_deref(), Some("production-keys"));
    operator.pod(&job, reached()).await;
    operator.follow::<Provider>(namespace, "production").await;
    let (state, reason, message) = operator.connected(&world, "production").await;
    assert_eq!((&*state, &*reason), ("True", "Succeeded"));
    assert!(message.starts_with("The account was reached at "));
    assert_eq!(
        operator.jobs(&world).await.len(),
        0,
        "the Job is taken away"
    );
    let (seconds, urgent) = operator.due().await;
    assert!((77_760..=95_040).contains(&seconds), "{seconds}");
    assert!(!urgent);
    assert_eq!(operator.let_in().await, 0);
    // Settled: nothing is written any more.
    assert_eq!(
        operator.converge::<Provider>(namespace, "production").await,
        0
    );
    operator.wait(95_041);
    assert_eq!(operator.let_in().await, 1, "a day later once more");
}

#[tokio::test]
async fn a_refusal_is_told_and_holds_nothing_up() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    operator.let_in().await;
    operator.checked(&world, "production", refused()).await;
    let (state, reason, message) = operator.connected(&world, "production").await;
    assert_eq!((&*state, &*reason), ("False", "AuthenticationFailed"));
    assert!(
        message.starts_with("The account did not accept the credentials: The security token"),
        "{message}"
    );
    assert_eq!(
        operator
            .says::<Provider>(&world.namespace, "production")
            .await,
        "Current Succeeded"
    );
    // A pass that reads the row says the same.
    operator
        .patch::<Provider>(
            &world.namespace,
            "production",
            json!({ "metadata": { "labels": { "a": "b" } } }),
        )
        .await;
    operator
        .follow::<Provider>(&world.namespace, "production")
        .await;
    assert_eq!(operator.connected(&world, "production").await.2, message);
}

#[tokio::test]
async fn a_connection_that_turns_is_told_once_each_time() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    let throttled = || {
        let message = "Rate exceeded (Service: Sts, Status Code: 429)";
        check_said(&json!({ "connected": false, "error": "ClientError", "message": message }))
    };
    for status in [
        reached(),
        refused(),
        refused(),
        throttled(),
        reached(),
        reached(),
    ] {
        operator.wait(2 * 86_400);
        assert_eq!(operator.let_in().await, 1);
        operator.checked(&world, "production", status).await;
    }
    let told = operator.told(&world.namespace, "production").await;
    let words: Vec<_> = told
        .iter()
        .filter(|told| told.action == "Check")
        .map(|told| format!("{} {} {}", told.type_, told.reason, told.times))
        .collect();
    assert_eq!(
        words,
        [
            "Warning AuthenticationFailed 1",
            "Warning RateLimited 1",
            "Normal Succeeded 1"
        ],
        "{told:#?}"
    );
}

#[tokio::test]
async fn so_many_at_once_the_new_first_and_every_tenant_in_turn() {
    let operator = Operator::new().await;
    let (crowd, few) = (operator.tenant().await, operator.tenant().await);
    operator.provider(&few, "old", "000000000000").await;
    operator.let_in().await;
    operator.checked(&few, "old", reached()).await;
    operator.wait(200_000);
    for n in 1..=7 {
        operator
            .provider(&crowd, &format!("p-{n}"), &format!("{n:012}"))
            .await;
    }
    operator.wait(1);
    operator.provider(&few, "new", "000000000008").await;
    assert_eq!(operator.let_in().await, 4);
    let running = "select string_agg(p.name, ' ' order by p.name) from connection_checks c
                   join providers p on p.id = c.provider_id where c.slot is not null";
    let names = operator.sql(running).await;
    assert_eq!(names.split(' ').count(), 4);
    assert!(names.contains("new"), "its tenant has its turn: {names}");
    assert!(
        !names.contains("old"),
        "what is only due again waits: {names}"
    );
    assert_eq!(operator.let_in().await, 0);
    // A second controller lets no more in.
    let other = operator.beside(3).await;
    assert_eq!(checks::admit(&other.cx).await.unwrap(), 0);
    operator.checked(&few, "new", reached()).await;
    assert_eq!(operator.let_in().await, 1);
    assert_eq!(
        operator
            .count("connection_checks where slot is not null")
            .await,
        4
    );
}

#[tokio::test]
async fn a_rotated_secret_is_checked_again_and_an_answer_about_the_old_one_dropped() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    let namespace = &world.namespace;
    operator.let_in().await;
    let old = operator.check_of(&world, "production").await;
    operator.pod(&old, reached()).await;
    let fresh = [
        ("aws_access_key_id", "AKIAIOSFODNN7ANOTHER"),
        ("aws_secret_access_key", "another"),
    ];
    let secrets = kube::Api::<k8s_openapi::api::core::v1::Secret>::namespaced(
        operator.client.clone(),
        namespace,
    );
    secrets
        .delete("production-keys", &DeleteParams::default())
        .await
        .unwrap();
    operator
        .secret(namespace, "production-keys", true, &fresh)
        .await;
    operator.follow::<Provider>(namespace, "production").await;
    assert_eq!(
        operator.connected(&world, "production").await.0,
        "Unknown",
        "the answer was about the old one"
    );
    assert_eq!(operator.jobs(&world).await.len(), 0);
    assert_eq!(operator.due().await, (0, true));
    let events = kube::Api::<k8s_openapi::api::events::v1::Event>::namespaced(
        operator.client.clone(),
        namespace,
    );
    let told = events.list(&ListParams::default()).await.unwrap();
    let told = told
        .iter()
        .find(|event| event.reason.as_deref() == Some("CredentialsChanged"))
        .unwrap();
    assert_eq!(
        told.note.as_deref(),
        Some("The account or its credentials changed: the connection is checked again.")
    );
    assert_eq!(operator.let_in().await, 1);
    operator.checked(&world, "production", refused()).await;
    assert_eq!(operator.connected(&world, "production").await.0, "False");
}

#[tokio::test]
async fn a_check_undoes_no_deletion_and_gives_its_place_back() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    operator.let_in().await;
    let job = operator.check_of(&world, "production").await;
    operator
        .delete::<Provider>(&world.namespace, "production")
        .await;
    operator
        .change("update providers set is_deleted = true")
        .await;
    operator.pod(&job, reached()).await;
    assert_eq!(operator.let_in().await, 0);
    assert_eq!(
        operator
            .count("connection_checks where slot is not null")
            .await,
        0
    );
    operator
        .follow::<Provider>(&world.namespace, "production")
        .await;
    assert!(
        operator
            .is_gone::<Provider>(&world.namespace, "production")
            .await
    );
    assert_eq!(operator.count("providers").await, 0);
    assert_eq!(operator.count("connection_checks").await, 0);
}

#[tokio::test]
async fn a_check_that_comes_to_nothing_says_so_and_is_made_again() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    let namespace = &world.namespace;
    let nothing = async |reason: &str| {
        operator.follow::<Provider>(namespace, "production").await;
        let (state, told, _) = operator.connected(&world, "production").await;
        assert_eq!((&*state, &*told), ("Unknown", reason));
        let (seconds, _) = operator.due().await;
        assert_eq!(seconds, 600);
        operator.wait(601);
        assert_eq!(operator.let_in().await, 1);
    };
    operator.let_in().await;
    let job = operator.check_of(&world, "production").await;
    Job::typed(&operator.client, namespace)
        .delete(&job.name_any(), &DeleteParams::background())
        .await
        .unwrap();
    nothing("PodLost").await;

    let job = operator.check_of(&world, "production").await;
    let killed = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
    let status = json!({ "phase": "Failed", "containerStatuses": [container("check", killed)] });
    operator.pod(&job, status).await;
    nothing("OOMKilled").await;

    let job = operator.check_of(&world, "production").await;
    operator.job_failed(&job, "DeadlineExceeded").await;
    nothing("DeadlineExceeded").await;

    // A line that is none: the library ended the process itself.
    let job = operator.check_of(&world, "production").await;
    let ended = json!({ "terminated": { "exitCode": 1, "message": "Segmentation fault" } });
    let status = json!({ "phase": "Failed", "containerStatuses": [container("check", ended)] });
    operator.pod(&job, status).await;
    nothing("CheckFailed").await;
    // Nobody ends this one.
    operator.check_of(&world, "production").await;
    operator.wait(21 * 60);
    operator.let_in().await;
    assert_eq!(
        operator
            .count("connection_checks where slot is not null")
            .await,
        0
    );
}

#[tokio::test]
async fn a_controller_that_dies_on_the_way_finds_the_job_it_made() {
    let mut operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    operator.let_in().await;
    let first = operator.check_of(&world, "production").await;
    // As if the answer to the creation had been lost.
    operator
        .change("update connection_checks set job_uid = null")
        .await;
    operator.restart().await;
    let second = operator.check_of(&world, "production").await;
    assert_eq!(first.uid(), second.uid());
    operator.restart().await;
    operator.checked(&world, "production", reached()).await;
    assert_eq!(operator.connected(&world, "production").await.0, "True");
}

#[tokio::test]
async fn checks_are_off_where_they_are_not_wanted() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    let namespace = &world.namespace;
    let patch = |spec: Value| json!({ "spec": spec });
    for (rest, back) in [
        (
            json!({ "connectionCheck": { "interval": "0s" } }),
            json!({ "connectionCheck": null }),
        ),
        (json!({ "suspend": true }), json!({ "suspend": false })),
    ] {
        operator
            .patch::<Provider>(namespace, "production", patch(rest))
            .await;
        operator.follow::<Provider>(namespace, "production").await;
        assert_eq!(operator.let_in().await, 0);
        operator
            .patch::<Provider>(namespace, "production", patch(back))
            .await;
        operator.follow::<Provider>(namespace, "production").await;
    }
    operator
        .patch::<Tenant>("", &world.tenant, patch(json!({ "suspend": true })))
        .await;
    operator.follow::<Tenant>("", &world.tenant).await;
    assert_eq!(operator.let_in().await, 0);
    // Without credentials there is nothing to try.
    let bare = unique("bare");
    let spec = json!({ "provider": "aws", "uid": "000000000001" });
    operator.becomes::<Provider>(namespace, &bare, spec).await;
    let (state, reason, _) = operator.connected(&world, &bare).await;
    assert_eq!((&*state, &*reason), ("False", "CredentialsMissing"));
}

#[tokio::test]
async fn a_scan_is_a_check_too() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    operator.let_in().await;
    operator.checked(&world, "production", refused()).await;
    operator.wait(40_000);
    operator.running_scan(&world, "now", "production").await;
    operator.complete(&world, "now").await;
    operator.now_says::<Scan>(&world.namespace, "now").await;
    operator
        .follow::<Provider>(&world.namespace, "production")
        .await;
    assert_eq!(operator.connected(&world, "production").await.0, "True");
    operator.wait(56_000);
    assert_eq!(operator.let_in().await, 0, "it was reached meanwhile");
    operator.wait(40_000);
    assert_eq!(operator.let_in().await, 1);
}
