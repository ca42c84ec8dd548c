//! The Job of a connection check: one short container in the scanner's image, with the keys of the
//! Secret as files, that asks Prowler's own library and tells the answer as its termination message.
//!
//! The image is anybody's: nothing is known of it but that Prowler is in it. [`FIND`] looks for
//! the Python that has it.

mod pod_state;
mod verdict;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, KeyToPath, PodSpec, SecretVolumeSource, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

pub use self::pod_state::judge;
pub use self::verdict::Verdict;
use super::one_shot::{self, OneShot};
use super::pod;
use crate::api::account::ProviderType;
use crate::config::file::FileConfig;
use crate::domain::credentials::Access;
use crate::domain::ids::{ObjectName, ProviderId, TenantId};
use crate::domain::scanner::{Invocation, Value, literal};

/// Value of the label [`labels::QUEUE`] on Jobs and pods of checks.
pub const QUEUE: &str = "checks";
/// The container, and the component in labels.
pub const CHECK: &str = "check";
/// Annotation on the pod with the name of its `Provider`; a hint for waking, never trusted.
pub const PROVIDER_NAME: &str = "prowler-operator.dev/provider-name";
/// Where the keys lie.
const KEYS: &str = "/credentials";
/// Seconds for all: the image may have to be pulled. The check itself gives up after 120.
const DEADLINE_SECONDS: i64 = 600;

/// Finds the Python that Prowler is installed for, and has it run the check.
const FIND: &str = r#"
for python in "$PROWLER_PYTHON" /home/prowler/.venv/bin/python /home/prowler/.cache/pypoetry/virtualenvs/*/bin/python python3; do
  if command -v "$python" >/dev/null 2>&1 && "$python" -c 'import prowler' 2>/dev/null; then
    exec "$python" -c "$PROWLER_OPERATOR_CHECK"
  fi
done
echo "no Python with Prowler was found in this image; say where it is with PROWLER_PYTHON in scanner.extraEnv" >/dev/termination-log
exit 1
"#;

/// The check itself.
pub const SCRIPT: &str = include_str!("check/check.py");

/// Everything a check is made of that differs from account to account.
#[derive(Debug, Clone)]
pub struct Check {
    /// The tenant.
    pub tenant: TenantId,
    /// The account's row.
    pub provider: ProviderId,
    /// Which check of the account, from 1.
    pub number: i32,
    /// The `Provider` object.
    pub object: ObjectName,
    /// The `Provider` object as owner.
    pub owner: OwnerReference,
    /// Kind of account.
    pub kind: ProviderType,
    /// The account.
    pub uid: String,
    /// What opens it.
    pub access: Access,
    /// How a scan would run: a check gets in as a scan does.
    pub run: Invocation,
    /// Scanner image.
    pub image: String,
}

impl Check {
    /// The Job's name: one per check, so that making it again meets the first.
    pub fn job_name(&self) -> String {
        format!("check-{}-{}", self.provider, self.number)
    }

    /// The whole Job.
    pub fn job(&self, config: &FileConfig) -> Job {
        let shot = OneShot {
            name: self.job_name(),
            object: &self.object,
            owner: &self.owner,
            run: &self.run,
            labels: one_shot::labels(CHECK, QUEUE, self.tenant, self.provider),
            annotations: &[(PROVIDER_NAME, &self.object.name)],
            deadline_seconds: DEADLINE_SECONDS,
            pod: self.pod(config),
        };
        shot.job(config)
    }

    fn in_cluster(&self) -> bool {
        self.kind == ProviderType::Kubernetes && self.access.kind.is_none()
    }

    fn pod(&self, config: &FileConfig) -> PodSpec {
        PodSpec {
            service_account_name: self.access.service_account.clone(),
            termination_grace_period_seconds: Some(5),
            containers: vec![self.container(config)],
            volumes: Some(self.volumes()),
            ..PodSpec::default()
        }
    }

    fn container(&self, config: &FileConfig) -> Container {
        let mut env = vec![
            pod::variable("HOME", "/tmp"),
            pod::variable("PYTHONUNBUFFERED", "1"),
        ];
        env.extend(config.scanner.extra_env.iter().cloned());
        // Texts alone: what keeps Prowler from the node's identity. Keys come as files.
        env.extend(
            self.run
                .env
                .iter()
                .filter_map(|variable| match &variable.value {
                    Value::Text(text) => Some(pod::variable(&variable.name, text)),
                    Value::Key(_) => None,
                }),
        );
        env.extend([
            pod::variable("PROWLER_OPERATOR_PROVIDER", self.kind.as_str()),
            pod::variable("PROWLER_OPERATOR_UID", literal(&self.uid)),
            pod::variable("PROWLER_OPERATOR_KEYS", KEYS),
            pod::variable("PROWLER_OPERATOR_CHECK", literal(SCRIPT)),
        ]);
        let mut mounts = vec![pod::mount("tmp", "/tmp", false)];
        if self.secret().is_some() {
            mounts.push(pod::mount("credentials", KEYS, true));
        }
        if self.in_cluster() {
            mounts.push(pod::mount("cluster-access", pod::SERVICE_ACCOUNT_DIR, true));
        }
        Container {
            name: CHECK.to_owned(),
            image: Some(self.image.clone()),
            image_pull_policy: config.scanner.image_pull_policy.clone(),
            command: Some(["/bin/sh", "-c", FIND].map(str::to_owned).into()),
            env: Some(env),
            resources: Some(pod::resources(
                [
                    ("cpu", "100m"),
                    ("memory", "256Mi"),
                    ("ephemeral-storage", "32Mi"),
                ],
                [
                    ("cpu", "1"),
                    ("memory", "1Gi"),
                    ("ephemeral-storage", "256Mi"),
                ],
            )),
            volume_mounts: Some(mounts),
            security_context: Some(pod::restricted()),
            // Never the log: what a library prints there may hold what was given to it.
            termination_message_policy: Some("File".to_owned()),
            ..Container::default()
        }
    }

    fn secret(&self) -> Option<&String> {
        self.access
            .secret
            .as_ref()
            .filter(|_| !self.access.keys.is_empty())
    }

    fn volumes(&self) -> Vec<Volume> {
        let mut volumes = vec![pod::scratch("tmp", "128Mi")];
        if let Some(secret) = self.secret() {
            let items = self.access.keys.iter().map(|key| KeyToPath {
                key: key.clone(),
                path: key.clone(),
                ..KeyToPath::default()
            });
            volumes.push(Volume {
                name: "credentials".to_owned(),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(secret.clone()),
                    items: Some(items.collect()),
                    default_mode: Some(0o440),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            });
        }
        if self.in_cluster() {
            volumes.push(pod::projected("cluster-access", pod::cluster_access()));
        }
        volumes
    }
}

#[cfg(test)]
mod tests;
