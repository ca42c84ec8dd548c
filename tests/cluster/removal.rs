//! Taking the demo away, from a cluster of one's own and with the cluster it made.

use crate::demo::Demo;
use crate::support::command::{command, output, succeed};

#[test]
fn the_demo_goes_from_a_cluster_and_then_with_it() {
    let mut demo = Demo::up();
    demo.gone();

    // As on somebody's own cluster.
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
