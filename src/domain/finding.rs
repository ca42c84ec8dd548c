//! Findings: what one record of a scan's file says, in the words of our tables.
//!
//! Borrowed from the file where possible: these values live for one record only.

use std::borrow::Cow;

use uuid::Uuid;

use super::ids::ProviderId;

/// Most characters of a finding's uid; a longer one is set aside.
pub const UID_MAX: usize = 300;
/// Most characters of a check's id.
pub const CHECK_ID_MAX: usize = 100;
/// What the original says of a finding that the scanner's mutelist silenced.
pub const MUTED_BY_MUTELIST: &str = "Muted by mutelist";

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Not as it should be.
    Fail,
    /// As it should be.
    Pass,
    /// Only a person can tell.
    Manual,
}

impl Status {
    /// As stored, and as Prowler writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            Self::Pass => "PASS",
            Self::Manual => "MANUAL",
        }
    }

    /// The verdict of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "FAIL" => Self::Fail,
            "PASS" => Self::Pass,
            "MANUAL" => Self::Manual,
            _ => return None,
        })
    }
}

/// How bad a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Critical.
    Critical,
    /// High.
    High,
    /// Medium.
    Medium,
    /// Low.
    Low,
    /// For information; also what a record says that names no severity we know.
    Informational,
}

impl Severity {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Informational => "informational",
        }
    }

    /// The severity of this name, in any case.
    pub fn from_name(name: &str) -> Self {
        [Self::Critical, Self::High, Self::Medium, Self::Low]
            .into_iter()
            .find(|severity| severity.as_str().eq_ignore_ascii_case(name))
            .unwrap_or(Self::Informational)
    }
}

/// What changed since the account's previous finding of the same uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delta {
    /// There was none.
    New,
    /// It had another verdict.
    Changed,
}

impl Delta {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
        }
    }
}

/// A finding, as its record tells it.
#[derive(Debug)]
pub struct Finding<'a> {
    /// Prowler's uid: stable over scans, not unique within one.
    pub uid: Cow<'a, str>,
    /// Which check.
    pub check_id: Cow<'a, str>,
    /// The verdict.
    pub status: Status,
    /// The verdict in a sentence.
    pub status_extended: Cow<'a, str>,
    /// How bad.
    pub severity: Severity,
    /// The scanner's mutelist silenced it.
    pub muted: bool,
    /// Classes of the check.
    pub categories: Vec<Cow<'a, str>>,
    /// What was examined; a record may name nothing.
    pub resource: Option<Resource<'a>>,
}

/// What was examined.
#[derive(Debug)]
pub struct Resource<'a> {
    /// Its name in the cloud; may be empty.
    pub uid: Cow<'a, str>,
    /// Name for people.
    pub name: Cow<'a, str>,
    /// Region, or `namespace: <ns>` in a cluster.
    pub region: Cow<'a, str>,
    /// Service of the cloud.
    pub service: Cow<'a, str>,
    /// Type.
    pub kind: Cow<'a, str>,
    /// Partition of the cloud.
    pub partition: Option<Cow<'a, str>>,
    /// Details, as text.
    pub details: Cow<'a, str>,
    /// What the scanner knows of it: JSON text as found in the file, if any.
    pub metadata: Option<&'a str>,
    /// Its tags.
    pub tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// The id of an account's resource: the same in every scan, found without a look-up.
///
/// 128 bits of a cryptographic hash with the version bits of a `UUIDv8`; the row keeps the uid,
/// so a collision would be seen.
pub fn resource_id(provider: ProviderId, uid: &str) -> Uuid {
    derived(b"resource", provider.0, &[uid])
}

/// The id of a tag of a tenant (`scope` is the tenant's id).
pub fn tag_id(scope: Uuid, key: &str, value: &str) -> Uuid {
    derived(b"tag", scope, &[key, value])
}

fn derived(kind: &[u8], scope: Uuid, parts: &[&str]) -> Uuid {
    let mut hash = blake3::Hasher::new();
    hash.update(kind);
    hash.update(scope.as_bytes());
    for part in parts {
        // The length keeps ("a", "bc") apart from ("ab", "c").
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_tables() {
        for status in [Status::Fail, Status::Pass, Status::Manual] {
            assert_eq!(Status::from_name(status.as_str()), Some(status));
        }
        assert_eq!(Status::from_name("fail"), None);
        assert_eq!(Severity::from_name("Critical"), Severity::Critical);
        assert_eq!(Severity::from_name("HIGH"), Severity::High);
        assert_eq!(Severity::from_name("Unknown"), Severity::Informational);
        assert_eq!(Severity::from_name(""), Severity::Informational);
    }

    #[test]
    fn derived_ids_depend_on_every_part_and_on_nothing_else() {
        let one = ProviderId(Uuid::from_u128(1));
        let two = ProviderId(Uuid::from_u128(2));
        assert_eq!(resource_id(one, "a"), resource_id(one, "a"));
        assert_ne!(resource_id(one, "a"), resource_id(two, "a"));
        assert_ne!(resource_id(one, "a"), resource_id(one, "b"));
        assert_ne!(tag_id(one.0, "a", "bc"), tag_id(one.0, "ab", "c"));
        // Rows refer to it: a change of the derivation would double every resource.
        assert_eq!(
            resource_id(one, "arn:aws:s3:::bucket").to_string(),
            "3ce4ad00-0a71-8a4f-96e8-31546a9205fc"
        );
    }
}
