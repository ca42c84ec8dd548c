//! The chart before a real API server: what it renders is valid there, its values reach the pods
//! of scans, and its rights go as far as they must and no further.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use prowler_operator::api::{Scan, Tenant};
use prowler_operator::config::file::FileConfig;
use serde_json::{Value, json};

use crate::support::apiserver::ApiServer;
use crate::support::chart::{self, EMBEDDED, SCANNER, matrix};
use crate::support::command::{command, documents, kubectl, output, succeed, succeed_with};
use crate::support::db::Db;
use crate::support::operator::{ACCOUNT, Operator, World, unique};

const RESTRICTED: [(&str, &str); 2] = [
    ("pod-security.kubernetes.io/enforce", "restricted"),
    ("pod-security.kubernetes.io/warn", "restricted"),
];
/// Whose definitions other projects bring.
const FOREIGN: [&str; 2] = ["Certificate", "ServiceMonitor"];

#[tokio::test]
async fn what_the_chart_renders_is_valid_and_restricted_whatever_the_values() {
    // Alone, since nothing that others have applied may be in the way.
    let server = ApiServer::alone().await;
    let namespace = server.labelled_namespace(&RESTRICTED).await;
    for sets in matrix() {
        let rendered = succeed(chart::template_in(&namespace, &sets));
        let mut kinds = 0;
        let objects: Vec<String> = documents(&rendered)
            .into_iter()
            // The harness has installed the definitions, which is no dry run.
            .filter(|object| object["kind"] != "CustomResourceDefinition")
            .filter(|object| !FOREIGN.contains(&object["kind"].as_str().unwrap()))
            .inspect(|_| kinds += 1)
            .map(|object| object.to_string())
            .collect();
        assert!(kinds > 5, "{sets:?}");
        let mut apply = command(
            kubectl(),
            &[
                "create",
                "--dry-run=server",
                "--validate=strict",
                "--filename",
                "-",
            ],
        );
        apply.env("KUBECONFIG", server.kubeconfig());
        let answer = output(apply, &objects.join("\n---\n"));
        let said = String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.success(), "{sets:?}: {said}");
        // Warnings too: of Pod Security, of fields that are going away.
        assert_eq!(said, "", "{sets:?}");
    }
}

/// A controller with the configuration that the chart writes for these values.
async fn operator(sets: &[&str]) -> Operator {
    let objects = chart::render(&[&[EMBEDDED], sets].concat());
    let config = FileConfig::parse(chart::config_file(&objects)).unwrap();
    Operator::on(ApiServer::shared().await, Db::new().await, config).await
}

async fn started(operator: &Operator) -> (World, Job) {
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    operator.scan(&world, "s", "p").await;
    assert_eq!(operator.admit().await, 1);
    operator.follow::<Scan>(&world.namespace, "s").await;
    let job = operator.job_of(&world, "s").await;
    (world, job)
}

#[tokio::test]
async fn each_value_about_scans_reaches_the_pod() {
    let more = [
        "image.repository=mirror/operator",
        "image.tag=v7",
        "image.pullPolicy=Always",
        "limits.scanCPU.default=1500m",
        "limits.scanDeadlineSeconds.default=1234",
        "jobTtlSeconds=901",
        "tenancy.deniedNamespaces={platform-*}",
    ];
    let operator = operator(&[SCANNER, &more].concat()).await;
    let (_, job) = started(&operator).await;
    let job = serde_json::to_value(job).unwrap();
    let template = &job["spec"]["template"];
    let (pod, meta) = (&template["spec"], &template["metadata"]);
    let (scan, upload) = (&pod["initContainers"][0], &pod["containers"][0]);
    let affinity =
        &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let proxy = json!({ "name": "HTTPS_PROXY", "value": "http://proxy:3128" });
    for (seen, wanted) in [
        (&scan["image"], json!("example.org/prowler:1")),
        (&scan["imagePullPolicy"], json!("Always")),
        (&pod["imagePullSecrets"], json!([{ "name": "pull" }])),
        (&pod["nodeSelector"], json!({ "pool": "scans" })),
        (
            &affinity["nodeSelectorTerms"][0]["matchExpressions"][0]["key"],
            json!("x"),
        ),
        (&pod["priorityClassName"], json!("low")),
        (&meta["labels"]["team"], json!("security")),
        (&meta["annotations"]["note"], json!("on")),
        (&scan["resources"]["limits"]["memory"], json!("1Gi")),
        (&scan["resources"]["limits"]["cpu"], json!("1500m")),
        (&job["spec"]["activeDeadlineSeconds"], json!(1234)),
        (&job["spec"]["ttlSecondsAfterFinished"], json!(901)),
        (&upload["image"], json!("ghcr.io/mirror/operator:v7")),
        (&upload["imagePullPolicy"], json!("Always")),
        (&upload["resources"]["limits"]["memory"], json!("64Mi")),
    ] {
        assert_eq!(*seen, wanted);
    }
    let has = |list: &Value, item: &Value| list.as_array().unwrap().contains(item);
    assert!(has(&scan["env"], &proxy), "{}", scan["env"]);
    assert!(!has(&upload["env"], &proxy));
    assert!(
        has(
            &pod["tolerations"],
            &json!({ "key": "scans", "operator": "Exists" })
        ),
        "{}",
        pod["tolerations"]
    );

    // Of the listed images one may be asked for, and no other.
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    for (name, image, says) in [
        ("listed", "example.org/other:2", "InProgress Queued"),
        (
            "unlisted",
            "elsewhere.org/other:2",
            "Failed ImageNotAllowed",
        ),
    ] {
        let spec = json!({ "providerRef": { "name": "p" }, "scan": { "image": image } });
        operator.apply::<Scan>(&world.namespace, name, spec).await;
        operator.follow::<Scan>(&world.namespace, name).await;
        assert_eq!(operator.says::<Scan>(&world.namespace, name).await, says);
    }

    let tenant = unique("tenant");
    operator
        .apply::<Tenant>("", &tenant, json!({ "namespaces": ["platform-x"] }))
        .await;
    operator.follow::<Tenant>("", &tenant).await;
    assert_eq!(
        operator.says::<Tenant>("", &tenant).await,
        "Failed NamespaceDenied"
    );
}

const POLICY: &str = "prowler-operator-scans";

async fn policies(operator: &Operator, namespace: &str) -> Vec<NetworkPolicy> {
    let api = Api::<NetworkPolicy>::namespaced(operator.client.clone(), namespace);
    api.list(&ListParams::default()).await.unwrap().items
}

#[tokio::test]
async fn scan_pods_may_connect_where_the_values_say_and_nobody_to_them() {
    let mut operator = operator(&[
        "scanner.networkPolicy.enabled=true",
        // Without a protocol, which the API server fills in.
        "scanner.networkPolicy.egress[0].ports[0].port=443",
    ])
    .await;
    let (world, job) = started(&operator).await;
    let [made] = &policies(&operator, &world.namespace).await[..] else {
        panic!("not one policy");
    };
    assert_eq!(made.metadata.name.as_deref(), Some(POLICY));
    let spec = serde_json::to_value(&made.spec).unwrap();
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert!(spec["ingress"].is_null(), "nobody may connect");
    let server = json!({
        "ports": [{ "port": 8443, "protocol": "TCP" }],
        "to": [{
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "prowler-operator-system" } },
            "podSelector": { "matchLabels": {
                "app.kubernetes.io/component": "server",
                "app.kubernetes.io/instance": "prowler-operator",
                "app.kubernetes.io/name": "prowler-operator",
            }},
        }],
    });
    let names =
        json!({ "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }] });
    let own = json!({ "ports": [{ "port": 443, "protocol": "TCP" }] });
    assert_eq!(spec["egress"], json!([names, server, own]));
    // It selects the pod that was made.
    let labels = job.spec.unwrap().template.metadata.unwrap().labels.unwrap();
    for (key, value) in spec["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels[key], value.as_str().unwrap());
    }

    // Once it is there, nothing is written.
    let version = |made: &NetworkPolicy| made.metadata.resource_version.clone();
    operator.pass::<Tenant>("", &world.tenant).await;
    assert_eq!(
        version(&policies(&operator, &world.namespace).await[0]),
        version(made)
    );

    // Taken away by somebody, it is there again before the next pod.
    operator
        .delete::<NetworkPolicy>(&world.namespace, POLICY)
        .await;
    operator.provider(&world, "q", "210987654321").await;
    operator.scan(&world, "t", "q").await;
    assert_eq!(operator.admit().await, 1);
    operator.follow::<Scan>(&world.namespace, "t").await;
    operator.job_of(&world, "t").await;
    assert_eq!(policies(&operator, &world.namespace).await.len(), 1);

    // With the value taken back the policy goes, and one that somebody else made stays.
    let theirs: NetworkPolicy = serde_json::from_value(json!({
        "metadata": { "name": "theirs" }, "spec": { "podSelector": {} },
    }))
    .unwrap();
    Api::<NetworkPolicy>::namespaced(operator.client.clone(), &world.namespace)
        .create(&PostParams::default(), &theirs)
        .await
        .unwrap();
    operator
        .reconfigure(json!({ "scanner": { "networkPolicy": { "enabled": false } } }))
        .await;
    operator.pass::<Tenant>("", &world.tenant).await;
    let left = policies(&operator, &world.namespace).await;
    let names: Vec<_> = left
        .iter()
        .map(|policy| policy.metadata.name.as_deref())
        .collect();
    assert_eq!(names, [Some("theirs")]);
}

#[tokio::test]
async fn a_namespace_given_back_keeps_no_policy_of_ours() {
    let operator = operator(&["scanner.networkPolicy.enabled=true"]).await;
    let (home, other) = (
        operator.server.namespace().await,
        operator.server.namespace().await,
    );
    let tenant = unique("tenant");
    operator.claim(&tenant, &[&home, &other]).await;
    let egress =
        |policy: &NetworkPolicy| serde_json::to_value(&policy.spec).unwrap()["egress"].clone();
    let made = egress(&policies(&operator, &other).await[0]);
    // By default everywhere, but not to the metadata of nodes.
    assert_eq!(
        made[2]["to"][0]["ipBlock"],
        json!({ "cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"] })
    );
    operator.claim(&tenant, &[&home]).await;
    assert_eq!(policies(&operator, &other).await.len(), 0);
    assert_eq!(policies(&operator, &home).await.len(), 1);
}

/// Applies the chart's rights, and gives a client of this ServiceAccount of it.
fn account(server: &ApiServer, namespace: &str, part: &str, sets: &[&str]) -> Client {
    let name = format!("fullnameOverride={namespace}");
    let sets = [&[EMBEDDED, &name], sets].concat();
    let rights: Vec<_> = documents(&succeed(chart::template_in(namespace, &sets)))
        .into_iter()
        .filter(|object| {
            let group = object["apiVersion"].as_str().unwrap();
            group.starts_with("rbac.authorization.k8s.io/")
        })
        .map(|object| object.to_string())
        .collect();
    let mut apply = command(kubectl(), &["apply", "--filename", "-"]);
    apply.env("KUBECONFIG", server.kubeconfig());
    succeed_with(apply, &rights.join("\n---\n"));
    server.client_as(
        &format!("system:serviceaccount:{namespace}:{namespace}-{part}"),
        &["system:serviceaccounts", "system:authenticated"],
    )
}

/// Whether the API server would let this client do so: `verb group/resource/name`.
async fn may(client: &Client, namespace: &str, what: &str) -> bool {
    let (verb, resource) = what.split_once(' ').unwrap();
    let mut parts = resource.split('/').map(str::to_owned);
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some(verb.to_owned()),
                group: parts.next(),
                resource: parts.next(),
                name: parts.next(),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api = Api::<SelfSubjectAccessReview>::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await.unwrap();
    answer.status.unwrap().allowed
}

#[tokio::test]
async fn listed_namespaces_narrow_the_rights_as_the_api_server_sees_them() {
    let server = ApiServer::shared().await;
    let own = server.namespace().await;
    let (listed, other) = (server.namespace().await, server.namespace().await);
    let set = format!("rbac.namespaces={{{listed}}}");
    let enabled = "scanner.networkPolicy.enabled=true";
    let controller = account(server, &own, "controller", &[&set, enabled]);
    let uploads = account(server, &own, "server", &[&set, enabled]);
    let reader = format!("{own}-secret-reader");
    let policy = format!("{own}-scans");
    for (client, what) in [
        (&controller, "create batch/jobs".to_owned()),
        (&controller, "list /pods".to_owned()),
        (&controller, "get /serviceaccounts".to_owned()),
        (
            &controller,
            "create rbac.authorization.k8s.io/rolebindings".to_owned(),
        ),
        (
            &controller,
            format!("delete rbac.authorization.k8s.io/rolebindings/{reader}"),
        ),
        (
            &controller,
            "create networking.k8s.io/networkpolicies".to_owned(),
        ),
        (
            &controller,
            format!("patch networking.k8s.io/networkpolicies/{policy}"),
        ),
        (&uploads, "get /pods".to_owned()),
    ] {
        assert!(may(client, &listed, &what).await, "{what}");
        assert!(!may(client, &other, &what).await, "{what} elsewhere");
    }
    // Secrets only where the controller has bound the reader, so far nowhere; of others' bindings
    // and policies nothing.
    for what in [
        "get /secrets",
        "list /secrets",
        "patch rbac.authorization.k8s.io/rolebindings/another",
        "patch networking.k8s.io/networkpolicies/another",
        "delete networking.k8s.io/networkpolicies/another",
        "list networking.k8s.io/networkpolicies",
        "bind rbac.authorization.k8s.io/clusterroles/cluster-admin",
        "escalate rbac.authorization.k8s.io/clusterroles",
    ] {
        for namespace in [&listed, &other, &own] {
            assert!(
                !may(&controller, namespace, what).await,
                "{what} in {namespace}"
            );
        }
    }
    // Its own kinds everywhere: that is what a Tenant is found by.
    assert!(
        may(
            &controller,
            &other,
            "list prowler-operator.dev/prowlerproviders"
        )
        .await
    );
}
