//! What can be said of a Secret's values without using them. No sentence here repeats a value.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{Delivery, Expiry, Key, Source, kubeconfig, material, table};
use crate::api::account::ProviderType;
use crate::api::provider::CredentialsType;

/// What the values of a Secret say.
#[derive(Debug, Default)]
pub(in crate::domain) struct Looked {
    /// What is wrong with them; each completes "Secret …: ".
    pub(in crate::domain) faults: Vec<String>,
    /// What ends first.
    pub(in crate::domain) expiry: Option<Expiry>,
}

impl Looked {
    fn fault(&mut self, key: &str, fault: &str) {
        self.faults.push(format!("{key} {fault}"));
    }

    fn ends(&mut self, key: &str, at: Timestamp) {
        let of = Source::Key(key.to_owned());
        self.expiry = Expiry::earlier(self.expiry.take(), Some(Expiry { at, of }));
    }
}

/// Looks at the values of a Secret for the account `uid`.
pub(in crate::domain) fn look(
    provider: ProviderType,
    kind: CredentialsType,
    uid: &str,
    data: &BTreeMap<String, Vec<u8>>,
) -> Looked {
    let mut looked = Looked::default();
    let keys = table::shape(provider, kind).map_or(&[][..], |shape| shape.keys);
    for key in keys {
        let Some(value) = data.get(key.name).filter(|value| !value.is_empty()) else {
            continue;
        };
        match std::str::from_utf8(value) {
            Err(_) => looked.fault(key.name, "is not text"),
            Ok(value) => value_of(key, value, uid, &mut looked),
        }
    }
    let text = |key: &str| std::str::from_utf8(data.get(key)?).ok();
    match (provider, kind) {
        (ProviderType::Aws, _) => {
            // See <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>.
            let temporary = text("aws_access_key_id").is_some_and(|id| id.starts_with("ASIA"));
            if temporary && text("aws_session_token").is_none_or(str::is_empty) {
                let fault = "is of temporary credentials: they need aws_session_token too";
                looked.fault("aws_access_key_id", fault);
            }
        }
        (ProviderType::Oraclecloud, _) => {
            let keys = [text("key_content"), text("key_file")];
            let encrypted = keys.into_iter().flatten().any(material::is_encrypted);
            if encrypted && text("pass_phrase").is_none_or(str::is_empty) {
                looked.fault("pass_phrase", "is missing, and the key is encrypted");
            }
        }
        (ProviderType::Openstack, _) => {
            let clouds = text("clouds_yaml_content").and_then(yaml);
            let name = text("clouds_yaml_cloud").unwrap_or_default();
            if clouds.is_some_and(|clouds| clouds["clouds"].get(name).is_none()) {
                let fault = "has no cloud of the name in clouds_yaml_cloud";
                looked.fault("clouds_yaml_content", fault);
            }
        }
        _ => {}
    }
    looked
}

/// Looks at the value of one key.
fn value_of(key: &Key, value: &str, uid: &str, looked: &mut Looked) {
    let name = key.name;
    let end = match name {
        "kubeconfig_content" => kubeconfig::look(value, uid),
        "certificate_content" => material::certificate_with_key(value),
        _ => match fault_of(key, value) {
            None => Ok(material::token_end(value)),
            Some(fault) => Err(fault),
        },
    };
    match end {
        Ok(None) => {}
        Ok(Some(at)) => looked.ends(name, at),
        Err(fault) => looked.fault(name, fault),
    }
}

/// What is wrong with a value that tells no end of its own.
fn fault_of(key: &Key, value: &str) -> Option<&'static str> {
    match key.name {
        "role_session_name" => session_name(value),
        "session_duration" => session_duration(value),
        "role_arn" if matches!(key.delivery, Delivery::Flag(_)) => role_arn(value),
        "service_account_key" | "credentials_content" => material::service_account(value),
        "github_app_key_content" => material::github_key(value),
        "okta_private_key" => material::okta_key(value),
        "clouds_yaml_content" => mapping(value),
        "delegated_user" => email(value),
        _ => match key.delivery {
            Delivery::Composed(composition) => composition.fault(key.name, value),
            Delivery::Unused => None,
            Delivery::Env(_) | Delivery::File(..) | Delivery::Flag(_) => one_line(value),
        },
    }
}

fn role_arn(text: &str) -> Option<&'static str> {
    let good = text.starts_with("arn:aws") && text.contains(":role/") && one_line(text).is_none();
    (!good).then_some("is not the ARN of a role, such as arn:aws:iam::123456789012:role/prowler")
}

fn session_duration(text: &str) -> Option<&'static str> {
    let good = text
        .parse::<u32>()
        .is_ok_and(|seconds| (900..=43_200).contains(&seconds));
    (!good).then_some("is not a number of seconds from 900 to 43200")
}

/// As AWS has it; Prowler refuses others among its arguments.
fn session_name(text: &str) -> Option<&'static str> {
    let good = (2..=64).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c));
    (!good).then_some("is not the name of a session: 2 to 64 letters, digits and _ + = , . @ -")
}

pub(in crate::domain) fn one_line(text: &str) -> Option<&'static str> {
    text.chars()
        .any(char::is_control)
        .then_some("has a line break or another control character; one at the end comes from echo or an editor")
}

fn yaml(text: &str) -> Option<Value> {
    serde_saphyr::from_str(text).ok()
}

fn mapping(text: &str) -> Option<&'static str> {
    let good = yaml(text).is_some_and(|value| value.is_object());
    (!good).then_some("is not a YAML mapping")
}

pub(in crate::domain) fn email(text: &str) -> Option<&'static str> {
    let good = text.split_once('@').is_some_and(|(name, domain)| {
        !name.is_empty() && domain.contains('.') && !text.contains(char::is_whitespace)
    });
    (!good).then_some("is not an e-mail address")
}
