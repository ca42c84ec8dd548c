mod values;

use super::*;
use crate::api::common::LocalRef;

const KINDS: [CredentialsType; 3] = [
    CredentialsType::Static,
    CredentialsType::Role,
    CredentialsType::ServiceAccount,
];

fn by_secret(kind: CredentialsType) -> Credentials {
    Credentials {
        kind: Some(kind),
        secret_ref: Some(LocalRef::new("keys")),
        service_account_name: None,
    }
}

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
        .collect()
}

fn checked(
    provider: ProviderType,
    credentials: &Credentials,
    pairs: &[(&str, &str)],
) -> Result<Access, Vec<Violation>> {
    let data = data(pairs);
    let named = Named {
        secret: Some(SecretFound {
            allowed: true,
            data: &data,
            expires: None,
        }),
        service_account: Some(ServiceAccountFound { allowed: true }),
        ..Named::default()
    };
    check(provider, "prod", Some(credentials), &named)
}

fn message(result: Result<Access, Vec<Violation>>) -> String {
    let violations = result.unwrap_err();
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations[0].message().to_owned()
}

#[test]
fn every_provider_type_has_static_credentials() {
    for provider in ProviderType::ALL {
        assert!(
            shape(provider, CredentialsType::Static).is_some(),
            "{provider}"
        );
    }
}

#[test]
fn choices_name_keys_of_the_table_and_variables_are_not_given_twice() {
    for (provider, kind) in ProviderType::ALL
        .into_iter()
        .flat_map(|p| KINDS.map(|k| (p, k)))
    {
        let Some(shape) = shape(provider, kind) else {
            continue;
        };
        let names: BTreeSet<_> = shape.keys.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), shape.keys.len(), "{provider}");
        for name in shape
            .choice
            .iter()
            .flat_map(|choice| choice.groups.concat())
        {
            assert!(names.contains(name), "{provider}: {name}");
        }
        let ways: Vec<_> = shape
            .keys
            .iter()
            .map(|key| key.delivery)
            .filter(|way| !matches!(way, Delivery::Unused | Delivery::Composed(_)))
            .collect();
        for (index, way) in ways.iter().enumerate() {
            assert!(!ways[..index].contains(way), "{provider}: {way:?}");
        }
    }
}

#[test]
fn each_missing_key_is_named() {
    let violations = checked(
        ProviderType::Azure,
        &by_secret(CredentialsType::Static),
        &[("client_id", "x"), ("client_secret", "")],
    )
    .unwrap_err();
    let messages: Vec<_> = violations.iter().map(Violation::message).collect();
    assert_eq!(
        messages,
        [
            "Secret 'keys' lacks the key client_secret",
            "Secret 'keys' lacks the key tenant_id"
        ]
    );
    assert!(
        violations
            .iter()
            .all(|v| v.reason() == Reason::SecretKeyMissing)
    );
}

#[test]
fn other_keys_of_the_secret_are_left_alone() {
    let access = checked(
        ProviderType::Vercel,
        &by_secret(CredentialsType::Static),
        &[("api_token", "x"), ("LD_PRELOAD", "y")],
    )
    .unwrap();
    assert_eq!(access.keys, BTreeSet::from(["api_token".to_owned()]));
}

#[test]
fn keys_that_stand_for_each_other() {
    let m365 = |pairs: &[(&str, &str)]| {
        checked(
            ProviderType::M365,
            &by_secret(CredentialsType::Static),
            pairs,
        )
    };
    let ids = [("client_id", "x"), ("tenant_id", "y")];
    let with = |more: &[(&'static str, &'static str)]| [&ids[..], more].concat();
    assert!(m365(&with(&[("client_secret", "z")])).is_ok());
    // What a PFX shows from without.
    assert!(m365(&with(&[("certificate_content", "MAUCAQMwAA==")])).is_ok());
    assert_eq!(
        message(m365(&ids)),
        "Secret 'keys' needs client_secret, or certificate_content"
    );
    assert_eq!(
        message(m365(&with(&[
            ("client_secret", "z"),
            ("certificate_content", "MAUCAQMwAA==")
        ]))),
        "Secret 'keys' may have only one of: client_secret, or certificate_content"
    );

    let cloudflare = |pairs: &[(&str, &str)]| {
        checked(
            ProviderType::Cloudflare,
            &by_secret(CredentialsType::Static),
            pairs,
        )
    };
    assert!(cloudflare(&[("api_token", "x")]).is_ok());
    assert!(cloudflare(&[("api_key", "x"), ("api_email", "y")]).is_ok());
    assert_eq!(
        message(cloudflare(&[("api_key", "x")])),
        "Secret 'keys' needs api_key and api_email together"
    );

    let image = |pairs: &[(&str, &str)]| {
        checked(
            ProviderType::Image,
            &by_secret(CredentialsType::Static),
            pairs,
        )
    };
    assert!(image(&[]).is_ok());
    assert!(image(&[("registry_username", "x")]).is_err());
}

#[test]
fn a_role_is_assumed_by_keys_or_by_a_service_account_never_by_the_node() {
    let role = [
        ("role_arn", "arn:aws:iam::123456789012:role/prowler"),
        ("external_id", "x"),
    ];
    let alone = checked(ProviderType::Aws, &by_secret(CredentialsType::Role), &role);
    assert_eq!(
        message(alone),
        "Secret 'keys' needs aws_access_key_id and aws_secret_access_key, or a serviceAccountName beside it"
    );
    let mut credentials = by_secret(CredentialsType::Role);
    credentials.service_account_name = Some("scanner".into());
    let access = checked(ProviderType::Aws, &credentials, &role).unwrap();
    assert_eq!(access.service_account.as_deref(), Some("scanner"));
}

#[test]
fn doors_that_their_owners_did_not_open_stay_shut() {
    let data = data(&[("api_token", "x")]);
    let named = Named {
        secret: Some(SecretFound {
            allowed: false,
            data: &data,
            expires: None,
        }),
        service_account: Some(ServiceAccountFound { allowed: false }),
        ..Named::default()
    };
    let secret = check(
        ProviderType::Vercel,
        "team_x",
        Some(&by_secret(CredentialsType::Static)),
        &named,
    );
    assert_eq!(secret.unwrap_err()[0].reason(), Reason::SecretNotAllowed);
    let account = Credentials {
        service_account_name: Some("scanner".into()),
        ..Credentials::default()
    };
    let account = check(ProviderType::Aws, "123456789012", Some(&account), &named);
    assert_eq!(
        account.unwrap_err()[0].reason(),
        Reason::ServiceAccountNotAllowed
    );
}

#[test]
fn what_is_not_there_yet_is_waited_for() {
    let secret = check(
        ProviderType::Vercel,
        "team_x",
        Some(&by_secret(CredentialsType::Static)),
        &Named::default(),
    );
    let violation = &secret.unwrap_err()[0];
    assert_eq!(violation.reason(), Reason::SecretNotFound);
    assert!(!violation.reason().is_stalled());
}

#[test]
fn shapes_the_definition_refuses_are_refused_here_too() {
    let nothing = Credentials::default();
    let untyped = Credentials {
        secret_ref: Some(LocalRef::new("keys")),
        ..Credentials::default()
    };
    let both = Credentials {
        service_account_name: Some("scanner".into()),
        ..by_secret(CredentialsType::Static)
    };
    for credentials in [nothing, untyped, both] {
        assert!(
            checked(
                ProviderType::Aws,
                &credentials,
                &[("aws_access_key_id", "x"), ("aws_secret_access_key", "y"),]
            )
            .is_err(),
            "{credentials:?}"
        );
    }
    for kind in [CredentialsType::Role, CredentialsType::ServiceAccount] {
        assert!(checked(ProviderType::Github, &by_secret(kind), &[]).is_err());
    }
    let account = Credentials {
        service_account_name: Some("s".into()),
        ..Credentials::default()
    };
    assert!(checked(ProviderType::Github, &account, &[]).is_err());
}

#[test]
fn values_are_checked_as_far_as_that_can_be_done_unused() {
    let role = |key: &'static str, value: &'static str| {
        checked(
            ProviderType::Aws,
            &by_secret(CredentialsType::Role),
            &[
                ("role_arn", "arn:aws-cn:iam::123456789012:role/x"),
                ("external_id", "e"),
                ("aws_access_key_id", "a"),
                ("aws_secret_access_key", "b"),
                (key, value),
            ],
        )
    };
    for (key, good, bad) in [
        ("session_duration", "3600", "899"),
        ("session_duration", "43200", "1h"),
        ("role_session_name", "prowler", "two\nlines"),
        ("role_session_name", "a+b=c,d.e@f-g_", "two words"),
        ("external_id", "--flag", "nul\u{0}"),
    ] {
        assert!(role(key, good).is_ok(), "{key} {good}");
        assert!(role(key, bad).is_err(), "{key} {bad}");
    }
}

#[test]
fn no_message_repeats_a_value() {
    let secrets = ["hunter2", "{hunter2", "hunter2\n"];
    for (provider, kind) in ProviderType::ALL
        .into_iter()
        .flat_map(|p| KINDS.map(|k| (p, k)))
    {
        let Some(shape) = shape(provider, kind) else {
            continue;
        };
        for secret in secrets {
            let pairs: Vec<_> = shape.keys.iter().map(|key| (key.name, secret)).collect();
            if let Err(violations) = checked(provider, &by_secret(kind), &pairs) {
                for violation in violations {
                    assert!(!violation.to_string().contains("hunter2"), "{violation}");
                }
            }
        }
    }
    let data = data(&[("api_token", "hunter2")]);
    let found = SecretFound {
        allowed: true,
        data: &data,
        expires: None,
    };
    assert!(
        !format!("{found:?}").contains("104, 117"),
        "bytes of the value"
    );
    assert!(!format!("{found:?}").contains("hunter2"));
}
