//! What the chart renders: rights, security contexts, toggles, and the same bytes each time.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Parser as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use prowler_operator::config::file::FileConfig;
use prowler_operator::config::{Cli, Command};
use serde_json::{Value, json};

use crate::support::chart::{CHART, EMBEDDED, SCANNER, config_file, matrix, render, template};
use crate::support::command::{command, documents, fail, helm, succeed, top};

fn embedded(sets: &[&str]) -> Vec<Value> {
    render(&[&[EMBEDDED], sets].concat())
}

fn kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|o| o["kind"] == kind).collect()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// The name without the release's.
fn own_name(object: &Value) -> String {
    let name = name(object);
    ["prowler-operator-x-", "prowler-operator-", "x-", "y-"]
        .iter()
        .find_map(|head| name.strip_prefix(head))
        .unwrap_or(name)
        .to_owned()
}

fn one<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    objects
        .iter()
        .find(|o| o["kind"] == kind && self::name(o) == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn list(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Every pod the chart makes, with the name of its owner.
fn pods(objects: &[Value]) -> Vec<(String, &Value)> {
    objects
        .iter()
        .filter_map(|object| {
            let spec = match object["kind"].as_str()? {
                "Pod" => &object["spec"],
                "Deployment" | "StatefulSet" => &object["spec"]["template"]["spec"],
                _ => return None,
            };
            Some((format!("{} {}", object["kind"], name(object)), spec))
        })
        .collect()
}

fn containers(pod: &Value) -> Vec<&Value> {
    ["initContainers", "containers"]
        .iter()
        .flat_map(|field| pod[field].as_array().into_iter().flatten())
        .collect()
}

fn rules(objects: &[Value]) -> Vec<(&Value, &Value)> {
    objects
        .iter()
        .filter(|o| matches!(o["kind"].as_str(), Some("ClusterRole" | "Role")))
        .flat_map(|role| {
            role["rules"]
                .as_array()
                .into_iter()
                .flatten()
                .map(move |rule| (role, rule))
        })
        .collect()
}

#[test]
fn two_renderings_are_equal_byte_for_byte() {
    for sets in matrix() {
        assert_eq!(succeed(template(&sets)), succeed(template(&sets)));
    }
}

#[test]
fn no_template_asks_for_time_chance_or_the_cluster() {
    let functions = [
        "lookup", "now", "rand", "gen", "uuidv4", "htpasswd", "bcrypt", "ago",
    ];
    let mut files = vec![top().join(CHART).join("templates")];
    let mut seen = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for action in text
            .split("{{")
            .skip(1)
            .filter_map(|t| t.split("}}").next())
        {
            if action
                .trim_start_matches('-')
                .trim_start()
                .starts_with("/*")
            {
                continue;
            }
            for word in action.split(|c: char| !c.is_alphanumeric()) {
                let forbidden = functions
                    .iter()
                    .any(|f| word == *f || (["rand", "gen"].contains(f) && word.starts_with(f)));
                assert!(!forbidden, "{}: {{{{{action}}}}}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} actions read");
}

#[test]
fn no_cluster_wide_right_to_secrets() {
    for sets in matrix() {
        let objects = render(&sets);
        let mut roles = BTreeSet::new();
        for (role, rule) in rules(&objects) {
            let resources = list(&rule["resources"]);
            if resources
                .iter()
                .any(|r| r.starts_with("secrets") || *r == "*")
            {
                roles.insert((role["kind"].as_str().unwrap(), own_name(role)));
            }
        }
        let expected = if sets.contains(&"rbac.create=false") {
            BTreeSet::new()
        } else {
            BTreeSet::from([
                ("ClusterRole", "secret-reader".to_owned()),
                ("Role", "controller".to_owned()),
            ])
        };
        assert_eq!(roles, expected, "{sets:?}");
        // Only the controller binds the reader, and only in a namespace.
        for binding in objects
            .iter()
            .filter(|o| o["kind"].as_str().unwrap().ends_with("RoleBinding"))
        {
            let role = binding["roleRef"]["name"].as_str().unwrap();
            assert!(!role.ends_with("-secret-reader"), "{}", name(binding));
        }
    }
}

#[test]
fn secrets_are_read_by_name_in_the_own_namespace() {
    let objects = embedded(&[]);
    let role = one(&objects, "Role", "prowler-operator-controller");
    for rule in role["rules"].as_array().unwrap() {
        if list(&rule["resources"]) != ["secrets"] {
            continue;
        }
        if rule["resourceNames"].is_null() {
            assert_eq!(list(&rule["verbs"]), ["create"]);
        } else {
            assert!(
                list(&rule["verbs"])
                    .iter()
                    .all(|v| ["get", "update"].contains(v))
            );
        }
    }
    // With a database and a certificate of one's own, only the id is left to read.
    let objects = render(&[
        "database.existingSecret=db",
        "server.tls.existingSecret=tls",
    ]);
    let role = one(&objects, "Role", "prowler-operator-controller");
    let named: Vec<_> = role["rules"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| list(&r["resources"]) == ["secrets"] && !r["resourceNames"].is_null())
        .map(|r| (list(&r["resourceNames"]), list(&r["verbs"])))
        .collect();
    assert_eq!(
        named,
        [(vec!["prowler-operator-installation"], vec!["get"])]
    );
}

#[test]
fn no_wildcard_no_escalate_and_bind_only_for_the_secret_reader() {
    for sets in matrix() {
        let objects = render(&sets);
        for (role, rule) in rules(&objects) {
            for field in ["apiGroups", "resources", "verbs"] {
                assert!(!list(&rule[field]).contains(&"*"), "{}", name(role));
            }
            let verbs = list(&rule["verbs"]);
            for verb in ["escalate", "impersonate", "deletecollection"] {
                assert!(!verbs.contains(&verb), "{}: {verb}", name(role));
            }
            if verbs.contains(&"bind") {
                assert_eq!(list(&rule["resources"]), ["clusterroles"]);
                // A role of the chart's own, in this very rendering.
                let [bound] = list(&rule["resourceNames"])[..] else {
                    panic!("{}: bind for {}", name(role), rule["resourceNames"]);
                };
                assert!(bound.ends_with("-secret-reader"), "{bound}");
                one(&objects, "ClusterRole", bound);
            }
            for resource in list(&rule["resources"]) {
                assert!(
                    !["pods/exec", "pods/attach", "nodes", "serviceaccounts/token"]
                        .contains(&resource),
                    "{}: {resource}",
                    name(role)
                );
            }
        }
    }
}

#[test]
fn no_cluster_role_joins_the_built_in_ones() {
    for sets in matrix() {
        for object in render(&sets) {
            let labels = object["metadata"]["labels"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            assert!(
                !labels
                    .keys()
                    .any(|l| l.starts_with("rbac.authorization.k8s.io/")),
                "{}",
                name(&object)
            );
            assert!(object["aggregationRule"].is_null());
        }
    }
}

#[test]
fn the_controller_reviews_no_tokens_and_the_server_writes_nothing() {
    let objects = embedded(&[]);
    for (role, rule) in rules(&objects) {
        let server = ["prowler-operator-server", "prowler-operator-uploads"].contains(&name(role));
        let review = list(&rule["resources"]) == ["tokenreviews"];
        assert!(!review || server);
        if server {
            let expected = if review { "create" } else { "get" };
            assert_eq!(list(&rule["verbs"]), [expected]);
        }
    }
}

/// Every right to what is not of our own kinds, as `role: group/resource [names] verbs`.
fn rights_to_others(objects: &[Value]) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for (role, rule) in rules(objects) {
        assert!(rule["nonResourceURLs"].is_null(), "{}", name(role));
        let role = format!(
            "{} {}",
            role["kind"].as_str().unwrap(),
            name(role).trim_start_matches("prowler-operator-")
        );
        let names = list(&rule["resourceNames"]).join(",");
        let mut verbs = list(&rule["verbs"]);
        verbs.sort_unstable();
        let verbs = verbs.join(",");
        for group in list(&rule["apiGroups"]) {
            if group == "prowler-operator.dev" {
                continue;
            }
            for resource in list(&rule["resources"]) {
                rights.insert(format!("{role}: {group}/{resource} [{names}] {verbs}"));
            }
        }
    }
    rights
}

#[test]
fn the_rights_to_what_is_not_ours_are_these_and_no_others() {
    // A verb here is one that a call in `src` needs; a server-side apply needs patch and create.
    let expected = [
        "ClusterRole controller: /namespaces [] get,list,watch",
        "ClusterRole controller: events.k8s.io/events [] create,patch",
        "ClusterRole scans: /pods [] list,watch",
        "ClusterRole scans: /serviceaccounts [] get,list,watch",
        "ClusterRole scans: batch/jobs [] create,delete,get,list,watch",
        "ClusterRole scans: events.k8s.io/events [] list",
        "ClusterRole scans: networking.k8s.io/networkpolicies [prowler-operator-scans] delete,get",
        "ClusterRole scans: rbac.authorization.k8s.io/clusterroles [prowler-operator-secret-reader] bind",
        "ClusterRole scans: rbac.authorization.k8s.io/rolebindings [] create",
        "ClusterRole scans: rbac.authorization.k8s.io/rolebindings [prowler-operator-secret-reader] delete,get,patch",
        "ClusterRole secret-reader: /secrets [] get,list,watch",
        "ClusterRole server: authentication.k8s.io/tokenreviews [] create",
        "ClusterRole uploads: /pods [] get",
        "Role check: /configmaps [prowler-operator-config] get",
        "Role check: apps/deployments [prowler-operator-controller,prowler-operator-server] get",
        "Role check: authorization.k8s.io/localsubjectaccessreviews [] create",
        "Role check: policy/poddisruptionbudgets [] list",
        "Role controller: /secrets [] create",
        "Role controller: /secrets [prowler-operator-installation,prowler-operator-database,prowler-operator-server-tls] get",
        "Role controller: /secrets [prowler-operator-server-tls] update",
        "Role controller: coordination.k8s.io/leases [] create",
        "Role controller: coordination.k8s.io/leases [prowler-operator-controller] get,update",
    ];
    let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
    for sets in [&[] as &[&str], &["rbac.namespaces={a,b}"]] {
        let objects = embedded(sets);
        assert_eq!(rights_to_others(&objects), expected, "{sets:?}");
        for binding in &objects {
            if !binding["kind"].as_str().unwrap().ends_with("RoleBinding") {
                continue;
            }
            let part = match binding["roleRef"]["name"].as_str().unwrap() {
                "prowler-operator-server" | "prowler-operator-uploads" => "server",
                "prowler-operator-check" => "check",
                _ => "controller",
            };
            let account = json!([{
                "kind": "ServiceAccount",
                "name": format!("prowler-operator-{part}"),
                "namespace": "prowler-operator-system",
            }]);
            assert_eq!(binding["subjects"], account, "{}", name(binding));
        }
    }
}

#[test]
fn policies_for_scan_pods_are_written_only_where_they_are_asked_for() {
    let rights = |sets: &[&str]| -> Vec<String> {
        rights_to_others(&embedded(sets))
            .into_iter()
            .filter_map(|right| {
                let (_, of_policies) = right.split_once("networkpolicies ")?;
                Some(of_policies.to_owned())
            })
            .collect()
    };
    assert_eq!(rights(&[]), ["[prowler-operator-scans] delete,get"]);
    assert_eq!(
        rights(&["scanner.networkPolicy.enabled=true"]),
        ["[] create", "[prowler-operator-scans] delete,get,patch"]
    );
}

#[test]
fn the_rights_cover_every_kind_with_status_and_finalizers() {
    let objects = embedded(&[]);
    let role = one(&objects, "ClusterRole", "prowler-operator-controller");
    let granted: BTreeSet<&str> = role["rules"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|rule| list(&rule["resources"]))
        .collect();
    for crd in prowler_operator::api::all_crds() {
        let plural = crd.spec.names.plural;
        for resource in [
            plural.clone(),
            format!("{plural}/status"),
            format!("{plural}/finalizers"),
        ] {
            assert!(granted.contains(resource.as_str()), "{resource}");
        }
    }
}

#[test]
fn listed_namespaces_narrow_jobs_secrets_and_bindings() {
    let objects = embedded(&["rbac.namespaces={a,b}"]);
    let wide: BTreeSet<&str> = kind(&objects, "ClusterRoleBinding")
        .into_iter()
        .map(name)
        .collect();
    assert_eq!(
        wide,
        BTreeSet::from(["prowler-operator-controller", "prowler-operator-server"])
    );
    for role in ["prowler-operator-scans", "prowler-operator-uploads"] {
        let namespaces: Vec<_> = kind(&objects, "RoleBinding")
            .into_iter()
            .filter(|b| b["roleRef"]["name"] == role)
            .map(|b| b["metadata"]["namespace"].as_str().unwrap())
            .collect();
        assert_eq!(namespaces, ["a", "b"], "{role}");
    }
    // What is still granted everywhere is its own kinds, namespaces, events and token reviews.
    for (role, rule) in rules(&objects) {
        if role["kind"] == "ClusterRole" && wide.contains(name(role)) {
            for resource in list(&rule["resources"]) {
                assert!(
                    resource.starts_with("prowler")
                        || resource.starts_with("scanschedules")
                        || ["namespaces", "events", "tokenreviews"].contains(&resource),
                    "{resource}"
                );
            }
        }
    }
}

#[test]
fn every_pod_is_restricted_and_bounded() {
    for sets in matrix() {
        let objects = render(&sets);
        let pods = pods(&objects);
        assert!(pods.len() >= 3);
        for (owner, pod) in pods {
            let context = &pod["securityContext"];
            assert_eq!(context["runAsNonRoot"], true, "{owner}");
            assert!(context["runAsUser"].as_i64().unwrap() > 0, "{owner}");
            assert_eq!(
                context["seccompProfile"]["type"], "RuntimeDefault",
                "{owner}"
            );
            for field in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[field].is_null(), "{owner}: {field}");
            }
            for volume in pod["volumes"].as_array().into_iter().flatten() {
                assert!(volume["hostPath"].is_null(), "{owner}");
            }
            for container in containers(pod) {
                let container_name = name_of(container);
                let context = &container["securityContext"];
                let expected = json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                });
                assert_eq!(*context, expected, "{owner}: {container_name}");
                let resources = &container["resources"];
                for bound in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                    assert!(
                        resources.pointer(bound).is_some(),
                        "{owner}: {container_name} {bound}"
                    );
                }
            }
        }
    }
}

fn name_of(container: &Value) -> &str {
    container["name"].as_str().unwrap()
}

#[test]
fn only_controller_server_and_check_get_a_token_of_the_cluster() {
    for (owner, pod) in pods(&embedded(&[])) {
        let speaks = owner.contains("Deployment") || owner.ends_with("-check");
        assert_eq!(
            pod["automountServiceAccountToken"] == false,
            !speaks,
            "{owner}"
        );
    }
}

#[test]
fn the_admin_url_goes_to_migrate_controller_and_check_only() {
    let objects = embedded(&[]);
    let mut with_admin = BTreeSet::new();
    for (_, pod) in pods(&objects) {
        for container in containers(pod) {
            let env = container["env"].as_array().into_iter().flatten();
            if env.clone().any(|e| e["name"] == "DATABASE_ADMIN_URL") {
                with_admin.insert(name_of(container));
            }
        }
    }
    assert_eq!(
        with_admin,
        BTreeSet::from(["check", "controller", "migrate"])
    );
}

#[test]
fn bootstrap_runs_first_then_migrate_and_no_hook_does() {
    let objects = embedded(&[]);
    let deployment = one(&objects, "Deployment", "prowler-operator-controller");
    let pod = &deployment["spec"]["template"]["spec"];
    let order: Vec<_> = pod["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(name_of)
        .collect();
    assert_eq!(order, ["bootstrap", "migrate"]);
    assert_eq!(deployment["spec"]["replicas"], 2);
    for object in &objects {
        let hook = &object["metadata"]["annotations"]["helm.sh/hook"];
        assert!(hook.is_null() || hook == "test", "{}", name(object));
        assert_ne!(object["kind"], "Job");
        assert_ne!(
            object["kind"], "Secret",
            "passwords are made in the cluster"
        );
    }
}

#[test]
fn a_secret_that_bootstrap_makes_does_not_keep_bootstrap_from_starting() {
    let objects = embedded(&[]);
    let controller = one(&objects, "Deployment", "prowler-operator-controller");
    for volume in controller["spec"]["template"]["spec"]["volumes"]
        .as_array()
        .unwrap()
    {
        assert!(volume["secret"].is_null() || volume["secret"]["optional"] == true);
    }
    // The others wait for theirs.
    for (kind, owner) in [
        ("Deployment", "prowler-operator-server"),
        ("StatefulSet", "prowler-operator-postgres"),
    ] {
        let pod = &one(&objects, kind, owner)["spec"]["template"]["spec"];
        let secrets: Vec<_> = pod["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|v| !v["secret"].is_null())
            .collect();
        assert_eq!(secrets.len(), 2, "{owner}");
        for volume in secrets {
            assert!(volume["secret"]["optional"].is_null());
            // Named keys only: the key of the CA stays out of reach.
            let keys: Vec<_> = volume["secret"]["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|i| &i["key"])
                .collect();
            assert!(!keys.contains(&&json!("ca.key")));
        }
    }
}

#[test]
fn definitions_come_with_the_release_and_stay_after_it() {
    let of = |sets: &[&str]| -> Vec<Value> {
        embedded(sets)
            .into_iter()
            .filter(|o| o["kind"] == "CustomResourceDefinition")
            .collect()
    };
    let kept = of(&[]);
    assert_eq!(kept.len(), prowler_operator::api::all_crds().len());
    for crd in &kept {
        assert_eq!(
            crd["metadata"]["annotations"]["helm.sh/resource-policy"],
            "keep"
        );
    }
    for crd in of(&["crds.keep=false"]) {
        assert!(crd["metadata"]["annotations"].is_null());
    }
    assert!(of(&["crds.enabled=false"]).is_empty());
}

#[test]
fn definitions_in_the_chart_are_those_of_the_program() {
    let rendered = embedded(&[]);
    for crd in prowler_operator::api::all_crds() {
        let name = crd.metadata.name.clone().unwrap();
        let found: CustomResourceDefinition =
            serde_json::from_value(one(&rendered, "CustomResourceDefinition", &name).clone())
                .unwrap();
        // Not assert_eq: nobody reads two whole definitions.
        assert!(found.spec == crd.spec, "{name} is out of date: make crds");
    }
    for folder in ["crds", "charts/prowler-operator/files/crds"] {
        let files = std::fs::read_dir(top().join(folder)).unwrap().count();
        assert_eq!(
            files,
            prowler_operator::api::all_crds().len(),
            "{folder}: make crds"
        );
    }
    for file in std::fs::read_dir(top().join("crds")).unwrap() {
        let file = file.unwrap();
        let copy = top()
            .join("charts/prowler-operator/files/crds")
            .join(file.file_name());
        assert_eq!(
            std::fs::read_to_string(file.path()).unwrap(),
            std::fs::read_to_string(copy).unwrap(),
            "make crds"
        );
    }
}

#[test]
fn every_label_and_name_fits_however_long_the_release() {
    let long = "r".repeat(53);
    let objects = documents(&succeed(command(
        helm(),
        &[
            "template",
            &long,
            CHART,
            "--set",
            EMBEDDED,
            "--set",
            "metrics.serviceMonitor.enabled=true",
        ],
    )));
    for object in &objects {
        if object["kind"] != "CustomResourceDefinition" {
            assert!(name(object).len() <= 63, "{}", name(object));
        }
    }
}

#[test]
fn a_name_that_yaml_would_take_for_something_else_stays_a_name() {
    let mut template = command(helm(), &["template", "y", CHART, "--namespace", "1"]);
    for set in [
        "fullnameOverride=on",
        "nameOverride=off",
        "database.existingSecret=2",
        "server.tls.existingSecret=3",
        "controller.serviceAccount.name=4",
        "server.serviceAccount.name=5",
        "controller.priorityClassName=6",
        "scanner.priorityClassName=7",
        "rbac.namespaces={8}",
        "scanner.imagePullSecrets[0].name=9",
    ] {
        template.args(["--set-string", set]);
    }
    template.args([
        "--set",
        "scanner.networkPolicy.enabled=true,metrics.serviceMonitor.enabled=true",
    ]);
    let objects = documents(&succeed(template));
    assert!(objects.len() > 20);
    let fields = [
        "name",
        "namespace",
        "value",
        "serviceAccountName",
        "secretName",
        "priorityClassName",
    ];
    let mut seen = 0;
    // The definitions have fields of these names, and no names in them.
    let mut open: Vec<Value> = objects
        .iter()
        .filter(|object| object["kind"] != "CustomResourceDefinition")
        .cloned()
        .collect();
    while let Some(value) = open.pop() {
        for (key, value) in value.as_object().into_iter().flatten() {
            if fields.contains(&key.as_str()) && !value.is_object() {
                assert!(value.is_string(), "{key}: {value}");
                seen += 1;
            }
            if ["labels", "matchLabels", "annotations"].contains(&key.as_str()) {
                for value in value.as_object().into_iter().flatten() {
                    assert!(value.1.is_string(), "{key}: {value:?}");
                }
            }
            open.push(value.clone());
        }
        open.extend(value.as_array().into_iter().flatten().cloned());
    }
    assert!(seen > 100, "{seen}");
    let config = config(&objects);
    assert_eq!(config.rbac.namespaces, ["8"]);
    assert_eq!(config.scanner.image_pull_secrets, ["9"]);
    assert_eq!(config.scanner.priority_class_name.as_deref(), Some("7"));
}

#[test]
fn objects_carry_the_recommended_labels() {
    for object in embedded(&["commonLabels.team=security"]) {
        let labels = &object["metadata"]["labels"];
        for label in ["name", "instance", "version", "part-of", "managed-by"] {
            assert!(
                labels[format!("app.kubernetes.io/{label}")].is_string(),
                "{}",
                name(&object)
            );
        }
        assert_eq!(labels["helm.sh/chart"], "prowler-operator-0.1.0");
        assert_eq!(labels["team"], "security");
    }
}

#[test]
fn values_nobody_reads_are_refused() {
    for (set, complaint) in [
        ("replicas=3", "'replicas' not allowed"),
        ("scanner.images=x", "'images' not allowed"),
        ("server.tls.secretName=x", "'secretName' not allowed"),
        ("limits.scanMemory.max=1Gi", "'max' not allowed"),
        ("controller.replicaCount=-1", "minimum"),
        ("controller.replicaCount=two", "want integer"),
        ("image.digest=abc", "does not match pattern"),
        ("log.format=xml", "must be one of"),
        ("limits.scanMemory.ceiling=lots", "does not match pattern"),
        ("scanner.image=", "minLength"),
        ("tenancy.deniedNamespaces={Upper}", "does not match pattern"),
        ("scanner.extraEnv[0].value=x", "missing property 'name'"),
    ] {
        let error = fail(template(&[EMBEDDED, set]));
        assert!(error.contains(complaint), "{set}: {error}");
    }
}

/// Pointer to each value of `values.yaml`, as the schema's errors name it, with the value; maps
/// that hold others before them.
fn values() -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(top().join(CHART).join("values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let mut found = vec![(String::new(), values)];
    let mut next = 0;
    while next < found.len() {
        let (path, value) = found[next].clone();
        for (key, value) in value.as_object().into_iter().flatten() {
            found.push((format!("{path}/{key}"), value.clone()));
        }
        next += 1;
    }
    assert!(found.len() > 150, "{}", found.len());
    found
}

fn is_group(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty())
}

/// Each value for which there is a wrong one is refused by its name, all in one go.
fn refuses(wrong: impl Fn(&str, &Value) -> Option<Value>) {
    let mut file = json!({});
    let mut paths = Vec::new();
    for (path, value) in values() {
        let Some(wrong) = wrong(&path, &value) else {
            continue;
        };
        let mut at = &mut file;
        for key in path.split('/').skip(1) {
            at = at
                .as_object_mut()
                .unwrap()
                .entry(key)
                .or_insert_with(|| json!({}));
        }
        match (at, wrong) {
            (Value::Object(at), Value::Object(more)) => at.extend(more),
            (at, wrong) => *at = wrong,
        }
        paths.push(path);
    }
    assert!(paths.len() > 8, "{paths:?}");
    let values = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(values.path(), file.to_string()).unwrap();
    let mut template = template(&[]);
    template.arg("--values").arg(values.path());
    let error = fail(template);
    let missed: Vec<_> = paths
        .iter()
        .filter(|path| {
            !error.contains(&format!("at '{path}'")) && !error.contains(&format!("at '{path}/"))
        })
        .collect();
    assert!(missed.is_empty(), "not refused: {missed:?}\n{error}");
}

#[test]
fn every_value_refuses_another_type() {
    refuses(|_, value| match value {
        Value::Object(map) if map.is_empty() => Some(json!("text")),
        Value::Object(_) => None,
        Value::Array(_) => Some(json!("text")),
        _ => Some(json!(["text"])),
    });
    refuses(|_, value| value.is_boolean().then(|| json!("true")));
    refuses(|_, value| value.is_number().then(|| json!("2")));
}

#[test]
fn every_group_refuses_a_name_nobody_reads() {
    refuses(|_, value| is_group(value).then(|| json!({ "nobodyReads": ["x"] })));
}

#[test]
fn every_number_has_bounds_and_every_text_a_form() {
    refuses(|_, value| value.is_number().then(|| json!(-1)));
    refuses(|_, value| value.is_number().then(|| json!(1.5)));
    refuses(|_, value| value.is_string().then(|| json!("two words")));
}

#[test]
fn every_list_and_map_refuses_items_that_are_none() {
    // Objects of the user's own are whatever they are.
    refuses(|path, value| {
        let list = value.is_array() && path != "/extraObjects";
        list.then(|| json!([{ "nobodyReads": 1 }]))
    });
    refuses(|_, value| {
        let open = value.as_object().is_some_and(serde_json::Map::is_empty);
        open.then(|| json!({ "two words": "x" }))
    });
}

#[test]
fn a_release_without_database_or_with_two_says_what_to_do() {
    let none = fail(template(&[]));
    assert!(
        none.contains("database.existingSecret, or set database.embedded=true"),
        "{none}"
    );
    let both = fail(template(&[EMBEDDED, "database.existingSecret=x"]));
    assert!(both.contains("exclude each other"), "{both}");
}

fn config(objects: &[Value]) -> FileConfig {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config_file(objects)).unwrap();
    FileConfig::load(file.path()).unwrap()
}

#[test]
fn the_controller_reads_the_configuration_that_the_chart_writes() {
    let defaults = config(&embedded(&[]));
    assert_eq!(
        defaults.upload.image,
        "ghcr.io/prowler-operator/prowler-operator:0.1.0"
    );
    assert!(defaults.scanner.allowed_images.is_empty());
    assert!(!defaults.scanner.gke_autopilot);
    assert_eq!(defaults.limits.scan_deadline_seconds.ceiling, 48 * 3600);

    let full = config(&embedded(&[SCANNER, &[
        "image.registry=localhost:5000",
        "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "queues.scans.maxConcurrent=7",
        "queues.scans.maxConcurrentPerProviderType.aws=3",
        "kueue.localQueue=audits",
        "tenancy.deniedNamespaces={platform-*}",
        "retry.maxAttempts=5",
        "jobTtlSeconds=900",
        "partitions.monthsAhead=2",
        "limits.concurrentScans.ceiling=9",
    ]].concat()));
    assert_eq!(
        full.upload.image,
        format!(
            "localhost:5000/prowler-operator/prowler-operator@sha256:{}",
            "0".repeat(64)
        )
    );
    assert_eq!(full.scanner.image, "example.org/prowler:1");
    assert_eq!(full.scanner.allowed_images, ["example.org/*"]);
    assert_eq!(full.scanner.image_pull_secrets, ["pull"]);
    assert_eq!(full.scanner.extra_env[0].name, "HTTPS_PROXY");
    assert_eq!(full.scanner.node_selector["pool"], "scans");
    assert!(full.scanner.gke_autopilot);
    assert_eq!(full.scanner.tolerations[0].key.as_deref(), Some("scans"));
    assert!(
        full.scanner
            .affinity
            .as_ref()
            .unwrap()
            .node_affinity
            .is_some()
    );
    assert_eq!(full.scanner.priority_class_name.as_deref(), Some("low"));
    assert_eq!(full.scanner.pod_labels["team"], "security");
    assert_eq!(full.scanner.pod_annotations["note"], "on");
    assert_eq!(
        full.scanner
            .resources
            .as_ref()
            .unwrap()
            .limits
            .as_ref()
            .unwrap()["memory"]
            .0,
        "1Gi"
    );
    assert_eq!(
        full.upload
            .resources
            .as_ref()
            .unwrap()
            .limits
            .as_ref()
            .unwrap()["memory"]
            .0,
        "64Mi"
    );
    assert_eq!(full.kueue.local_queue, "audits");
    assert!(!full.kueue.enabled);
    let limits = full.scan_limits();
    assert_eq!(limits.all, Some(7));
    assert_eq!(limits.kinds, [("aws".to_owned(), 3)].into());
    assert_eq!(full.tenancy.denied_namespaces, ["platform-*"]);
    assert_eq!(full.retry.max_attempts, 5);
    assert_eq!(full.job_ttl_seconds, 900);
    assert_eq!(full.partitions.months_ahead, 2);
    assert_eq!(full.limits.concurrent_scans.ceiling, 9);
}

/// The arguments a container would be started with, read by the program's own parser.
fn parse(objects: &[Value], deployment: &str, container: &str) -> Cli {
    let wanted = |owner: &str| owner.split_once(' ').map(|(_, name)| name) == Some(deployment);
    let pods = pods(objects);
    let (_, pod) = pods.iter().find(|(owner, _)| wanted(owner)).unwrap();
    let container = containers(pod)
        .into_iter()
        .find(|c| name_of(c) == container)
        .unwrap();
    // Every flag's variable is its name in capitals, so that --name is what NAME would be.
    let mut words = vec!["prowler-operator".to_owned()];
    words.extend(list(&container["args"]).into_iter().map(str::to_owned));
    for variable in container["env"].as_array().unwrap() {
        let flag = name_of(variable).to_lowercase().replace('_', "-");
        let value = match variable["value"].as_str() {
            Some(value) => value,
            None if flag.starts_with("database") => "postgres://u:p@h/d",
            None => "from-the-pod",
        };
        words.extend([format!("--{flag}"), value.to_owned()]);
    }
    Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_variable_is_one_that_the_program_reads() {
    let mut seen = 0;
    for sets in matrix() {
        // What the program does not read itself is the user's own, and so are other names.
        let own = |set: &&str| set.contains("extraEnv[") && !set.starts_with("scanner.");
        if sets
            .iter()
            .any(|set| own(set) || set.contains("ameOverride="))
        {
            continue;
        }
        seen += 1;
        let objects = render(&sets);
        parse(&objects, "prowler-operator-controller", "bootstrap");
        parse(&objects, "prowler-operator-controller", "migrate");
        parse(&objects, "prowler-operator-controller", "controller");
        parse(&objects, "prowler-operator-server", "server");
        parse(&objects, "prowler-operator-check", "check");
    }
    assert!(seen > 3, "{seen}");
    let objects = embedded(&["ingest.maxBytes=7000000000", "server.uploads.maxAtOnce=9"]);
    let Command::Server(args) = parse(&objects, "prowler-operator-server", "server").command else {
        panic!("not the server");
    };
    assert_eq!(args.max_file_bytes, 7_000_000_000);
    assert_eq!(args.max_uploads, 9);
    let objects = embedded(&["ingest.maxBytes=3Gi"]);
    let Command::Server(args) = parse(&objects, "prowler-operator-server", "server").command else {
        panic!("not the server");
    };
    assert_eq!(args.max_file_bytes, 3 << 30);
}

#[test]
fn the_defaults_in_the_values_are_those_of_the_program() {
    let chart = config(&embedded(&[]));
    let program: FileConfig =
        serde_saphyr::from_str("{scanner: {image: x}, upload: {image: y}}").unwrap();
    assert_eq!(
        format!("{:?}", chart.limits),
        format!("{:?}", program.limits)
    );
    assert_eq!(
        format!("{:?}", chart.queues),
        format!("{:?}", program.queues)
    );
    assert_eq!(
        format!("{:?}", chart.tenancy),
        format!("{:?}", program.tenancy)
    );
    assert_eq!(format!("{:?}", chart.retry), format!("{:?}", program.retry));
    assert_eq!(
        format!("{:?}", chart.partitions),
        format!("{:?}", program.partitions)
    );
    assert_eq!(chart.job_ttl_seconds, program.job_ttl_seconds);
}

#[test]
fn a_changed_configuration_makes_new_controllers_and_leaves_the_servers() {
    let pod = |objects: &[Value], name: &str| {
        one(objects, "Deployment", name)["spec"]["template"].clone()
    };
    let before = embedded(&[]);
    let after = embedded(&["queues.scans.maxConcurrent=3"]);
    for (name, changes) in [
        ("prowler-operator-controller", true),
        ("prowler-operator-server", false),
    ] {
        assert_eq!(pod(&before, name) != pod(&after, name), changes, "{name}");
    }
}

#[test]
fn the_embedded_database_is_there_only_when_asked_for() {
    let own = render(&["database.existingSecret=db"]);
    assert!(kind(&own, "StatefulSet").is_empty());
    assert!(kind(&own, "PersistentVolumeClaim").is_empty());
    let controller = one(&own, "Deployment", "prowler-operator-controller");
    let pod = &controller["spec"]["template"]["spec"];
    let bootstrap = &pod["initContainers"][0];
    let env: Vec<_> = bootstrap["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(name_of)
        .collect();
    assert!(!env.contains(&"DATABASE_SECRET"));
    assert!(env.contains(&"SERVER_TLS_SECRET"));

    let kept = embedded(&[]);
    let claim = one(&kept, "PersistentVolumeClaim", "prowler-operator-postgres");
    assert_eq!(
        claim["metadata"]["annotations"]["helm.sh/resource-policy"],
        "keep"
    );
    let script = &one(&kept, "ConfigMap", "prowler-operator-postgres")["data"]["postgres-start.sh"];
    let file = std::fs::read_to_string(top().join(CHART).join("files/postgres-start.sh")).unwrap();
    assert_eq!(script.as_str().unwrap().trim(), file.trim());

    let tuned = embedded(&["postgres.parameters.max_connections=200"]);
    let container = &one(&tuned, "StatefulSet", "prowler-operator-postgres")["spec"]["template"]["spec"]
        ["containers"][0];
    assert_eq!(list(&container["args"]), ["-c", "max_connections=200"]);

    assert!(
        kind(
            &embedded(&["postgres.persistence.existingClaim=mine"]),
            "PersistentVolumeClaim"
        )
        .is_empty()
    );
    assert!(
        kind(
            &embedded(&["postgres.persistence.enabled=false"]),
            "PersistentVolumeClaim"
        )
        .is_empty()
    );
}

#[test]
fn the_server_takes_a_certificate_of_your_own() {
    let bootstrap_env = |objects: &[Value]| -> Vec<String> {
        one(objects, "Deployment", "prowler-operator-controller")["spec"]["template"]["spec"]["initContainers"][0]["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| name_of(e).to_owned())
            .collect()
    };
    let secret = |objects: &[Value]| -> Value {
        one(objects, "Deployment", "prowler-operator-server")["spec"]["template"]["spec"]["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|v| v["name"] == "tls")
            .unwrap()["secret"]["secretName"]
            .clone()
    };
    let given = embedded(&["server.tls.existingSecret=mine"]);
    assert_eq!(secret(&given), "mine");
    assert!(!bootstrap_env(&given).contains(&"SERVER_TLS_SECRET".to_owned()));

    let managed = embedded(&[
        "server.tls.certManager.enabled=true",
        "server.tls.certManager.issuerRef.name=ca",
        "server.tls.certManager.issuerRef.kind=ClusterIssuer",
    ]);
    let certificate = one(&managed, "Certificate", "prowler-operator-server");
    assert_eq!(secret(&managed), certificate["spec"]["secretName"]);
    assert_eq!(
        list(&certificate["spec"]["dnsNames"])[0],
        "prowler-operator-server.prowler-operator-system.svc"
    );
    assert!(!bootstrap_env(&managed).contains(&"SERVER_TLS_SECRET".to_owned()));
    let nobody = fail(template(&[EMBEDDED, "server.tls.certManager.enabled=true"]));
    assert!(nobody.contains("name the issuer"), "{nobody}");
}

#[test]
fn each_toggle_adds_or_leaves_out_what_it_says() {
    let count = |sets: &[&str], wanted: &str| kind(&embedded(sets), wanted).len();
    assert_eq!(count(&[], "NetworkPolicy"), 0);
    assert_eq!(count(&["networkPolicy.enabled=true"], "NetworkPolicy"), 3);
    assert_eq!(count(&[], "PodDisruptionBudget"), 2);
    assert_eq!(
        count(
            &["server.podDisruptionBudget.enabled=false"],
            "PodDisruptionBudget"
        ),
        1
    );
    assert_eq!(count(&[], "ServiceMonitor"), 0);
    assert_eq!(
        count(&["metrics.serviceMonitor.enabled=true"], "ServiceMonitor"),
        1
    );
    assert_eq!(count(&[], "Service"), 3);
    assert_eq!(count(&["metrics.service.enabled=false"], "Service"), 2);
    assert_eq!(
        count(
            &["controller.serviceAccount.create=false"],
            "ServiceAccount"
        ),
        2
    );
    for wanted in ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"] {
        assert_eq!(count(&["rbac.create=false"], wanted), 0, "{wanted}");
    }
    let named = embedded(&[
        "controller.serviceAccount.name=mine",
        "nameOverride=x",
        "fullnameOverride=y",
    ]);
    let pod = &one(&named, "Deployment", "y-controller")["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "mine");
    let extra = embedded(&[
        "extraObjects[0].kind=ConfigMap",
        "extraObjects[0].metadata.name=mine",
    ]);
    one(&extra, "ConfigMap", "mine");
}

#[test]
fn pods_go_where_the_values_say() {
    for component in ["controller", "server"] {
        let set = |text: &str| format!("{component}.{text}");
        let sets = [
            set("nodeSelector.a=b"),
            set("tolerations[0].key=c"),
            set(
                "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey=x",
            ),
            set("priorityClassName=high"),
            set("topologySpreadConstraints[0].maxSkew=1"),
            set("topologySpreadConstraints[0].topologyKey=zone"),
            set("topologySpreadConstraints[0].whenUnsatisfiable=DoNotSchedule"),
            set("podLabels.d=e"),
            set("podAnnotations.f=g"),
            set("extraEnv[0].name=H"),
            set("extraVolumes[0].name=i"),
            set("extraVolumes[0].configMap.name=i"),
            set("extraVolumeMounts[0].name=i"),
            set("extraVolumeMounts[0].mountPath=/i"),
            set("resources.limits.memory=1Gi"),
        ];
        let objects = embedded(&sets.iter().map(String::as_str).collect::<Vec<_>>());
        let template = &one(
            &objects,
            "Deployment",
            &format!("prowler-operator-{component}"),
        )["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["d"], "e");
        assert_eq!(template["metadata"]["annotations"]["f"], "g");
        let pod = &template["spec"];
        assert_eq!(pod["nodeSelector"]["a"], "b");
        assert_eq!(pod["tolerations"][0]["key"], "c");
        assert!(!pod["affinity"]["podAntiAffinity"].is_null());
        assert_eq!(pod["priorityClassName"], "high");
        assert_eq!(pod["topologySpreadConstraints"][0]["maxSkew"], 1);
        let container = &pod["containers"][0];
        assert!(
            container["env"]
                .as_array()
                .unwrap()
                .iter()
                .any(|e| e["name"] == "H")
        );
        assert!(
            pod["volumes"]
                .as_array()
                .unwrap()
                .iter()
                .any(|v| v["name"] == "i")
        );
        assert!(
            container["volumeMounts"]
                .as_array()
                .unwrap()
                .iter()
                .any(|v| v["name"] == "i")
        );
        assert_eq!(container["resources"]["limits"]["memory"], "1Gi");
    }
}

#[test]
fn the_schema_names_every_value_and_every_value_is_explained() {
    let schema: Value = serde_json::from_str(
        &std::fs::read_to_string(top().join(CHART).join("values.schema.json")).unwrap(),
    )
    .unwrap();
    let text = std::fs::read_to_string(top().join(CHART).join("values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    compare("", &values, &schema);

    // A value stands below a comment that explains it, or in a group that has one.
    let mut comment = false;
    for line in text.lines() {
        let words = line.trim_start();
        if words.starts_with("# --") {
            comment = true;
        } else if !words.starts_with('#') && !words.is_empty() {
            let opens_group = words.ends_with(':');
            let item = words.starts_with(['-', '{', '}']);
            let explained = comment || opens_group || item || inside_example(line);
            assert!(explained, "not explained: {line}");
            comment = false;
        }
    }
}

/// Lines of a value that is a map of its own, explained above the map.
fn inside_example(line: &str) -> bool {
    [
        "requests:",
        "limits:",
        "runAs",
        "fsGroup",
        "seccomp",
        "allowPriv",
        "readOnlyRoot",
        "capabilities",
    ]
    .iter()
    .any(|word| line.trim_start().starts_with(word))
}

fn compare(path: &str, values: &Value, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    assert_eq!(
        schema["additionalProperties"], false,
        "{path} is not closed"
    );
    for (key, value) in values.as_object().unwrap() {
        let known = properties.get(key);
        let known = known.unwrap_or_else(|| panic!("{path}.{key} is not in the schema"));
        compare(&format!("{path}.{key}"), value, known);
    }
    for key in properties
        .keys()
        .filter(|key| path.is_empty() && *key != "global")
    {
        assert!(values[key] != Value::Null, "{path}.{key} has no default");
    }
}

#[test]
fn the_table_of_values_is_up_to_date() {
    succeed(command("hack/chart-docs", &["--check"]));
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    let said = succeed(command(
        helm(),
        &["lint", CHART, "--strict", "--set", EMBEDDED],
    ));
    assert!(said.contains("0 chart(s) failed"), "{said}");
    assert!(Path::new(&top().join(CHART).join("Chart.yaml")).exists());
}

#[test]
fn an_old_cluster_is_refused() {
    let mut old = template(&[EMBEDDED]);
    old.args(["--kube-version", "1.32.9"]);
    let error = fail(old);
    assert!(error.contains("1.33"), "{error}");
}
