//! The whole way of an upload: the program's own `server` and `upload` as processes, TLS, an
//! API server with the scan's Job and pod, Postgres.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client};
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::domain::ids::{ObjectUid, ScanId};
use prowler_operator::store::publication::Attempt;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::apiserver::ApiServer;
use crate::support::db::Db;
use crate::world::World;

const AUDIENCE: &str = "prowler-operator";

/// A server process with all it needs.
pub struct Site {
    pub world: World,
    pub kube: Client,
    pub dir: tempfile::TempDir,
    ca: Issuer<'static, KeyPair>,
    port: u16,
    health: u16,
    settings: Vec<(&'static str, String)>,
    process: Mutex<Option<Child>>,
    /// Every token handed out: none may be in a log.
    tokens: Mutex<Vec<String>>,
}

/// An attempt with its Job and pod.
pub struct Running {
    pub attempt: Attempt,
    pub pod: Pod,
    pub token: String,
}

/// What `upload` did.
pub struct Uploaded {
    pub code: i32,
    /// The line it left for the kubelet.
    pub left: Value,
}

/// The program with the variables of its image.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prowler-operator"));
    let image = include_str!("../../Dockerfile").lines();
    let variables = image.filter_map(|line| line.strip_prefix("ENV ")?.split_once('='));
    command.envs(variables);
    command
}

impl Site {
    /// An AWS account, and a server that is ready.
    pub async fn new() -> Self {
        Self::with(World::new().await, &[]).await
    }

    /// As `new`, with settings of the server's.
    pub async fn with(world: World, settings: &[(&'static str, &str)]) -> Self {
        let site = Self::cold(world, settings).await;
        site.start();
        site.wait_until_ready().await;
        site
    }

    /// Everything but the server's process.
    pub async fn cold(mut world: World, settings: &[(&'static str, &str)]) -> Self {
        let api = ApiServer::shared().await;
        let kube = api.client();
        world.namespace = api.namespace().await;
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.crt"), certificate.pem()).unwrap();
        std::fs::create_dir(dir.path().join("spool")).unwrap();
        std::fs::create_dir(dir.path().join("tls")).unwrap();
        let site = Self {
            ca: Issuer::new(params, key),
            port: free_port(),
            health: free_port(),
            settings: settings
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .chain([("KUBECONFIG", api.kubeconfig().display().to_string())])
                .collect(),
            process: Mutex::new(None),
            tokens: Mutex::default(),
            world,
            kube,
            dir,
        };
        site.sign("tls");
        site.create_account(&site.world.namespace).await;
        site
    }

    /// Puts a fresh certificate into a directory of the site.
    pub fn sign(&self, directory: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        let directory = self.path(directory);
        std::fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
        std::fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the server.
    pub fn start(&self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("server.log"))
            .unwrap();
        let mut command = program();
        command
            .arg("server")
            .env("DATABASE_URL", self.world.db.user_url())
            .env("LISTEN_ADDR", format!("127.0.0.1:{}", self.port))
            .env("HEALTH_ADDR", format!("127.0.0.1:{}", self.health))
            .env("TLS_CERT_FILE", self.path("tls/tls.crt"))
            .env("TLS_KEY_FILE", self.path("tls/tls.key"))
            .env("TLS_POLL_SECONDS", "1")
            .env("SPOOL_DIR", self.path("spool"))
            .env("LOG_LEVEL", "debug")
            .envs(self.settings.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        *self.process.lock().unwrap() = Some(command.spawn().unwrap());
    }

    /// Ends the server as `kill -9` does.
    pub fn kill(&self) {
        if let Some(mut child) = self.process.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks the server to end.
    pub fn terminate(&self) {
        let process = self.process.lock().unwrap();
        let id = process.as_ref().unwrap().id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the server's own end.
    pub async fn ended(&self) -> ExitStatus {
        within(30, "the server to end", || async {
            self.process.lock().unwrap().as_mut()?.try_wait().unwrap()
        })
        .await
    }

    pub async fn wait_until_ready(&self) {
        within(60, "the server to be ready", || async {
            (self.health("/readyz").await?.0 == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// Status and text of a page of the health port; nothing when nobody answers.
    pub async fn health(&self, path: &str) -> Option<(StatusCode, String)> {
        let stream = TcpStream::connect(("127.0.0.1", self.health)).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .ok()?;
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .body(Full::<Bytes>::default())
            .unwrap();
        let response = sender.send_request(request).await.ok()?;
        let status = response.status();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// MiB of the server's memory, `VmRSS:` or `VmHWM:`.
    pub fn memory(&self, field: &str) -> u64 {
        let process = self.process.lock().unwrap();
        memory(process.as_ref().unwrap().id(), field).unwrap()
    }

    /// File descriptors that the server has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(self.proc("fd")).unwrap().count()
    }

    fn proc(&self, name: &str) -> PathBuf {
        let process = self.process.lock().unwrap();
        let id = process.as_ref().unwrap().id();
        PathBuf::from(format!("/proc/{id}/{name}"))
    }

    /// Waits until nothing is received, published or spooled.
    pub async fn calm(&self) {
        within(30, "the server to be calm", || async {
            let (_, metrics) = self.health("/metrics").await?;
            ["receiving 0", "publishing 0", "spool_bytes 0"]
                .iter()
                .all(|line| metrics.contains(&format!("prowler_operator_ingest_{line}\n")))
                .then_some(())
        })
        .await;
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    /// Creates an object of this kind in a namespace.
    pub async fn create<K>(&self, namespace: &str, object: &Value) -> K
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: DeserializeOwned + serde::Serialize + Clone + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object.clone()).unwrap();
        Api::namespaced(self.kube.clone(), namespace)
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    /// The `ServiceAccount` of scan pods.
    pub async fn create_account(&self, namespace: &str) {
        let account = json!({"metadata": {"name": "scanner"}});
        self.create::<ServiceAccount>(namespace, &account).await;
    }

    /// A scan that runs: its row, its Job, its pod and the pod's token.
    pub async fn running(&self) -> Running {
        self.all_running(1).await.remove(0)
    }

    /// So many scans that run.
    pub async fn all_running(&self, number: usize) -> Vec<Running> {
        let objects = (0..number).map(|_| async {
            let scan = ScanId(SystemClock.uuid7());
            let job = self.job(scan, 1).await;
            let pod = self.pod(&job, self.labels(scan, 1)).await;
            let token = self.token(&pod, AUDIENCE).await;
            (scan, job, pod, token)
        });
        let objects: Vec<_> = futures::stream::iter(objects).buffered(8).collect().await;
        let mut all = Vec::new();
        for (scan, job, pod, token) in objects {
            let uid: ObjectUid = job.metadata.uid.as_deref().unwrap().parse().unwrap();
            let name = job.metadata.name.unwrap();
            let attempt = self.world.scan_in(scan, Some(uid), &name).await;
            all.push(Running {
                attempt,
                pod,
                token,
            });
        }
        all
    }

    /// The Job of an attempt, as the controller makes it.
    pub async fn job(&self, scan: ScanId, attempt: i32) -> Job {
        let name = format!("scan-{scan}-{attempt}");
        let labels = self.labels(scan, attempt);
        let job = json!({"metadata": {"name": name, "labels": labels},
            "spec": {"template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "upload", "image": "i"}]}}}});
        self.create(&self.world.namespace, &job).await
    }

    pub fn labels(&self, scan: ScanId, attempt: i32) -> Value {
        json!({
            "prowler-operator.dev/tenant": self.world.tenant.to_string(),
            "prowler-operator.dev/scan": scan.to_string(),
            "prowler-operator.dev/attempt": attempt.to_string(),
        })
    }

    /// A pod of a Job.
    pub async fn pod(&self, job: &Job, labels: Value) -> Pod {
        let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "controller": true,
            "name": job.metadata.name, "uid": job.metadata.uid}]);
        self.pod_owned_by(&self.world.namespace, owner, labels)
            .await
    }

    pub async fn pod_owned_by(&self, namespace: &str, owners: Value, labels: Value) -> Pod {
        let name = format!("pod-{}", SystemClock.uuid7());
        let pod = json!({"metadata": {"name": name, "labels": labels, "ownerReferences": owners},
            "spec": {"serviceAccountName": "scanner", "automountServiceAccountToken": false,
                "containers": [{"name": "upload", "image": "i"}]}});
        self.create(namespace, &pod).await
    }

    /// A token bound to a pod.
    pub async fn token(&self, pod: &Pod, audience: &str) -> String {
        let namespace = pod.metadata.namespace.as_deref().unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.kube.clone(), namespace);
        let request: TokenRequest = serde_json::from_value(json!({"spec": {
            "audiences": [audience], "expirationSeconds": 600,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod",
                "name": pod.metadata.name, "uid": pod.metadata.uid}}}))
        .unwrap();
        let answered = accounts
            .create_token_request("scanner", &PostParams::default(), &request)
            .await
            .unwrap();
        let token = answered.status.unwrap().token.unwrap();
        self.tokens.lock().unwrap().push(token.clone());
        token
    }

    pub async fn delete_pod(&self, pod: &Pod) {
        let pods: Api<Pod> = Api::namespaced(
            self.kube.clone(),
            pod.metadata.namespace.as_deref().unwrap(),
        );
        let now = DeleteParams::default().grace_period(0);
        pods.delete(pod.metadata.name.as_deref().unwrap(), &now)
            .await
            .unwrap();
    }

    /// The `upload` of a pod, not started.
    pub fn upload_command(&self, token: &str, file: Option<&[u8]>) -> (Command, PathBuf) {
        let place = self.path(&format!("pod-{}", SystemClock.uuid7()));
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("token"), token).unwrap();
        if let Some(file) = file {
            std::fs::write(place.join("scan.ocsf.json"), file).unwrap();
        }
        let mut command = program();
        command
            .arg("upload")
            .env("SERVER_URL", format!("https://localhost:{}", self.port))
            .env("PROWLER_OPERATOR_SERVER_CA", self.ca())
            .env("UPLOAD_FILE", place.join("scan.ocsf.json"))
            .env("UPLOAD_TOKEN_FILE", place.join("token"))
            .env("UPLOAD_DEADLINE_SECONDS", "60")
            .env("TERMINATION_LOG", place.join("left"))
            .stderr(std::fs::File::create(place.join("log")).unwrap());
        (command, place)
    }

    /// Runs the `upload` of a pod to its end.
    pub async fn upload(&self, token: &str, file: Option<&[u8]>) -> Uploaded {
        let (command, place) = self.upload_command(token, file);
        self.finish_upload(command, place).await
    }

    pub async fn finish_upload(&self, mut command: Command, place: PathBuf) -> Uploaded {
        let status = tokio::task::spawn_blocking(move || command.status().unwrap())
            .await
            .unwrap();
        let log = std::fs::read_to_string(place.join("log")).unwrap();
        self.assert_no_token(&log);
        let left = std::fs::read_to_string(place.join("left")).unwrap_or_default();
        assert!(left.trim().lines().count() <= 1, "{left}");
        Uploaded {
            code: status.code().unwrap_or_else(|| panic!("{status}\n{log}")),
            left: serde_json::from_str(&left).unwrap_or_else(|_| panic!("{left}\n{log}")),
        }
    }

    pub fn ca(&self) -> String {
        std::fs::read_to_string(self.path("ca.crt")).unwrap()
    }

    /// A TLS connection to the server, made by hand.
    pub async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca().as_bytes()).unwrap())
            .unwrap();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        TlsConnector::from(std::sync::Arc::new(config))
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
    }

    /// One request made by hand: status, `Retry-After`, answer.
    pub async fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> (u16, Option<u64>, Value) {
        let stream = self.connect().await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::post("/v1/upload").header(header::HOST, "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let after = response
            .headers()
            .get(header::RETRY_AFTER)
            .map(|value| value.to_str().unwrap().parse().unwrap());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (
            status,
            after,
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    }

    /// As `post`, with a token and a compressed file.
    pub async fn send(&self, token: &str, file: &[u8]) -> (u16, Option<u64>, Value) {
        self.send_compressed(token, &zstd::encode_all(file, 3).unwrap())
            .await
    }

    /// The same of a file that is compressed already.
    pub async fn send_compressed(&self, token: &str, body: &[u8]) -> (u16, Option<u64>, Value) {
        self.post(
            &[
                ("authorization", &format!("Bearer {token}")),
                ("content-encoding", "zstd"),
            ],
            body,
        )
        .await
    }

    pub fn spooled_files(&self) -> usize {
        std::fs::read_dir(self.path("spool")).unwrap().count()
    }

    fn assert_no_token(&self, log: &str) {
        for token in self.tokens.lock().unwrap().iter() {
            // The signature is the part that makes it a secret.
            let signature = token.rsplit('.').next().unwrap();
            assert!(!log.contains(signature), "a token is in a log");
        }
        assert!(!log.contains("change-me-user"), "a password is in a log");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        } else {
            self.assert_no_token(&self.log());
        }
    }
}

/// A value of a process's `/proc/…/status` in MiB, as `VmRSS:`; nothing of one that has ended.
pub fn memory(process: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

/// Waits until there is an answer.
pub async fn within<T, F: Future<Output = Option<T>>>(
    seconds: u64,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(seconds),
            "waited {seconds} s for {what}"
        );
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A database of the test's own server, which it may stop.
pub async fn world_alone() -> World {
    World::on(Db::alone().await, "aws", crate::support::ocsf::ACCOUNT).await
}

/// A fixture of ours.
pub fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
