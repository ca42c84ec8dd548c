//! A certificate authority of this installation alone, and server certificates signed by it.
//!
//! For evaluation: whoever runs this for good gives a Secret or lets cert-manager make one.

use jiff::{SignedDuration, Timestamp, tz};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

/// Life of the authority in days: longer than any evaluation.
const CA_DAYS: i64 = 3650;

/// A certificate authority. Whoever holds its key can sign for it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    name: String,
}

/// A server's certificate and key as PEM.
pub struct ServerCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
}

impl Authority {
    /// A new authority with a key from the system's random numbers, and its certificate as PEM.
    pub fn create(name: &str, now: Timestamp) -> Result<(Self, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = authority_params(name, now).self_signed(&key)?.pem();
        Ok((Self::with_key(name, key, now), certificate))
    }

    /// The authority whose key was kept (PEM). `name` must be the one it was created with.
    pub fn restore(name: &str, key: &str, now: Timestamp) -> Result<Self, rcgen::Error> {
        Ok(Self::with_key(name, KeyPair::from_pem(key)?, now))
    }

    // Of the parameters only name, usages and key go into what is signed; so an authority can be
    // restored without reading its certificate.
    fn with_key(name: &str, key: KeyPair, now: Timestamp) -> Self {
        Self {
            issuer: Issuer::new(authority_params(name, now), key),
            name: name.to_owned(),
        }
    }

    /// Its private key as PEM.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A server certificate for these DNS names, valid for so many days.
    pub fn sign(
        &self,
        names: &[String],
        days: i64,
        now: Timestamp,
    ) -> Result<ServerCertificate, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = common_name(&format!("{} server", self.name));
        set_validity(&mut params, now, days);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(ServerCertificate {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn authority_params(name: &str, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    set_validity(&mut params, now, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // X.520 allows 64 characters.
    name.push(
        DnType::CommonName,
        text.chars().take(64).collect::<String>(),
    );
    name
}

/// From yesterday, because clocks differ, to midnight UTC after so many days.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let (year, month, date) = day(now, -1);
    params.not_before = rcgen::date_time_ymd(year, month, date);
    let (year, month, date) = day(now, days);
    params.not_after = rcgen::date_time_ymd(year, month, date);
}

fn day(now: Timestamp, days: i64) -> (i32, u8, u8) {
    let date = now
        .saturating_add(SignedDuration::from_hours(24 * days))
        .unwrap_or(now)
        .to_zoned(tz::TimeZone::UTC)
        .date();
    (
        i32::from(date.year()),
        date.month().unsigned_abs(),
        date.day().unsigned_abs(),
    )
}
