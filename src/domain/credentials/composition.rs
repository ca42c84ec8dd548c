//! Files that Prowler wants whole and Secrets hold in parts: how they are put together.
//!
//! A Secret's values come here twice: in the scan's own pod, where `compose` makes the files, and
//! before that in the controller, which looks whether that can be done and keeps nothing.

use std::collections::BTreeMap;

use serde_json::json;

use super::DIRECTORY;
use super::material::{is_encrypted, rsa_key, unpacked};
use super::values::one_line;

/// A file of several keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Composition {
    /// Google's application default credentials of a user: JSON of type `authorized_user`.
    GcpUser,
    /// Oracle's configuration file, with its API signing key beside it.
    OciConfig,
}

/// A file put together. It is made of secrets, and has no `Debug`.
pub struct File {
    /// Its name in [`DIRECTORY`].
    pub name: &'static str,
    /// What it holds.
    pub contents: String,
}

/// Where the API of an OCI tenancy is asked first, unless the Secret names a region: as Prowler's
/// own server does.
const FIRST_REGION: &str = "us-ashburn-1";

type Parts = BTreeMap<String, Vec<u8>>;

impl Composition {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::GcpUser, Self::OciConfig];

    /// Its name on the command line of `compose`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GcpUser => "gcp-user",
            Self::OciConfig => "oci-config",
        }
    }

    /// Prowler's flag for the file.
    pub fn flag(self) -> &'static str {
        match self {
            Self::GcpUser => "--credentials-file",
            Self::OciConfig => "--oci-config-file",
        }
    }

    /// Path of the file that the flag names.
    pub fn path(self) -> String {
        let name = match self {
            Self::GcpUser => "application-default.json",
            Self::OciConfig => "oci-config",
        };
        format!("{DIRECTORY}/{name}")
    }

    /// The files, of the values of a Secret's keys. Fails with all that is wrong with the values;
    /// no sentence repeats one.
    pub fn files(self, parts: &Parts) -> Result<Vec<File>, Vec<String>> {
        let faults = self.faults(parts);
        if !faults.is_empty() {
            return Err(faults);
        }
        match self {
            Self::GcpUser => gcp_user(parts),
            Self::OciConfig => oci_config(parts),
        }
        .map_err(|missing| vec![format!("{missing} is missing")])
    }

    /// What is wrong with the values that are there.
    fn faults(self, parts: &Parts) -> Vec<String> {
        let fault = |(key, value): (&String, &Vec<u8>)| {
            if value.is_empty() {
                return None;
            }
            let fault = match std::str::from_utf8(value) {
                Ok(value) => self.fault(key, value),
                Err(_) => Some("is not text"),
            };
            fault.map(|fault| format!("{key} {fault}"))
        };
        parts.iter().filter_map(fault).collect()
    }

    /// What is wrong with the value of a key.
    pub(super) fn fault(self, key: &str, value: &str) -> Option<&'static str> {
        match (self, key) {
            (Self::GcpUser, "client_id" | "client_secret" | "refresh_token") => one_line(value),
            (Self::OciConfig, "user") => user(value),
            (Self::OciConfig, "fingerprint") => fingerprint(value),
            (Self::OciConfig, "tenancy") => tenancy(value),
            (Self::OciConfig, "region") => region(value),
            (Self::OciConfig, "pass_phrase") => pass_phrase(value),
            (Self::OciConfig, "key_content" | "key_file") => signing_key(value),
            _ => None,
        }
    }
}

/// The value of a key, if it is there and is text.
fn optional<'a>(parts: &'a Parts, key: &str) -> Option<&'a str> {
    let value = std::str::from_utf8(parts.get(key)?).ok()?;
    (!value.is_empty()).then_some(value)
}

/// The value of a key; fails with the key's name.
fn required<'a>(parts: &'a Parts, key: &'static str) -> Result<&'a str, &'static str> {
    optional(parts, key).ok_or(key)
}

/// As `gcloud auth application-default login` writes it; see
/// <https://google.aip.dev/auth/4113>.
fn gcp_user(parts: &Parts) -> Result<Vec<File>, &'static str> {
    let contents = json!({
        "type": "authorized_user",
        "client_id": required(parts, "client_id")?,
        "client_secret": required(parts, "client_secret")?,
        "refresh_token": required(parts, "refresh_token")?,
    });
    Ok(vec![File {
        name: "application-default.json",
        contents: contents.to_string(),
    }])
}

/// See <https://docs.oracle.com/en-us/iaas/Content/API/Concepts/sdkconfig.htm>. The key is a file
/// of its own: the SDK refuses `key_content` in this one.
fn oci_config(parts: &Parts) -> Result<Vec<File>, &'static str> {
    const KEY: &str = "oci-key.pem";
    let key = optional(parts, "key_content")
        .or_else(|| optional(parts, "key_file"))
        .and_then(pem)
        .ok_or("key_content")?;
    let mut config = format!(
        "[DEFAULT]\nuser={}\nfingerprint={}\ntenancy={}\nregion={}\nkey_file={DIRECTORY}/{KEY}\n",
        required(parts, "user")?,
        required(parts, "fingerprint")?,
        required(parts, "tenancy")?,
        optional(parts, "region").unwrap_or(FIRST_REGION),
    );
    if let Some(pass_phrase) = optional(parts, "pass_phrase") {
        config.extend(["pass_phrase=", pass_phrase, "\n"]);
    }
    Ok(vec![
        File {
            name: "oci-config",
            contents: config,
        },
        File {
            name: KEY,
            contents: key,
        },
    ])
}

/// A private key in PEM, or the same in base64, as Prowler's own server takes it.
fn pem(text: &str) -> Option<String> {
    let is_pem = |text: &str| {
        let text = text.trim_start();
        text.starts_with("-----BEGIN ") && text.contains("PRIVATE KEY-----")
    };
    if is_pem(text) {
        return Some(text.to_owned());
    }
    let decoded = String::from_utf8(unpacked(text)?).ok()?;
    is_pem(&decoded).then_some(decoded)
}

/// An encrypted one is opened by the SDK, with the pass phrase.
fn signing_key(text: &str) -> Option<&'static str> {
    match pem(text) {
        None => Some(
            "is not a private key in PEM, nor one in base64: put the key itself in, not its path",
        ),
        Some(key) if is_encrypted(&key) => None,
        Some(key) => rsa_key(&key),
    }
}

fn user(text: &str) -> Option<&'static str> {
    (!is_ocid(text, "ocid1.user.")).then_some("is not the OCID of a user")
}

fn tenancy(text: &str) -> Option<&'static str> {
    (!is_ocid(text, "ocid1.tenancy.")).then_some("is not the OCID of a tenancy")
}

fn is_ocid(text: &str, begin: &str) -> bool {
    text.starts_with(begin)
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn fingerprint(text: &str) -> Option<&'static str> {
    let pairs: Vec<_> = text.split(':').collect();
    let good = pairs.len() == 16
        && pairs.iter().all(|pair| {
            pair.len() == 2
                && pair
                    .chars()
                    .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
        });
    (!good).then_some("is not a fingerprint: 16 pairs of lower-case hexadecimal digits with colons")
}

fn region(text: &str) -> Option<&'static str> {
    let good = text
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    (!good).then_some("is not the name of a region, such as eu-frankfurt-1")
}

/// The file's format takes blanks at the ends away, and a line break would begin another entry.
fn pass_phrase(text: &str) -> Option<&'static str> {
    if text.trim() != text {
        return Some("begins or ends with a blank, which Oracle's configuration file cannot hold");
    }
    one_line(text)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::domain::credentials::samples::RSA;

    fn parts(pairs: &[(&str, &str)]) -> Parts {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect()
    }

    fn oracle(more: &[(&'static str, &'static str)]) -> Parts {
        let sound = [
            ("user", "ocid1.user.oc1..aaaa"),
            ("tenancy", "ocid1.tenancy.oc1..bbbb"),
            (
                "fingerprint",
                "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff",
            ),
            ("key_content", &RSA),
        ];
        parts(&[&sound[..], more].concat())
    }

    fn made(composition: Composition, parts: &Parts) -> Vec<(&'static str, String)> {
        composition
            .files(parts)
            .unwrap_or_else(|faults| panic!("{faults:?}"))
            .into_iter()
            .map(|file| (file.name, file.contents))
            .collect()
    }

    fn faults(composition: Composition, parts: &Parts) -> Vec<String> {
        composition.files(parts).err().unwrap_or_default()
    }

    #[test]
    fn the_file_of_a_google_user_is_json_whatever_the_values_hold() {
        let parts = parts(&[
            ("client_id", "a.apps.googleusercontent.com"),
            ("client_secret", r#"quote " and \ backslash"#),
            ("refresh_token", "1//x"),
        ]);
        let files = made(Composition::GcpUser, &parts);
        let value: serde_json::Value = serde_json::from_str(&files[0].1).unwrap();
        assert_eq!(value["type"], "authorized_user");
        assert_eq!(value["client_secret"], r#"quote " and \ backslash"#);
        assert_eq!(value.as_object().unwrap().len(), 4);
    }

    #[test]
    fn oracles_file_names_the_key_beside_it() {
        let files = made(
            Composition::OciConfig,
            &oracle(&[("pass_phrase", "a = b # c")]),
        );
        assert_eq!(
            files[0],
            (
                "oci-config",
                "[DEFAULT]\n\
                 user=ocid1.user.oc1..aaaa\n\
                 fingerprint=00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff\n\
                 tenancy=ocid1.tenancy.oc1..bbbb\n\
                 region=us-ashburn-1\n\
                 key_file=/prowler/credentials/oci-key.pem\n\
                 pass_phrase=a = b # c\n"
                    .to_owned()
            )
        );
        assert_eq!(files[1], ("oci-key.pem", RSA.clone()));
    }

    #[test]
    fn a_key_is_taken_as_pem_or_as_base64_of_it_from_either_name() {
        let packed = STANDARD.encode(&*RSA);
        let (begin, end) = packed.split_at(20);
        for text in [packed.clone(), format!("{begin}\n{end}\n")] {
            let mut parts = oracle(&[]);
            parts.remove("key_content");
            parts.insert("key_file".into(), text.into_bytes());
            assert_eq!(made(Composition::OciConfig, &parts)[1].1, *RSA);
        }
    }

    #[test]
    fn nothing_can_add_an_entry_to_oracles_file() {
        for (key, value) in [
            ("user", "ocid1.user.oc1..a\nkey_file=/etc/passwd"),
            ("tenancy", "ocid1.tenancy.oc1..a\r\n[OTHER]"),
            (
                "fingerprint",
                "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff\nx=y",
            ),
            ("region", "eu-frankfurt-1\nsecurity_token_file=/x"),
            ("pass_phrase", "x\ndelegation_token_file=/x"),
            ("pass_phrase", " x"),
            ("key_content", "/home/me/.oci/key.pem"),
        ] {
            let faults = faults(Composition::OciConfig, &oracle(&[(key, value)]));
            assert_eq!(faults.len(), 1, "{key}: {faults:?}");
            assert!(faults[0].starts_with(key), "{faults:?}");
            assert!(!faults[0].contains(value.trim()), "{faults:?}");
        }
    }

    #[test]
    fn a_part_that_is_missing_is_named() {
        let mut parts = oracle(&[]);
        parts.remove("user");
        assert_eq!(
            faults(Composition::OciConfig, &parts),
            ["user is missing".to_owned()]
        );
        assert_eq!(
            faults(Composition::GcpUser, &Parts::new()),
            ["client_id is missing".to_owned()]
        );
    }

    #[test]
    fn the_flag_names_a_file_that_is_made() {
        let google = parts(&[
            ("client_id", "a"),
            ("client_secret", "b"),
            ("refresh_token", "c"),
        ]);
        for (composition, parts) in [
            (Composition::GcpUser, google),
            (Composition::OciConfig, oracle(&[])),
        ] {
            let path = composition.path();
            let name = path.strip_prefix("/prowler/credentials/").unwrap();
            assert!(
                made(composition, &parts)
                    .iter()
                    .any(|(made, _)| *made == name)
            );
        }
    }
}
