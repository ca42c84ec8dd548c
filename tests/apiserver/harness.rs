//! That the harness does what tests rely on.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::support::apiserver::ApiServer;

#[tokio::test]
async fn a_client_is_who_its_certificate_says() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace().await;
    let maps = Api::<ConfigMap>::namespaced(server.client_as("anna", &["devs"]), &namespace);
    let refused = maps.get("x").await.unwrap_err().to_string();
    assert!(refused.contains("User \"anna\" cannot get"), "{refused}");
}

#[tokio::test]
async fn controllers_of_kubernetes_run_when_asked_for() {
    let server = ApiServer::alone().await;
    let namespace = server.namespace().await;
    let maps = Api::<ConfigMap>::namespaced(server.client(), &namespace);
    let map = |value| serde_json::from_value(value).unwrap();
    let owner: ConfigMap = maps
        .create(
            &PostParams::default(),
            &map(json!({ "metadata": { "name": "owner" } })),
        )
        .await
        .unwrap();
    let dependent = json!({ "metadata": { "name": "owned", "ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid,
    }] } });
    maps.create(&PostParams::default(), &map(dependent))
        .await
        .unwrap();
    maps.delete("owner", &DeleteParams::default())
        .await
        .unwrap();
    let doomed = Api::<Namespace>::all(server.client());
    let other = server.namespace().await;
    doomed
        .delete(&other, &DeleteParams::default())
        .await
        .unwrap();

    server.run_controllers(&["garbage-collector-controller", "namespace-controller"]);
    let begun = Instant::now();
    while maps.get_opt("owned").await.unwrap().is_some()
        || doomed.get_opt(&other).await.unwrap().is_some()
    {
        assert!(
            begun.elapsed() < Duration::from_mins(2),
            "nothing was collected"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Set for the child of the test below: the file in which it names its server.
const TELL: &str = "PROWLER_TEST_TELL";

#[tokio::test]
async fn a_killed_test_leaves_no_server_and_no_files() {
    if let Ok(file) = std::env::var(TELL) {
        let server = ApiServer::shared().await;
        std::fs::write(file, server.kubeconfig().to_str().unwrap()).unwrap();
        return std::future::pending().await;
    }
    tokio::task::spawn_blocking(kill_a_test).await.unwrap();
}

fn kill_a_test() {
    let told = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "harness::a_killed_test_leaves_no_server_and_no_files",
        ])
        .env(TELL, told.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let kubeconfig = loop {
        let text = std::fs::read_to_string(told.path()).unwrap();
        if !text.is_empty() {
            break std::path::PathBuf::from(text);
        }
        assert!(
            begun.elapsed() < Duration::from_mins(3),
            "the child did not come up"
        );
        std::thread::sleep(Duration::from_millis(100));
    };
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let port: u16 = text
        .split("127.0.0.1:")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = Instant::now();
    let dir = kubeconfig.parent().unwrap();
    while dir.exists() || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the server outlived its test"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}
