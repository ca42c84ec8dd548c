//! Values of Secrets that have the shape of what each key holds, and open nothing.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; not every test binary uses all of it"
)]

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::json;

use super::command::{command, succeed};

/// An RSA key in PEM, in the form that begins with `RSA PRIVATE KEY`.
pub fn rsa() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| succeed(command("openssl", &["genrsa", "-traditional", "2048"])))
}

/// A certificate in PEM that ends in so many days, for [`rsa`].
pub fn certificate(days: u32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    std::fs::write(&key, rsa()).unwrap();
    let days = days.to_string();
    let args = [
        "req",
        "-x509",
        "-new",
        "-subj",
        "/CN=prowler",
        "-days",
        &days,
        "-key",
    ];
    succeed(command(
        "openssl",
        &[&args[..], &[key.to_str().unwrap()]].concat(),
    ))
}

/// A certificate that ends in so many days with its key, as PKCS #12 without a password in Base64.
pub fn pfx(days: u32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (both, made) = (
        folder.path().join("both.pem"),
        folder.path().join("made.pfx"),
    );
    std::fs::write(&both, format!("{}{}", rsa(), certificate(days))).unwrap();
    let args = ["pkcs12", "-export", "-passout", "pass:", "-in"];
    let files = [both.to_str().unwrap(), "-out", made.to_str().unwrap()];
    succeed(command("openssl", &[&args[..], &files].concat()));
    STANDARD.encode(std::fs::read(made).unwrap())
}

/// A kubeconfig whose context `context` gets in with a token.
pub fn kubeconfig(context: &str, token: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": context,
        "clusters": [{ "name": "c", "cluster": { "server": "https://192.0.2.1:6443",
            "certificate-authority-data": STANDARD.encode(certificate(30)) } }],
        "contexts": [{ "name": context, "context": { "cluster": "c", "user": "u" } }],
        "users": [{ "name": "u", "user": { "token": token } }],
    })
    .to_string()
}

/// A JSON Web Token that ends then.
pub fn token(end: Timestamp) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (head, claims) = (json!({ "alg": "RS256" }), json!({ "exp": end.as_second() }));
    format!("{}.{}.c2lnbmVk", part(head), part(claims))
}

fn service_account() -> String {
    json!({
        "type": "service_account", "project_id": "my-project", "private_key_id": "k",
        "private_key": rsa(),
        "client_email": "prowler@my-project.iam.gserviceaccount.com", "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
    .to_string()
}

/// A value for a key of a Secret of the account `uid`.
pub fn value(key: &str, uid: &str) -> String {
    match key {
        "kubeconfig_content" => kubeconfig(uid, "none"),
        "service_account_key" | "credentials_content" => service_account(),
        "delegated_user" => "admin@example.com".to_owned(),
        "clouds_yaml_content" => json!({ "clouds": { "production": {
            "region_name": "r", "auth": {
                "auth_url": "https://192.0.2.1:5000/v3", "username": "u", "password": "p",
                "project_name": "n", "user_domain_name": "d", "project_domain_name": "d",
            } } } })
        .to_string(),
        "clouds_yaml_cloud" => "production".to_owned(),
        "github_app_key_content" | "key_content" | "key_file" | "okta_private_key" => {
            rsa().to_owned()
        }
        "github_app_id" => "1234".to_owned(),
        "session_duration" => "3600".to_owned(),
        "role_arn" => "arn:aws:iam::123456789012:role/prowler".to_owned(),
        "certificate_content" => pfx(90),
        "user" | "tenancy" => format!("ocid1.{key}.oc1..{}", "a".repeat(60)),
        "region" => "eu-frankfurt-1".to_owned(),
        "fingerprint" => vec!["ab"; 16].join(":"),
        "client_id" | "tenant_id" => "3f2504e0-4f89-41d3-9a0c-0305e82c3301".to_owned(),
        _ => format!("nothing-{key}"),
    }
}
