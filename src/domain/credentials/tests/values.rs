//! What Secrets hold: keys, certificates and tokens, sound and not, and when they end.

use serde_json::json;

use super::*;
use crate::domain::credentials::samples::{self, EC, END, RSA, packed};

const STATIC: CredentialsType = CredentialsType::Static;
const ACCOUNT: CredentialsType = CredentialsType::ServiceAccount;

/// A Secret of this type with `value` for `key` and what else it needs; the account is `prod`.
fn looked(
    provider: ProviderType,
    kind: CredentialsType,
    key: &str,
    value: &str,
) -> Result<Option<Expiry>, String> {
    let beside = match provider {
        ProviderType::Github => &[("github_app_id", "1")][..],
        ProviderType::Okta => &[("okta_client_id", "0oa")],
        ProviderType::M365 => &[("client_id", "c"), ("tenant_id", "t")],
        ProviderType::Googleworkspace => &[("delegated_user", "a@example.com")],
        ProviderType::Aws => &[("aws_secret_access_key", "s")],
        ProviderType::Openstack => &[("clouds_yaml_cloud", "mine")],
        ProviderType::Oraclecloud => &[
            ("user", "ocid1.user.oc1..a"),
            ("tenancy", "ocid1.tenancy.oc1..b"),
            (
                "fingerprint",
                "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff",
            ),
        ],
        _ => &[],
    };
    let mut pairs = beside.to_vec();
    pairs.push((key, value));
    let data = data(&pairs);
    let secret = SecretFound {
        allowed: true,
        data: &data,
        expires: None,
    };
    let named = Named {
        secret: Some(secret),
        ..Named::default()
    };
    match check(provider, "prod", Some(&by_secret(kind)), &named) {
        Ok(access) => Ok(access.expiry),
        Err(violations) => {
            assert_eq!(violations.len(), 1, "{violations:?}");
            let message = violations[0].message().to_owned();
            for line in value.lines().filter(|line| line.len() > 20) {
                assert!(!message.contains(line), "{message} repeats a value");
            }
            Err(message)
        }
    }
}

fn end(key: &str) -> Expiry {
    let of = Source::Key(key.to_owned());
    Expiry {
        at: END.parse().unwrap(),
        of,
    }
}

#[test]
fn keys_that_sign_are_read_wherever_they_are_held() {
    let one_line = {
        // As GitHub's page has it: PKCS #1, which differs in the words around it.
        let body: String = RSA.lines().filter(|line| !line.starts_with('-')).collect();
        format!("-----BEGIN RSA PRIVATE KEY-----{body}-----END RSA PRIVATE KEY-----")
    };
    let encrypted = RSA.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let cut = RSA[..RSA.len() / 2].to_owned();
    let damaged = RSA.replace("MII", "AAA");
    for (provider, key) in [
        (ProviderType::Github, "github_app_key_content"),
        (ProviderType::Okta, "okta_private_key"),
        (ProviderType::Oraclecloud, "key_content"),
    ] {
        let of = |value: &str| looked(provider, STATIC, key, value);
        assert_eq!(of(&RSA), Ok(None), "{provider}");
        for bad in [&*cut, &damaged, &EC, "your key", "/path/to/key.pem"] {
            assert!(of(bad).is_err(), "{provider}: {bad}");
        }
        let message = of(&encrypted).unwrap_err();
        if provider == ProviderType::Oraclecloud {
            assert!(message.contains("pass_phrase is missing"), "{message}");
        } else {
            assert!(message.contains("without a pass phrase"), "{message}");
        }
    }
    let jwk = |key: serde_json::Value| {
        looked(
            ProviderType::Okta,
            STATIC,
            "okta_private_key",
            &key.to_string(),
        )
    };
    assert_eq!(
        jwk(json!({ "kty": "RSA", "n": "a", "e": "AQAB", "d": "b" })),
        Ok(None)
    );
    assert!(
        jwk(json!({ "kty": "RSA", "n": "a", "e": "AQAB" })).is_err(),
        "public"
    );
    let github = |value: &str| {
        looked(
            ProviderType::Github,
            STATIC,
            "github_app_key_content",
            value,
        )
    };
    // Held to be PKCS #1 by its words, which this key is not.
    assert!(github(&one_line).unwrap_err().contains("cannot be read"));
}

#[test]
fn a_service_account_is_one_and_no_other_file_of_google() {
    let sound: serde_json::Value = serde_json::from_str(&samples::service_account()).unwrap();
    for (provider, kind, key) in [
        (ProviderType::Gcp, ACCOUNT, "service_account_key"),
        (ProviderType::Googleworkspace, STATIC, "credentials_content"),
    ] {
        let of = |value: &serde_json::Value| looked(provider, kind, key, &value.to_string());
        assert_eq!(of(&sound), Ok(None));
        for (field, value) in [
            ("type", json!("external_account")),
            ("type", json!("authorized_user")),
            ("client_email", json!("")),
            ("token_uri", json!(null)),
            (
                "private_key",
                json!("-----BEGIN PRIVATE KEY-----\nyour key\n-----END PRIVATE KEY-----\n"),
            ),
            ("private_key", json!(*EC)),
        ] {
            let mut bad = sound.clone();
            bad[field] = value;
            assert!(of(&bad).is_err(), "{bad}");
        }
        assert!(of(&json!([])).is_err());
    }
}

#[test]
fn a_kubeconfig_has_the_context_of_the_account_and_what_that_needs() {
    let of = |config: &str| {
        looked(
            ProviderType::Kubernetes,
            STATIC,
            "kubeconfig_content",
            config,
        )
    };
    let key = "kubeconfig_content";
    let held = json!({ "client-certificate-data": packed(samples::certificate()),
                       "client-key-data": packed(&*EC) });
    assert_eq!(of(&samples::kubeconfig(&held)), Ok(Some(end(key))));
    let soon = "2030-01-02T03:04:05Z";
    let both = json!({ "client-certificate-data": packed(samples::certificate()),
                       "client-key-data": packed(&*EC), "token": samples::token(soon) });
    let first = of(&samples::kubeconfig(&both)).unwrap().unwrap();
    assert_eq!(first.at.to_string(), soon, "what ends first");
    let opaque = samples::kubeconfig(&json!({ "token": "abc" }));
    assert_eq!(of(&opaque), Ok(None));
    for (user, why) in [
        (json!({ "exec": { "command": "/bin/sh" } }), "exec"),
        (
            json!({ "auth-provider": { "name": "gcp", "config": { "cmd-path": "/bin/sh" } } }),
            "cmd-path",
        ),
        (
            json!({ "tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token" }),
            "names a file",
        ),
        (json!({ "client-key": "/etc/key" }), "names a file"),
        (
            json!({ "client-certificate-data": "YQ==", "client-key-data": "YQ==" }),
            "client-certificate-data",
        ),
        (
            json!({ "client-certificate-data": packed(samples::certificate()) }),
            "client-key-data",
        ),
    ] {
        let message = of(&samples::kubeconfig(&user)).unwrap_err();
        assert!(message.contains(why), "{message}");
    }
    for (from, to, why) in [
        (
            "\"prod\"",
            "\"other\"",
            "no context of the name in spec.uid",
        ),
        (
            "\"cluster\":\"c\"",
            "\"cluster\":\"gone\"",
            "no cluster for the context",
        ),
        (
            "\"user\":\"u\"",
            "\"user\":\"gone\"",
            "no user for the context",
        ),
        (
            "certificate-authority-data",
            "certificate-authority",
            "names a file",
        ),
        ("LS0tLS1CRUdJ", "AAAA", "certificate-authority-data"),
    ] {
        let message = of(&opaque.replace(from, to)).unwrap_err();
        assert!(message.contains(why), "{from}: {message}");
    }
    for text in ["just text", "- a list", "{unclosed"] {
        assert!(of(text).is_err(), "{text}");
    }
}

#[test]
fn a_certificate_with_its_key_is_pem_or_pkcs_12() {
    let key = "certificate_content";
    let of = |text: &str| looked(ProviderType::M365, STATIC, key, text);
    let pem = format!("{}{}", samples::certificate(), *RSA);
    assert_eq!(of(&packed(&pem)), Ok(Some(end(key))));
    assert!(
        of(&packed(samples::certificate()))
            .unwrap_err()
            .contains("private key")
    );
    assert!(of(&packed(&*RSA)).unwrap_err().contains("certificate"));
    // A PFX shows its version from without, and no more.
    assert_eq!(of(&packed([0x30, 5, 2, 1, 3, 0x30, 0])), Ok(None));
    for bad in [
        "not base64!",
        "eW91ciBQRlggY2VydGlmaWNhdGU=",
        &packed([0x30, 3, 2, 1, 1]),
    ] {
        assert!(of(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_belongs_together_is_asked_for_together() {
    let aws = |id: &str| looked(ProviderType::Aws, STATIC, "aws_access_key_id", id);
    assert_eq!(aws("AKIAIOSFODNN7EXAMPLE"), Ok(None));
    assert!(
        aws("ASIAIOSFODNN7EXAMPLE")
            .unwrap_err()
            .contains("aws_session_token")
    );
    assert!(
        aws("AKIAIOSFODNN7EXAMPLE\n")
            .unwrap_err()
            .contains("line break")
    );
    let clouds = |text: &str| looked(ProviderType::Openstack, STATIC, "clouds_yaml_content", text);
    assert_eq!(clouds("clouds: {mine: {auth: {}}}"), Ok(None));
    assert!(
        clouds("clouds: {other: {}}")
            .unwrap_err()
            .contains("no cloud of the name")
    );
}

#[test]
fn what_ended_is_refused_and_what_will_is_known() {
    let token = samples::token(END);
    let data = data(&[("api_token", &*token)]);
    let at = |now: &str, expires: Option<&'static str>| {
        let secret = SecretFound {
            allowed: true,
            data: &data,
            expires,
        };
        let named = Named {
            secret: Some(secret),
            service_account: None,
            at: now.parse().unwrap(),
        };
        check(
            ProviderType::Vercel,
            "team_x",
            Some(&by_secret(STATIC)),
            &named,
        )
    };
    assert_eq!(
        at("2031-05-03T23:59:59Z", None).unwrap().expiry,
        Some(end("api_token"))
    );
    let over = at("2031-05-04T00:00:00Z", None).unwrap_err();
    assert_eq!(over[0].reason(), Reason::CredentialsExpired);
    assert!(
        over[0]
            .message()
            .contains("api_token expired at 2031-05-04T00:00:00Z"),
        "{over:?}"
    );
    // An annotation counts where it is sooner, and is never taken for proof.
    let said = at("2031-01-01T00:00:00Z", Some("2030-12-31"))
        .unwrap()
        .expiry
        .unwrap();
    assert_eq!(
        (said.at.to_string(), said.of),
        ("2030-12-31T00:00:00Z".into(), Source::Annotation)
    );
    let later = at("2031-01-01T00:00:00Z", Some("2040-12-31T10:00:00Z")).unwrap();
    assert_eq!(later.expiry, Some(end("api_token")));
    let wrong = at("2031-01-01T00:00:00Z", Some("soon")).unwrap_err();
    assert!(
        wrong[0].message().contains("neither a day such as"),
        "{wrong:?}"
    );
}

#[test]
fn days_are_counted_down_to_none() {
    let end = END.parse().unwrap();
    for (now, left) in [
        ("2031-05-02T12:00:00Z", 1),
        ("2031-05-03T00:00:01Z", 0),
        ("2031-06-04T00:00:00Z", 0),
        ("2030-05-04T00:00:00Z", 365),
    ] {
        assert_eq!(days_until(end, now.parse().unwrap()), left, "{now}");
    }
}
