//! A real Kubernetes API with our kinds: kube-apiserver on etcd, one pair per test process,
//! a fresh namespace per test.
//!
//! There is no kubelet and, unless asked for, no controller manager: nothing acts on objects
//! but the test. A shell holds the servers and ends them when its standard input closes, which
//! happens however the test process ends.

#![allow(
    dead_code,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test; not every test uses all of it"
)]

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::config::AuthInfo;
use kube::core::ObjectMeta;
use kube::{Api, Client, Config};
use prowler_operator::api;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tokio::sync::OnceCell;

/// How long a server may take to come up; a busy machine needs several times the usual 4 s.
const PATIENCE: Duration = Duration::from_mins(2);

/// An API server with our kinds, as long as this process lives.
pub struct ApiServer {
    dir: PathBuf,
    ports: Ports,
    issuer: Issuer<'static, KeyPair>,
    /// Held, never read: the shells end the servers when these pipes close.
    shells: Mutex<Vec<Child>>,
}

#[derive(Clone, Copy)]
struct Ports {
    api: u16,
    etcd: u16,
    peer: u16,
}

impl ApiServer {
    /// The server of this test process, started by the first who asks.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::start(&[])).await
    }

    /// A server of the test's own, which nobody else's objects disturb.
    pub async fn alone() -> &'static Self {
        Self::alone_with(&[]).await
    }

    /// As `alone`, with further flags of `kube-apiserver`.
    pub async fn alone_with(flags: &[&str]) -> &'static Self {
        Box::leak(Box::new(Self::start(flags).await))
    }

    /// A client that may do everything. Each test takes its own: a client lives and dies with
    /// the runtime it was made in.
    pub fn client(&self) -> Client {
        self.client_as("admin", &["system:masters"])
    }

    /// A client with the name and groups that a certificate gives it.
    pub fn client_as(&self, name: &str, groups: &[&str]) -> Client {
        Client::try_from(self.config_as(name, groups)).unwrap()
    }

    /// The configuration for `client_as`, to build clients with layers of one's own.
    pub fn config_as(&self, name: &str, groups: &[&str]) -> Config {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let file = format!("client-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sign(&file, name, groups, ExtendedKeyUsagePurpose::ClientAuth);
        let mut config = Config::new(self.url().parse().unwrap());
        let pem = std::fs::read(self.dir.join("ca.crt")).unwrap();
        let ca = <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(&pem);
        config.root_cert = Some(vec![ca.unwrap().to_vec()]);
        config.auth_info = AuthInfo {
            client_certificate: Some(self.path(&format!("{file}.crt"))),
            client_key: Some(self.path(&format!("{file}.key"))),
            ..AuthInfo::default()
        };
        config
    }

    /// A kubeconfig of the administrator, for programs that want a file.
    pub fn kubeconfig(&self) -> PathBuf {
        let file = self.dir.join("admin.kubeconfig");
        if !file.exists() {
            self.sign(
                "admin",
                "admin",
                &["system:masters"],
                ExtendedKeyUsagePurpose::ClientAuth,
            );
            let text = format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
                 clusters: [{{name: test, cluster: {{server: '{}', certificate-authority: '{}'}}}}]\n\
                 contexts: [{{name: test, context: {{cluster: test, user: admin}}}}]\n\
                 users: [{{name: admin, user: {{client-certificate: '{}', client-key: '{}'}}}}]\n",
                self.url(),
                self.path("ca.crt"),
                self.path("admin.crt"),
                self.path("admin.key"),
            );
            std::fs::write(&file, text).unwrap();
        }
        file
    }

    /// Where its etcd listens.
    pub fn etcd_port(&self) -> u16 {
        self.ports.etcd
    }

    /// The key with which it signs the tokens of `ServiceAccounts`, as PEM.
    pub fn token_key(&self) -> String {
        std::fs::read_to_string(self.dir.join("service-account.key")).unwrap()
    }

    /// A new namespace with a name of its own.
    pub async fn namespace(&self) -> String {
        self.labelled_namespace(&[]).await
    }

    /// A new namespace with labels.
    pub async fn labelled_namespace(&self, labels: &[(&str, &str)]) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels.collect()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::all(self.client())
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        name
    }

    /// Runs these controllers of Kubernetes from here on, for example
    /// `garbage-collector-controller`, `namespace-controller`, `job-controller`.
    pub fn run_controllers(&self, names: &[&str]) {
        let port = free_port().to_string();
        let kubeconfig = self.kubeconfig();
        let flags = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--controllers={}", names.join(",")),
            format!(
                "--service-account-private-key-file={}",
                self.path("service-account.key")
            ),
            format!("--root-ca-file={}", self.path("ca.crt")),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", self.path("controllers")),
            "--bind-address=127.0.0.1".into(),
            "--leader-elect=false".into(),
            "--concurrent-gc-syncs=4".into(),
        ];
        let script = command_line(
            &tool("kube-controller-manager"),
            &flags,
            &self.dir,
            "controllers.log",
        );
        self.hold(&script);
    }

    /// Runs the scheduler, and kwok, which plays nodes and their kubelets: it goes through the stages
    /// of this file with every pod.
    pub fn run_nodes(&self, stages: &Path) {
        let kubeconfig = self.kubeconfig();
        let scheduler = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--secure-port={}", free_port()),
            format!("--cert-dir={}", self.path("scheduler")),
            "--bind-address=127.0.0.1".into(),
            "--leader-elect=false".into(),
        ];
        let kwok = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--config={}", stages.display()),
            "--manage-all-nodes=true".into(),
            "--node-ip=127.0.0.1".into(),
            "--cidr=10.0.0.0/16".into(),
        ];
        for (name, flags) in [("kube-scheduler", &scheduler[..]), ("kwok", &kwok[..])] {
            let log = format!("{name}.log");
            self.hold(&command_line(&tool(name), flags, &self.dir, &log));
        }
    }

    /// What a server that was started besides had to say.
    pub fn log_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.ports.api
    }

    /// Address of the server.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api)
    }

    /// Certificate of the authority that signed the server's, as PEM.
    pub fn ca(&self) -> String {
        std::fs::read_to_string(self.dir.join("ca.crt")).unwrap()
    }

    /// One that ends when it is dropped.
    pub async fn start(flags: &[&str]) -> Self {
        // The second to install finds the first's: both are the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::Builder::new()
            .prefix("prowler-test-api-")
            .tempdir()
            .unwrap()
            .keep();
        let server = Self {
            issuer: authority(&dir),
            ports: Ports {
                api: free_port(),
                etcd: free_port(),
                peer: free_port(),
            },
            dir,
            shells: Mutex::new(Vec::new()),
        };
        server.sign(
            "server",
            "kube-apiserver",
            &[],
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        let key = KeyPair::generate().unwrap();
        server.write("service-account.key", &key.serialize_pem());
        server.write("service-account.pub", &key.public_key_pem());
        server.hold(&server.script(flags));
        server.wait_until_ready().await;
        server.install_kinds().await;
        server
    }

    /// What the shell runs: both servers, until its input closes.
    fn script(&self, flags: &[&str]) -> String {
        let Ports { api, etcd, peer } = self.ports;
        let client = format!("http://127.0.0.1:{etcd}");
        let peer = format!("http://127.0.0.1:{peer}");
        let store = [
            format!("--data-dir={}", self.path("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ];
        let mut server = vec![
            format!("--etcd-servers={client}"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={api}"),
            format!("--client-ca-file={}", self.path("ca.crt")),
            format!("--tls-cert-file={}", self.path("server.crt")),
            format!("--tls-private-key-file={}", self.path("server.key")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!(
                "--service-account-key-file={}",
                self.path("service-account.pub")
            ),
            format!(
                "--service-account-signing-key-file={}",
                self.path("service-account.key")
            ),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            "--authorization-mode=RBAC".into(),
            // Nobody makes default ServiceAccounts here, so pods need none.
            "--disable-admission-plugins=ServiceAccount".into(),
            "--endpoint-reconciler-type=none".into(),
            "--profiling=false".into(),
        ];
        server.extend(flags.iter().map(|&flag| flag.to_owned()));
        command_line(&tool("etcd"), &store, &self.dir, "etcd.log")
            + &command_line(&tool("kube-apiserver"), &server, &self.dir, "apiserver.log")
    }

    /// Runs background commands until this process ends, however it ends.
    fn hold(&self, commands: &str) {
        let dir = self.dir.display();
        let script = format!(
            "{commands}\ncat >/dev/null\nkill -KILL $pids\nwait\nrm -rf '{dir}' 2>/dev/null || rm -rf '{dir}'"
        );
        let shell = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Not in the terminal's group: an interrupt must not reach it before the pipe closes.
            .process_group(0)
            .spawn()
            .unwrap();
        self.shells.lock().unwrap().push(shell);
    }

    async fn wait_until_ready(&self) {
        let begun = Instant::now();
        let client = self.client();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            match client.request_text(request).await {
                Ok(_) => return,
                Err(error) if begun.elapsed() > PATIENCE => {
                    let mut told = error.to_string();
                    for log in ["etcd.log", "apiserver.log"] {
                        let text = std::fs::read_to_string(self.dir.join(log)).unwrap_or_default();
                        let lines: Vec<_> = text.lines().collect();
                        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
                        write!(told, "\n--- {log}\n{tail}").unwrap();
                    }
                    panic!("the API server did not come up: {told}");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Installs our definitions and waits until each can be listed.
    async fn install_kinds(&self) {
        let client = self.client();
        let crds = Api::<CustomResourceDefinition>::all(client.clone());
        for crd in api::all_crds() {
            let name = crd.metadata.name.clone().unwrap();
            crds.patch(
                &name,
                &PatchParams::apply("test").force(),
                &Patch::Apply(&crd),
            )
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for crd in api::all_crds() {
            let kind = &crd.spec.names.kind;
            let gvk = GroupVersionKind::gvk(api::GROUP, api::VERSION, kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, &crd.spec.names.plural);
            let objects = Api::<DynamicObject>::all_with(client.clone(), &resource);
            let begun = Instant::now();
            while let Err(error) = objects.list(&ListParams::default().limit(1)).await {
                assert!(begun.elapsed() < PATIENCE, "{kind} is not served: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn sign(&self, file: &str, name: &str, groups: &[&str], usage: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params
                .distinguished_name
                .push(DnType::OrganizationName, *group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{file}.crt"), &certificate.pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

fn authority(dir: &Path) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(dir.join("ca.crt"), certificate.pem()).unwrap();
    Issuer::new(params, key)
}

/// A command in the background whose process id joins `$pids`.
fn command_line(program: &Path, flags: &[String], dir: &Path, log: &str) -> String {
    format!(
        "'{}' '{}' >'{}' 2>&1 </dev/null & pids=\"$pids $!\"\n",
        program.display(),
        flags.join("' '"),
        dir.join(log).display()
    )
}

/// The binary, built on the first run on a machine.
pub fn tool(name: &str) -> PathBuf {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/tools/build");
    let output = Command::new(&build)
        .args(["--path", name])
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", build.display()));
    assert!(
        output.status.success(),
        "hack/tools/build --path {name} failed"
    );
    String::from_utf8(output.stdout).unwrap().trim().into()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
