//! Keys, certificates and tokens as Secrets hold them: whether they can be read, and until when
//! they are good. No sentence here repeats a value.
//!
//! What only a password or much computing opens is left to the check of the connection: whoever
//! writes a Secret must not keep the controller busy.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rustls::SignatureAlgorithm;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use x509_parser::{der_parser, parse_x509_certificate};

/// A private key in PEM that signs; without one, why not.
pub(super) fn private_key(text: &str) -> Result<SignatureAlgorithm, &'static str> {
    if !text.contains("PRIVATE KEY-----") {
        return Err("is not a private key in PEM");
    }
    if is_encrypted(text) {
        return Err("is an encrypted private key: put it in without a pass phrase");
    }
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| "is a private key in PEM that is cut off or damaged")?;
    any_supported_type(&key)
        .map(|key| key.algorithm())
        .map_err(|_| "is a private key that cannot be read, or of a kind or size that nobody takes")
}

/// Whether a key in PEM needs a pass phrase.
pub(super) fn is_encrypted(text: &str) -> bool {
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// An RSA key, the only kind that signs what the clouds want signed.
pub(super) fn rsa_key(text: &str) -> Option<&'static str> {
    match private_key(text) {
        Ok(SignatureAlgorithm::RSA) => None,
        Ok(_) => Some("is not an RSA key"),
        Err(fault) => Some(fault),
    }
}

/// The same, or all of it in one line, as Prowler takes GitHub's.
pub(super) fn github_key(text: &str) -> Option<&'static str> {
    const BEGIN: &str = "-----BEGIN RSA PRIVATE KEY-----";
    const END: &str = "-----END RSA PRIVATE KEY-----";
    let body = text
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END));
    match body {
        Some(body) if !text.contains('\n') => rsa_key(&format!("{BEGIN}\n{body}\n{END}\n")),
        _ => rsa_key(text),
    }
}

/// In PEM, or as a JSON Web Key.
pub(super) fn okta_key(text: &str) -> Option<&'static str> {
    if !text.trim_start().starts_with('{') {
        return rsa_key(text);
    }
    let key = serde_json::from_str::<Value>(text).unwrap_or_default();
    let good = key["kty"] == "RSA" && ["n", "e", "d"].iter().all(|part| key[part].is_string());
    (!good).then_some("is not a JSON Web Key with the private part of an RSA key")
}

/// The key of a Google service account. Other files that Google's libraries take are refused: some
/// send them to the pod's own identity, or to a program.
pub(super) fn service_account(text: &str) -> Option<&'static str> {
    let Ok(Value::Object(key)) = serde_json::from_str::<Value>(text) else {
        return Some("is not a JSON object");
    };
    let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("type") != "service_account" {
        return Some("is not the key of a service account: its type is not service_account");
    }
    if text("client_email").is_empty() || text("token_uri").is_empty() {
        return Some(
            "is not a whole key of a service account: client_email or token_uri is missing",
        );
    }
    rsa_key(text("private_key"))
        .map(|_| "is the key of a service account whose private_key is not an RSA key in PEM")
}

/// When the first certificate in PEM ends, which is the holder's own.
pub(super) fn certificate(pem: &[u8]) -> Result<Timestamp, &'static str> {
    const DAMAGED: &str = "has a certificate that cannot be read";
    let der = CertificateDer::from_pem_slice(pem).map_err(|_| "has no certificate in PEM")?;
    let (_, certificate) = parse_x509_certificate(&der).map_err(|_| DAMAGED)?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).map_err(|_| DAMAGED)
}

/// A certificate with its key in Base64, as PKCS #12 or in PEM. PKCS #12 shows from without only
/// what it is: when it ends, the check of the connection tells.
pub(super) fn certificate_with_key(text: &str) -> Result<Option<Timestamp>, &'static str> {
    let content = unpacked(text).ok_or("is not base64")?;
    if let Ok(text) = std::str::from_utf8(&content)
        && text.contains("-----BEGIN ")
    {
        private_key(text).map_err(|_| "is PEM without a private key that can be read")?;
        return certificate(&content).map(Some);
    }
    let version = der_parser::parse_der(&content)
        .ok()
        .and_then(|(_, whole)| whole.as_sequence().ok()?.first()?.as_u32().ok());
    if version == Some(3) {
        Ok(None)
    } else {
        Err("is base64 of neither a PFX (PKCS #12) nor PEM")
    }
}

/// When a JSON Web Token ends. Whether it is signed well is for others to say.
pub(super) fn token_end(token: &str) -> Option<Timestamp> {
    let mut parts = token.trim().split('.');
    let (head, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next())
    else {
        return None;
    };
    let read =
        |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    read(head)?.get("alg")?;
    Timestamp::from_second(read(claims)?.get("exp")?.as_i64()?).ok()
}

/// What is held in Base64, in however many lines.
pub(super) fn unpacked(text: &str) -> Option<Vec<u8>> {
    let packed: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(packed).ok()
}
