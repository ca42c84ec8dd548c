//! The Job of one attempt: Prowler as an init container that holds the cloud credentials, then
//! `upload`, which holds nothing but a short-lived token for our server.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile,
    EmptyDirVolumeSource, EnvVar, EnvVarSource, KeyToPath, LocalObjectReference,
    ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, ProjectedVolumeSource,
    ResourceRequirements, SeccompProfile, SecretKeySelector, SecretVolumeSource, SecurityContext,
    ServiceAccountTokenProjection, Toleration, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use super::outcome::{SCAN, UPLOAD};
use crate::api::{FIELD_MANAGER, labels};
use crate::config::file::FileConfig;
use crate::domain::credentials::DIRECTORY;
use crate::domain::ids::{ObjectName, ProviderId, ScanId, TenantId};
use crate::domain::scanner::{
    Invocation, OUTPUT_DIRECTORY, OUTPUT_FILE, SecretFile, Value, Variable,
};

/// Audience of the token that `upload` shows our server.
pub const AUDIENCE: &str = "prowler-operator";
/// Annotation with the hash of the Job's spec, by which a Job is recognised as the one planned.
pub const SPEC_HASH: &str = "prowler-operator.dev/spec-hash";
/// Annotation on the pod with the name of its `Scan`; a hint for waking, never trusted.
pub const SCAN_NAME: &str = "prowler-operator.dev/scan-name";

const TOKEN_DIR: &str = "/var/run/secrets/prowler-operator.dev";
const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const OUTPUT: &str = "output";
const SCAN_TMP: &str = "tmp";
const CREDENTIALS: &str = "credentials";
const TOKEN: &str = "upload-token";
const CLUSTER: &str = "cluster-access";

/// Everything a Job is made of that differs from scan to scan.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The tenant.
    pub tenant: TenantId,
    /// The account.
    pub provider: ProviderId,
    /// The scan.
    pub scan: ScanId,
    /// The attempt, from 1.
    pub attempt: i32,
    /// The `Scan` object.
    pub object: ObjectName,
    /// The `Scan` object as owner.
    pub owner: OwnerReference,
    /// How to run Prowler.
    pub run: Invocation,
    /// The Secret whose keys that names.
    pub secret: Option<String>,
    /// Mount the `ServiceAccount`'s token into `scan`, for a scan of the cluster itself.
    pub in_cluster: bool,
    /// Scanner image.
    pub image: String,
    /// Memory of `scan`, request and limit.
    pub memory: String,
    /// CPU limit of `scan`.
    pub cpu: String,
    /// Seconds the whole attempt may take.
    pub deadline_seconds: i64,
    /// Where findings go.
    pub server_url: String,
    /// PEM of the CA of that address.
    pub server_ca: String,
}

impl Attempt {
    /// The Job's name: one per attempt, so that making it again meets the first.
    pub fn job_name(&self) -> String {
        format!("scan-{}-{}", self.scan, self.attempt)
    }

    /// The whole Job.
    pub fn job(&self, config: &FileConfig) -> Job {
        let spec = JobSpec {
            parallelism: Some(1),
            completions: Some(1),
            backoff_limit: Some(0),
            active_deadline_seconds: Some(self.deadline_seconds),
            ttl_seconds_after_finished: Some(config.job_ttl_seconds),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(self.pod_labels(config)),
                    annotations: Some(self.pod_annotations(config)),
                    ..ObjectMeta::default()
                }),
                spec: Some(self.pod(config)),
            },
            ..JobSpec::default()
        };
        // The spec is made of plain data: it always encodes.
        let encoded = serde_json::to_vec(&spec).unwrap_or_default();
        let hash = blake3::hash(&encoded).to_hex()[..32].to_owned();
        Job {
            metadata: ObjectMeta {
                name: Some(self.job_name()),
                namespace: Some(self.object.namespace.clone()),
                labels: Some(self.labels()),
                annotations: Some([(SPEC_HASH.to_owned(), hash)].into()),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            status: None,
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/name", "prowler-operator".to_owned()),
            ("app.kubernetes.io/component", SCAN.to_owned()),
            ("app.kubernetes.io/managed-by", FIELD_MANAGER.to_owned()),
            (labels::QUEUE, "scans".to_owned()),
            (labels::TENANT, self.tenant.to_string()),
            (labels::PROVIDER, self.provider.to_string()),
            (labels::SCAN, self.scan.to_string()),
            (labels::ATTEMPT, self.attempt.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    fn pod_labels(&self, config: &FileConfig) -> BTreeMap<String, String> {
        // Ours last: a value of the chart cannot hide a scan pod from the watch.
        config
            .scanner
            .pod_labels
            .clone()
            .into_iter()
            .chain(self.labels())
            .collect()
    }

    fn pod_annotations(&self, config: &FileConfig) -> BTreeMap<String, String> {
        let fixed = [
            // Whatever is injected for workload identity is for `scan` alone.
            ("eks.amazonaws.com/skip-containers", UPLOAD),
            ("azure.workload.identity/skip-containers", UPLOAD),
            // A mesh's sidecar would keep the pod from ending, and could read what `upload` sends.
            ("sidecar.istio.io/inject", "false"),
            ("linkerd.io/inject", "disabled"),
            (SCAN_NAME, self.object.name.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        config
            .scanner
            .pod_annotations
            .clone()
            .into_iter()
            .chain(fixed)
            .collect()
    }

    fn pod(&self, config: &FileConfig) -> PodSpec {
        let scanner = &config.scanner;
        let pull_secrets: Vec<_> = scanner
            .image_pull_secrets
            .iter()
            .map(|name| LocalObjectReference { name: name.clone() })
            .collect();
        PodSpec {
            restart_policy: Some("Never".to_owned()),
            service_account_name: self.run.service_account.clone(),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(30),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(1000),
                run_as_group: Some(1000),
                fs_group: Some(1000),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            init_containers: Some(vec![self.scan_container(config)]),
            containers: vec![self.upload_container(config)],
            volumes: Some(self.volumes()),
            image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
            node_selector: (!scanner.node_selector.is_empty())
                .then(|| scanner.node_selector.clone()),
            tolerations: Some(tolerations(&scanner.tolerations)),
            affinity: scanner.affinity.clone(),
            priority_class_name: scanner.priority_class_name.clone(),
            ..PodSpec::default()
        }
    }

    fn scan_container(&self, config: &FileConfig) -> Container {
        let plain = |(name, value): (&str, &str)| EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..EnvVar::default()
        };
        // Without PYTHONUNBUFFERED the last lines, the ones that say why, are lost.
        let mut env: Vec<EnvVar> = [("HOME", "/tmp"), ("PYTHONUNBUFFERED", "1")]
            .map(plain)
            .into();
        env.extend(config.scanner.extra_env.iter().cloned());
        env.extend(self.run.env.iter().map(|variable| self.variable(variable)));
        let mut mounts = vec![
            mount(OUTPUT, OUTPUT_DIRECTORY, false),
            mount(SCAN_TMP, "/tmp", false),
        ];
        if !self.secret_files().is_empty() {
            mounts.push(mount(CREDENTIALS, DIRECTORY, true));
        }
        if self.in_cluster {
            mounts.push(mount(CLUSTER, SERVICE_ACCOUNT_DIR, true));
        }
        Container {
            name: SCAN.to_owned(),
            image: Some(self.image.clone()),
            image_pull_policy: config.scanner.image_pull_policy.clone(),
            // The image's entry point is Prowler; arguments are an array, never a shell's text.
            args: Some(self.run.args.clone()),
            env: Some(env),
            resources: Some(self.scan_resources(config)),
            volume_mounts: Some(mounts),
            security_context: Some(restricted()),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        }
    }

    fn upload_container(&self, config: &FileConfig) -> Container {
        let env = [
            ("SERVER_URL", self.server_url.as_str()),
            ("PROWLER_OPERATOR_SERVER_CA", self.server_ca.as_str()),
            ("UPLOAD_FILE", OUTPUT_FILE),
            (
                "UPLOAD_TOKEN_FILE",
                "/var/run/secrets/prowler-operator.dev/token",
            ),
            ("UPLOAD_DEADLINE_SECONDS", "3600"),
        ]
        .map(|(name, value)| EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..EnvVar::default()
        });
        let default = || {
            resources(
                [
                    ("cpu", "50m"),
                    ("memory", "32Mi"),
                    ("ephemeral-storage", "16Mi"),
                ],
                [
                    ("cpu", "1"),
                    ("memory", "128Mi"),
                    ("ephemeral-storage", "64Mi"),
                ],
            )
        };
        Container {
            name: UPLOAD.to_owned(),
            image: Some(config.upload.image.clone()),
            image_pull_policy: config.upload.image_pull_policy.clone(),
            args: Some(vec!["upload".to_owned()]),
            env: Some(env.into()),
            resources: Some(config.upload.resources.clone().unwrap_or_else(default)),
            volume_mounts: Some(vec![
                mount(OUTPUT, OUTPUT_DIRECTORY, true),
                mount(TOKEN, TOKEN_DIR, true),
            ]),
            security_context: Some(restricted()),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        }
    }

    fn scan_resources(&self, config: &FileConfig) -> ResourceRequirements {
        let mut wanted = config.scanner.resources.clone().unwrap_or_else(|| {
            resources(
                [("cpu", "250m"), ("ephemeral-storage", "256Mi")],
                [("ephemeral-storage", "4Gi")],
            )
        });
        let memory = Quantity(self.memory.clone());
        let limits = wanted.limits.get_or_insert_default();
        limits.insert("memory".to_owned(), memory.clone());
        limits.insert("cpu".to_owned(), Quantity(self.cpu.clone()));
        // The whole memory is requested: a scan that is evicted late has cost the most.
        wanted
            .requests
            .get_or_insert_default()
            .entry("memory".to_owned())
            .or_insert(memory);
        wanted
    }

    fn variable(&self, variable: &Variable) -> EnvVar {
        let Variable { name, value } = variable;
        let mut made = EnvVar {
            name: name.clone(),
            ..EnvVar::default()
        };
        match value {
            Value::Text(text) => made.value = Some(text.clone()),
            Value::Key(key) => {
                made.value_from = Some(EnvVarSource {
                    secret_key_ref: Some(SecretKeySelector {
                        name: self.secret.clone().unwrap_or_default(),
                        key: key.clone(),
                        optional: None,
                    }),
                    ..EnvVarSource::default()
                });
            }
        }
        made
    }

    fn secret_files(&self) -> Vec<KeyToPath> {
        let item = |file: &SecretFile| KeyToPath {
            key: file.key.clone(),
            path: file.name.clone(),
            ..KeyToPath::default()
        };
        self.run.files.iter().map(item).collect()
    }

    fn volumes(&self) -> Vec<Volume> {
        let scratch = |name: &str, size: &str| Volume {
            name: name.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(size.to_owned())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        };
        let projected = |name: &str, sources: Vec<VolumeProjection>| Volume {
            name: name.to_owned(),
            projected: Some(ProjectedVolumeSource {
                sources: Some(sources),
                ..Default::default()
            }),
            ..Volume::default()
        };
        let mut volumes = vec![
            scratch(OUTPUT, "4Gi"),
            scratch(SCAN_TMP, "2Gi"),
            projected(TOKEN, vec![token(Some(AUDIENCE), 600)]),
        ];
        let files = self.secret_files();
        if let Some(secret) = &self.secret
            && !files.is_empty()
        {
            volumes.push(Volume {
                name: CREDENTIALS.to_owned(),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(secret.clone()),
                    items: Some(files),
                    default_mode: Some(0o440),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            });
        }
        if self.in_cluster {
            volumes.push(projected(CLUSTER, cluster_access()));
        }
        volumes
    }
}

fn token(audience: Option<&str>, seconds: i64) -> VolumeProjection {
    VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: audience.map(str::to_owned),
            expiration_seconds: Some(seconds),
            path: "token".to_owned(),
            ..ServiceAccountTokenProjection::default()
        }),
        ..VolumeProjection::default()
    }
}

/// What a pod finds below the usual path when its token is mounted the usual way.
fn cluster_access() -> Vec<VolumeProjection> {
    vec![
        token(None, 3607),
        VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: "kube-root-ca.crt".to_owned(),
                items: Some(vec![KeyToPath {
                    key: "ca.crt".to_owned(),
                    path: "ca.crt".to_owned(),
                    ..KeyToPath::default()
                }]),
                ..ConfigMapProjection::default()
            }),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: "namespace".to_owned(),
                    field_ref: Some(ObjectFieldSelector {
                        field_path: "metadata.namespace".to_owned(),
                        ..ObjectFieldSelector::default()
                    }),
                    ..DownwardAPIVolumeFile::default()
                }]),
            }),
            ..VolumeProjection::default()
        },
    ]
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

fn resources<const R: usize, const L: usize>(
    requests: [(&str, &str); R],
    limits: [(&str, &str); L],
) -> ResourceRequirements {
    let amounts = |list: &[(&str, &str)]| {
        list.iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
            .collect()
    };
    ResourceRequirements {
        requests: Some(amounts(&requests)),
        limits: Some(amounts(&limits)),
        claims: None,
    }
}

/// Scan pods leave a node that does not answer after 15 s: the account is waited for.
fn tolerations(more: &[Toleration]) -> Vec<Toleration> {
    [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    .map(|key| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(15),
        ..Toleration::default()
    })
    .into_iter()
    .chain(more.iter().cloned())
    .collect()
}
