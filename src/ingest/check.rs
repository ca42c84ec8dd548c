//! The constants of a check: four fifths of a record's bytes, kept once per text.
//!
//! Records of a check repeat them byte by byte and mostly stand together, so most are recognised
//! by comparing them with the record before, the others by a hash of the raw text; only a new
//! text is read.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::json::Raw;
use super::lenient::{List, Object, Text};
use super::record::Record;

/// Texts remembered; a file with more of them is odd, and only costs time.
const REMEMBERED: usize = 20_000;

/// What recognises the constants of checks.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Raw texts of the record before, and what they came to.
    last: Vec<u8>,
    last_sha256: [u8; 32],
    known: HashMap<[u8; 16], [u8; 32]>,
    told: HashSet<[u8; 32]>,
}

/// Whether this upload has met the constants before.
#[derive(Debug)]
pub(super) enum Met {
    /// It has.
    Before([u8; 32]),
    /// It has not: here they are as JSON.
    Now([u8; 32], String),
}

impl Checks {
    /// The SHA-256 of the check's constants, and the constants when they are new.
    pub(super) fn meet(&mut self, check_id: &str, record: &Record<'_>) -> Met {
        if is_joined(&self.last, raw_texts(check_id, record)) {
            return Met::Before(self.last_sha256);
        }
        self.last.clear();
        for text in raw_texts(check_id, record) {
            self.last.extend_from_slice(text);
            self.last.push(END);
        }
        let met = self.look_up(check_id, record);
        let (Met::Before(sha256) | Met::Now(sha256, _)) = met;
        self.last_sha256 = sha256;
        met
    }

    fn look_up(&mut self, check_id: &str, record: &Record<'_>) -> Met {
        let mut raw = [0; 16];
        raw.copy_from_slice(&blake3::hash(&self.last).as_bytes()[..16]);
        if let Some(sha256) = self.known.get(&raw) {
            return Met::Before(*sha256);
        }
        let json = Constants::of(check_id, record).to_json();
        let sha256: [u8; 32] = Sha256::digest(json.as_bytes()).into();
        if self.known.len() >= REMEMBERED {
            self.known.clear();
            self.told.clear();
        }
        self.known.insert(raw, sha256);
        if self.told.insert(sha256) {
            Met::Now(sha256, json)
        } else {
            Met::Before(sha256)
        }
    }
}

/// What follows each raw text, so that an absent one keeps its place: in JSON it only occurs
/// escaped.
const END: u8 = 0;

/// All that makes up a check's constants, as it stands in the file.
fn raw_texts<'r>(check_id: &'r str, record: &'r Record<'_>) -> impl Iterator<Item = &'r [u8]> {
    let info = &record.finding_info.0;
    let unmapped = &record.unmapped.0;
    let service = record.resources.0.as_ref();
    let service = service.map_or("", |resource| resource.group.0.name.as_str());
    let raw = [
        info.title,
        info.desc,
        info.types,
        record.risk_details,
        record.remediation,
        unmapped.compliance,
        unmapped.related_url,
        unmapped.additional_urls,
        unmapped.depends_on,
        unmapped.related_to,
        unmapped.notes,
    ];
    let categories = unmapped.categories.0.iter().map(Text::as_str);
    [check_id, service]
        .map(str::as_bytes)
        .into_iter()
        .chain(raw.map(|raw| raw.map_or(&b""[..], |raw| raw.0)))
        .chain(categories.map(str::as_bytes))
}

/// Whether `joined` is these texts, each with its end.
fn is_joined<'r>(joined: &[u8], texts: impl Iterator<Item = &'r [u8]>) -> bool {
    let mut rest = joined;
    for text in texts {
        match rest.strip_prefix(text) {
            Some([END, after @ ..]) => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
}

/// The original's names: the check's metadata with lower-cased keys, plus compliance. What the
/// file does not tell (remediation code, aliases) is not there.
#[derive(Debug, Serialize)]
struct Constants {
    checkid: String,
    checktitle: String,
    checktype: Vec<String>,
    servicename: String,
    description: String,
    risk: String,
    relatedurl: String,
    additionalurls: Vec<String>,
    remediation: Remediation,
    categories: Vec<String>,
    dependson: Vec<String>,
    relatedto: Vec<String>,
    notes: String,
    compliance: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Serialize)]
struct Remediation {
    recommendation: Recommendation,
}

#[derive(Debug, Serialize)]
struct Recommendation {
    text: String,
    url: String,
    references: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OcsfRemediation<'a> {
    #[serde(borrow)]
    desc: Text<'a>,
    #[serde(borrow)]
    references: List<Text<'a>>,
}

impl Constants {
    fn of(check_id: &str, record: &Record<'_>) -> Self {
        let info = &record.finding_info.0;
        let unmapped = &record.unmapped.0;
        let (advice, references) = read(record.remediation, |json| {
            let found: Object<OcsfRemediation<'_>> = serde_json::from_slice(json)?;
            Ok((text(&found.0.desc), texts(&found.0.references)))
        });
        Self {
            checkid: check_id.to_owned(),
            checktitle: read_text(info.title),
            checktype: read_texts(info.types),
            servicename: record
                .resources
                .0
                .as_ref()
                .map(|resource| text(&resource.group.0.name))
                .unwrap_or_default(),
            description: read_text(info.desc),
            risk: read_text(record.risk_details),
            relatedurl: read_text(unmapped.related_url),
            additionalurls: read_texts(unmapped.additional_urls),
            remediation: Remediation {
                recommendation: Recommendation {
                    text: advice,
                    url: references.first().cloned().unwrap_or_default(),
                    references,
                },
            },
            categories: texts(&unmapped.categories),
            dependson: read_texts(unmapped.depends_on),
            relatedto: read_texts(unmapped.related_to),
            notes: read_text(unmapped.notes),
            compliance: read(unmapped.compliance, |json| {
                let found: Object<Frameworks<'_>> = serde_json::from_slice(json)?;
                let kept = found.0.iter();
                Ok(kept
                    .map(|(framework, ids)| (text(framework), texts(ids)))
                    .collect())
            }),
        }
    }

    fn to_json(&self) -> String {
        // Texts and lists of texts always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

type Frameworks<'a> = BTreeMap<Text<'a>, List<Text<'a>>>;

fn read_text(raw: Option<Raw<'_>>) -> String {
    read(raw, |json| Ok(text(&serde_json::from_slice(json)?)))
}

fn read_texts(raw: Option<Raw<'_>>) -> Vec<String> {
    read(raw, |json| Ok(texts(&serde_json::from_slice(json)?)))
}

/// Reads a raw value; the default of what cannot be read.
fn read<T: Default>(
    raw: Option<Raw<'_>>,
    parse: impl Fn(&[u8]) -> Result<T, serde_json::Error>,
) -> T {
    raw.and_then(|raw| parse(raw.0).ok()).unwrap_or_default()
}

fn text(text: &Text<'_>) -> String {
    text.as_str().to_owned()
}

fn texts(list: &List<Text<'_>>) -> Vec<String> {
    list.0.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{
        "risk_details": "Bad \u00fcble things", "remediation": {"desc": "Do", "references": ["u", "v"]},
        "finding_info": {"title": "T", "desc": "D", "types": ["a"]},
        "unmapped": {"compliance": {"CIS": ["1", "2"]}, "notes": 7, "categories": ["c"], "depends_on": null},
        "resources": [{"group": {"name": "s3"}}]
    }"#;

    fn parse(json: &str) -> Record<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn constants_are_told_once_per_text_whatever_the_white_space() {
        let mut checks = Checks::default();
        let Met::Now(sha256, json) = checks.meet("check", &parse(RECORD)) else {
            panic!("met before")
        };
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["checkid"], "check");
        assert_eq!(value["risk"], "Bad \u{fc}ble things");
        assert_eq!(value["compliance"]["CIS"][1], "2");
        assert_eq!(value["remediation"]["recommendation"]["url"], "u");
        assert_eq!(value["notes"], "7");
        assert_eq!(value["servicename"], "s3");

        assert!(
            matches!(checks.meet("check", &parse(RECORD)), Met::Before(same) if same == sha256)
        );
        let compacted = super::super::text::compact(RECORD);
        assert!(
            matches!(checks.meet("check", &parse(&compacted)), Met::Before(same) if same == sha256)
        );
        let other = RECORD.replace("Do", "Don't");
        assert!(
            matches!(checks.meet("check", &parse(&other)), Met::Now(other, _) if other != sha256)
        );
        assert!(matches!(
            checks.meet("check2", &parse(RECORD)),
            Met::Now(..)
        ));
    }

    #[test]
    fn a_record_without_any_of_it_has_empty_constants() {
        let mut checks = Checks::default();
        assert!(matches!(checks.meet("c", &parse("{}")), Met::Now(..)));
        let odd = r#"{"remediation": "text", "unmapped": {"compliance": ["x"], "notes": [[]]}}"#;
        assert!(matches!(checks.meet("c", &parse(odd)), Met::Before(_)));
    }
}
