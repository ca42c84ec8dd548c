//! The table of scope fields: which fields of `spec.scan` Prowler knows for which provider types.
//!
//! The CEL rules of the Provider's definition are made from it, and `domain::scope` decides by it,
//! so the API server and the program cannot disagree about what can be asked of a type.

use kube::core::Rule;

use super::account::ProviderType;

/// A field of `spec.scan` that narrows what is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeField {
    /// Services to scan.
    Services,
    /// Checks to run.
    Checks,
    /// Checks not to run.
    ExcludedChecks,
    /// Services not to scan.
    ExcludedServices,
    /// Severities of checks.
    Severities,
    /// Compliance frameworks.
    Compliances,
    /// Categories of checks.
    Categories,
    /// Regions.
    Regions,
}

impl ScopeField {
    /// All fields.
    pub const ALL: [Self; 8] = [
        Self::Services,
        Self::Checks,
        Self::ExcludedChecks,
        Self::ExcludedServices,
        Self::Severities,
        Self::Compliances,
        Self::Categories,
        Self::Regions,
    ];

    /// Its name in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Checks => "checks",
            Self::ExcludedChecks => "excludedChecks",
            Self::ExcludedServices => "excludedServices",
            Self::Severities => "severities",
            Self::Compliances => "compliances",
            Self::Categories => "categories",
            Self::Regions => "regions",
        }
    }

    /// Whether Prowler heeds it for accounts of this type.
    pub fn is_known_to(self, provider: ProviderType) -> bool {
        use ProviderType::{Alibabacloud, Aws, Iac, Image, Oraclecloud};
        match self {
            // Cloudflare's and Microsoft 365's `--region` are zones and national clouds.
            Self::Regions => matches!(provider, Aws | Oraclecloud | Alibabacloud),
            // Trivy scans these: Prowler has no checks of its own for them, and passes over
            // every choice of checks in silence.
            _ => !matches!(provider, Iac | Image),
        }
    }

    /// Which provider types know it: one sentence.
    pub fn message(self) -> String {
        let known: Vec<_> = self.known().map(ProviderType::as_str).collect();
        let (last, first) = known.split_last().unwrap_or((&"", &[]));
        format!(
            "Prowler knows {} only for the provider types {} and {last}",
            self.as_str(),
            first.join(", ")
        )
    }

    /// The rule as a CEL expression over a Provider's spec. An empty list asks for nothing.
    pub fn expression(self) -> String {
        let field = format!("self.scan.{}", self.as_str());
        let known: Vec<_> = self.known().map(|kind| format!("'{kind}'")).collect();
        format!(
            "!has(self.scan) || !has({field}) || size({field}) == 0 || self.provider in [{}]",
            known.join(", ")
        )
    }

    fn known(self) -> impl Iterator<Item = ProviderType> {
        ProviderType::ALL
            .into_iter()
            .filter(move |provider| self.is_known_to(*provider))
    }
}

/// The rule of one field for the API server.
pub(crate) fn scope_validation(field: ScopeField) -> Rule {
    Rule::new(field.expression())
        .message(field.message().as_str())
        .field_path(format!(".scan.{}", field.as_str()))
}
