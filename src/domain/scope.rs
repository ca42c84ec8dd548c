//! What a scan looks at: the Provider's settings, with those of the schedule and of the scan
//! laid over them.

use super::reason::Reason;
use super::violation::Violation;
use crate::api::account::ProviderType;
use crate::api::common::ScanSettings;
use crate::api::scope::ScopeField;

/// Lays `over` on `base`: a field that `over` has replaces the one of `base`, whole. What
/// `over` chooses also drops what of `base` Prowler could not combine with it.
pub fn merge(base: &ScanSettings, over: Option<&ScanSettings>) -> ScanSettings {
    let Some(over) = over.cloned() else {
        return base.clone();
    };
    let mut base = base.clone();
    if let Some(way) = chosen(&over).first() {
        drop_other_ways(&mut base, way);
    }
    // Named one by one, so that a new field cannot be forgotten.
    let ScanSettings {
        services,
        checks,
        excluded_checks,
        excluded_services,
        severities,
        compliances,
        categories,
        regions,
        image,
        resources,
        active_deadline_seconds,
    } = over;
    ScanSettings {
        services: services.or(base.services),
        checks: checks.or(base.checks),
        excluded_checks: excluded_checks.or(base.excluded_checks),
        excluded_services: excluded_services.or(base.excluded_services),
        severities: severities.or(base.severities),
        compliances: compliances.or(base.compliances),
        categories: categories.or(base.categories),
        regions: regions.or(base.regions),
        image: image.or(base.image),
        resources: resources.or(base.resources),
        active_deadline_seconds: active_deadline_seconds.or(base.active_deadline_seconds),
    }
}

/// The ways to choose checks. Prowler follows the first that is given and ignores the others
/// without a word.
const WAYS: [&str; 4] = [
    "checks",
    "services and severities",
    "compliances",
    "categories",
];

/// The ways that are given.
fn chosen(settings: &ScanSettings) -> Vec<&'static str> {
    use ScopeField::{Categories, Checks, Compliances, Services, Severities};
    let ways: [&[ScopeField]; 4] = [
        &[Checks],
        &[Services, Severities],
        &[Compliances],
        &[Categories],
    ];
    WAYS.into_iter()
        .zip(ways)
        .filter(|(_, fields)| fields.iter().any(|field| is_given(settings, *field)))
        .map(|(way, _)| way)
        .collect()
}

/// Takes away what chooses checks by another way than `keep`.
fn drop_other_ways(settings: &mut ScanSettings, keep: &str) {
    if keep != WAYS[0] {
        settings.checks = None;
    }
    if keep != WAYS[1] {
        settings.services = None;
        settings.severities = None;
    }
    if keep != WAYS[2] {
        settings.compliances = None;
    }
    if keep != WAYS[3] {
        settings.categories = None;
    }
}

/// Prowler's flag for regions.
pub(crate) fn region_flag(provider: ProviderType) -> Option<&'static str> {
    ScopeField::Regions
        .is_known_to(provider)
        .then_some("--region")
}

/// What of the settings cannot be asked of Prowler for accounts of this type. `field` is the
/// path of the settings, for example `spec.scan`.
pub fn check(provider: ProviderType, settings: &ScanSettings, field: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (name, items) in lists(settings) {
        for item in items {
            if !is_item(item) {
                violations.push(Violation::new(
                    Reason::InvalidScope,
                    format!("{field}.{name}"),
                    format!(
                        "'{}' is no name Prowler knows: letters, digits and . _ : - beginning with a \
                         letter or digit",
                        item.escape_debug()
                    ),
                ));
            }
        }
    }
    if let [one, other, ..] = chosen(settings)[..] {
        violations.push(Violation::new(
            Reason::InvalidScope,
            field,
            format!(
                "Prowler cannot combine {one} with {other}: choose by {}",
                WAYS.join(", or ")
            ),
        ));
    }
    for asked in ScopeField::ALL {
        if is_given(settings, asked) && !asked.is_known_to(provider) {
            let path = format!("{field}.{}", asked.as_str());
            violations.push(Violation::new(Reason::InvalidScope, path, asked.message()));
        }
    }
    violations
}

/// Whether the field asks for anything: an empty list does not.
fn is_given(settings: &ScanSettings, field: ScopeField) -> bool {
    let given = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    match field {
        ScopeField::Services => given(&settings.services),
        ScopeField::Checks => given(&settings.checks),
        ScopeField::ExcludedChecks => given(&settings.excluded_checks),
        ScopeField::ExcludedServices => given(&settings.excluded_services),
        ScopeField::Severities => settings
            .severities
            .as_ref()
            .is_some_and(|list| !list.is_empty()),
        ScopeField::Compliances => given(&settings.compliances),
        ScopeField::Categories => given(&settings.categories),
        ScopeField::Regions => given(&settings.regions),
    }
}

fn lists(settings: &ScanSettings) -> impl Iterator<Item = (&'static str, &[String])> {
    [
        ("services", &settings.services),
        ("checks", &settings.checks),
        ("excludedChecks", &settings.excluded_checks),
        ("excludedServices", &settings.excluded_services),
        ("compliances", &settings.compliances),
        ("categories", &settings.categories),
        ("regions", &settings.regions),
    ]
    .into_iter()
    .filter_map(|(name, items)| Some((name, items.as_deref()?)))
}

/// The same rule as the definition's pattern. What begins with a hyphen could be read by Prowler
/// as another flag.
fn is_item(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::common::Severity;

    #[expect(clippy::unnecessary_wraps, reason = "the fields are options")]
    fn list(items: &[&str]) -> Option<Vec<String>> {
        Some(items.iter().map(|item| (*item).into()).collect())
    }

    #[test]
    fn a_field_given_above_replaces_the_one_below() {
        let base = ScanSettings {
            services: list(&["s3", "iam"]),
            severities: Some(vec![Severity::High]),
            active_deadline_seconds: Some(3600),
            ..ScanSettings::default()
        };
        let over = ScanSettings {
            services: list(&["ec2"]),
            regions: list(&["eu-west-1"]),
            ..ScanSettings::default()
        };
        let merged = merge(&base, Some(&over));
        assert_eq!(merged.services, list(&["ec2"]));
        assert_eq!(merged.severities, Some(vec![Severity::High]));
        assert_eq!(merged.regions, list(&["eu-west-1"]));
        assert_eq!(merged.active_deadline_seconds, Some(3600));
    }

    #[test]
    fn what_is_chosen_above_drops_what_prowler_cannot_combine_with_it() {
        let base = ScanSettings {
            services: list(&["s3"]),
            severities: Some(vec![Severity::High]),
            excluded_checks: list(&["x"]),
            ..ScanSettings::default()
        };
        let over = ScanSettings {
            compliances: list(&["cis_3.0_aws"]),
            ..ScanSettings::default()
        };
        let merged = merge(&base, Some(&over));
        assert_eq!(merged.services, None);
        assert_eq!(merged.severities, None);
        assert_eq!(merged.excluded_checks, list(&["x"]));
        assert!(check(ProviderType::Aws, &merged, "spec.scan").is_empty());
    }

    #[test]
    fn two_ways_of_choosing_checks_are_refused() {
        let settings = ScanSettings {
            services: list(&["s3"]),
            compliances: list(&["cis_3.0_aws"]),
            ..ScanSettings::default()
        };
        let violations = check(ProviderType::Aws, &settings, "spec.scan");
        assert_eq!(violations.len(), 1);
        assert!(
            violations[0]
                .message()
                .contains("services and severities with compliances")
        );
    }

    #[test]
    fn an_empty_list_above_lifts_the_restriction_below() {
        let base = ScanSettings {
            services: list(&["s3"]),
            ..ScanSettings::default()
        };
        let over = ScanSettings {
            services: list(&[]),
            ..ScanSettings::default()
        };
        assert_eq!(merge(&base, Some(&over)).services, list(&[]));
    }

    #[test]
    fn nothing_above_changes_nothing() {
        let base = ScanSettings {
            checks: list(&["a"]),
            ..ScanSettings::default()
        };
        assert_eq!(merge(&base, None), base);
        assert_eq!(merge(&base, Some(&ScanSettings::default())), base);
    }

    #[test]
    fn an_item_that_could_be_a_flag_is_refused() {
        for item in [
            "--output-bucket",
            "-q",
            "",
            "a b",
            "a\n",
            "ä",
            "a,b",
            "a;b",
            "$(x)",
        ] {
            let settings = ScanSettings {
                checks: list(&[item]),
                ..ScanSettings::default()
            };
            let violations = check(ProviderType::Aws, &settings, "spec.scan");
            assert_eq!(violations.len(), 1, "{item:?}");
            assert_eq!(violations[0].field(), "spec.scan.checks");
        }
    }

    /// Settings with something in this field alone.
    fn only(field: ScopeField) -> ScanSettings {
        let mut settings = ScanSettings::default();
        match field {
            ScopeField::Services => settings.services = list(&["x"]),
            ScopeField::Checks => settings.checks = list(&["x"]),
            ScopeField::ExcludedChecks => settings.excluded_checks = list(&["x"]),
            ScopeField::ExcludedServices => settings.excluded_services = list(&["x"]),
            ScopeField::Severities => settings.severities = Some(vec![Severity::High]),
            ScopeField::Compliances => settings.compliances = list(&["x"]),
            ScopeField::Categories => settings.categories = list(&["x"]),
            ScopeField::Regions => settings.regions = list(&["x"]),
        }
        settings
    }

    #[test]
    fn what_a_type_does_not_know_is_refused_with_the_types_that_do() {
        for provider in ProviderType::ALL {
            for field in ScopeField::ALL {
                let violations = check(provider, &only(field), "spec.scan");
                if field.is_known_to(provider) {
                    assert_eq!(violations, [], "{provider}");
                    continue;
                }
                assert_eq!(violations.len(), 1, "{provider}: {violations:?}");
                assert_eq!(violations[0].reason(), Reason::InvalidScope);
                assert_eq!(
                    violations[0].field(),
                    format!("spec.scan.{}", field.as_str())
                );
                assert!(violations[0].message().contains("types aws, "));
                assert!(!violations[0].message().contains(provider.as_str()));
            }
        }
        assert_eq!(
            ScopeField::Regions.message(),
            "Prowler knows regions only for the provider types aws, oraclecloud and alibabacloud"
        );
    }

    #[test]
    fn an_empty_list_asks_for_nothing() {
        let settings = ScanSettings {
            regions: list(&[]),
            checks: list(&[]),
            ..ScanSettings::default()
        };
        assert_eq!(check(ProviderType::Iac, &settings, "spec.scan"), []);
    }
}
