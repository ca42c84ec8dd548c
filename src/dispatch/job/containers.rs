//! The containers: `scan` has the credentials and no way to our server, `upload` a token for our
//! server and no credentials, `compose` the parts of a file that `scan` gets whole. All are as
//! restricted as Pod Security knows.

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, SecretKeySelector};

use super::Attempt;
use super::volumes::{CLUSTER, CREDENTIALS, OUTPUT, PARTS, SCAN_TMP, TOKEN};
use crate::config::file::FileConfig;
use crate::dispatch::outcome::{COMPOSE, SCAN, UPLOAD};
use crate::dispatch::pod::{SERVICE_ACCOUNT_DIR, mount, resources, restricted, variable};
use crate::domain::credentials::{DIRECTORY, PARTS_DIRECTORY};
use crate::domain::scanner::{OUTPUT_DIRECTORY, OUTPUT_FILE, Value, Variable};

const TOKEN_DIR: &str = "/var/run/secrets/prowler-operator.dev";

impl Attempt {
    pub(super) fn scan_container(&self, config: &FileConfig) -> Container {
        // Without PYTHONUNBUFFERED the last lines, the ones that say why, are lost.
        let mut env = vec![variable("HOME", "/tmp"), variable("PYTHONUNBUFFERED", "1")];
        env.extend(config.scanner.extra_env.iter().cloned());
        env.extend(self.run.env.iter().map(|variable| self.variable(variable)));
        let mut mounts = vec![
            mount(OUTPUT, OUTPUT_DIRECTORY, false),
            mount(SCAN_TMP, "/tmp", false),
        ];
        if !self.run.files.is_empty() || self.run.composed.is_some() {
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
            resources: Some(self.resources.clone()),
            volume_mounts: Some(mounts),
            security_context: Some(restricted()),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        }
    }

    /// Puts a file of several keys together. Our own program does it, in a container of its own:
    /// the scanner's image may be any that has Prowler, its entry point stays what it is, and no
    /// shell ever sees a value.
    pub(super) fn compose_container(&self, config: &FileConfig) -> Option<Container> {
        let composed = self.run.composed.as_ref()?;
        let file = composed.composition.as_str();
        Some(Container {
            name: COMPOSE.to_owned(),
            image: Some(config.upload.image.clone()),
            image_pull_policy: config.upload.image_pull_policy.clone(),
            args: Some(["compose", "--file", file].map(str::to_owned).into()),
            resources: Some(resources(
                [
                    ("cpu", "10m"),
                    ("memory", "16Mi"),
                    ("ephemeral-storage", "16Mi"),
                ],
                [
                    ("cpu", "1"),
                    ("memory", "64Mi"),
                    ("ephemeral-storage", "64Mi"),
                ],
            )),
            volume_mounts: Some(vec![
                mount(PARTS, PARTS_DIRECTORY, true),
                mount(CREDENTIALS, DIRECTORY, false),
            ]),
            security_context: Some(restricted()),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        })
    }

    pub(super) fn upload_container(&self, config: &FileConfig) -> Container {
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
}
