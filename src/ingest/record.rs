//! The shape of an OCSF Detection Finding as Prowler writes it, as far as it is read.
//!
//! Everything is borrowed from the file and everything may be missing. What only makes up a
//! check's constants stays raw text until a check is seen for the first time.

use serde::Deserialize;

use super::json::Raw;
use super::lenient::{First, List, Object, Text};

/// One record of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record<'a> {
    /// PASS, FAIL or MANUAL: the verdict.
    #[serde(borrow)]
    pub status_code: Text<'a>,
    /// "New", or "Suppressed" when muted.
    #[serde(borrow)]
    pub status: Text<'a>,
    #[serde(borrow)]
    pub status_detail: Text<'a>,
    #[serde(borrow)]
    pub message: Text<'a>,
    #[serde(borrow)]
    pub severity: Text<'a>,
    #[serde(borrow)]
    pub metadata: Object<Metadata<'a>>,
    #[serde(borrow)]
    pub finding_info: Object<FindingInfo<'a>>,
    #[serde(borrow)]
    pub resources: First<ResourceDetails<'a>>,
    #[serde(borrow)]
    pub cloud: Object<Cloud<'a>>,
    #[serde(borrow)]
    pub unmapped: Object<Unmapped<'a>>,
    #[serde(borrow)]
    pub risk_details: Option<Raw<'a>>,
    #[serde(borrow)]
    pub remediation: Option<Raw<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata<'a> {
    /// The check's id.
    #[serde(borrow)]
    pub event_code: Text<'a>,
    #[serde(borrow)]
    pub tenant_uid: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FindingInfo<'a> {
    #[serde(borrow)]
    pub uid: Text<'a>,
    #[serde(borrow)]
    pub title: Option<Raw<'a>>,
    #[serde(borrow)]
    pub desc: Option<Raw<'a>>,
    #[serde(borrow)]
    pub types: Option<Raw<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ResourceDetails<'a> {
    #[serde(borrow)]
    pub uid: Text<'a>,
    #[serde(borrow)]
    pub name: Text<'a>,
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    #[serde(borrow)]
    pub region: Text<'a>,
    /// Instead of a region, in a cluster.
    #[serde(borrow)]
    pub namespace: Text<'a>,
    #[serde(borrow)]
    pub cloud_partition: Text<'a>,
    #[serde(borrow)]
    pub group: Object<Named<'a>>,
    /// `key:value`.
    #[serde(borrow)]
    pub labels: List<Text<'a>>,
    #[serde(borrow)]
    pub data: Object<Data<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named<'a> {
    #[serde(borrow)]
    pub name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Data<'a> {
    #[serde(borrow)]
    pub details: Text<'a>,
    #[serde(borrow)]
    pub metadata: Option<Raw<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cloud<'a> {
    #[serde(borrow)]
    pub account: Object<Account<'a>>,
    #[serde(borrow)]
    pub region: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Account<'a> {
    #[serde(borrow)]
    pub uid: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Unmapped<'a> {
    #[serde(borrow)]
    pub provider_uid: Text<'a>,
    #[serde(borrow)]
    pub categories: List<Text<'a>>,
    #[serde(borrow)]
    pub compliance: Option<Raw<'a>>,
    #[serde(borrow)]
    pub related_url: Option<Raw<'a>>,
    #[serde(borrow)]
    pub additional_urls: Option<Raw<'a>>,
    #[serde(borrow)]
    pub depends_on: Option<Raw<'a>>,
    #[serde(borrow)]
    pub related_to: Option<Raw<'a>>,
    #[serde(borrow)]
    pub notes: Option<Raw<'a>>,
}
