//! The controller as users run it: the real binary, in a process of its own.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test; not every test uses all of it"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

use super::{apiserver, db};

/// Passes over a kind at once.
pub const CONCURRENCY: usize = 8;
/// So long anything may take.
pub const PATIENCE: Duration = Duration::from_mins(15);

/// So long nothing may happen before it counts as quiet.
const QUIET: Duration = Duration::from_secs(2);

/// What a controller is started with.
pub struct Operator {
    dir: tempfile::TempDir,
    kubeconfig: PathBuf,
    user_url: String,
    admin_url: String,
    port: u16,
}

/// A controller that runs.
pub struct Running(Child);

/// MiB of a process.
pub struct Memory {
    pub resident: f64,
    pub peak: f64,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Whether it has not ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub fn memory(&self) -> Memory {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let mib = |which: &str| {
            let line = text.lines().find(|line| line.starts_with(which)).unwrap();
            let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            kib / 1024.0
        };
        Memory {
            resident: mib("VmRSS:"),
            peak: mib("VmHWM:"),
        }
    }
}

/// A controller that leads alone, with the files `config.yaml` and `ca.crt` of this folder.
pub fn command(dir: &Path, kubeconfig: &Path, user_url: &str, admin_url: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_prowler-operator")));
    command
        .arg("controller")
        .env("KUBECONFIG", kubeconfig)
        .env("DATABASE_URL", user_url)
        .env("DATABASE_ADMIN_URL", admin_url)
        .env("CONFIG_FILE", dir.join("config.yaml"))
        .env("SERVER_CA_FILE", dir.join("ca.crt"))
        .env("SERVER_URL", "https://server.invalid:8443")
        .env("POD_NAMESPACE", "default")
        .env("NO_LEADER_ELECTION", "true")
        // What it ends with is a sentence, not a hundred lines.
        .env("RUST_BACKTRACE", "0");
    command
}

impl Operator {
    pub async fn prepare(
        server: &apiserver::ApiServer,
        database: &db::Db,
        client: &Client,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), server.ca()).unwrap();
        let secret: Secret = serde_json::from_value(json!({
            "metadata": { "name": "prowler-operator-installation" },
            "stringData": { "id": "11111111-2222-4333-8444-555555555555" },
        }))
        .unwrap();
        Api::<Secret>::namespaced(client.clone(), "default")
            .create(&PostParams::default(), &secret)
            .await
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let operator = Self {
            kubeconfig: server.kubeconfig(),
            user_url: database.user_url(),
            admin_url: database.admin_url(),
            port: listener.local_addr().unwrap().port(),
            dir,
        };
        operator.configure("localhost/scanner:1");
        operator
    }

    /// Has the next start run scans in this image.
    pub fn configure(&self, scanner: &str) {
        self.configure_with(scanner, "");
    }

    /// The same with more in its file.
    pub fn configure_with(&self, scanner: &str, more: &str) {
        let config = format!(
            "scanner: {{image: '{scanner}'}}\nupload: {{image: 'localhost/operator:1'}}\n{more}"
        );
        std::fs::write(self.dir.path().join("config.yaml"), config).unwrap();
    }

    /// Has the next start reach the API server by another way than its kubeconfig says.
    pub fn reroute(&mut self, way: impl Fn(&str) -> String) {
        let text = way(&std::fs::read_to_string(&self.kubeconfig).unwrap());
        self.kubeconfig = self.dir.path().join("kubeconfig");
        std::fs::write(&self.kubeconfig, text).unwrap();
    }

    pub fn start(&self) -> Running {
        self.start_logging("warn")
    }

    pub fn start_logging(&self, level: &str) -> Running {
        let file = |name: &str| self.dir.path().join(name);
        let log = std::fs::File::create(file("log")).unwrap();
        let (kubeconfig, dir) = (&self.kubeconfig, self.dir.path());
        let child = command(dir, kubeconfig, &self.user_url, &self.admin_url)
            .env("HEALTH_ADDR", format!("127.0.0.1:{}", self.port))
            .env("CONCURRENCY", CONCURRENCY.to_string())
            .env("LOG_LEVEL", level)
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        Running(child)
    }

    /// What it had to say.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        log.chars()
            .rev()
            .take(3000)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect()
    }

    /// Until at least `count` passes over a kind have found it settled and no further pass over
    /// it follows; how long after the start the last of them ended.
    pub async fn until_settled(&self, kind: &str, count: usize, started: Instant) -> Duration {
        let (mut passes, mut last) = (0, started);
        loop {
            let metrics = self.metrics().await;
            let of_kind = metrics.lines().filter_map(|line| {
                let (outcome, number) = line
                    .strip_prefix("prowler_operator_reconciles_total{")?
                    .split_once("} ")?;
                outcome
                    .contains(&format!("kind=\"{kind}\""))
                    .then_some((outcome.contains("\"settled\""), number.trim().parse().ok()?))
            });
            let (mut all, mut settled) = (0, 0);
            for (is_settled, number) in of_kind {
                let number: usize = number;
                all += number;
                settled += if is_settled { number } else { 0 };
            }
            if all != passes {
                (passes, last) = (all, Instant::now());
            }
            if settled >= count && last.elapsed() >= QUIET {
                return last - started;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{settled} passes over {kind} settled:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Passes so far, by kind and outcome.
    pub async fn passes(&self) -> String {
        let metrics = self.metrics().await;
        let passes = metrics
            .lines()
            .filter(|line| line.starts_with("prowler_operator_reconciles_total{"));
        passes.collect::<Vec<_>>().join("\n")
    }

    /// All metrics; nothing while it does not answer.
    pub async fn metrics(&self) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let read = async {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        let answer = read.await.unwrap_or_default();
        let body = answer.split_once("\r\n\r\n");
        body.map(|(_, body)| body.to_owned()).unwrap_or_default()
    }
}
