//! What a scan may use: wishes against the tenant's limits, and images against the list of
//! those allowed. A wish above a limit is refused, never cut.

use super::quantity;
use super::reason::Reason;
use super::violation::Violation;
use super::wording::some_of;
use crate::api::common::{Amounts, Quantity, ScanSettings};

/// The most one scan of a tenant may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceilings {
    /// Memory (quantity).
    pub memory: String,
    /// Processor cores (quantity).
    pub cpu: String,
    /// Seconds it may run.
    pub deadline_seconds: i64,
}

/// The scanner images of the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Used where none is named.
    pub default: String,
    /// What may be named: exact references, or prefixes that end in `*`.
    pub allowed: Vec<String>,
}

impl Images {
    /// All of them in a sentence, the installation's own first; of a long list its beginning.
    fn named(&self) -> String {
        const SHOWN: usize = 5;
        let mut names: Vec<&str> = vec![&self.default];
        names.extend(self.allowed.iter().map(String::as_str));
        some_of(&names, SHOWN)
    }

    /// Whether this image may be used.
    pub fn allow(&self, image: &str) -> bool {
        image == self.default
            || self
                .allowed
                .iter()
                .any(|allowed| match allowed.strip_suffix('*') {
                    Some(prefix) => image.starts_with(prefix),
                    None => image == allowed,
                })
    }
}

/// What of the settings is above a limit or not allowed. `field` is the path of the settings.
pub fn check(
    settings: &ScanSettings,
    ceilings: &Ceilings,
    images: &Images,
    field: &str,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    if let Some(image) = &settings.image
        && !images.allow(image)
    {
        violations.push(Violation::new(
            Reason::ImageNotAllowed,
            format!("{field}.image"),
            format!(
                "image '{}' is none of those this installation allows ({}); name one of them, or have it added to scanner.allowedImages of the chart's values",
                image.escape_debug(),
                images.named()
            ),
        ));
    }
    if let Some(wish) = settings.active_deadline_seconds
        && wish > ceilings.deadline_seconds
    {
        violations.push(Violation::new(
            Reason::LimitExceeded,
            format!("{field}.activeDeadlineSeconds"),
            format!(
                "a scan may run {} s at most, not {wish} s; lower it, or have spec.limits.scanDeadlineSeconds of the Tenant raised",
                ceilings.deadline_seconds
            ),
        ));
    }
    let Some(resources) = &settings.resources else {
        return violations;
    };
    for (part, amounts) in [
        ("requests", &resources.requests),
        ("limits", &resources.limits),
    ] {
        let Some(Amounts {
            cpu,
            memory,
            ephemeral_storage,
        }) = amounts
        else {
            continue;
        };
        let path = format!("{field}.resources.{part}");
        for (name, wish, limit) in [
            ("cpu", cpu, Some((&ceilings.cpu, "scanCPU"))),
            ("memory", memory, Some((&ceilings.memory, "scanMemory"))),
            ("ephemeral-storage", ephemeral_storage, None),
        ] {
            let Some(Quantity(wish)) = wish else { continue };
            let fault = if quantity::thousandths(wish).is_none() {
                let message = format!(
                    "'{}' is no quantity such as 500m or 2Gi",
                    wish.escape_debug()
                );
                Some((Reason::InvalidSpec, message))
            } else {
                limit
                    .filter(|(limit, _)| quantity::exceeds(wish, limit))
                    .map(|(limit, raised)| {
                        let message = format!(
                            "{name} {wish} is above the limit of a scan, {limit}; lower it, or have spec.limits.{raised} of the Tenant raised"
                        );
                        (Reason::LimitExceeded, message)
                    })
            };
            if let Some((reason, message)) = fault {
                violations.push(Violation::new(reason, format!("{path}.{name}"), message));
            }
        }
    }
    if let (Some(requests), Some(limits)) = (&resources.requests, &resources.limits) {
        for (name, request, limit) in [
            ("cpu", &requests.cpu, &limits.cpu),
            ("memory", &requests.memory, &limits.memory),
            (
                "ephemeral-storage",
                &requests.ephemeral_storage,
                &limits.ephemeral_storage,
            ),
        ] {
            if let (Some(request), Some(limit)) = (request, limit)
                && quantity::exceeds(&request.0, &limit.0)
            {
                violations.push(Violation::new(
                    Reason::InvalidSpec,
                    format!("{field}.resources.requests.{name}"),
                    format!(
                        "the request of {name} is above its own limit; lower it, or raise the limit"
                    ),
                ));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::common::Resources;

    fn ceilings() -> Ceilings {
        Ceilings {
            memory: "4Gi".into(),
            cpu: "2".into(),
            deadline_seconds: 7200,
        }
    }

    fn images() -> Images {
        Images {
            default: "prowler:5".into(),
            allowed: vec!["registry.example.com/prowler:*".into(), "other:1".into()],
        }
    }

    fn wish(cpu: &str, memory: &str) -> ScanSettings {
        ScanSettings {
            resources: Some(Resources {
                requests: None,
                limits: Some(Amounts {
                    cpu: Some(Quantity(cpu.into())),
                    memory: Some(Quantity(memory.into())),
                    ephemeral_storage: None,
                }),
            }),
            ..ScanSettings::default()
        }
    }

    #[test]
    fn wishes_up_to_the_limits_are_granted() {
        assert_eq!(
            check(&wish("2", "4Gi"), &ceilings(), &images(), "spec.scan"),
            []
        );
    }

    #[test]
    fn wishes_above_the_limits_are_refused_each_with_the_limit() {
        let mut settings = wish("2001m", "4097Mi");
        settings.active_deadline_seconds = Some(7201);
        let violations = check(&settings, &ceilings(), &images(), "spec.scan");
        let texts: Vec<_> = violations.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.scan.activeDeadlineSeconds: a scan may run 7200 s at most, not 7201 s; lower it, or have spec.limits.scanDeadlineSeconds of the Tenant raised.",
                "spec.scan.resources.limits.cpu: cpu 2001m is above the limit of a scan, 2; lower it, or have spec.limits.scanCPU of the Tenant raised.",
                "spec.scan.resources.limits.memory: memory 4097Mi is above the limit of a scan, 4Gi; lower it, or have spec.limits.scanMemory of the Tenant raised.",
            ]
        );
        assert!(
            violations
                .iter()
                .all(|violation| violation.reason() == Reason::LimitExceeded)
        );
    }

    #[test]
    fn a_request_above_its_own_limit_is_refused() {
        let mut settings = wish("1", "1Gi");
        if let Some(resources) = &mut settings.resources {
            resources.requests = Some(Amounts {
                memory: Some(Quantity("2Gi".into())),
                ..Amounts::default()
            });
        }
        let violations = check(&settings, &ceilings(), &images(), "spec.scan");
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].field(), "spec.scan.resources.requests.memory");
    }

    #[test]
    fn only_the_images_of_the_list_are_allowed() {
        let images = images();
        for image in ["prowler:5", "other:1", "registry.example.com/prowler:6"] {
            assert!(images.allow(image), "{image}");
        }
        for image in [
            "prowler:6",
            "other:12",
            "registry.example.com/prowler@sha256:0",
            "*",
            "",
        ] {
            assert!(!images.allow(image), "{image}");
        }
    }
}
