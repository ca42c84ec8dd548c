//! Limits of the queues, over all tenants.

use std::collections::BTreeMap;

use serde::Deserialize;

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

impl Queue {
    /// The limits as admission takes them.
    pub fn limits(&self) -> Limits {
        let kinds = &self.max_concurrent_per_provider_type;
        Limits {
            all: Some(self.max_concurrent),
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
        let parse = |text: &str| serde_saphyr::from_str::<Queue>(text);
        let queue = parse("{maxConcurrent: 7, maxConcurrentPerProviderType: {aws: 3, gcp: 1}}");
        let limits = queue.unwrap().limits();
        assert_eq!(limits.all, Some(7));
        let kinds = [("aws".to_owned(), 3), ("gcp".to_owned(), 1)];
        assert_eq!(limits.kinds, kinds.into());
        let refused = parse("{maxConcurrentPerProviderType: {asw: 3}}").unwrap_err();
        assert!(refused.to_string().contains("asw"), "{refused}");
    }
}
