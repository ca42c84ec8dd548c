//! The life of the release: upgraded, changed, uninstalled, installed again.

use std::collections::BTreeSet;

use crate::demo::{Demo, NAMESPACE, RELEASE, SYSTEM, wait_for};
use crate::support::command::{helm, output};

fn uids(pods: &[(String, String)], part: &str) -> BTreeSet<String> {
    pods.iter()
        .filter(|(name, _)| name.starts_with(&format!("{RELEASE}-{part}")))
        .map(|(_, uid)| uid.clone())
        .collect()
}

#[test]
fn an_upgrade_without_a_change_makes_no_new_pod() {
    let mut demo = Demo::up();
    let before = demo.pods();
    assert_eq!(before.len(), 5);
    demo.upgrade(None);
    assert_eq!(demo.pods(), before);
    demo.gone();
}

#[test]
fn a_changed_value_reaches_the_pods_it_concerns() {
    let mut demo = Demo::up();
    let before = demo.pods();
    demo.upgrade(Some("queues.scans.maxConcurrent=3"));
    let after = wait_for("the old controllers to go", 120, || {
        let pods = demo.pods();
        (pods.len() == 5).then_some(pods)
    });
    assert!(uids(&before, "controller").is_disjoint(&uids(&after, "controller")));
    assert_eq!(uids(&before, "server"), uids(&after, "server"));
    assert_eq!(uids(&before, "postgres"), uids(&after, "postgres"));
    demo.gone();
}

/// Everything in the operator's namespace and of the cluster that belongs to `helm test`.
fn of_the_check(demo: &Demo) -> Vec<String> {
    let kinds = "pods,serviceaccounts,roles.rbac.authorization.k8s.io,rolebindings,clusterroles,clusterrolebindings";
    let names = demo.kubectl(&["get", kinds, "--namespace", SYSTEM, "--output", "name"]);
    names
        .lines()
        .filter(|name| name.contains(&format!("{RELEASE}-check")))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_charts_own_test_fails_on_errors_says_why_and_leaves_no_pod() {
    let demo = Demo::up();
    demo.kubectl(&[
        "label",
        "--overwrite",
        "namespace",
        SYSTEM,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    let resting = of_the_check(&demo);
    // An evaluation certificate and an embedded database are warnings.
    let said = demo.helm(&["test", RELEASE, "--logs", "--timeout", "3m"]);
    assert!(said.contains("Phase:          Succeeded"), "{said}");
    for warning in [
        "warning: embedded database: ",
        "warning: Secret prowler-operator-server-tls: ",
        "warning: scanner.extraEnv AWS_ENDPOINT_URL: ",
    ] {
        assert!(said.contains(warning), "{warning}: {said}");
    }
    assert!(!said.contains("error: "), "{said}");
    assert!(!said.contains("could not be examined"), "{said}");
    assert_eq!(of_the_check(&demo), resting);

    let binding = ["clusterrolebinding", "prowler-operator-test-secrets"];
    let role = "--clusterrole=prowler-operator-secret-reader";
    let account = format!("--serviceaccount={SYSTEM}:{RELEASE}-controller");
    demo.kubectl(&["create", binding[0], binding[1], role, &account]);
    let test = ["--namespace", SYSTEM, "test", RELEASE, "--timeout", "3m"];
    let failed = output(demo.command(helm(), &test), "");
    demo.kubectl(&["delete", binding[0], binding[1]]);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&failed.stdout),
        String::from_utf8_lossy(&failed.stderr)
    );
    assert!(!failed.status.success(), "{said}");
    let error =
        "error: ServiceAccount prowler-operator-controller: It may get, list, watch every Secret";
    assert!(said.contains(error), "{said}");
    assert_eq!(of_the_check(&demo), resting);
    demo.kubectl(&[
        "label",
        "namespace",
        SYSTEM,
        "pod-security.kubernetes.io/enforce-",
    ]);
}

#[test]
fn an_uninstall_leaves_the_data_and_a_new_install_finds_it() {
    let mut demo = Demo::up();
    let findings = "select count(*), min(id::text), max(id::text) from findings";
    let providers = "select id, object_uid from providers order by id";
    let rows = |demo: &Demo| {
        (
            demo.sql("user", Some("demo"), findings),
            demo.sql("user", Some("demo"), providers),
        )
    };
    let before = rows(&demo);
    let secrets = ["installation", "database", "server-tls"];
    let versions = |demo: &Demo| -> Vec<String> {
        secrets
            .iter()
            .map(|name| {
                let name = format!("{RELEASE}-{name}");
                let version = "jsonpath={.metadata.resourceVersion}";
                demo.kubectl(&[
                    "get",
                    "secret",
                    &name,
                    "--namespace",
                    SYSTEM,
                    "--output",
                    version,
                ])
            })
            .collect()
    };
    let secrets_before = versions(&demo);
    demo.gone();

    demo.helm(&["uninstall", RELEASE, "--wait", "--cascade", "foreground"]);
    assert!(demo.pods().is_empty());
    assert!(of_the_check(&demo).is_empty());
    assert_eq!(versions(&demo), secrets_before);
    demo.kubectl(&[
        "get",
        "pvc",
        "prowler-operator-postgres",
        "--namespace",
        SYSTEM,
    ]);
    let objects = demo.list(&["prowler", "--namespace", NAMESPACE]);
    assert!(objects.len() >= 5, "{}", objects.len());
    for kind in [
        "deployments",
        "statefulsets",
        "services",
        "configmaps",
        "roles.rbac.authorization.k8s.io",
    ] {
        let selector = format!("app.kubernetes.io/instance={RELEASE}");
        let left = demo.list(&[kind, "--namespace", SYSTEM, "--selector", &selector]);
        assert!(left.is_empty(), "{kind}");
    }

    demo.up_again();
    assert_eq!(versions(&demo), secrets_before);
    assert_eq!(rows(&demo), before);
}
