//! Running the project's own scripts and the tools they build.

#![allow(
    dead_code,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a command that fails fails the test; not every test binary uses all of it"
)]

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The top of the repository.
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A command in the top of the repository.
pub fn command(program: impl AsRef<OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(top()).args(args);
    command
}

/// Runs it with `input` and gives what it printed, also when it failed.
pub fn output(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A thread of its own: the command may fill its output before it has read all.
    let writer = std::thread::spawn(move || {
        // It may end without reading.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Runs it, which must succeed, and gives its standard output.
pub fn succeed(command: Command) -> String {
    succeed_with(command, "")
}

/// As `succeed`, with something to read.
pub fn succeed_with(command: Command, input: &str) -> String {
    let shown = format!("{command:?}");
    let output = output(command, input);
    assert!(
        output.status.success(),
        "{shown}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs it, which must fail, and gives what it complained of.
pub fn fail(command: Command) -> String {
    let shown = format!("{command:?}");
    let output = output(command, "");
    assert!(!output.status.success(), "{shown} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The path of a tool, built if need be.
fn tool(name: &str) -> PathBuf {
    succeed(command("hack/tools/build", &["--path", name]))
        .trim()
        .into()
}

/// The path of helm.
pub fn helm() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| tool("helm"))
}

/// The path of the linter of metrics.
pub fn promlint() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| tool("promlint"))
}

/// The path of kubectl.
pub fn kubectl() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| tool("kubectl"))
}

/// All documents of a YAML stream that are not empty.
pub fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple::<Value>(text)
        .unwrap()
        .into_iter()
        .filter(|document| !document.is_null())
        .collect()
}
