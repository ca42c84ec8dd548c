//! What a tenant may wish for: nothing above the installation's ceilings.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::tenant::TenantSpec;
use crate::config::file::Limits;
use crate::domain::provider::Violation;
use crate::domain::quantity;
use crate::domain::reason::Reason;

/// Wishes above the installation's ceilings, all at once.
pub(super) fn violations(spec: &TenantSpec, limits: &Limits) -> Vec<Violation> {
    let wishes = spec.limits.clone().unwrap_or_default();
    let mut found = Vec::new();
    let mut check = |field: &str, over: bool, wish: String, ceiling: String| {
        if over {
            let sentence = format!(
                "{wish} is more than the {ceiling} this installation allows; lower it, or have limits.{field}.ceiling raised in the chart's values"
            );
            found.push(Violation::new(
                Reason::LimitExceeded,
                format!("spec.limits.{field}"),
                sentence,
            ));
        }
    };
    let numbers = [
        (
            "concurrentScans",
            wishes.concurrent_scans.map(i64::from),
            i64::from(limits.concurrent_scans.ceiling),
        ),
        (
            "providers",
            wishes.providers.map(i64::from),
            i64::from(limits.providers.ceiling),
        ),
        (
            "scanDeadlineSeconds",
            wishes.scan_deadline_seconds,
            limits.scan_deadline_seconds.ceiling,
        ),
    ];
    for (field, wish, ceiling) in numbers {
        if let Some(wish) = wish {
            check(field, wish > ceiling, wish.to_string(), ceiling.to_string());
        }
    }
    let quantities = [
        (
            "scanMemory",
            &wishes.scan_memory,
            &limits.scan_memory.ceiling,
        ),
        ("scanCPU", &wishes.scan_cpu, &limits.scan_cpu.ceiling),
    ];
    for (field, wish, ceiling) in quantities {
        if let Some(Quantity(wish)) = wish {
            check(
                field,
                quantity::exceeds(wish, ceiling),
                wish.clone(),
                ceiling.clone(),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tenant::TenantLimits;

    #[test]
    fn every_wish_above_a_ceiling_is_named_at_once() {
        let spec = TenantSpec {
            limits: Some(TenantLimits {
                concurrent_scans: Some(51),
                providers: Some(10),
                scan_memory: Some(Quantity("17Gi".into())),
                scan_cpu: Some(Quantity("500m".into())),
                scan_deadline_seconds: Some(60),
            }),
            ..TenantSpec::default()
        };
        let found = violations(&spec, &Limits::default());
        let fields: Vec<_> = found.iter().map(Violation::field).collect();
        assert_eq!(
            fields,
            ["spec.limits.concurrentScans", "spec.limits.scanMemory"]
        );
        assert!(
            found
                .iter()
                .all(|violation| violation.reason() == Reason::LimitExceeded)
        );
    }
}
