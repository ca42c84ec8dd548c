//! What is in the Secrets, and when the server's certificate is made anew.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::*;

fn now() -> Timestamp {
    "2026-11-23T05:00:00Z".parse().unwrap()
}

fn days(days: i64) -> Timestamp {
    now() + SignedDuration::from_hours(24 * days)
}

fn labels() -> Labels {
    Labels::new("demo")
}

fn text(secret: &Secret, key: &str) -> String {
    String::from_utf8(value(secret, key).unwrap()).unwrap()
}

fn names() -> Vec<String> {
    vec![
        "server.system.svc".into(),
        "server.system.svc.cluster.local".into(),
    ]
}

/// What a client that trusts only the Secret's CA says of its certificate.
fn verify(secret: &Secret, name: &str, at: Timestamp) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&value(secret, CA).unwrap()).unwrap())
        .unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .unwrap();
    verifier
        .verify_server_cert(
            &CertificateDer::from_pem_slice(&value(secret, CERTIFICATE).unwrap()).unwrap(),
            &[],
            &ServerName::try_from(name).unwrap(),
            &[],
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(
                at.as_second().try_into().unwrap(),
            )),
        )
        .map(|_| ())
}

#[test]
fn installation_ids_are_uuids_and_differ() {
    let one = installation("x", &labels()).unwrap();
    let two = installation("x", &labels()).unwrap();
    check_installation(&one).unwrap();
    assert_ne!(text(&one, ID), text(&two, ID));
    assert_eq!(
        one.metadata.labels.unwrap()["app.kubernetes.io/instance"],
        "demo"
    );
}

#[test]
fn an_installation_id_that_is_no_uuid_is_refused_without_being_shown() {
    let secret = secret("x", &labels(), [(ID, "hunter2".into())]);
    let error = check_installation(&secret).unwrap_err().to_string();
    assert!(error.contains("not a UUID"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn database_urls_verify_the_database_and_hold_its_passwords() {
    let database = Database {
        host: "pg.system.svc",
        ca_file: Path::new("/ca/ca.crt"),
    };
    let secret = super::database("x", &labels(), &database, now()).unwrap();
    for key in DATABASE.keys {
        assert!(!text(&secret, key).is_empty(), "{key}");
    }
    let password = text(&secret, "user-password");
    assert_eq!(
        text(&secret, "user-url"),
        format!(
            "postgres://prowler_user:{password}@pg.system.svc:5432/prowler?sslmode=verify-full&sslrootcert=/ca/ca.crt"
        )
    );
    assert_ne!(password, text(&secret, "admin-password"));
    assert_ne!(password, text(&secret, "postgres-password"));
    verify(&secret, "pg.system.svc", days(3000)).unwrap();
    verify(&secret, "other.system.svc", now()).unwrap_err();
}

#[test]
fn the_server_certificate_is_valid_for_its_names_and_for_a_year() {
    let names = names();
    let tls = ServerTls { names: &names };
    let secret = server_tls("x", &labels(), &tls, now()).unwrap();
    for name in &names {
        verify(&secret, name, now()).unwrap();
        // Clocks of other machines may be behind.
        verify(&secret, name, now() - SignedDuration::from_hours(2)).unwrap();
        verify(&secret, name, days(360)).unwrap();
        verify(&secret, name, days(370)).unwrap_err();
    }
    verify(&secret, "elsewhere.svc", now()).unwrap_err();
    PrivateKeyDer::from_pem_slice(&value(&secret, KEY).unwrap()).unwrap();
}

#[test]
fn a_certificate_is_renewed_in_its_last_month_under_the_same_ca() {
    let names = names();
    let tls = ServerTls { names: &names };
    let first = server_tls("x", &labels(), &tls, now()).unwrap();
    assert!(
        renewed_server_tls(&first, &tls, days(300))
            .unwrap()
            .is_none()
    );
    let second = renewed_server_tls(&first, &tls, days(340))
        .unwrap()
        .unwrap();
    assert_eq!(text(&first, CA), text(&second, CA));
    assert_ne!(text(&first, KEY), text(&second, KEY));
    verify(&second, &names[0], days(690)).unwrap();
    assert!(
        renewed_server_tls(&second, &tls, days(341))
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_certificate_is_renewed_when_the_server_gets_another_name() {
    let names = names();
    let first = server_tls("x", &labels(), &ServerTls { names: &names }, now()).unwrap();
    let other = vec!["new.system.svc".to_owned()];
    let tls = ServerTls { names: &other };
    let second = renewed_server_tls(&first, &tls, now()).unwrap().unwrap();
    verify(&second, "new.system.svc", now()).unwrap();
}

#[test]
fn a_certificate_that_is_not_ours_is_never_replaced() {
    let names = names();
    let tls = ServerTls { names: &names };
    let ours = server_tls("x", &labels(), &tls, now()).unwrap();

    let mut replaced = ours.clone();
    replaced
        .data
        .get_or_insert_default()
        .insert(CERTIFICATE.into(), ByteString(b"somebody's own".to_vec()));
    assert!(
        renewed_server_tls(&replaced, &tls, days(400))
            .unwrap()
            .is_none()
    );

    let mut given = ours;
    given.metadata.annotations = None;
    assert!(
        renewed_server_tls(&given, &tls, days(400))
            .unwrap()
            .is_none()
    );
}
