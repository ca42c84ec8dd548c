//! The demo, run by its own script on the real cluster: what is tested is what is shown.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::command::{command, helm, kubectl, output, succeed, succeed_with};

/// Namespace of the operator.
pub const SYSTEM: &str = "prowler-operator-system";
/// Namespace of the demo's tenant.
pub const NAMESPACE: &str = "prowler-demo";
/// The chart.
pub const CHART: &str = "charts/prowler-operator";
/// Name of the release.
pub const RELEASE: &str = "prowler-operator";

/// The demo, which is up. There is one, so that tests of it take turns.
pub struct Demo {
    turn: MutexGuard<'static, Turn>,
    kubeconfig: String,
}

/// Standard output of the last `hack/demo up`, while nothing has been taken away since.
#[derive(Default)]
struct Turn {
    shown: Option<String>,
}

impl Demo {
    /// Waits for its turn, and makes what is missing.
    pub fn up() -> Self {
        static TURN: Mutex<Turn> = Mutex::new(Turn { shown: None });
        let mut turn = TURN.lock().unwrap_or_else(|failed| {
            // The test before failed and may have left anything.
            let mut turn = failed.into_inner();
            turn.shown = None;
            turn
        });
        if turn.shown.is_none() {
            turn.shown = Some(succeed(script(&["up"])));
        }
        let kubeconfig = succeed(command("hack/local-cluster", &["kubeconfig"]));
        Self {
            turn,
            kubeconfig: kubeconfig.trim().to_owned(),
        }
    }

    /// What `hack/demo up` printed.
    pub fn shown(&self) -> &str {
        self.turn.shown.as_deref().unwrap()
    }

    /// Runs `hack/demo up` again, and says how long it took.
    pub fn up_again(&mut self) -> Duration {
        let begun = Instant::now();
        self.turn.shown = Some(succeed(script(&["up"])));
        begun.elapsed()
    }

    /// Says that something was taken away: the next test begins with `hack/demo up`.
    pub fn gone(&mut self) {
        self.turn.shown = None;
    }

    /// A command that finds the demo's cluster.
    pub fn command(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Command {
        let mut command = command(program, args);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// What makes kubectl change an object.
    pub fn merge_patch<'a>(
        namespace: &'a str,
        kind: &'a str,
        name: &'a str,
        patch: &'a str,
    ) -> [&'a str; 9] {
        [
            "patch",
            kind,
            name,
            "--namespace",
            namespace,
            "--type",
            "merge",
            "--patch",
            patch,
        ]
    }

    /// Cancels a Scan.
    pub fn cancel(&self, namespace: &str, scan: &str) {
        let patch = r#"{"spec": {"cancel": true}}"#;
        self.kubectl(&Self::merge_patch(namespace, "prowlerscan", scan, patch));
    }

    /// Runs kubectl, which must succeed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        succeed(self.command(kubectl(), args))
    }

    /// Applies YAML.
    pub fn apply(&self, yaml: &str) {
        succeed_with(self.command(kubectl(), &["apply", "--filename", "-"]), yaml);
    }

    /// `kubectl get … --output json`.
    pub fn get(&self, args: &[&str]) -> Value {
        let args = [&["get"], args, &["--output", "json"]].concat();
        serde_json::from_str(&self.kubectl(&args)).unwrap()
    }

    /// The items of `get`.
    pub fn list(&self, args: &[&str]) -> Vec<Value> {
        self.get(args)["items"].as_array().unwrap().clone()
    }

    /// Runs helm in the operator's namespace, which must succeed.
    pub fn helm(&self, args: &[&str]) -> String {
        let args = [&["--namespace", SYSTEM], args].concat();
        succeed(self.command(helm(), &args))
    }

    /// Upgrades the release with these values besides those it has. To be followed by [`Self::gone`]
    /// sooner or later: the next `hack/demo up` takes them back.
    pub fn upgrade(&self, set: Option<&str>) {
        let mut args = vec![
            "upgrade",
            RELEASE,
            CHART,
            "--reuse-values",
            "--wait",
            "--timeout",
            "5m",
            // The demo would take it for its own otherwise, and leave it as it is.
            "--labels",
            "prowler-operator-demo=changed",
        ];
        if let Some(set) = set {
            args.extend(["--set", set]);
        }
        self.helm(&args);
    }

    /// `hack/demo sql`: rows of columns.
    pub fn sql(&self, role: &str, tenant: Option<&str>, sql: &str) -> Vec<Vec<String>> {
        rows(&succeed(self.asking(role, tenant, sql)))
    }

    /// The same while the database may be away.
    pub fn try_sql(&self, role: &str, tenant: Option<&str>, sql: &str) -> Option<Vec<Vec<String>>> {
        let answer = output(self.asking(role, tenant, sql), "");
        let text = String::from_utf8_lossy(&answer.stdout);
        answer.status.success().then(|| rows(&text))
    }

    fn asking(&self, role: &str, tenant: Option<&str>, sql: &str) -> Command {
        assert!(self.turn.shown.is_some(), "the demo is not up");
        let mut args = vec!["sql", role];
        if let Some(tenant) = tenant {
            args.extend(["--tenant", tenant]);
        }
        args.push(sql);
        script(&args)
    }

    /// The single number that a query gives.
    pub fn number(&self, role: &str, tenant: Option<&str>, sql: &str) -> i64 {
        let rows = self.sql(role, tenant, sql);
        assert_eq!(rows.len(), 1, "{sql}");
        rows[0][0].parse().unwrap()
    }

    /// The pods of the operator's parts that are not on their way out: name to uid.
    pub fn pods(&self) -> Vec<(String, String)> {
        let selector = format!("app.kubernetes.io/instance={RELEASE}");
        self.list(&["pods", "--namespace", SYSTEM, "--selector", &selector])
            .into_iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            // The pod of a `helm test` stays behind, ended, and is none of the parts.
            .filter(|pod| pod["metadata"]["annotations"]["helm.sh/hook"].is_null())
            .map(|pod| (text(&pod, "/metadata/name"), text(&pod, "/metadata/uid")))
            .collect()
    }
}

/// Lines of columns with tabs between them.
fn rows(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

/// `hack/demo` on the local cluster.
fn script(args: &[&str]) -> Command {
    let mut script = command("hack/demo", args);
    script.env("CLUSTER", "local");
    script
}

/// A tenant of its own for what would disturb the demo's.
pub const OTHER: &str = "e2e-other";

/// The other tenant and its namespace, as YAML.
pub fn other_tenant() -> String {
    format!(
        "apiVersion: v1\n\
         kind: Namespace\n\
         metadata: {{name: {OTHER}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}\n\
         ---\n\
         apiVersion: prowler-operator.dev/v1alpha1\n\
         kind: Tenant\n\
         metadata: {{name: {OTHER}}}\n\
         spec: {{namespaces: [{OTHER}]}}\n"
    )
}

/// Waits until the other tenant is stored.
pub fn await_tenant(demo: &Demo) {
    wait_for("the other tenant", 120, || {
        let tenant = demo.get(&["prowlertenant", OTHER]);
        (tenant["status"]["observedGeneration"] != -1 && condition(&tenant, "Ready") == "True")
            .then_some(())
    });
}

/// Takes the other tenant away, as far as it is there.
pub fn remove_other(demo: &Demo) {
    for object in [["namespace", OTHER], ["prowlertenant", OTHER]] {
        demo.kubectl(
            &[
                &["delete", "--ignore-not-found", "--timeout=180s"],
                &object[..],
            ]
            .concat(),
        );
    }
}

/// The text at a JSON pointer.
pub fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {pointer} of {value}"))
        .to_owned()
}

/// The number at a JSON pointer.
pub fn number(value: &Value, pointer: &str) -> i64 {
    value
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or_else(|| panic!("no number at {pointer} of {value}"))
}

/// Status of the condition `kind`.
pub fn condition(object: &Value, kind: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .map_or_else(
            || panic!("no condition {kind} in {}", object["status"]),
            |condition| text(condition, "/status"),
        )
}

/// Asks again and again until there is an answer, for so many seconds.
pub fn wait_for<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(seconds),
            "still waiting after {seconds} s: {what}"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}
