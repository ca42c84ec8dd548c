//! Prowler's command line: an account, what to look at and how to get in, as arguments,
//! environment and files of the `scan` container. No value of a Secret passes through here:
//! a value is named as `$(VARIABLE)`, which the kubelet puts in. What a user wrote is escaped,
//! so that the kubelet leaves it as it is: only this file decides which variables are read.

use super::account::Account;
use super::credentials::{self, Access, Composition, DIRECTORY, Delivery};
use super::scope;
use crate::api::account::ProviderType;
use crate::api::common::{ScanSettings, Severity};

/// Where Prowler writes its file of findings.
pub const OUTPUT_DIRECTORY: &str = "/prowler/output";
/// The file of findings, which the upload container sends.
pub const OUTPUT_FILE: &str = "/prowler/output/scan.ocsf.json";

/// How to run Prowler. Environment, files and labels are those of any command that goes the same
/// way into the account, whatever its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Arguments as the kubelet reads them (`$(NAME)` is a variable, `$$` a dollar), the provider
    /// type first.
    pub args: Vec<String>,
    /// Environment variables, in the order in which they must be defined.
    pub env: Vec<Variable>,
    /// Files of the Secret.
    pub files: Vec<SecretFile>,
    /// A file of several keys, to be put together before Prowler starts.
    pub composed: Option<Composed>,
    /// ServiceAccount of the pod whose token the scanner gets.
    pub service_account: Option<String>,
    /// Labels the pod needs for workload identity.
    pub pod_labels: Vec<(&'static str, &'static str)>,
    /// Keep to nodes whose metadata server gives a pod its own identity and never the node's.
    pub metadata_of_its_own: bool,
}

/// An environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// The value of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// This text, as the kubelet reads it.
    Text(String),
    /// The value of this key of the Secret.
    Key(String),
}

/// A key of the Secret as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The key.
    pub key: String,
    /// Name of the file in [`DIRECTORY`].
    pub name: String,
}

/// A file that is made of keys of the Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// Which file.
    pub composition: Composition,
    /// The keys.
    pub keys: Vec<String>,
}

/// How to run Prowler over the account. `settings` are those of the Provider with what the
/// schedule and the scan lay over them.
pub fn invocation(account: &Account, settings: &ScanSettings, access: &Access) -> Invocation {
    let provider = account.provider();
    let mut run = Invocation {
        args: vec![provider.as_str().to_owned()],
        env: Vec::new(),
        files: Vec::new(),
        composed: None,
        service_account: access.service_account.clone(),
        pod_labels: Vec::new(),
        metadata_of_its_own: false,
    };
    run.keep_from_the_node(provider);
    run.give_credentials(provider, access);
    run.name_account(account, access);
    run.scope(provider, settings);
    // What was found is told by the file, not by the exit code.
    run.args(&["--ignore-exit-code-3"]);
    run.args(&["--output-formats", "json-ocsf"]);
    run.args(&["--output-directory", OUTPUT_DIRECTORY]);
    run.args(&["--output-filename", "scan"]);
    run.args(&["--no-banner", "--no-color"]);
    run
}

/// The text as it must be written for the kubelet to pass it on unchanged. It replaces
/// `$(NAME)` in arguments and values by what the variable holds: a uid that names the variable
/// of a key would carry the key to wherever the uid points.
pub fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

impl Invocation {
    fn args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| literal(arg)));
    }

    /// One argument with the value of a variable, so that a value that begins with a hyphen
    /// stays a value.
    fn variable(&mut self, flag: &str, variable: &str) {
        self.args.push(format!("{flag}=$({variable})"));
    }

    fn text(&mut self, name: &str, value: &str) {
        self.env.push(Variable {
            name: name.into(),
            value: Value::Text(literal(value)),
        });
    }

    fn key(&mut self, name: &str, key: &str) {
        self.env.push(Variable {
            name: name.into(),
            value: Value::Key(key.into()),
        });
    }

    /// The node's own identity is never the tenant's: an SDK that finds nothing else must not ask
    /// the node for it. (On Google Cloud the node is asked for the pod's identity too: there the
    /// pod keeps to nodes that answer with nothing else.)
    fn keep_from_the_node(&mut self, provider: ProviderType) {
        match provider {
            ProviderType::Aws => self.text("AWS_EC2_METADATA_DISABLED", "true"),
            // Azure's SDK knows no such switch, but lets itself be told where to ask.
            ProviderType::Azure => {
                self.text("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9");
            }
            ProviderType::Alibabacloud => self.text("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true"),
            _ => {}
        }
    }

    fn give_credentials(&mut self, provider: ProviderType, access: &Access) {
        let Some(shape) = access
            .kind
            .and_then(|kind| credentials::shape(provider, kind))
        else {
            return;
        };
        for key in shape
            .keys
            .iter()
            .filter(|key| access.keys.contains(key.name))
        {
            match key.delivery {
                Delivery::Env(name) => self.key(name, key.name),
                Delivery::File(name, flag) => {
                    self.files.push(SecretFile {
                        key: key.name.into(),
                        name: name.into(),
                    });
                    self.args(&[flag, &format!("{DIRECTORY}/{name}")]);
                }
                Delivery::Flag(flag) => {
                    let variable = format!("PROWLER_OPERATOR_{}", key.name.to_ascii_uppercase());
                    self.key(&variable, key.name);
                    self.variable(flag, &variable);
                }
                Delivery::Composed(composition) => self.part(composition, key.name),
                Delivery::Unused => {}
            }
        }
    }

    /// One more key of the file, and the flag that names it with the first.
    fn part(&mut self, composition: Composition, key: &str) {
        if self.composed.is_none() {
            self.args(&[composition.flag(), &composition.path()]);
        }
        self.composed
            .get_or_insert_with(|| Composed {
                composition,
                keys: Vec::new(),
            })
            .keys
            .push(key.to_owned());
    }

    /// Says which account is meant, so that the findings name it.
    fn name_account(&mut self, account: &Account, access: &Access) {
        let uid = account.uid();
        let ambient = access.kind.is_none() && access.service_account.is_some();
        match account.provider() {
            ProviderType::Azure => {
                if ambient {
                    // Prowler's word for it: `DefaultAzureCredential` without the variables of a
                    // service principal. It begins with the pod's federated token.
                    self.args(&["--managed-identity-auth"]);
                    // The webhook passes over pods without it.
                    self.pod_labels
                        .push(("azure.workload.identity/use", "true"));
                } else {
                    self.args(&["--sp-env-auth"]);
                }
                self.args(&["--subscription-ids", uid]);
            }
            ProviderType::Gcp => {
                self.metadata_of_its_own = ambient;
                self.args(&["--project-ids", uid]);
            }
            ProviderType::Kubernetes if ambient => self.args(&["--cluster-name", uid]),
            ProviderType::Kubernetes => self.args(&["--context", uid]),
            ProviderType::M365 if access.keys.contains("certificate_content") => {
                self.args(&["--certificate-auth"]);
            }
            ProviderType::M365 => self.args(&["--sp-env-auth"]),
            ProviderType::Github => self.args(&["--organizations", uid]),
            ProviderType::Iac => self.args(&["--scan-repository-url", uid, "--provider-uid", uid]),
            ProviderType::Alibabacloud if ambient => {
                // Without it the webhook looks at the namespace alone.
                self.pod_labels
                    .push(("pod-identity.alibabacloud.com/injection", "on"));
                self.variable("--oidc-role-arn", "ALIBABA_CLOUD_ROLE_ARN");
            }
            ProviderType::Cloudflare => self.args(&["--account-id", uid]),
            ProviderType::Image if is_registry(uid) => self.args(&["--registry", uid]),
            ProviderType::Image => self.args(&["--image", uid]),
            ProviderType::Vercel => self.text("VERCEL_TEAM", uid),
            ProviderType::Okta => self.args(&["--okta-org-domain", uid]),
            // These are told by the credentials alone.
            ProviderType::Aws
            | ProviderType::Alibabacloud
            | ProviderType::Mongodbatlas
            | ProviderType::Oraclecloud
            | ProviderType::Openstack
            | ProviderType::Googleworkspace => {}
        }
    }

    fn scope(&mut self, provider: ProviderType, settings: &ScanSettings) {
        // Image, resources and deadline are the pod's business.
        let ScanSettings {
            services,
            checks,
            excluded_checks,
            excluded_services,
            severities,
            compliances,
            categories,
            regions,
            image: _,
            resources: _,
            active_deadline_seconds: _,
        } = settings;
        let severities: Option<Vec<String>> = severities.as_ref().map(|list| {
            list.iter()
                .copied()
                .map(Severity::as_str)
                .map(str::to_owned)
                .collect()
        });
        for (flag, items) in [
            (Some("--check"), checks),
            (Some("--service"), services),
            (Some("--severity"), &severities),
            (Some("--compliance"), compliances),
            (Some("--category"), categories),
            (Some("--excluded-check"), excluded_checks),
            (Some("--excluded-service"), excluded_services),
            (scope::region_flag(provider), regions),
        ] {
            if let (Some(flag), Some(items @ [_, ..])) = (flag, items.as_deref()) {
                self.args(&[flag]);
                self.args.extend(items.iter().map(|item| literal(item)));
            }
        }
    }
}

/// Whether an image uid names a whole registry, or a namespace of one: decided as Prowler does.
fn is_registry(uid: &str) -> bool {
    match uid.split_once('/') {
        None => uid.split(':').next().is_some_and(|host| host.contains('.')),
        Some((host, rest)) => host.contains(['.', ':']) && !rest.contains(['/', ':']),
    }
}

#[cfg(test)]
mod tests;
