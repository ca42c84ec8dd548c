//! How much Prowler's container gets of each resource: what the scan or its Provider wishes, else
//! the chart's values, else a choice of our own. What nobody wished for stays within what the tenant
//! may have, and no request is above its limit: the API server would refuse the whole Job.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;

use crate::api::common::{Amounts, Quantity, ScanSettings};
use crate::config::file::FileConfig;
use crate::domain::limits::Ceilings;
use crate::domain::quantity::{exceeds, smaller};

const CPU: &str = "cpu";
const MEMORY: &str = "memory";
const EPHEMERAL_STORAGE: &str = "ephemeral-storage";

/// Requests and limits of a scan. `needed` is the memory in bytes that an attempt is to have
/// because one before ran out of less.
pub fn of_scan(
    settings: &ScanSettings,
    config: &FileConfig,
    ceilings: &Ceilings,
    needed: Option<i64>,
) -> ResourceRequirements {
    let chart = config.scanner.resources.clone().unwrap_or_default();
    let (mut requests, mut limits) = (
        chart.requests.unwrap_or_default(),
        chart.limits.unwrap_or_default(),
    );
    let memory = memory(settings, config, ceilings, needed);
    let cpu = limit(
        settings,
        CPU,
        text(&limits, CPU).unwrap_or(&config.limits.scan_cpu.default),
        Some(&ceilings.cpu),
    );
    let storage = limit(
        settings,
        EPHEMERAL_STORAGE,
        text(&limits, EPHEMERAL_STORAGE).unwrap_or("4Gi"),
        None,
    );
    for (name, limit, own) in [
        (CPU, cpu, "250m"),
        // All of it: a scan that is put out of its node late has cost the most.
        (MEMORY, memory.clone(), &*memory),
        (EPHEMERAL_STORAGE, storage, "256Mi"),
    ] {
        let request = wish(settings, Side::Requests, name)
            .or_else(|| text(&requests, name))
            .unwrap_or(own);
        let request = Quantity(smaller(request, &limit).to_owned());
        requests.insert(name.to_owned(), request);
        limits.insert(name.to_owned(), Quantity(limit));
    }
    ResourceRequirements {
        requests: Some(requests),
        limits: Some(limits),
        claims: None,
    }
}

/// Memory limit of a scan (quantity).
pub fn memory(
    settings: &ScanSettings,
    config: &FileConfig,
    ceilings: &Ceilings,
    needed: Option<i64>,
) -> String {
    let chart = config.scanner.resources.as_ref();
    let default = chart
        .and_then(|chart| text(chart.limits.as_ref()?, MEMORY))
        .unwrap_or(&config.limits.scan_memory.default);
    let limit = limit(settings, MEMORY, default, Some(&ceilings.memory));
    let needed = needed.map(|bytes| bytes.to_string());
    let limit = needed
        .filter(|needed| exceeds(needed, &limit))
        .unwrap_or(limit);
    smaller(&limit, &ceilings.memory).to_owned()
}

/// The limit wished for; else the default, or the request where that is more.
fn limit(settings: &ScanSettings, name: &str, default: &str, ceiling: Option<&str>) -> String {
    if let Some(wished) = wish(settings, Side::Limits, name) {
        return wished.to_owned();
    }
    let default = ceiling.map_or(default, |ceiling| smaller(default, ceiling));
    wish(settings, Side::Requests, name)
        .filter(|request| exceeds(request, default))
        .unwrap_or(default)
        .to_owned()
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Requests,
    Limits,
}

fn wish<'a>(settings: &'a ScanSettings, side: Side, name: &str) -> Option<&'a str> {
    let resources = settings.resources.as_ref()?;
    let Amounts {
        cpu,
        memory,
        ephemeral_storage,
    } = match side {
        Side::Requests => resources.requests.as_ref()?,
        Side::Limits => resources.limits.as_ref()?,
    };
    let wished = match name {
        CPU => cpu,
        MEMORY => memory,
        _ => ephemeral_storage,
    };
    wished.as_ref().map(|Quantity(text)| text.as_str())
}

fn text<'a>(amounts: &'a BTreeMap<String, Quantity>, name: &str) -> Option<&'a str> {
    amounts.get(name).map(|Quantity(text)| text.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// "requests / limits" of cpu, memory and ephemeral storage.
    fn sized(wishes: &Value, chart: &Value, needed: Option<i64>) -> [String; 3] {
        let settings = serde_json::from_value(json!({ "resources": wishes })).unwrap();
        let config = serde_json::from_value(json!({
            "scanner": { "image": "prowler:5", "resources": chart },
            "upload": { "image": "operator:1" },
        }))
        .unwrap();
        let ceilings = Ceilings {
            memory: "8Gi".into(),
            cpu: "4".into(),
            deadline_seconds: 7200,
        };
        let sized = of_scan(&settings, &config, &ceilings, needed);
        let (requests, limits) = (sized.requests.unwrap(), sized.limits.unwrap());
        [CPU, MEMORY, EPHEMERAL_STORAGE]
            .map(|name| format!("{} / {}", requests[name].0, limits[name].0))
    }

    #[test]
    fn wishes_go_before_the_chart_and_the_chart_before_our_own_choice() {
        let chart = json!({ "requests": { "cpu": "100m", "memory": "384Mi" },
                            "limits": { "memory": "3Gi", "ephemeral-storage": "2Gi" } });
        assert_eq!(
            sized(&Value::Null, &Value::Null, None),
            ["250m / 1", "2Gi / 2Gi", "256Mi / 4Gi"]
        );
        assert_eq!(
            sized(&Value::Null, &chart, None),
            ["100m / 1", "384Mi / 3Gi", "256Mi / 2Gi"]
        );
        let wishes = json!({ "requests": { "cpu": "2", "ephemeral-storage": "1Gi" },
                             "limits": { "cpu": "3", "memory": "1Gi", "ephemeral-storage": "6Gi" } });
        assert_eq!(
            sized(&wishes, &chart, None),
            ["2 / 3", "384Mi / 1Gi", "1Gi / 6Gi"]
        );
    }

    #[test]
    fn no_request_is_above_its_limit() {
        let chart = json!({ "requests": { "memory": "384Mi" } });
        for (wishes, sizes) in [
            (
                json!({ "limits": { "cpu": "200m", "memory": "128Mi", "ephemeral-storage": "64Mi" } }),
                ["200m / 200m", "128Mi / 128Mi", "64Mi / 64Mi"],
            ),
            // A request alone is no limit, but raises one that is below it.
            (
                json!({ "requests": { "cpu": "100m", "memory": "512Mi" } }),
                ["100m / 1", "512Mi / 2Gi", "256Mi / 4Gi"],
            ),
            (
                json!({ "requests": { "cpu": "2", "memory": "4Gi", "ephemeral-storage": "8Gi" } }),
                ["2 / 2", "4Gi / 4Gi", "8Gi / 8Gi"],
            ),
        ] {
            assert_eq!(sized(&wishes, &chart, None), sizes, "{wishes}");
        }
    }

    #[test]
    fn memory_that_was_needed_is_given_within_what_the_tenant_may_have() {
        let gib = 1_i64 << 30;
        let memory = |wishes, needed| sized(&wishes, &Value::Null, Some(needed * gib))[1].clone();
        assert_eq!(memory(Value::Null, 1), "2Gi / 2Gi");
        assert_eq!(memory(Value::Null, 3), "3221225472 / 3221225472");
        assert_eq!(memory(Value::Null, 9), "8Gi / 8Gi");
        let wishes = json!({ "requests": { "memory": "1Gi" } });
        assert_eq!(memory(wishes, 3), "1Gi / 3221225472");
    }

    #[test]
    fn a_default_above_what_the_tenant_may_have_is_cut() {
        let chart = json!({ "limits": { "cpu": "16", "memory": "64Gi" } });
        assert_eq!(
            sized(&Value::Null, &chart, None),
            ["250m / 4", "8Gi / 8Gi", "256Mi / 4Gi"]
        );
    }
}
