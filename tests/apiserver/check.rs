//! `check --deploy` of what the chart installs, with the rights the chart gives it: each finding
//! is there once it is so, and gone once it is cured.

use std::process::{Command, Output};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::store::partitions;
use serde_json::{Value, json};

use crate::support::apiserver::ApiServer;
use crate::support::command::{command, helm, kubectl, output, succeed, succeed_with};
use crate::support::db::Db;

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// An installation on the real API server: its objects are there, its pods are not.
struct Installation {
    server: &'static ApiServer,
    namespace: String,
    dir: tempfile::TempDir,
    db: Db,
}

impl Installation {
    /// The chart as a careful administrator installs it: `check --deploy` finds nothing in it.
    async fn new() -> Self {
        let server = ApiServer::shared().await;
        let installation = Self {
            namespace: server.namespace().await,
            dir: tempfile::tempdir().unwrap(),
            db: Db::new().await,
            server,
        };
        partitions::ensure_months(&installation.db.admin().await, SystemClock.now(), 4)
            .await
            .unwrap();
        installation.install(&[]);
        installation.write_kubeconfig().await;
        installation
    }

    /// Applies the chart with these values besides.
    fn install(&self, sets: &[&str]) {
        let digest = format!("image.digest={DIGEST}");
        let scanner = format!("scanner.image=example.com/prowler@{DIGEST}");
        let fixed = [
            // Its own name keeps its cluster-wide objects apart from other tests'.
            &format!("fullnameOverride={}", self.fullname()),
            &digest,
            &scanner,
            "database.existingSecret=db",
            "server.tls.existingSecret=tls",
            "crds.enabled=false",
        ];
        let mut args = vec!["template", "po", "charts/prowler-operator"];
        args.extend(["--namespace", &self.namespace, "--no-hooks"]);
        for set in fixed.iter().chain(sets) {
            args.extend(["--set", set]);
        }
        let rendered = succeed(command(helm(), &args));
        // Also what an earlier call made and this one leaves out.
        let prune = [
            "apply",
            "--filename",
            "-",
            "--prune",
            "--selector",
            "app.kubernetes.io/instance=po",
            "--namespace",
            &self.namespace,
            "--prune-allowlist",
            "policy/v1/PodDisruptionBudget",
        ];
        succeed_with(self.kubectl(&prune), &rendered);
    }

    fn fullname(&self) -> String {
        format!("po-{}", self.namespace)
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        let mut kubectl = command(kubectl(), args);
        kubectl.env("KUBECONFIG", self.server.kubeconfig());
        kubectl
    }

    /// Applies YAML as the administrator.
    fn apply(&self, yaml: &str) {
        succeed_with(self.kubectl(&["apply", "--filename", "-"]), yaml);
    }

    /// A kubeconfig of the ServiceAccount that the chart makes for the check.
    async fn write_kubeconfig(&self) {
        let accounts = Api::<ServiceAccount>::namespaced(self.server.client(), &self.namespace);
        let name = format!("{}-check", self.fullname());
        let token = accounts
            .create_token_request(&name, &PostParams::default(), &TokenRequest::default())
            .await
            .unwrap();
        let ca = self.dir.path().join("ca.crt");
        std::fs::write(&ca, self.server.ca()).unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": self.server.url(), "certificate-authority": ca } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c" } }],
            "users": [{ "name": "c", "user": { "token": token.status.unwrap().token } }],
        });
        std::fs::write(self.kubeconfig(), kubeconfig.to_string()).unwrap();
    }

    fn kubeconfig(&self) -> std::path::PathBuf {
        self.dir.path().join("kubeconfig")
    }

    fn program(&self, args: &[&str]) -> Output {
        let mut program = command(
            env!("CARGO_BIN_EXE_prowler-operator"),
            &[&["check", "--deploy"], args].concat(),
        );
        program
            .env("KUBECONFIG", self.kubeconfig())
            .env("POD_NAMESPACE", &self.namespace)
            .env("FULLNAME", self.fullname())
            .env("DATABASE_URL", self.db.user_url())
            .env("DATABASE_ADMIN_URL", self.db.admin_url());
        output(program, "")
    }

    /// `severity object` of each finding about the cluster, without the installation's name.
    /// The tests' database is not durable, which is told too and left out here.
    fn found(&self) -> Vec<String> {
        let output = self.program(&["--output", "json"]);
        let list: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        list["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|finding| {
                !["fsync", "full_page_writes"].contains(&finding["object"].as_str().unwrap())
            })
            .map(|finding| {
                assert!(finding["message"].as_str().unwrap().ends_with('.'));
                let object = finding["object"].as_str().unwrap();
                let object = object.replace(&self.fullname(), "X");
                format!("{} {object}", finding["severity"].as_str().unwrap())
            })
            .collect()
    }
}

#[tokio::test]
async fn the_chart_for_production_has_nothing_to_find_and_its_own_rights_suffice_to_see_it() {
    let installation = Installation::new().await;
    assert_eq!(installation.found(), [""; 0]);
}

#[tokio::test]
async fn what_each_value_makes_worse_is_found_until_it_is_cured() {
    let installation = Installation::new().await;
    let table: [(&[&str], &[&str]); 10] = [
        (
            &["controller.replicaCount=1"],
            &["warning Deployment X-controller"],
        ),
        (&["server.replicaCount=1"], &["warning Deployment X-server"]),
        (
            &["server.podDisruptionBudget.enabled=false"],
            &["warning Deployment X-server"],
        ),
        (
            &["controller.podDisruptionBudget.enabled=false"],
            &["warning Deployment X-controller"],
        ),
        (
            &["database.existingSecret=", "database.embedded=true"],
            &["warning embedded database"],
        ),
        (
            &["server.tls.existingSecret="],
            &["warning Secret X-server-tls"],
        ),
        (
            &["image.digest=", "image.tag=v1"],
            &["warning image ghcr.io/prowler-operator/prowler-operator:v1"],
        ),
        (&["scanner.image=prowler:5"], &["warning image prowler:5"]),
        (
            &["scanner.allowedImages={mirror.example/*}"],
            &["warning scanner.allowedImages"],
        ),
        (
            &["log.level=debug"],
            &[
                "warning Deployment X-controller, container bootstrap",
                "warning Deployment X-controller, container controller",
                "warning Deployment X-controller, container migrate",
                "warning Deployment X-server, container server",
            ],
        ),
    ];
    for (sets, expected) in table {
        installation.install(sets);
        assert_eq!(installation.found(), expected, "{sets:?}");
    }
    installation.install(&[]);
    assert_eq!(installation.found(), [""; 0]);

    // Changed by hand: the chart cannot be told so.
    succeed(installation.kubectl(&[
        "set",
        "env",
        &format!("deployment/{}-controller", installation.fullname()),
        "SERVER_URL=http://server:8080",
        "--namespace",
        &installation.namespace,
    ]));
    assert_eq!(installation.found(), ["error SERVER_URL"]);
}

#[tokio::test]
async fn a_right_to_every_secret_is_found_wherever_it_comes_from() {
    let installation = Installation::new().await;
    let (namespace, fullname) = (&installation.namespace, installation.fullname());
    // What the controller does where a tenant claims is as designed.
    let elsewhere = installation.server.namespace().await;
    installation.apply(&format!(
        "apiVersion: rbac.authorization.k8s.io/v1\n\
         kind: RoleBinding\n\
         metadata: {{name: reader, namespace: {elsewhere}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {fullname}-secret-reader}}\n\
         subjects: [{{kind: ServiceAccount, name: {fullname}-controller, namespace: {namespace}}}]\n"
    ));
    assert_eq!(installation.found(), [""; 0]);

    for (part, binding) in [
        ("controller", "cluster-wide-1"),
        ("server", "cluster-wide-2"),
    ] {
        let name = format!("{fullname}-{binding}");
        installation.apply(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\n\
             kind: ClusterRoleBinding\n\
             metadata: {{name: {name}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {fullname}-secret-reader}}\n\
             subjects: [{{kind: ServiceAccount, name: {fullname}-{part}, namespace: {namespace}}}]\n"
        ));
        assert_eq!(
            installation.found(),
            [format!("error ServiceAccount X-{part}")]
        );
        let said = installation.program(&[]);
        assert_eq!(said.status.code(), Some(2));
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(
            said.contains("It may get, list, watch every Secret"),
            "{said}"
        );
        succeed(installation.kubectl(&["delete", "clusterrolebinding", &name]));
    }
    // To a group that the ServiceAccount belongs to.
    let name = format!("{fullname}-cluster-wide-3");
    installation.apply(&format!(
        "apiVersion: rbac.authorization.k8s.io/v1\n\
         kind: ClusterRoleBinding\n\
         metadata: {{name: {name}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}\n\
         subjects: [{{kind: Group, apiGroup: rbac.authorization.k8s.io, name: 'system:serviceaccounts:{namespace}'}}]\n"
    ));
    assert_eq!(
        installation.found(),
        [
            "error ServiceAccount X-controller",
            "error ServiceAccount X-server"
        ]
    );
    succeed(installation.kubectl(&["delete", "clusterrolebinding", &name]));
    assert_eq!(installation.found(), [""; 0]);
}

#[tokio::test]
async fn without_rights_or_installation_each_part_is_told_and_the_database_is_examined() {
    let installation = Installation::new().await;
    let fullname = installation.fullname();
    succeed(installation.kubectl(&[
        "delete",
        "rolebinding",
        &format!("{fullname}-check"),
        "--namespace",
        &installation.namespace,
    ]));
    assert_eq!(
        installation.found(),
        [
            "warning ConfigMap X-config",
            "warning Deployment X-controller",
            "warning Deployment X-server",
            "warning PodDisruptionBudgets",
        ]
    );
    let said = installation.program(&["--fail-on", "error"]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("is forbidden"), "{said}");
    assert!(said.contains("fsync"), "{said}");

    installation.install(&[]);
    succeed(installation.kubectl(&[
        "delete",
        "deployment",
        &format!("{fullname}-server"),
        "--namespace",
        &installation.namespace,
    ]));
    assert_eq!(installation.found(), ["error Deployment X-server"]);
}
