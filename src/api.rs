//! What users write: the custom resources of group `prowler-operator.dev`.
//!
//! One file per kind; [`common`] holds what they share, [`account`] the table of provider
//! types, [`scope`] what can be asked of each, [`manifest`] the definitions as the API server gets them. Nothing here decides:
//! types, schema, CEL rules and printer columns only.

#![expect(
    clippy::duplicated_attributes,
    reason = "printer columns repeat the names of their parts"
)]

pub mod account;
pub mod asked;
pub mod common;
pub mod integration;
pub mod manifest;
pub mod mute_rule;
pub mod provider;
pub mod provider_group;
pub mod role;
pub mod scan;
pub mod scan_schedule;
pub mod scope;
pub mod tenant;

use kube::core::object::{HasSpec, HasStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use common::StatusExt;
pub use integration::Integration;
pub use manifest::{all_crds, print_crds};
pub use mute_rule::MuteRule;
pub use provider::Provider;
pub use provider_group::ProviderGroup;
pub use role::Role;
pub use scan::Scan;
pub use scan_schedule::ScanSchedule;
pub use tenant::Tenant;

/// API group of every kind.
pub const GROUP: &str = "prowler-operator.dev";
/// Version served and stored.
pub const VERSION: &str = "v1alpha1";
/// Field manager of everything the operator writes.
pub const FIELD_MANAGER: &str = "prowler-operator";
/// Finalizer of every kind.
pub const FINALIZER: &str = "prowler-operator.dev/finalizer";

/// Labels the operator reads or sets.
pub mod labels {
    /// On a namespace: the Tenant it lets itself be claimed by.
    pub const TENANT: &str = "prowler-operator.dev/tenant";
    /// On a Secret: its owner allows that Providers use it (value `true`).
    pub const CREDENTIALS: &str = "prowler-operator.dev/credentials";
    /// On Jobs and pods: the queue they work for.
    pub const QUEUE: &str = "prowler-operator.dev/queue";
    /// On Jobs and pods: the Provider's name, hashed where too long.
    pub const PROVIDER: &str = "prowler-operator.dev/provider";
    /// On Jobs and pods: the scan's id.
    pub const SCAN: &str = "prowler-operator.dev/scan";
    /// On Jobs and pods: which attempt of the scan.
    pub const ATTEMPT: &str = "prowler-operator.dev/attempt";
    /// On Scans: the ScanSchedule that made them.
    pub const SCHEDULE: &str = "prowler-operator.dev/schedule";
}

/// Annotations the operator reads.
pub mod annotations {
    /// On a ServiceAccount: its owner allows that scans run as it (value `true`).
    pub const SCANNER: &str = "prowler-operator.dev/scanner";
    /// On a Provider: take over the retained row of this account (value `true`).
    pub const ADOPT: &str = "prowler-operator.dev/adopt";
    /// On a Secret: when its credentials end, a day or a time of RFC 3339, where they do not tell
    /// it themselves.
    pub const EXPIRES: &str = "prowler-operator.dev/expires";
    /// On a ScanSchedule or Provider: one scan now, once for each value.
    pub const SCAN_NOW: &str = "prowler-operator.dev/scan-now";
    /// On a ScanSchedule or Provider: a pass now, as Flux asks for it.
    pub const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
    /// On a ScanSchedule or Provider: one scan now, if it says the same as `requestedAt`.
    pub const FORCE_AT: &str = "reconcile.fluxcd.io/forceAt";
    /// On a Scan that the operator makes: uid of the Provider that it is made for.
    pub const PROVIDER_UID: &str = "prowler-operator.dev/provider-uid";
}

/// A kind of this group: what the loop that all kinds share needs to know of it.
pub trait Kind:
    kube::Resource<DynamicType = ()>
    + HasSpec
    + HasStatus<Status: StatusExt>
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The kind's name as users write it.
    const KIND: &'static str;
    /// The plural, as in URLs and RBAC rules.
    const PLURAL: &'static str;

    /// The spec's `suspend`; kinds without one are never suspended.
    fn suspended(&self) -> bool {
        false
    }

    /// The conditions shown now.
    fn conditions(&self) -> &[common::Condition] {
        self.status().map_or(&[], StatusExt::conditions)
    }
}
