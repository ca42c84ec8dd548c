//! Taking the demo away, from a cluster of one's own and with the cluster it made.

use crate::demo::Demo;
use crate::support::command::{command, fail, kubectl, output, succeed};

#[test]
fn the_demo_goes_from_a_cluster_and_then_with_it() {
    let mut demo = Demo::up();
    demo.gone();

    // As on somebody's own cluster, with images that are there already.
    let mut up = demo.command("hack/demo", &["up"]);
    up.env("CLUSTER", "current");
    for (name, image) in [
        ("IMAGE", "operator"),
        ("SCANNER_IMAGE", "scanner"),
        ("POSTGRES_IMAGE", "postgres"),
        ("EMULATOR_IMAGE", "emulator"),
    ] {
        up.env(
            name,
            succeed(command("hack/images", &["ref", image])).trim(),
        );
    }
    let up = output(up, "");
    let said = String::from_utf8_lossy(&up.stderr);
    assert!(up.status.success(), "{said}");
    let context = demo.kubectl(&["config", "current-context"]);
    for part in [
        &format!("using the cluster of context {context}"),
        "nothing to change",
    ] {
        assert!(said.contains(part.trim()), "{said}");
    }
    // It stays where it is when the current context becomes another.
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("kubeconfig");
    std::fs::write(&elsewhere, demo.kubectl(&["config", "view", "--raw"])).unwrap();
    let renamed = ["config", "rename-context", context.trim(), "elsewhere"];
    let mut rename = command(kubectl(), &renamed);
    rename.env("KUBECONFIG", &elsewhere);
    succeed(rename);
    let mut up = command("hack/demo", &["up"]);
    up.env("CLUSTER", "current").env("KUBECONFIG", &elsewhere);
    let told = fail(up);
    assert!(
        told.contains("the current context is elsewhere") && told.contains("make demo-down"),
        "{told}"
    );

    let mut down = demo.command("hack/demo", &["down"]);
    down.env("CLUSTER", "current");
    succeed(down);
    let left = demo.kubectl(&[
        "get",
        "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,persistentvolumeclaims",
        "--all-namespaces",
        "--output",
        "name",
    ]);
    let ours: Vec<_> = left
        .lines()
        .filter(|line| line.contains("prowler"))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");

    // With the cluster; a second time there is nothing to do.
    for _ in 0..2 {
        let mut down = command("hack/demo", &["down"]);
        down.env("CLUSTER", "local");
        succeed(down);
        let status = output(command("hack/local-cluster", &["status"]), "");
        assert!(!status.status.success());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains("/var/lib/prowler-operator-cluster"),
        "{mounts}"
    );
}
