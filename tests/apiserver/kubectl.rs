//! What people type: the files in `crds/`, `kubectl get`, `explain` and `apply --dry-run`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use prowler_operator::api;
use serde_json::json;

use super::crds::{Place, sound};
use crate::support::apiserver::{ApiServer, tool};

/// Runs kubectl with this on its standard input.
async fn kubectl(args: &[&str], input: &str) -> Output {
    use std::io::Write as _;

    let server = ApiServer::shared().await;
    let mut command = Command::new(tool("kubectl"));
    command
        .arg("--kubeconfig")
        .arg(server.kubeconfig())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

fn out(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn error(output: &Output) -> String {
    assert!(
        !output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_on_disk_mean_what_the_program_means() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let folder = folder.to_str().unwrap();
    let applied = kubectl(
        &["apply", "--server-side", "--force-conflicts", "-f", folder],
        "",
    )
    .await;
    assert_eq!(out(&applied).lines().count(), 6);
    // No warning either: of a format it does not know, say.
    assert_eq!(String::from_utf8_lossy(&applied.stderr), "");
    let client = ApiServer::shared().await.client();
    let crds = Api::<CustomResourceDefinition>::all(client);
    for wanted in api::all_crds() {
        let name = wanted.metadata.name.unwrap();
        let mut stored = crds.get(&name).await.unwrap().spec;
        // What the server fills in.
        stored.conversion = None;
        stored.names.list_kind = None;
        assert!(stored == wanted.spec, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_show_what_people_look_for() {
    let place = Place::new().await;
    for crd in api::all_crds() {
        let kind = &crd.spec.names.kind;
        place.create(kind, "shown", &sound(kind)).await;
    }
    for (short, header) in [
        ("pten", "NAME READY PROVIDERS ACTIVE AGE"),
        (
            "pprov",
            "NAME PROVIDER UID CONNECTED LAST SCAN FAIL READY AGE",
        ),
        ("pgrp", "NAME PROVIDERS READY AGE"),
        ("prole", "NAME PERMISSIONS GROUPS READY AGE"),
        (
            "ssched",
            "NAME SCHEDULE INTERVAL TIME ZONE SUSPEND ACTIVE LAST NEXT READY AGE",
        ),
        (
            "pscan",
            "NAME PROVIDER STATE STAGE FAIL CRITICAL NEW DURATION AGE",
        ),
    ] {
        let table = out(&kubectl(&["get", short, "-n", place.namespace()], "").await);
        let words: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(words.join(" "), header);
    }
    let all = out(&kubectl(
        &["get", "prowler", "-n", place.namespace(), "-o", "name"],
        "",
    )
    .await);
    for crd in api::all_crds() {
        let kind = crd.spec.names.kind.to_lowercase();
        assert!(
            all.contains(&format!("{kind}.{}/", api::GROUP)),
            "{kind}: {all}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_describes_the_fields() {
    let text = out(&kubectl(&["explain", "pprov.spec.credentials"], "").await);
    for part in [
        "secretRef",
        "serviceAccountName",
        "workload identity",
        "enum: static, role, service_account",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = out(&kubectl(&["explain", "prowlerproviders"], "").await);
    assert!(text.contains("An account to scan"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_to_write_instead() {
    let place = Place::new().await;
    let manifest = json!({
        "apiVersion": format!("{}/{}", api::GROUP, api::VERSION),
        "kind": "Provider",
        "metadata": { "name": "wrong", "namespace": place.namespace() },
        "spec": { "provider": "aws", "uid": "1234", "credentials": { "secretRef": { "name": "aws" } }, "uuid": "x" },
    })
    .to_string();
    let told = error(
        &kubectl(
            &["apply", "--dry-run=server", "--validate=ignore", "-f", "-"],
            &manifest,
        )
        .await,
    );
    for part in [
        "the 12 digits of the account id, for example 123456789012",
        "type and secretRef go together: type says which keys the Secret has",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let told = error(&kubectl(&["apply", "--dry-run=server", "-f", "-"], &manifest).await);
    assert!(told.contains("unknown field \"spec.uuid\""), "{told}");
}
