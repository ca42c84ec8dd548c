//! What a scan's pod may hold: the credentials in one container, the token in the other, and
//! nothing of either anywhere else.

use kube::ResourceExt;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::api::account::ProviderType;
use crate::api::common::ScanSettings;
use crate::api::provider::CredentialsType;
use crate::dispatch::size;
use crate::domain::account::Account;
use crate::domain::credentials::{Access, ways};
use crate::domain::limits::Ceilings;
use crate::domain::scanner::invocation;

fn config(scanner: Value) -> FileConfig {
    let mut config =
        json!({ "scanner": { "image": "prowler:5" }, "upload": { "image": "operator:1" } });
    let (Value::Object(into), Value::Object(more)) = (&mut config["scanner"], scanner) else {
        panic!("not an object")
    };
    into.extend(more);
    serde_json::from_value(config).unwrap()
}

fn attempt(provider: ProviderType, uid: &str, access: &Access) -> Attempt {
    let account = Account::parse(provider, uid).unwrap();
    Attempt {
        tenant: TenantId(Uuid::from_u128(1)),
        provider: ProviderId(Uuid::from_u128(2)),
        scan: ScanId(Uuid::from_u128(3)),
        attempt: 2,
        object: ObjectName {
            namespace: "team-a".into(),
            name: "nightly-1".into(),
        },
        owner: OwnerReference {
            api_version: "prowler-operator.dev/v1alpha1".into(),
            kind: "Scan".into(),
            name: "nightly-1".into(),
            uid: "11111111-1111-4111-8111-111111111111".into(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        },
        run: invocation(&account, &ScanSettings::default(), access),
        secret: access.secret.clone(),
        in_cluster: provider == ProviderType::Kubernetes && access.kind.is_none(),
        image: "prowler:5".into(),
        resources: size::of_scan(
            &ScanSettings::default(),
            &config(json!({})),
            &Ceilings {
                memory: "8Gi".into(),
                cpu: "4".into(),
                deadline_seconds: 7200,
            },
            None,
        ),
        deadline_seconds: 7200,
        server_url: "https://server.example:8443".into(),
        server_ca: "-----BEGIN CERTIFICATE-----\n".into(),
    }
}

fn by_secret(kind: CredentialsType, keys: &[&str]) -> Access {
    Access {
        kind: Some(kind),
        secret: Some("keys".into()),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..Access::default()
    }
}

fn by_service_account() -> Access {
    Access {
        service_account: Some("scanner".into()),
        ..Access::default()
    }
}

/// An AWS account with keys, a cluster with a kubeconfig, the cluster the pod is in, and a project
/// of Google's by a file that is put together.
fn shapes() -> [Attempt; 4] {
    let keys = by_secret(
        CredentialsType::Static,
        &["aws_access_key_id", "aws_secret_access_key"],
    );
    let kubeconfig = by_secret(CredentialsType::Static, &["kubeconfig_content"]);
    [
        attempt(ProviderType::Aws, "123456789012", &keys),
        attempt(ProviderType::Kubernetes, "prod", &kubeconfig),
        attempt(ProviderType::Kubernetes, "here", &by_service_account()),
        attempt(ProviderType::Gcp, "my-project-1", &google_user()),
    ]
}

fn google_user() -> Access {
    by_secret(
        CredentialsType::Static,
        &["client_id", "client_secret", "refresh_token"],
    )
}

/// The pod's spec as JSON, its `scan` and its `upload`.
fn pod(attempt: &Attempt, config: &FileConfig) -> (Value, Value, Value) {
    let job = serde_json::to_value(attempt.job(config)).unwrap();
    let pod = job["spec"]["template"]["spec"].clone();
    let before = pod["initContainers"].as_array().unwrap();
    assert_eq!(
        before.len(),
        1 + usize::from(attempt.run.composed.is_some())
    );
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    let scan = before.last().unwrap().clone();
    let upload = pod["containers"][0].clone();
    (pod, scan, upload)
}

fn mounts(container: &Value) -> Vec<&str> {
    let mounts = container["volumeMounts"].as_array().unwrap();
    mounts
        .iter()
        .map(|mount| mount["name"].as_str().unwrap())
        .collect()
}

/// Names of the variables whose values come from a Secret.
fn from_secret(container: &Value) -> Vec<&str> {
    let env = container["env"].as_array().unwrap();
    env.iter()
        .filter(|variable| !variable["valueFrom"].is_null())
        .map(|variable| variable["name"].as_str().unwrap())
        .collect()
}

#[test]
fn only_the_scan_has_the_credentials_and_only_the_upload_the_token() {
    let wanted = [
        (
            vec!["output", "tmp"],
            vec!["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
        ),
        (vec!["output", "tmp", "credentials"], vec![]),
        (vec!["output", "tmp", "cluster-access"], vec![]),
        (vec!["output", "tmp", "credentials"], vec![]),
    ];
    for (attempt, (volumes, variables)) in shapes().iter().zip(wanted) {
        let (pod, scan, upload) = pod(attempt, &config(json!({})));
        assert_eq!(mounts(&scan), volumes);
        assert_eq!(from_secret(&scan), variables);
        assert_eq!(mounts(&upload), ["output", "upload-token"]);
        assert_eq!(from_secret(&upload), Vec::<&str>::new());
        // Nothing else is in the pod to be mounted by whoever gets into it.
        let mut all = mounts(&upload);
        for container in pod["initContainers"].as_array().unwrap() {
            all.extend(mounts(container));
        }
        for volume in pod["volumes"].as_array().unwrap() {
            assert!(all.contains(&volume["name"].as_str().unwrap()), "{volume}");
        }
        assert_eq!(pod["automountServiceAccountToken"], false);
    }
}

#[test]
fn only_the_keys_that_prowler_needs_become_files_and_nobody_else_can_read_them() {
    let (pod, ..) = pod(&shapes()[1], &config(json!({})));
    let volume = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|volume| volume["name"] == "credentials")
        .unwrap();
    assert_eq!(
        volume["secret"],
        json!({ "secretName": "keys", "defaultMode": 0o440,
                "items": [{ "key": "kubeconfig_content", "path": "kubeconfig" }] })
    );
}

#[test]
fn parts_of_a_file_go_to_compose_alone_and_the_file_stays_in_memory() {
    let (pod, scan, _) = pod(&shapes()[3], &config(json!({})));
    let compose = &pod["initContainers"][0];
    assert_eq!(compose["name"], "compose");
    assert_eq!(compose["image"], "operator:1");
    assert_eq!(compose["args"], json!(["compose", "--file", "gcp-user"]));
    assert!(compose["command"].is_null() && compose["env"].is_null());
    assert_eq!(mounts(compose), ["parts", "credentials"]);
    let read_only = |container: &Value| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let found = mounts.iter().find(|mount| mount["name"] == "credentials");
        found.unwrap()["readOnly"].clone()
    };
    assert_eq!(read_only(&scan), true);
    assert!(read_only(compose).is_null());
    let volume = |name: &str| {
        let volumes = pod["volumes"].as_array().unwrap();
        let found = volumes.iter().find(|volume| volume["name"] == name);
        found.unwrap().clone()
    };
    assert_eq!(
        volume("credentials")["emptyDir"],
        json!({ "medium": "Memory", "sizeLimit": "1Mi" })
    );
    let keys = ["client_id", "client_secret", "refresh_token"];
    assert_eq!(
        volume("parts")["secret"],
        json!({ "secretName": "keys", "defaultMode": 0o440,
                "items": keys.map(|key| json!({ "key": key, "path": key })) })
    );
}

#[test]
fn the_upload_token_is_for_our_server_alone_and_short_lived() {
    let (pod, ..) = pod(&shapes()[2], &config(json!({})));
    let sources = |name: &str| {
        let volumes = pod["volumes"].as_array().unwrap();
        let found = volumes
            .iter()
            .find(|volume| volume["name"] == name)
            .unwrap();
        found["projected"]["sources"].clone()
    };
    assert_eq!(
        sources("upload-token"),
        json!([{ "serviceAccountToken": {
            "audience": "prowler-operator", "expirationSeconds": 600, "path": "token" } }])
    );
    // The cluster's token has the API server's audience, and goes to `scan`.
    assert!(sources("cluster-access")[0]["serviceAccountToken"]["audience"].is_null());
}

#[test]
fn what_the_chart_adds_to_the_environment_is_for_the_scan_alone() {
    let extra =
        config(json!({ "extraEnv": [{ "name": "AWS_ENDPOINT_URL", "value": "http://emulator" }] }));
    let (_, scan, upload) = pod(&shapes()[0], &extra);
    assert!(scan["env"].to_string().contains("AWS_ENDPOINT_URL"));
    assert!(!upload["env"].to_string().contains("AWS_ENDPOINT_URL"));
}

#[test]
fn all_containers_are_restricted_and_bounded() {
    for attempt in shapes() {
        let (pod, _, upload) = pod(&attempt, &config(json!({})));
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true);
        assert_eq!(security["runAsUser"], 1000);
        assert_eq!(security["fsGroup"], 1000);
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        let before = pod["initContainers"].as_array().unwrap();
        for container in before.iter().chain([&upload]) {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
            assert!(security["privileged"].is_null());
            for side in ["requests", "limits"] {
                for resource in ["cpu", "memory", "ephemeral-storage"] {
                    let amount = &container["resources"][side][resource];
                    assert!(
                        amount.is_string(),
                        "{}: {side}.{resource}",
                        container["name"]
                    );
                }
            }
            assert_eq!(
                container["terminationMessagePolicy"],
                "FallbackToLogsOnError"
            );
        }
        assert_eq!(pod["restartPolicy"], "Never");
        for volume in pod["volumes"].as_array().unwrap() {
            assert!(volume["hostPath"].is_null());
            if let Some(scratch) = volume.get("emptyDir") {
                assert!(scratch["sizeLimit"].is_string(), "{volume}");
            }
        }
    }
}

#[test]
fn prowler_gets_an_array_of_arguments_and_no_shell() {
    let attempt = &shapes()[1];
    let (_, scan, _) = pod(attempt, &config(json!({})));
    assert!(scan["command"].is_null());
    assert_eq!(scan["args"], json!(attempt.run.args));
}

#[test]
fn a_job_has_one_pod_one_try_and_a_deadline() {
    let attempt = &shapes()[0];
    let job = serde_json::to_value(attempt.job(&config(json!({})))).unwrap();
    for (field, value) in [
        ("parallelism", 1),
        ("completions", 1),
        ("backoffLimit", 0),
        ("activeDeadlineSeconds", 7200),
        ("ttlSecondsAfterFinished", 600),
    ] {
        assert_eq!(job["spec"][field], value, "{field}");
    }
    assert_eq!(
        job["metadata"]["name"],
        "scan-00000000-0000-0000-0000-000000000003-2"
    );
    assert_eq!(job["metadata"]["namespace"], "team-a");
    assert_eq!(job["metadata"]["ownerReferences"][0]["kind"], "Scan");
}

#[test]
fn the_hash_is_the_same_for_the_same_job_and_tells_others_apart() {
    let hash = |attempt: &Attempt, config: &FileConfig| {
        attempt.job(config).annotations()[SPEC_HASH].clone()
    };
    let plain = config(json!({}));
    let [first, _, third, _] = shapes();
    assert_eq!(hash(&first, &plain), hash(&first.clone(), &plain));
    assert_ne!(hash(&first, &plain), hash(&third, &plain));
    assert_ne!(
        hash(&first, &plain),
        hash(&first, &config(json!({ "priorityClassName": "low" })))
    );
}

#[test]
fn the_chart_cannot_hide_a_scan_pod_nor_give_the_upload_what_is_the_scans() {
    let adding = config(json!({
        "podLabels": { "team": "a", "prowler-operator.dev/queue": "mine" },
        "podAnnotations": { "sidecar.istio.io/inject": "true", "note": "b" },
    }));
    let job = shapes()[0].job(&adding);
    let meta = job.spec.unwrap().template.metadata.unwrap();
    let (labels, annotations) = (meta.labels.unwrap(), meta.annotations.unwrap());
    assert_eq!(labels["team"], "a");
    assert_eq!(labels["prowler-operator.dev/queue"], "scans");
    assert_eq!(annotations["note"], "b");
    assert_eq!(annotations["sidecar.istio.io/inject"], "false");
    assert_eq!(annotations["eks.amazonaws.com/skip-containers"], "upload");
    for webhook in ["azure.workload.identity", "pod-identity.alibabacloud.com"] {
        assert_eq!(annotations[&format!("{webhook}/skip-containers")], "upload");
    }
    for value in labels.values() {
        assert!(value.len() <= 63, "{value}");
    }
}

#[test]
fn a_pod_leaves_a_node_that_does_not_answer_after_fifteen_seconds() {
    let more = config(json!({ "tolerations": [{ "key": "scans", "operator": "Exists" }] }));
    let (pod, ..) = pod(&shapes()[0], &more);
    let found: Vec<_> = pod["tolerations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t["key"].as_str().unwrap(), t["tolerationSeconds"].as_i64()))
        .collect();
    assert_eq!(
        found,
        [
            ("node.kubernetes.io/not-ready", Some(15)),
            ("node.kubernetes.io/unreachable", Some(15)),
            ("scans", None),
        ]
    );
}

#[test]
fn whole_jobs() {
    let [keys, kubeconfig, inside, google] = shapes();
    insta::assert_yaml_snapshot!("aws_with_keys", keys.job(&config(json!({}))));
    insta::assert_yaml_snapshot!(
        "kubernetes_by_kubeconfig",
        kubeconfig.job(&config(json!({})))
    );
    insta::assert_yaml_snapshot!("kubernetes_from_inside", inside.job(&config(json!({}))));
    insta::assert_yaml_snapshot!("gcp_of_a_user", google.job(&config(json!({}))));
}

/// What the clouds look at, and what is in the pod for whom. The webhooks add a token and variables
/// to each container that is not skipped; on Google Cloud the node's metadata server answers.
///
/// * EKS, both for roles of service accounts and for Pod Identity, which one webhook serves:
///   <https://docs.aws.amazon.com/eks/latest/userguide/pod-configuration.html>,
///   <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html>,
///   <https://github.com/aws/amazon-eks-pod-identity-webhook>
/// * GKE: <https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity>
/// * AKS: <https://learn.microsoft.com/en-us/azure/aks/workload-identity-overview>,
///   <https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html>
/// * ACK:
///   <https://www.alibabacloud.com/help/en/container-service-for-kubernetes/latest/ack-pod-identity-webhook>
#[test]
fn pods_with_the_identity_of_their_service_account_on_each_cloud() {
    for (cloud, provider) in [
        ("eks", ProviderType::Aws),
        ("gke", ProviderType::Gcp),
        ("aks", ProviderType::Azure),
        ("ack", ProviderType::Alibabacloud),
    ] {
        let uid = provider.uid_rule().example;
        let attempt = attempt(provider, uid, &by_service_account());
        let job = serde_json::to_value(attempt.job(&config(json!({})))).unwrap();
        let meta = &job["spec"]["template"]["metadata"];
        let (pod, scan, upload) = pod(&attempt, &config(json!({})));
        // A token is readable for the user of `scan` through the group of the pod's volumes.
        let security = &pod["securityContext"];
        assert_eq!(security["fsGroup"], security["runAsGroup"]);
        let ours = |container: &Value| json!({ "env": container["env"], "mounts": container["volumeMounts"] });
        let mut upload = ours(&upload);
        upload.as_object_mut().unwrap().remove("env");
        insta::assert_yaml_snapshot!(
            format!("identity_{cloud}"),
            json!({
                "labels": meta["labels"],
                "annotations": meta["annotations"],
                "serviceAccountName": pod["serviceAccountName"],
                "automountServiceAccountToken": pod["automountServiceAccountToken"],
                "nodeSelector": pod["nodeSelector"],
                "volumes": pod["volumes"],
                "scan": ours(&scan),
                "upload": upload,
            })
        );
    }
}

#[test]
fn on_google_cloud_a_scan_keeps_to_nodes_that_do_not_lend_it_their_own_identity() {
    let google = |access: &Access| attempt(ProviderType::Gcp, "my-project-1", access);
    let selector = |attempt: &Attempt, scanner: Value| {
        let (pod, ..) = pod(attempt, &config(scanner));
        pod["nodeSelector"].clone()
    };
    let label = "iam.gke.io/gke-metadata-server-enabled";
    let by_account = google(&by_service_account());
    let pool = json!({ "nodeSelector": { "pool": "scans" } });
    assert_eq!(
        selector(&by_account, pool.clone()),
        json!({ "pool": "scans", label: "true" })
    );
    // Not where the chart says that no node lends its own, nor for who brings a key.
    let autopilot = json!({ "gkeAutopilot": true });
    assert_eq!(selector(&by_account, autopilot), Value::Null);
    assert_eq!(selector(&google(&google_user()), json!({})), Value::Null);
    assert_eq!(selector(&shapes()[0], pool), json!({ "pool": "scans" }));
}

/// What differs from way to way: the rest of the pod is in `whole_jobs`.
fn shape(attempt: &Attempt) -> Value {
    let job = serde_json::to_value(attempt.job(&config(json!({})))).unwrap();
    let template = &job["spec"]["template"];
    let (pod, scan, upload) = pod(attempt, &config(json!({})));
    let routine = ["--ignore-exit-code-3", "--output-formats"];
    let args = scan["args"].as_array().unwrap();
    let end = args.iter().position(|arg| arg == routine[0]).unwrap();
    assert_eq!(args[end + 1], routine[1]);
    let named = |list: &Value, names: &[&str]| -> Vec<Value> {
        let list = list.as_array().unwrap().iter();
        list.filter(|item| !names.contains(&item["name"].as_str().unwrap()))
            .cloned()
            .collect()
    };
    // The same for all ways.
    assert_eq!(mounts(&upload), ["output", "upload-token"]);
    let mut shape = json!({
        "args": args[..end],
        "env": named(&scan["env"], &["HOME", "PYTHONUNBUFFERED"]),
        "mounts": named(&scan["volumeMounts"], &["output", "tmp"]),
        "volumes": named(&pod["volumes"], &["output", "tmp", "upload-token"]),
    });
    if attempt.run.composed.is_some() {
        let compose = &pod["initContainers"][0];
        shape["compose"] = json!({ "args": compose["args"], "mounts": compose["volumeMounts"] });
    }
    if let Some(name) = pod["serviceAccountName"].as_str() {
        let labels = template["metadata"]["labels"].as_object().unwrap().clone();
        let foreign = labels.into_iter().filter(|(key, _)| {
            !key.starts_with("prowler-operator.dev/") && !key.starts_with("app.kubernetes.io/")
        });
        shape["serviceAccountName"] = json!(name);
        shape["labels"] = foreign.collect::<serde_json::Map<_, _>>().into();
        shape["annotations"] = template["metadata"]["annotations"].clone();
        shape["nodeSelector"] = pod["nodeSelector"].clone();
    }
    shape
}

#[test]
fn each_way_into_each_type_of_account() {
    for provider in ProviderType::ALL {
        let uid = provider.uid_rule().example;
        let shapes: std::collections::BTreeMap<_, _> = ways(provider)
            .into_iter()
            .map(|way| (way.name, shape(&attempt(provider, uid, &way.access))))
            .collect();
        insta::assert_yaml_snapshot!(format!("way_{provider}"), shapes);
    }
}
