//! What is made once is made once: whoever runs at the same time, wherever a run ends.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use prowler_operator::bootstrap::bootstrap;
use prowler_operator::config::bootstrap::BootstrapArgs;
use prowler_operator::domain::clock::ManualClock;
use tempfile::TempDir;

use crate::support::apiserver::ApiServer;
use crate::support::command::{command, helm, kubectl, output, succeed, succeed_with};
use crate::support::faults::{Fault, Faults};

const INSTALLATION: &str = "prowler-operator-installation";
const DATABASE: &str = "prowler-operator-database";
const SERVER_TLS: &str = "prowler-operator-server-tls";

struct Place {
    namespace: String,
    dir: TempDir,
    clock: ManualClock,
}

fn start() -> Timestamp {
    "2026-11-23T05:00:00Z".parse().unwrap()
}

impl Place {
    async fn new() -> (&'static ApiServer, Self) {
        let server = ApiServer::shared().await;
        let place = Self {
            namespace: server.namespace().await,
            dir: tempfile::tempdir().unwrap(),
            clock: ManualClock::new(start()),
        };
        (server, place)
    }

    fn args(&self) -> BootstrapArgs {
        BootstrapArgs {
            pod_namespace: self.namespace.clone(),
            release: "prowler-operator".into(),
            installation_secret: INSTALLATION.into(),
            database_secret: Some(DATABASE.into()),
            database_host: Some("postgres.test.svc".into()),
            database_ca_file: self.dir.path().join("ca.crt"),
            server_tls_secret: Some(SERVER_TLS.into()),
            server_names: vec!["server.test.svc".into()],
        }
    }

    async fn run(&self, client: Client) -> Result<(), String> {
        bootstrap(client, &self.args(), &self.clock)
            .await
            .map_err(|error| error.to_string())
    }

    fn api(&self, client: Client) -> Api<Secret> {
        Api::namespaced(client, &self.namespace)
    }

    /// Name to (resource version, data) of every Secret there is.
    async fn secrets(&self, client: Client) -> BTreeMap<String, (String, Contents)> {
        let list = self
            .api(client)
            .list(&ListParams::default())
            .await
            .unwrap()
            .items;
        list.into_iter()
            .map(|secret| {
                let version = secret.metadata.resource_version.unwrap();
                let name = secret.metadata.name.unwrap();
                (name, (version, secret.data.unwrap()))
            })
            .collect()
    }
}

type Contents = BTreeMap<String, ByteString>;

fn text(data: &Contents, key: &str) -> String {
    String::from_utf8(data[key].0.clone()).unwrap()
}

#[tokio::test]
async fn it_makes_three_secrets_and_a_second_run_changes_nothing() {
    let (server, place) = Place::new().await;
    place.run(server.client()).await.unwrap();
    let made = place.secrets(server.client()).await;
    assert_eq!(
        made.keys().collect::<Vec<_>>(),
        [DATABASE, INSTALLATION, SERVER_TLS]
    );
    let (_, database) = &made[DATABASE];
    let password = text(database, "user-password");
    assert!(
        text(database, "user-url")
            .contains(&format!("prowler_user:{password}@postgres.test.svc:5432"))
    );
    assert_eq!(
        std::fs::read_to_string(place.args().database_ca_file).unwrap(),
        text(database, "ca.crt")
    );
    let listed = place
        .api(server.client())
        .list(&ListParams::default())
        .await
        .unwrap();
    for secret in listed {
        let labels = secret.metadata.labels.unwrap();
        assert_eq!(labels["app.kubernetes.io/managed-by"], "prowler-operator");
        assert_eq!(labels["app.kubernetes.io/instance"], "prowler-operator");
    }

    place.run(server.client()).await.unwrap();
    assert_eq!(place.secrets(server.client()).await, made);
}

#[tokio::test]
async fn many_at_the_same_time_end_with_the_same_secrets() {
    let (server, place) = Place::new().await;
    let runs = (0..8).map(|_| place.run(server.client()));
    for result in futures::future::join_all(runs).await {
        result.unwrap();
    }
    let made = place.secrets(server.client()).await;
    assert_eq!(made.len(), 3);
    let (_, database) = &made[DATABASE];
    // Parts of two runs would not fit together.
    assert!(text(database, "admin-url").contains(&text(database, "admin-password")));
    place.run(server.client()).await.unwrap();
    assert_eq!(place.secrets(server.client()).await, made);
}

#[tokio::test]
async fn a_call_that_fails_or_whose_answer_is_lost_is_made_up_for() {
    let (server, place) = Place::new().await;
    let counted = Faults::none();
    let config = || server.config_as("admin", &["system:masters"]);
    place.run(counted.client(config())).await.unwrap();
    assert!(counted.calls() >= 6);
    for fault in [Fault::Refuse, Fault::Lose] {
        for n in 1..=counted.calls() {
            let (_, place) = Place::new().await;
            place
                .run(Faults::nth(n, fault).client(config()))
                .await
                .unwrap_or_else(|error| {
                    panic!("call {n}, {fault:?}: {error}");
                });
            assert_eq!(
                place.secrets(server.client()).await.len(),
                3,
                "call {n}, {fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_run_that_ends_anywhere_is_finished_by_the_next() {
    let (server, place) = Place::new().await;
    let counted = Faults::none();
    let config = || server.config_as("admin", &["system:masters"]);
    place.run(counted.client(config())).await.unwrap();
    for n in 1..=counted.calls() {
        let (_, place) = Place::new().await;
        let faults = Faults::nth(n, Fault::Hang);
        tokio::select! {
            result = place.run(faults.client(config())) => panic!("call {n}: {result:?}"),
            () = faults.hung() => {}
        }
        let half = place.secrets(server.client()).await;
        place.run(server.client()).await.unwrap();
        let whole = place.secrets(server.client()).await;
        assert_eq!(whole.len(), 3);
        for (name, secret) in half {
            assert_eq!(whole[&name], secret, "call {n}: {name} was made twice");
        }
    }
}

#[tokio::test]
async fn an_incomplete_secret_is_named_with_its_missing_keys_and_left_alone() {
    let (server, place) = Place::new().await;
    let partial = Secret {
        metadata: ObjectMeta {
            name: Some(DATABASE.into()),
            ..ObjectMeta::default()
        },
        string_data: Some(BTreeMap::from([
            ("admin-password".to_owned(), "s3cret".to_owned()),
            ("ca.crt".to_owned(), String::new()),
        ])),
        ..Secret::default()
    };
    let api = place.api(server.client());
    api.create(&PostParams::default(), &partial).await.unwrap();
    let error = place.run(server.client()).await.unwrap_err();
    assert_eq!(
        error,
        "Secret prowler-operator-database lacks admin-url, user-url, user-password, postgres-password, ca.crt, \
         tls.crt, tls.key: restore it; or delete the Secret, which makes new passwords, and restart all pods"
    );
    let found = api.get(DATABASE).await.unwrap().data.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(text(&found, "admin-password"), "s3cret");
}

#[tokio::test]
async fn the_server_certificate_is_renewed_once_by_whoever_comes_first() {
    let (server, place) = Place::new().await;
    place.run(server.client()).await.unwrap();
    let first = place.secrets(server.client()).await;

    place
        .clock
        .set(start() + SignedDuration::from_hours(24 * 340));
    let runs = (0..4).map(|_| place.run(server.client()));
    for result in futures::future::join_all(runs).await {
        result.unwrap();
    }
    let second = place.secrets(server.client()).await;
    let (old, new) = (&first[SERVER_TLS].1, &second[SERVER_TLS].1);
    assert_ne!(old["tls.crt"], new["tls.crt"]);
    assert_ne!(old["tls.key"], new["tls.key"]);
    assert_eq!(old["ca.crt"], new["ca.crt"]);
    for name in [DATABASE, INSTALLATION] {
        assert_eq!(first[name], second[name]);
    }
    place.run(server.client()).await.unwrap();
    assert_eq!(place.secrets(server.client()).await, second);
}

#[tokio::test]
async fn a_renewal_that_is_cut_off_is_finished_by_the_next_run() {
    let (server, place) = Place::new().await;
    let config = || server.config_as("admin", &["system:masters"]);
    place.run(server.client()).await.unwrap();
    let mut years = 0;
    // Calls of a run that renews: one for each Secret, a read and a write for the certificate.
    for n in 1..=5 {
        let before = place.secrets(server.client()).await;
        years += 1;
        place
            .clock
            .set(start() + SignedDuration::from_hours(24 * 360 * years));
        let faults = Faults::nth(n, Fault::Hang);
        tokio::select! {
            result = place.run(faults.client(config())) => panic!("call {n}: {result:?}"),
            () = faults.hung() => {}
        }
        place.run(server.client()).await.unwrap();
        let after = place.secrets(server.client()).await;
        let certificate = |secrets: &BTreeMap<String, (String, Contents)>| {
            text(&secrets[SERVER_TLS].1, "tls.crt")
        };
        assert_ne!(certificate(&before), certificate(&after));
        place.run(server.client()).await.unwrap();
        assert_eq!(place.secrets(server.client()).await, after);
    }
}

#[tokio::test]
async fn only_what_is_asked_for_is_made() {
    let (server, place) = Place::new().await;
    let args = BootstrapArgs {
        database_secret: None,
        database_host: None,
        server_tls_secret: None,
        server_names: vec![],
        ..place.args()
    };
    bootstrap(server.client(), &args, &place.clock)
        .await
        .unwrap();
    let made = place.secrets(server.client()).await;
    assert_eq!(made.keys().collect::<Vec<_>>(), [INSTALLATION]);
    assert!(!args.database_ca_file.exists());
}

/// The chart's objects of these kinds, for this namespace, applied to the server.
fn apply_rights(server: &ApiServer, namespace: &str) {
    let chart = "charts/prowler-operator";
    let mut args = vec![
        "template",
        "prowler-operator",
        chart,
        "--namespace",
        namespace,
    ];
    args.extend([
        "--set",
        "database.embedded=true,fullnameOverride=prowler-operator",
    ]);
    for file in ["controller", "server"] {
        let rendered = succeed(command(
            helm(),
            &[
                &args[..],
                &["--show-only", &format!("templates/{file}/rbac.yaml")],
            ]
            .concat(),
        ));
        let kubeconfig = server.kubeconfig();
        succeed_with(
            command(
                kubectl(),
                &[
                    "--kubeconfig",
                    kubeconfig.to_str().unwrap(),
                    "apply",
                    "--filename",
                    "-",
                ],
            ),
            &rendered,
        );
    }
}

#[tokio::test]
async fn the_charts_rights_are_enough_and_reach_no_other_secret() {
    let (server, place) = Place::new().await;
    apply_rights(server, &place.namespace);
    let user = format!(
        "system:serviceaccount:{}:prowler-operator-controller",
        place.namespace
    );
    let controller =
        || server.client_as(&user, &["system:serviceaccounts", "system:authenticated"]);
    place.run(controller()).await.unwrap();
    place
        .clock
        .set(start() + SignedDuration::from_hours(24 * 340));
    place.run(controller()).await.unwrap();

    let other = Secret {
        metadata: ObjectMeta {
            name: Some("somebody-elses".into()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    };
    place
        .api(server.client())
        .create(&PostParams::default(), &other)
        .await
        .unwrap();
    let secrets = place.api(controller());
    for refused in [
        secrets.get("somebody-elses").await.map(|_| ()).unwrap_err(),
        secrets
            .list(&ListParams::default())
            .await
            .map(|_| ())
            .unwrap_err(),
        secrets
            .delete(DATABASE, &kube::api::DeleteParams::default())
            .await
            .map(|_| ())
            .unwrap_err(),
        secrets
            .replace(INSTALLATION, &PostParams::default(), &other)
            .await
            .map(|_| ())
            .unwrap_err(),
    ] {
        assert!(
            matches!(&refused, kube::Error::Api(status) if status.code == 403),
            "{refused}"
        );
    }
    let elsewhere: Api<Secret> = Api::namespaced(controller(), "default");
    let refused = elsewhere.list(&ListParams::default()).await.unwrap_err();
    assert!(
        matches!(&refused, kube::Error::Api(status) if status.code == 403),
        "{refused}"
    );
}

#[tokio::test]
async fn without_the_rights_the_error_says_what_was_tried() {
    let (server, place) = Place::new().await;
    let nobody = server.client_as("nobody", &["system:authenticated"]);
    let error = place.run(nobody).await.unwrap_err();
    assert!(
        error.starts_with("cannot read Secret prowler-operator-installation"),
        "{error}"
    );
    assert!(error.contains("forbidden"), "{error}");
}

#[tokio::test]
async fn the_program_logs_nothing_secret_at_the_finest_level() {
    let (server, place) = Place::new().await;
    let args = place.args();
    let mut program = command(
        env!("CARGO_BIN_EXE_prowler-operator"),
        &[
            "bootstrap",
            "--log-level",
            "trace",
            "--server-names",
            "server.test.svc",
        ],
    );
    program
        .env("KUBECONFIG", server.kubeconfig())
        .env("POD_NAMESPACE", &place.namespace)
        .env("DATABASE_SECRET", DATABASE)
        .env("DATABASE_HOST", "postgres.test.svc")
        .env("DATABASE_CA_FILE", &args.database_ca_file)
        .env("SERVER_TLS_SECRET", SERVER_TLS);
    let output = output(program, "");
    let logged = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{logged}");
    assert!(logged.contains("Secret made"), "{logged}");
    for (name, (_, data)) in place.secrets(server.client()).await {
        for (key, value) in &data {
            let value = std::str::from_utf8(&value.0).unwrap();
            // Of a PEM the first line is no secret, the others are.
            let secret = value.lines().nth(1).unwrap_or(value);
            let public = ["id", "ca.crt", "tls.crt"].contains(&key.as_str());
            assert!(
                public || !logged.contains(secret),
                "{name}: {key} was logged"
            );
        }
    }
}
