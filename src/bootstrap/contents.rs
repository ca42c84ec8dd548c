//! What the Secrets contain. No Kubernetes call here; randomness comes from the system.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::core::ObjectMeta;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::certificate::{Authority, ServerCertificate};
use super::secrets::{BootstrapError, Shape};

/// Key of a CA certificate.
pub const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Key of the installation id.
pub const ID: &str = "id";

/// Life of the server's certificate in days, and what may be left of it before it is renewed.
const SERVER_DAYS: i64 = 365;
const RENEW_DAYS: i64 = 30;
/// The embedded database has no way to take up a new certificate while it runs.
const DATABASE_DAYS: i64 = 3650;

/// Digest of the certificate we made: another one in its place is somebody's own.
const OURS: &str = "prowler-operator.dev/certificate-sha256";
const RENEW_AFTER: &str = "prowler-operator.dev/renew-after";
const NAMES: &str = "prowler-operator.dev/names";

/// The Secret with the installation id.
pub const INSTALLATION: Shape = Shape {
    keys: &[ID],
    cure: "put the id back that the database has (select id from prowler.installation)",
};
/// The Secret of the embedded database.
pub const DATABASE: Shape = Shape {
    keys: &[
        "admin-url",
        "user-url",
        "admin-password",
        "user-password",
        "postgres-password",
        CA,
        CERTIFICATE,
        KEY,
    ],
    cure: "restore it; or delete the Secret, which makes new passwords, and restart all pods",
};
/// The Secret with the server's certificate.
pub const SERVER_TLS: Shape = Shape {
    keys: &[CA, CERTIFICATE, KEY],
    cure: "add it; or delete the Secret to have a certificate for evaluation made",
};

/// Labels of all Secrets made here.
#[derive(Debug, Clone)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// The labels of this Helm release.
    pub fn new(release: &str) -> Self {
        let label = |name: &str, value: &str| (format!("app.kubernetes.io/{name}"), value.into());
        Self(BTreeMap::from([
            label("name", "prowler-operator"),
            label("instance", release),
            label("part-of", "prowler-operator"),
            label("managed-by", "prowler-operator"),
        ]))
    }
}

/// Where the embedded database is.
#[derive(Debug, Clone, Copy)]
pub struct Database<'a> {
    /// Its host name.
    pub host: &'a str,
    /// Where all pods mount its CA.
    pub ca_file: &'a Path,
}

/// What the server's certificate is for.
#[derive(Debug, Clone, Copy)]
pub struct ServerTls<'a> {
    /// Its DNS names.
    pub names: &'a [String],
}

/// A new installation id.
pub fn installation(name: &str, labels: &Labels) -> Result<Secret, BootstrapError> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
    Ok(secret(name, labels, [(ID, id.to_string())]))
}

/// Refuses an installation id that is none.
pub fn check_installation(secret: &Secret) -> Result<(), BootstrapError> {
    let text = value(secret, ID)?;
    match std::str::from_utf8(&text).map(|t| t.trim().parse::<Uuid>()) {
        Ok(Ok(_)) => Ok(()),
        _ => Err(BootstrapError::NotAnId {
            name: secret.metadata.name.clone().unwrap_or_default(),
            cure: INSTALLATION.cure,
        }),
    }
}

/// New passwords, URLs and a certificate for the embedded database.
pub fn database(
    name: &str,
    labels: &Labels,
    database: &Database<'_>,
    now: Timestamp,
) -> Result<Secret, BootstrapError> {
    let (authority, ca) = Authority::create("prowler-operator database", now)?;
    let ServerCertificate { certificate, key } =
        authority.sign(&[database.host.to_owned()], DATABASE_DAYS, now)?;
    let (admin, user) = (password()?, password()?);
    let url = |role: &str, password: &str| {
        format!(
            "postgres://{role}:{password}@{}:5432/prowler?sslmode=verify-full&sslrootcert={}",
            database.host,
            database.ca_file.display(),
        )
    };
    Ok(secret(
        name,
        labels,
        [
            ("admin-url", url("prowler_admin", &admin)),
            ("user-url", url("prowler_user", &user)),
            ("admin-password", admin),
            ("user-password", user),
            ("postgres-password", password()?),
            (CA, ca),
            (CERTIFICATE, certificate),
            (KEY, key),
        ],
    ))
}

/// A new CA and a server certificate. The CA's key stays in the Secret, for renewals.
pub fn server_tls(
    name: &str,
    labels: &Labels,
    tls: &ServerTls<'_>,
    now: Timestamp,
) -> Result<Secret, BootstrapError> {
    let (authority, ca) = Authority::create(AUTHORITY, now)?;
    let mut secret = secret(name, labels, [(CA, ca), (CA_KEY, authority.key())]);
    secret.type_ = Some("kubernetes.io/tls".into());
    put_certificate(&mut secret, &authority, tls, now)?;
    Ok(secret)
}

const AUTHORITY: &str = "prowler-operator evaluation CA";

/// The Secret with a new server certificate under the same CA, if it needs one: the one in it is
/// ours and near its end, or not for these names. Scan pods hold the CA, so it must not change.
pub fn renewed_server_tls(
    secret: &Secret,
    tls: &ServerTls<'_>,
    now: Timestamp,
) -> Result<Option<Secret>, BootstrapError> {
    let note = |name| secret.metadata.annotations.as_ref()?.get(name);
    let current = value(secret, CERTIFICATE)?;
    let (Some(ours), Some(renew_after), Ok(ca_key)) =
        (note(OURS), note(RENEW_AFTER), value(secret, CA_KEY))
    else {
        return Ok(None);
    };
    if *ours != digest(&current) {
        return Ok(None);
    }
    let due = renew_after.parse::<Timestamp>().is_ok_and(|at| at <= now);
    if !due && note(NAMES).is_some_and(|names| *names == joined(tls)) {
        return Ok(None);
    }
    let authority = Authority::restore(AUTHORITY, &String::from_utf8_lossy(&ca_key), now)?;
    let mut renewed = secret.clone();
    put_certificate(&mut renewed, &authority, tls, now)?;
    Ok(Some(renewed))
}

fn put_certificate(
    secret: &mut Secret,
    authority: &Authority,
    tls: &ServerTls<'_>,
    now: Timestamp,
) -> Result<(), BootstrapError> {
    let ServerCertificate { certificate, key } = authority.sign(tls.names, SERVER_DAYS, now)?;
    let renew_after = now
        .saturating_add(SignedDuration::from_hours(24 * (SERVER_DAYS - RENEW_DAYS)))
        .unwrap_or(now);
    secret.metadata.annotations.get_or_insert_default().extend([
        (OURS.to_owned(), digest(certificate.as_bytes())),
        (RENEW_AFTER.to_owned(), renew_after.to_string()),
        (NAMES.to_owned(), joined(tls)),
    ]);
    secret.data.get_or_insert_default().extend([
        (CERTIFICATE.to_owned(), ByteString(certificate.into_bytes())),
        (KEY.to_owned(), ByteString(key.into_bytes())),
    ]);
    Ok(())
}

/// The bytes under a key.
pub fn value(secret: &Secret, key: &str) -> Result<Vec<u8>, BootstrapError> {
    secret
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .map(|bytes| bytes.0.clone())
        .ok_or_else(|| BootstrapError::Incomplete {
            name: secret.metadata.name.clone().unwrap_or_default(),
            missing: key.to_owned(),
            cure: "add it",
        })
}

fn secret<const N: usize>(name: &str, labels: &Labels, data: [(&str, String); N]) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.0.clone()),
            ..ObjectMeta::default()
        },
        data: Some(
            data.into_iter()
                .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    }
}

/// 192 bits as hexadecimal: nothing in it needs quoting in a URL, in SQL or in a shell.
fn password() -> Result<String, BootstrapError> {
    let mut bytes = [0; 24];
    fill(&mut bytes)?;
    Ok(hex(&bytes))
}

fn fill(bytes: &mut [u8]) -> Result<(), BootstrapError> {
    SysRng
        .try_fill_bytes(bytes)
        .map_err(|error| BootstrapError::Random(error.to_string()))
}

fn digest(certificate: &[u8]) -> String {
    hex(&Sha256::digest(certificate))
}

fn joined(tls: &ServerTls<'_>) -> String {
    tls.names.join(",")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[path = "contents_tests.rs"]
mod tests;
