//! What can be said of a Secret's values without using them. No sentence here repeats a value.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Composition;
use crate::api::account::ProviderType;
use crate::api::provider::CredentialsType;

/// What is wrong with the values; each completes "Secret …: ".
pub(in crate::domain) fn faults(
    provider: ProviderType,
    kind: CredentialsType,
    data: &BTreeMap<String, Vec<u8>>,
) -> Vec<String> {
    let text = |key: &str| {
        data.get(key)
            .filter(|value| !value.is_empty())
            .map(|value| std::str::from_utf8(value))
    };
    let mut faults = Vec::new();
    let mut check = |key: &str, fault: fn(&str) -> Option<&'static str>| match text(key) {
        None => {}
        Some(Err(_)) => faults.push(format!("{key} is not text")),
        Some(Ok(value)) => {
            if let Some(fault) = fault(value) {
                faults.push(format!("{key} {fault}"));
            }
        }
    };
    match (provider, kind) {
        (ProviderType::Aws, CredentialsType::Role) => {
            check("role_arn", role_arn);
            check("external_id", one_line);
            check("role_session_name", session_name);
            check("session_duration", session_duration);
        }
        (ProviderType::Gcp, CredentialsType::Static) => {
            faults.extend(Composition::GcpUser.faults(data));
        }
        (ProviderType::Oraclecloud, CredentialsType::Static) => {
            faults.extend(Composition::OciConfig.faults(data));
        }
        (ProviderType::Gcp, CredentialsType::ServiceAccount) => {
            check("service_account_key", json_object);
        }
        (ProviderType::Kubernetes, CredentialsType::Static) => {
            check("kubeconfig_content", kubeconfig);
        }
        (ProviderType::M365, CredentialsType::Static) => check("certificate_content", base64),
        (ProviderType::Openstack, CredentialsType::Static) => {
            check("clouds_yaml_content", mapping);
            check("clouds_yaml_cloud", one_line);
        }
        (ProviderType::Googleworkspace, CredentialsType::Static) => {
            check("credentials_content", json_object);
            check("delegated_user", email);
        }
        _ => {}
    }
    faults
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
        .then_some("has a line break or another control character")
}

fn json_object(text: &str) -> Option<&'static str> {
    let good = serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object());
    (!good).then_some("is not a JSON object")
}

fn mapping(text: &str) -> Option<&'static str> {
    let good = serde_saphyr::from_str::<Value>(text).is_ok_and(|value| value.is_object());
    (!good).then_some("is not a YAML mapping")
}

pub(in crate::domain) fn email(text: &str) -> Option<&'static str> {
    let good = text.split_once('@').is_some_and(|(name, domain)| {
        !name.is_empty() && domain.contains('.') && !text.contains(char::is_whitespace)
    });
    (!good).then_some("is not an e-mail address")
}

fn base64(text: &str) -> Option<&'static str> {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    let text: String = text.split_ascii_whitespace().collect();
    let body = text.trim_end_matches('=');
    let good = !body.is_empty()
        && body.chars().all(letters)
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2;
    (!good).then_some("is not base64")
}

/// A kubeconfig may hold keys and tokens, but no program to run: it would run with whatever
/// the scanner's pod has.
fn kubeconfig(text: &str) -> Option<&'static str> {
    let Ok(config) = serde_saphyr::from_str::<Value>(text) else {
        return Some("is not YAML");
    };
    if !config.is_object() {
        return Some("is not a kubeconfig: it is no mapping");
    }
    let users = config
        .get("users")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    for user in users.iter().filter_map(|user| user.get("user")) {
        if user.get("exec").is_some_and(|exec| !exec.is_null()) {
            return Some("has a user with exec: programs are not run for credentials");
        }
        if user.pointer("/auth-provider/config/cmd-path").is_some() {
            return Some("has a user with cmd-path: programs are not run for credentials");
        }
        // A path would name a file of the scanner's container.
        for key in ["tokenFile", "client-certificate", "client-key"] {
            if user.get(key).is_some() {
                return Some(
                    "names a file: put the contents in, as kubectl config view --flatten does",
                );
            }
        }
    }
    None
}
