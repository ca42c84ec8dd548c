//! What people type: the files in `crds/`, `kubectl get`, `explain` and `apply --dry-run`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use prowler_operator::api::account::ProviderType;
use prowler_operator::api::{self, Scan};
use serde_json::json;

use super::crds::{Place, sound};
use crate::support::apiserver::{ApiServer, tool};
use crate::support::operator::Operator;

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
    assert_eq!(out(&applied).lines().count(), api::all_crds().len());
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
            "NAME PROVIDER UID CONNECTED LAST SCAN STATE FAIL READY AGE",
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
async fn a_scan_that_waits_shows_why_among_its_columns() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.scan(&world, "s", "nobody").await;
    operator.follow::<Scan>(&world.namespace, "s").await;
    let args = ["get", "pscan", "-n", &world.namespace, "-o", "wide"];
    let table = out(&kubectl(&args, "").await);
    let shown = "ProviderNotFound   No stored Provider here is named nobody.";
    assert!(table.contains(shown), "{table}");
}

/// The YAML of a page: fenced as such, or fed to a command.
fn yaml(page: &str) -> Vec<String> {
    let blocks = [("```yaml\n", "\n```"), ("<<'END'\n", "\nEND\n")];
    blocks
        .iter()
        .flat_map(|(begin, end)| {
            let behind = page.split(begin).skip(1);
            behind.map(move |text| text.split(end).next().unwrap().to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_pages_and_examples_show_is_accepted() {
    let place = Place::new().await;
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    let mut folders = vec![top.join("docs"), top.join("examples")];
    let mut files = vec![top.join("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    for file in files {
        let text = || std::fs::read_to_string(&file).unwrap();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("md") => texts.extend(yaml(&text()).into_iter().map(|yaml| (file.clone(), yaml))),
            Some("yaml") => texts.push((file.clone(), text())),
            _ => {}
        }
    }
    let mut ours = 0;
    for (file, text) in texts {
        for document in text.split("\n---\n") {
            let object: serde_json::Value = serde_saphyr::from_str(document)
                .unwrap_or_else(|error| panic!("{}: {error}\n{document}", file.display()));
            if object["apiVersion"] != format!("{}/{}", api::GROUP, api::VERSION) {
                continue;
            }
            ours += 1;
            let kind = object["kind"].as_str().unwrap();
            let created = place.try_create(kind, &object["spec"]).await;
            assert!(
                created.is_ok(),
                "{}: {}\n{document}",
                file.display(),
                created.unwrap_err().message
            );
        }
    }
    assert!(ours >= 10, "{ours} documents");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_all_provider_types_are_accepted_whole_by_a_dry_run() {
    let place = Place::new().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/providers");
    let folder = folder.to_str().unwrap();
    let args = ["apply", "--dry-run=server", "-n", place.namespace(), "-f"];
    let told = out(&kubectl(&[&args[..], &[folder]].concat(), "").await);
    let count = |kind: &str| told.lines().filter(|line| line.starts_with(kind)).count();
    assert!(
        count("provider.prowler-operator.dev/") >= ProviderType::ALL.len(),
        "{told}"
    );
    assert!(count("secret/") >= ProviderType::ALL.len());
    assert!(count("serviceaccount/") >= 5);
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
