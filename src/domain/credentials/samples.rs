//! Keys and certificates as clouds give them out, made anew for each run of the tests.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use serde_json::json;

/// An RSA key in PEM.
pub(in crate::domain) static RSA: LazyLock<String> = LazyLock::new(|| {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
        .unwrap()
        .serialize_pem()
});

/// A key that signs by elliptic curve.
pub(in crate::domain) static EC: LazyLock<String> = LazyLock::new(|| {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .unwrap()
        .serialize_pem()
});

/// When [`certificate`] ends.
pub(in crate::domain) const END: &str = "2031-05-04T00:00:00Z";

/// A certificate in PEM.
pub(in crate::domain) fn certificate() -> String {
    let mut params = CertificateParams::new(["prowler".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2031, 5, 4);
    let key = KeyPair::from_pem(&EC).unwrap();
    params.self_signed(&key).unwrap().pem()
}

/// The file of a Google service account.
pub(in crate::domain) fn service_account() -> String {
    json!({
        "type": "service_account", "private_key": *RSA, "client_email": "p@my.iam.example.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
    .to_string()
}

/// A token of the claims' form that ends then.
pub(in crate::domain) fn token(end: &str) -> String {
    let end = end.parse::<Timestamp>().unwrap().as_second();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({ "alg": "RS256", "typ": "JWT" }));
    format!("{head}.{}.c2lnbmVk", part(json!({ "exp": end })))
}

/// A kubeconfig whose context `prod` is used by this user.
pub(in crate::domain) fn kubeconfig(user: &serde_json::Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{ "name": "c", "cluster": {
            "server": "https://example.com", "certificate-authority-data": packed(certificate()) } }],
        "users": [{ "name": "u", "user": user }],
        "contexts": [{ "name": "prod", "context": { "cluster": "c", "user": "u" } }],
    })
    .to_string()
}

/// Base64.
pub(in crate::domain) fn packed(text: impl AsRef<[u8]>) -> String {
    STANDARD.encode(text)
}
