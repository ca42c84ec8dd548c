//! A database that changes clusters: its id wins, and a live installation is left alone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use prowler_operator::bootstrap::take_over::take_over;
use prowler_operator::domain::ids::InstallationId;
use prowler_operator::store::installation::{self, Claim};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use crate::support::apiserver::ApiServer;
use crate::support::db::{Db, run};

const SECRET: &str = "prowler-operator-installation";
const OLD: InstallationId = InstallationId(Uuid::from_u128(0x01d));
const NEW: InstallationId = InstallationId(Uuid::from_u128(0x2e3));

async fn cluster() -> (Client, String) {
    let server = ApiServer::shared().await;
    let (client, namespace) = (server.client(), server.namespace().await);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            ..ObjectMeta::default()
        },
        string_data: Some(BTreeMap::from([
            ("id".to_owned(), NEW.to_string()),
            ("other".to_owned(), "stays".to_owned()),
        ])),
        ..Secret::default()
    };
    Api::namespaced(client.clone(), &namespace)
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    (client, namespace)
}

async fn held(client: &Client, namespace: &str, key: &str) -> String {
    let secret: Secret = Api::namespaced(client.clone(), namespace)
        .get(SECRET)
        .await
        .unwrap();
    String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap()
}

#[tokio::test]
async fn the_databases_id_goes_into_the_secret_once_the_other_side_is_silent() {
    let db = Db::new().await;
    let admin = db.admin().await;
    let (client, namespace) = cluster().await;
    let go = || take_over(client.clone(), &namespace, SECRET, &admin);

    assert_eq!(go().await.unwrap(), None, "nobody's database");

    installation::claim(&admin, OLD).await.unwrap();
    installation::renew(&admin, "the old cluster")
        .await
        .unwrap();
    assert_eq!(
        installation::claim(&admin, NEW).await.unwrap(),
        Claim::Other(OLD)
    );
    let refused = go().await.unwrap_err().to_string();
    assert!(
        refused.contains("the old cluster renewed its lease"),
        "{refused}"
    );
    assert_eq!(held(&client, &namespace, "id").await, NEW.to_string());

    run(
        &mut db.admin_conn().await,
        "update leases set renewed_at = now() - interval '5 minutes 1 second'",
    )
    .await;
    assert_eq!(go().await.unwrap(), Some(OLD));
    assert_eq!(held(&client, &namespace, "id").await, OLD.to_string());
    assert_eq!(held(&client, &namespace, "other").await, "stays");
    assert_eq!(installation::read(&admin).await.unwrap(), Some(OLD));
    assert_eq!(go().await.unwrap(), None, "a second time");
}

#[tokio::test]
async fn without_a_secret_the_sentence_says_what_comes_first() {
    let db = Db::new().await;
    let admin = db.admin().await;
    installation::claim(&admin, OLD).await.unwrap();
    let server = ApiServer::shared().await;
    let error = take_over(server.client(), &server.namespace().await, SECRET, &admin)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("install the chart"), "{error}");
}

async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The controller itself, in one cluster (a namespace) with a Secret that holds `id`.
struct Controller {
    child: std::process::Child,
    port: u16,
    files: tempfile::TempDir,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Controller {
    fn start(server: &ApiServer, db: &Db, namespace: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = tempfile::tempdir().unwrap();
        let file = config.path().join("config.yaml");
        std::fs::write(
            &file,
            "scanner: {image: scanner}\nupload: {image: operator}\n",
        )
        .unwrap();
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_prowler-operator"))
            .args(["controller", "--no-leader-election"])
            .env("KUBECONFIG", server.kubeconfig())
            .env("DATABASE_URL", db.user_url())
            .env("DATABASE_ADMIN_URL", db.admin_url())
            .env("CONFIG_FILE", file)
            .env("POD_NAMESPACE", namespace)
            .env("POD_NAME", "controller-0")
            .env("INSTALLATION_SECRET", SECRET)
            .env("SERVER_URL", "https://server:8443")
            .env("SERVICE_ACCOUNT", "controller")
            .env("SERVER_CA_FILE", config.path().join("ca.crt"))
            .env("SECRET_READER_ROLE", "secret-reader")
            .env("LEASE_NAME", "controller")
            .env("HEALTH_ADDR", format!("127.0.0.1:{port}"))
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(config.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            port,
            files: config,
        }
    }

    /// Waits until it is ready, or says that it waits for this.
    async fn answers(&mut self, wanted: &str) {
        let begun = std::time::Instant::now();
        loop {
            let answer = match get(self.port, "/readyz").await {
                Ok(answer) => answer,
                Err(error) => error.to_string(),
            };
            if answer.contains(wanted) {
                return;
            }
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended: {answer}");
            assert!(begun.elapsed().as_secs() < 60, "still: {answer}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn a_second_cluster_with_a_copied_secret_waits_until_the_first_is_silent() {
    let db = Db::new().await;
    let server = ApiServer::shared().await;
    let (_, first) = cluster().await;
    let (_, second) = cluster().await;

    let mut one = Controller::start(server, &db, &first);
    one.answers("200 OK").await;
    let mut two = Controller::start(server, &db, &second);
    two.answers("another cluster to leave the database").await;

    drop(one);
    run(
        &mut db.admin_conn().await,
        "update leases set renewed_at = now() - interval '5 minutes 1 second'",
    )
    .await;
    two.answers("200 OK").await;
    assert_eq!(
        installation::read(&db.admin().await).await.unwrap(),
        Some(NEW)
    );
}

#[tokio::test]
async fn a_controller_with_another_id_stops_and_names_the_take_over() {
    let db = Db::new().await;
    installation::claim(&db.admin().await, OLD).await.unwrap();
    let (_, namespace) = cluster().await;
    let mut controller = Controller::start(ApiServer::shared().await, &db, &namespace);
    let begun = std::time::Instant::now();
    let status = loop {
        if let Some(status) = controller.child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed().as_secs() < 60, "it goes on");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(status.code(), Some(1));
    let words = std::fs::read_to_string(controller.files.path().join("stderr")).unwrap();
    assert!(words.contains("migrate --take-over"), "{words}");
    assert!(words.contains(&OLD.to_string()), "{words}");
}
