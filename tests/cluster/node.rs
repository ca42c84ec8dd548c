//! The node from below: processes of the local cluster's components and of containers.

use std::collections::BTreeMap;

use crate::support::command::{command, output, succeed};

/// A component of the cluster that does nothing until this is dropped.
pub struct Asleep {
    process: String,
}

impl Asleep {
    pub fn fall(component: &str) -> Self {
        let process = process(component);
        succeed(command("kill", &["-STOP", &process]));
        Self { process }
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        // Also after a panic: the tests that follow need it.
        output(command("kill", &["-CONT", &self.process]), "");
    }
}

/// Components that run, with their process ids, as the script knows them.
pub fn running() -> BTreeMap<String, String> {
    let status = output(command("hack/local-cluster", &["status"]), "");
    String::from_utf8(status.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let (name, process) = line.split_once(" running, process ")?;
            let (id, _) = process.split_once(',')?;
            Some((name.trim().to_owned(), id.to_owned()))
        })
        .collect()
}

/// Id of the process of a component of the local cluster.
pub fn process(component: &str) -> String {
    let mut running = running();
    let process = running.remove(component);
    process.unwrap_or_else(|| panic!("{component} does not run: {running:?}"))
}

/// The control group of a container that bounds its memory, by the id in its status; empty if it is
/// gone.
pub fn memory_group(container: &str) -> String {
    let id = container.strip_prefix("containerd://").unwrap();
    let folders = succeed(command(
        "find",
        &["/sys/fs/cgroup", "-type", "d", "-name", &format!("*{id}*")],
    ));
    // One hierarchy for all (version 2), or one for each resource.
    let found = folders
        .lines()
        .find(|folder| folder.starts_with("/sys/fs/cgroup/memory/"))
        .or_else(|| folders.lines().next());
    found.unwrap_or_default().to_owned()
}

/// The processes of a container, by the id in its status; none if it is gone.
pub fn processes(container: &str) -> Vec<String> {
    let group = memory_group(container);
    let processes = std::fs::read_to_string(format!("{group}/cgroup.procs"));
    processes
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The parent of a process, if that is there.
pub fn parent(process: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    Some(parent.trim().to_owned())
}
