//! What is done by hand to scans that run, and to the cluster they run in.

use serde_json::{Value, json};

use super::stage::{ADMISSION, NAMESPACE, QUOTA, RANGE, SECURITY, Seen};
use crate::demo::Demo;
use crate::node;
use crate::support::command::{command, kubectl, output, succeed_with};

/// A hand to lay on a scan, once.
pub struct Hand {
    pub scan: &'static str,
    /// Whether it has been laid on now.
    pub act: fn(&Demo, &str, &Seen) -> bool,
}

/// All of them.
pub fn hands() -> Vec<Hand> {
    let hand = |scan, act| Hand { scan, act };
    vec![
        hand("wait-drained", |demo, scan, seen| {
            with_pod(scan, "scan", seen, |pod| {
                let pod = name_of(pod);
                let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
                    "metadata": { "name": pod, "namespace": NAMESPACE } });
                let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction");
                let create = ["create", "--raw", &path, "--filename", "-"];
                succeed_with(demo.command(kubectl(), &create), &eviction.to_string());
            })
        }),
        hand("wait-preempted", |demo, scan, seen| {
            with_pod(scan, "scan", seen, |pod| {
                demo.apply(&preemptor(pod).to_string());
            })
        }),
        hand("wait-pod-deleted", |demo, scan, seen| {
            with_pod(scan, "scan", seen, |pod| delete(demo, "pod", name_of(pod)))
        }),
        hand("wait-job-deleted", |demo, scan, seen| {
            with_pod(scan, "scan", seen, |pod| {
                let job = name_of(pod).rsplit_once('-').unwrap().0;
                delete(demo, "job", job);
            })
        }),
        hand("wait-second-pod", |demo, scan, seen| {
            with_pod(scan, "scan", seen, |pod| demo.apply(&twin(pod).to_string()))
        }),
        // What kept it for long enough to be seen is taken off.
        hand("wait-second-pod", |demo, scan, seen| {
            let is_over = seen.is_over(scan);
            if is_over {
                let_twin_go(demo);
            }
            is_over
        }),
        hand("wait-cancelled", cancel),
        hand("sleep-cancelled", cancel),
        hand("ok-upload-oom", |_, scan, seen| {
            with_pod(scan, "upload", seen, crowd_out)
        }),
    ]
}

/// Does it to the scan's pod, if this container runs in it; whether that was so.
fn with_pod(scan: &str, container: &str, seen: &Seen, act: impl FnOnce(&Value)) -> bool {
    let pod = seen.running(scan, container);
    pod.map(act).is_some()
}

fn name_of(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap()
}

fn delete(demo: &Demo, kind: &str, name: &str) {
    demo.kubectl(&[
        "delete",
        kind,
        name,
        "--namespace",
        NAMESPACE,
        "--wait=false",
    ]);
}

fn cancel(demo: &Demo, scan: &str, seen: &Seen) -> bool {
    with_pod(scan, "scan", seen, |_| demo.cancel(NAMESPACE, scan))
}

/// A more important pod that does not run on a node beside the scan's, so that there is one way
/// only to make room.
fn preemptor(pod: &Value) -> Value {
    let label = "prowler-operator.dev/scan";
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "preemptor", "namespace": NAMESPACE },
        "spec": {
            "priorityClassName": "ends-important", "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 1000,
                                 "seccompProfile": { "type": "RuntimeDefault" } },
            "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": { "matchLabels": { label: pod["metadata"]["labels"][label] } } }] } },
            "containers": [{ "name": "c", "image": pod["spec"]["initContainers"][0]["image"],
                "args": ["act.wait"],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
        },
    })
}

/// A second pod of the pod's Job, as the Job controller would make it. It would delete the one too
/// many at once: a finalizer keeps that until it has been seen.
fn twin(pod: &Value) -> Value {
    let mut labels = pod["metadata"]["labels"].clone();
    // The watch is for the first.
    labels["e2e"] = json!("twin");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "twin", "namespace": NAMESPACE, "labels": labels,
                      "finalizers": ["prowler-operator.dev/e2e"],
                      "ownerReferences": pod["metadata"]["ownerReferences"] },
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": pod["spec"]["securityContext"],
            "containers": [{ "name": "c", "image": pod["spec"]["initContainers"][0]["image"],
                "args": ["act.wait"],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
        },
    })
}

/// Puts a hungry process into the container's control group: the kernel makes room by killing what
/// it may, and that is `upload`.
fn crowd_out(pod: &Value) {
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str();
    let script = r#"
        echo -900 >/proc/self/oom_score_adj
        echo $$ >"$1/cgroup.procs"
        x=$(tr '\0' x </dev/zero | head -c 1G)"#;
    // It is killed in the end.
    let group = node::memory_group(id.unwrap());
    output(command("bash", &["-c", script, "bash", &group]), "");
}

/// What the namespaces hold from the beginning.
pub fn props() -> Vec<Value> {
    let labels = json!({ "prowler-operator.dev/credentials": "true" });
    let secret = |name: &str, data: Value| {
        json!({ "apiVersion": "v1", "kind": "Secret", "stringData": data,
            "metadata": { "name": name, "namespace": NAMESPACE, "labels": labels } })
    };
    let keys =
        json!({ "aws_access_key_id": "AKIAACTOR", "aws_secret_access_key": "an-actor-has-none" });
    let kubeconfig = "apiVersion: v1\nkind: Config\ncontexts: [{name: ends-cluster, context: {cluster: c, user: u}}]\n\
                      clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\n";
    let mut props = vec![
        secret("gone-keys", keys.clone()),
        secret("gone-file", json!({ "kubeconfig_content": kubeconfig })),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "gone",
            "namespace": NAMESPACE, "annotations": { "prowler-operator.dev/scanner": "true" } } }),
        json!({ "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000,
            "metadata": { "name": "ends-important" } }),
        json!({ "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": { "name": "none", "namespace": QUOTA }, "spec": { "hard": { "pods": "0" } } }),
        json!({ "apiVersion": "v1", "kind": "LimitRange",
            "metadata": { "name": "little", "namespace": RANGE },
            "spec": { "limits": [{ "type": "Container", "max": { "memory": "32Mi" } }] } }),
    ];
    for namespace in [NAMESPACE, QUOTA, RANGE, ADMISSION, SECURITY] {
        let mut own = secret("keys", keys.clone());
        own["metadata"]["namespace"] = json!(namespace);
        props.push(own);
    }
    props.extend(policies());
    props
}

/// An admission policy that refuses pods, and one that adds to them what Pod Security refuses, as
/// a mesh's webhook may.
fn policies() -> Vec<Value> {
    let group = "admissionregistration.k8s.io";
    let in_namespace = |namespace: &str| json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } } });
    let pods = json!({ "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"],
        "operations": ["CREATE"], "resources": ["pods"] }] });
    vec![
        json!({ "apiVersion": format!("{group}/v1"), "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": "ends-no-pods" },
            "spec": { "failurePolicy": "Fail", "matchConstraints": pods,
                "validations": [{ "expression": "false", "message": "no pods today" }] } }),
        json!({ "apiVersion": format!("{group}/v1"), "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": "ends-no-pods" },
            "spec": { "policyName": "ends-no-pods", "validationActions": ["Deny"],
                "matchResources": in_namespace(ADMISSION) } }),
        json!({ "apiVersion": format!("{group}/v1"), "kind": "MutatingAdmissionPolicy",
            "metadata": { "name": "ends-host-network" },
            "spec": { "failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": pods,
                "mutations": [{ "patchType": "ApplyConfiguration", "applyConfiguration": {
                    "expression": "Object{spec: Object.spec{hostNetwork: true}}" } }] } }),
        json!({ "apiVersion": format!("{group}/v1"), "kind": "MutatingAdmissionPolicyBinding",
            "metadata": { "name": "ends-host-network" },
            "spec": { "policyName": "ends-host-network", "matchResources": in_namespace(SECURITY) } }),
    ]
}

/// A finalizer that is left keeps its namespace.
pub fn let_twin_go(demo: &Demo) {
    let patch = r#"{"metadata": {"finalizers": null}}"#;
    let args = Demo::merge_patch(NAMESPACE, "pod", "twin", patch);
    // It may be gone, and should be.
    output(demo.command(kubectl(), &args), "");
}

/// Takes away what lies in no namespace of the stage's.
pub fn take_away(demo: &Demo) {
    for object in [
        "priorityclass/ends-important",
        "validatingadmissionpolicybinding/ends-no-pods",
        "validatingadmissionpolicy/ends-no-pods",
        "mutatingadmissionpolicybinding/ends-host-network",
        "mutatingadmissionpolicy/ends-host-network",
    ] {
        demo.kubectl(&["delete", "--ignore-not-found", object]);
    }
}
