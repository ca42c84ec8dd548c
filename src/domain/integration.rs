//! Which Integrations make sense: configuration and Secret, to a [`ValidIntegration`] or to all
//! that is wrong with them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::credentials::{self, Access, Delivery, Key, SecretFound, Shape, values};
use super::reason::Reason;
use super::violation::Violation;
use crate::api::account::ProviderType;
use crate::api::integration::{Configuration, IntegrationSpec, IntegrationType};
use crate::api::provider::CredentialsType;

/// Where findings lie in a bucket unless the configuration says otherwise.
const DEFAULT_DIRECTORY: &str = "output";

/// An Integration that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidIntegration {
    /// How findings are sent, by the names of the original.
    pub configuration: Value,
    /// The Secret and its keys; none where the Provider's own credentials serve.
    pub access: Option<Access>,
}

/// Checks an Integration. All violations at once; those whose reason is not `is_stalled` may heal
/// without an edit.
pub fn validate(
    spec: &IntegrationSpec,
    secret: Option<SecretFound<'_>>,
) -> Result<ValidIntegration, Vec<Violation>> {
    let mut violations = Vec::new();
    let given = spec.configuration.clone().unwrap_or_default();
    let configuration = configuration(spec.kind, &given)
        .map_err(|violation| violations.push(violation))
        .ok();
    let access = spec
        .credentials
        .as_ref()
        .map(|named| access(spec.kind, &named.secret_ref.name, secret))
        .transpose()
        .map_err(|more| violations.extend(more))
        .ok();
    match (configuration, access) {
        (Some(configuration), Some(access)) if violations.is_empty() => Ok(ValidIntegration {
            configuration,
            access,
        }),
        _ => Err(violations),
    }
}

fn configuration(kind: IntegrationType, given: &Configuration) -> Result<Value, Violation> {
    Ok(match kind {
        IntegrationType::AmazonS3 => {
            let directory = given.output_directory.as_deref();
            json!({
                "bucket_name": given.bucket_name,
                "output_directory": normalised(directory.unwrap_or(DEFAULT_DIRECTORY))?,
            })
        }
        IntegrationType::AwsSecurityHub => json!({
            "send_only_fails": given.send_only_fails.unwrap_or(false),
            "archive_previous_findings": given.archive_previous_findings.unwrap_or(false),
        }),
        IntegrationType::Jira => json!({}),
    })
}

/// A directory of a bucket without what says nothing: `/a//./b/` is `a/b`.
fn normalised(directory: &str) -> Result<String, Violation> {
    let parts: Vec<&str> = directory
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.is_empty() || parts.contains(&"..") {
        return Err(Violation::new(
            Reason::InvalidSpec,
            "spec.configuration.outputDirectory",
            "it must name a directory below the bucket's root, without '..', for example findings/production",
        ));
    }
    Ok(parts.join("/"))
}

static JIRA: Shape = Shape {
    keys: &[
        Key {
            name: "user_mail",
            required: true,
            delivery: Delivery::Unused,
        },
        Key {
            name: "api_token",
            required: true,
            delivery: Delivery::Unused,
        },
        Key {
            name: "domain",
            required: true,
            delivery: Delivery::Unused,
        },
    ],
    choice: None,
};

fn access(
    kind: IntegrationType,
    name: &str,
    found: Option<SecretFound<'_>>,
) -> Result<Access, Vec<Violation>> {
    let assumes = found.is_some_and(|secret| secret.data.contains_key("role_arn"));
    let (aws, shape) = match kind {
        IntegrationType::Jira => (None, Some(&JIRA)),
        IntegrationType::AmazonS3 | IntegrationType::AwsSecurityHub => {
            let kind = if assumes {
                CredentialsType::Role
            } else {
                CredentialsType::Static
            };
            (Some(kind), credentials::shape(ProviderType::Aws, kind))
        }
    };
    let keys = shape.map_or_else(
        || Ok(std::collections::BTreeSet::new()),
        |shape| {
            credentials::keys(shape, name, found, false, |data| match aws {
                Some(kind) => values::look(ProviderType::Aws, kind, "", data).faults,
                None => jira(data),
            })
        },
    );
    match keys {
        Ok(keys) => Ok(Access {
            kind: aws,
            secret: Some(name.to_owned()),
            keys,
            ..Access::default()
        }),
        Err(faults) => Err(faults
            .into_iter()
            .map(|(reason, message)| Violation::new(reason, "spec.credentials.secretRef", message))
            .collect()),
    }
}

/// What is wrong with the values for Jira. No sentence here repeats a value.
fn jira(data: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let text = |key: &str| {
        data.get(key)
            .and_then(|value| std::str::from_utf8(value).ok())
            .unwrap_or_default()
    };
    let mut faults = Vec::new();
    if let Some(fault) = values::email(text("user_mail")) {
        faults.push(format!("user_mail {fault}"));
    }
    if let Some(fault) = values::one_line(text("api_token")) {
        faults.push(format!("api_token {fault}"));
    }
    let domain = text("domain");
    let good = (1..=63).contains(&domain.len())
        && domain
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !domain.starts_with('-')
        && !domain.ends_with('-');
    if !good {
        faults.push(
            "domain is not the name of a site: acme, where the site is acme.atlassian.net".into(),
        );
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        spec: Value,
        secret: Option<&[(&str, &str)]>,
    ) -> Result<ValidIntegration, Vec<String>> {
        let data: BTreeMap<String, Vec<u8>> = secret
            .unwrap_or_default()
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect();
        let found = secret.map(|_| SecretFound {
            allowed: true,
            data: &data,
            expires: None,
        });
        validate(&serde_json::from_value(spec).unwrap(), found)
            .map_err(|all| all.iter().map(ToString::to_string).collect())
    }

    fn bucket(directory: Option<&str>) -> Value {
        let mut spec = json!({
            "type": "amazon_s3", "configuration": { "bucketName": "acme" },
            "credentials": { "secretRef": { "name": "keys" } },
        });
        if let Some(directory) = directory {
            spec["configuration"]["outputDirectory"] = json!(directory);
        }
        spec
    }

    const KEYS: &[(&str, &str)] = &[("aws_access_key_id", "a"), ("aws_secret_access_key", "b")];

    #[test]
    fn a_directory_is_stored_without_what_says_nothing() {
        for (given, stored) in [
            (None, "output"),
            (Some("findings"), "findings"),
            (Some("/a//./b/"), "a/b"),
            (Some("./x y"), "x y"),
        ] {
            let valid = check(bucket(given), Some(KEYS)).unwrap();
            assert_eq!(
                valid.configuration,
                json!({ "bucket_name": "acme", "output_directory": stored })
            );
        }
        for refused in ["/", ".", "//", "a/../b", "..", "./."] {
            let told = check(bucket(Some(refused)), Some(KEYS)).unwrap_err();
            assert_eq!(told.len(), 1, "{refused}");
            assert!(told[0].starts_with("spec.configuration.outputDirectory: it must name"));
        }
    }

    #[test]
    fn a_role_to_assume_is_known_by_its_key_and_says_who_assumes_it() {
        let role = [
            ("role_arn", "arn:aws:iam::123456789012:role/prowler"),
            ("external_id", "x"),
        ];
        let told = check(bucket(None), Some(&role)).unwrap_err();
        assert!(
            told[0].contains("aws_access_key_id and aws_secret_access_key"),
            "{told:?}"
        );
        let whole: Vec<_> = role.iter().chain(KEYS).copied().collect();
        let access = check(bucket(None), Some(&whole)).unwrap().access.unwrap();
        assert_eq!(access.kind, Some(CredentialsType::Role));
        assert_eq!(access.keys.len(), 4);
    }

    #[test]
    fn all_that_is_wrong_with_a_secret_is_said_at_once_and_no_value_with_it() {
        let spec = json!({ "type": "jira", "credentials": { "secretRef": { "name": "jira" } } });
        let told = check(
            spec.clone(),
            Some(&[("user_mail", "nobody-hush"), ("domain", "-hush-")]),
        )
        .unwrap_err()
        .join("\n");
        for part in [
            "lacks the key api_token",
            "user_mail is not an e-mail address",
            "domain is not the name of a site",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("hush"), "{told}");
        let told = check(spec, None).unwrap_err();
        assert_eq!(
            told,
            ["spec.credentials.secretRef: there is no Secret 'jira' in this namespace."]
        );
    }

    #[test]
    fn a_hub_needs_no_secret_of_its_own() {
        let spec = json!({ "type": "aws_security_hub", "providerRefs": [{ "name": "a" }],
                           "configuration": { "sendOnlyFails": true } });
        let valid = check(spec, None).unwrap();
        assert_eq!(valid.access, None);
        assert_eq!(
            valid.configuration,
            json!({ "send_only_fails": true, "archive_previous_findings": false })
        );
    }
}
