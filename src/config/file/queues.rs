//! Limits of the queues, over all tenants.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::FileConfig;
use crate::domain::account::ProviderType;
use crate::domain::queue::Limits;

/// Limits of the queues.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queues {
    /// The queue `scans`.
    #[serde(default)]
    pub scans: Queue,
}

/// Limits of the queue `scans`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Queue {
    /// Scans at once, over all tenants.
    pub max_concurrent: i32,
    /// Scans at once of each provider type that is named, over all tenants.
    pub max_concurrent_per_provider_type: BTreeMap<ProviderType, i32>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_concurrent: 20,
            max_concurrent_per_provider_type: BTreeMap::new(),
        }
    }
}

/// [Kueue](https://kueue.sigs.k8s.io), where it lets the Jobs of scans start.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kueue {
    /// Jobs of scans are made suspended, and Kueue starts them.
    pub enabled: bool,
    /// Name of the `LocalQueue` of each namespace with scans.
    pub local_queue: String,
}

impl Default for Kueue {
    fn default() -> Self {
        Self {
            enabled: false,
            local_queue: "prowler-scans".to_owned(),
        }
    }
}

impl FileConfig {
    /// The limits of the queue `scans` as admission takes them. Where Kueue counts Jobs there is none
    /// over all tenants: those would be counted twice.
    pub fn scan_limits(&self) -> Limits {
        let queue = &self.queues.scans;
        let kinds = &queue.max_concurrent_per_provider_type;
        Limits {
            all: (!self.kueue.enabled).then_some(queue.max_concurrent),
            kinds: kinds
                .iter()
                .map(|(kind, most)| (kind.as_str().to_owned(), *most))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_provider_types_are_read_and_unknown_types_refused() {
        let parse = |more: &str| {
            let text = format!("{{scanner: {{image: x}}, upload: {{image: y}}, {more}}}");
            FileConfig::parse(&text)
        };
        let queues =
            "queues: {scans: {maxConcurrent: 7, maxConcurrentPerProviderType: {aws: 3, gcp: 1}}}";
        let limits = parse(queues).unwrap().scan_limits();
        assert_eq!(limits.all, Some(7));
        let kinds = [("aws".to_owned(), 3), ("gcp".to_owned(), 1)];
        assert_eq!(limits.kinds, kinds.into());
        let limits = parse(&format!("{queues}, kueue: {{enabled: true}}"));
        let limits = limits.unwrap().scan_limits();
        assert_eq!((limits.all, limits.kinds.len()), (None, 2));
        let unknown = "queues: {scans: {maxConcurrentPerProviderType: {asw: 3}}}";
        let refused = parse(unknown).unwrap_err();
        assert!(refused.contains("asw"), "{refused}");
    }
}
