//! The local cluster after a crash: one command brings it back, with what runs in it.

use serde_json::Value;

use crate::demo::{
    Demo, NAMESPACE, SYSTEM, await_tenant, condition, other_tenant, remove_other, wait_for,
};
use crate::node::running;
use crate::support::command::{command, succeed};

/// What is killed: the API, its data and the node's agent. Containers do not end with them.
const KILLED: [&str; 3] = ["kubelet", "etcd", "kube-apiserver"];

/// Whether a process has ended; whoever started it may not have taken note.
fn has_ended(id: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else {
        return true;
    };
    stat.rsplit_once(") ")
        .is_none_or(|(_, state)| state.starts_with('Z'))
}

fn is_available(deployment: &Value) -> bool {
    condition(deployment, "Available") == "True"
        && deployment["status"]["availableReplicas"] == deployment["spec"]["replicas"]
}

#[test]
fn a_cluster_that_was_killed_comes_up_with_all_it_had_and_the_operator_acts() {
    let demo = Demo::up();
    remove_other(&demo);
    let findings = "select count(*) from findings";
    let found = demo.number("admin", None, findings);
    assert!(found > 0);
    let before = running();
    let ids: Vec<&str> = KILLED.iter().map(|name| before[*name].as_str()).collect();

    succeed(command("kill", &[&["-KILL"], &ids[..]].concat()));
    wait_for("the killed processes to end", 20, || {
        ids.iter().all(|id| has_ended(id)).then_some(())
    });
    let left = running();
    for name in KILLED {
        assert!(!left.contains_key(name), "{name} runs");
    }
    succeed(command("hack/local-cluster", &["up"]));

    let after = running();
    assert!(before.keys().eq(after.keys()), "{after:?}");
    for name in KILLED {
        assert_ne!(before[name], after[name], "{name}");
    }
    // The pods stand on it, and it was not killed.
    assert_eq!(before["containerd"], after["containerd"]);
    let nodes = demo.list(&["nodes"]);
    assert_eq!(nodes.len(), 1);
    assert_eq!(condition(&nodes[0], "Ready"), "True");
    assert!(
        !demo
            .list(&["prowlerproviders", "--namespace", NAMESPACE])
            .is_empty()
    );

    // A condition may be from before the crash; only a new object shows that somebody acts.
    demo.apply(&other_tenant());
    await_tenant(&demo);
    wait_for("the operator's deployments", 120, || {
        let deployments = demo.list(&["deployments", "--namespace", SYSTEM]);
        assert_eq!(deployments.len(), 2);
        deployments.iter().all(is_available).then_some(())
    });
    assert_eq!(demo.number("admin", None, findings), found);
    remove_other(&demo);
}
