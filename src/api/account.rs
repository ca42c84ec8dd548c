//! The table of provider types: how each names its accounts.
//!
//! The CEL rules of the Provider's definition are made from it, and `domain::account` decides
//! by it, so the API server and the program cannot disagree about what an account is.

use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kind of account: what Prowler calls its provider.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ProviderType {
    /// An Amazon Web Services account.
    Aws,
    /// A Microsoft Azure subscription.
    Azure,
    /// A Google Cloud project.
    Gcp,
    /// A Kubernetes cluster.
    Kubernetes,
    /// A Microsoft 365 tenant.
    M365,
    /// A GitHub user or organisation.
    Github,
    /// A MongoDB Atlas organisation.
    Mongodbatlas,
    /// A repository with infrastructure as code.
    Iac,
    /// An Oracle Cloud tenancy.
    Oraclecloud,
    /// An Alibaba Cloud account.
    Alibabacloud,
    /// A Cloudflare account.
    Cloudflare,
    /// An OpenStack project.
    Openstack,
    /// A container image or registry.
    Image,
    /// A Google Workspace customer.
    Googleworkspace,
    /// A Vercel team.
    Vercel,
    /// An Okta organisation.
    Okta,
}

impl ProviderType {
    /// All types, in the order of the original.
    pub const ALL: [Self; 16] = [
        Self::Aws,
        Self::Azure,
        Self::Gcp,
        Self::Kubernetes,
        Self::M365,
        Self::Github,
        Self::Mongodbatlas,
        Self::Iac,
        Self::Oraclecloud,
        Self::Alibabacloud,
        Self::Cloudflare,
        Self::Openstack,
        Self::Image,
        Self::Googleworkspace,
        Self::Vercel,
        Self::Okta,
    ];

    /// The word in manifests, in the database and on Prowler's command line.
    pub fn as_str(self) -> &'static str {
        self.uid_rule().name
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// How accounts of this type are named.
    pub fn uid_rule(self) -> &'static UidRule {
        match self {
            Self::Aws => &AWS,
            Self::Azure => &AZURE,
            Self::Gcp => &GCP,
            Self::Kubernetes => &KUBERNETES,
            Self::M365 => &M365,
            Self::Github => &GITHUB,
            Self::Mongodbatlas => &MONGODBATLAS,
            Self::Iac => &IAC,
            Self::Oraclecloud => &ORACLECLOUD,
            Self::Alibabacloud => &ALIBABACLOUD,
            Self::Cloudflare => &CLOUDFLARE,
            Self::Openstack => &OPENSTACK,
            Self::Image => &IMAGE,
            Self::Googleworkspace => &GOOGLEWORKSPACE,
            Self::Vercel => &VERCEL,
            Self::Okta => &OKTA,
        }
    }
}

impl std::fmt::Display for ProviderType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Fewest characters of a uid of any type.
pub const UID_MIN: usize = 3;
/// Most characters of a uid of any type.
pub const UID_MAX: usize = 250;

/// How accounts of one type are named. Patterns are anchored and use what Rust's `regex` and
/// the API server's RE2 read alike: no look-ahead, no `\d` or `\s`.
#[derive(Debug)]
pub struct UidRule {
    /// Name of the type.
    pub name: &'static str,
    /// Completes the sentence "the uid of a … provider must be …".
    pub must_be: &'static str,
    /// A uid that is right.
    pub example: &'static str,
    /// The regular expression.
    pub pattern: &'static str,
    /// Surrounding blanks and capital letters do not count: they are taken away before the
    /// rule is applied and before the uid is stored or compared.
    pub folded: bool,
}

impl UidRule {
    /// What is wrong, which rule holds, and an example: one sentence.
    pub fn message(&self) -> String {
        format!(
            "the uid of provider type {} must be {}, for example {}",
            self.name, self.must_be, self.example
        )
    }

    /// The rule as a CEL expression over a Provider's spec.
    pub fn expression(&self) -> String {
        let uid = if self.folded {
            "self.uid.trim().lowerAscii()"
        } else {
            "self.uid"
        };
        format!(
            "self.provider != '{}' || {uid}.matches(r'{}')",
            self.name, self.pattern
        )
    }
}

/// The rule of one type for the API server.
pub(crate) fn uid_validation(kind: ProviderType) -> Rule {
    let rule = kind.uid_rule();
    Rule::new(rule.expression())
        .message(rule.message().as_str())
        .field_path(".uid")
}

const AWS: UidRule = UidRule {
    name: "aws",
    must_be: "the 12 digits of the account id",
    example: "123456789012",
    pattern: r"^[0-9]{12}$",
    folded: false,
};

const AZURE: UidRule = UidRule {
    name: "azure",
    must_be: "the subscription id, a version 4 UUID in lower case with hyphens",
    example: "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    pattern: r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
    folded: false,
};

const GCP: UidRule = UidRule {
    name: "gcp",
    must_be: "the project id: 6 to 30 lower-case letters, digits and hyphens beginning with a letter, \
              after a domain and a colon for old domain projects",
    example: "my-project-123456",
    pattern: r"^([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{5,29}$",
    folded: false,
};

const KUBERNETES: UidRule = UidRule {
    name: "kubernetes",
    must_be: "the name of the cluster or of its context in the kubeconfig: letters, digits and . _ @ : / - \
              beginning with a letter or digit",
    example: "arn:aws:eks:eu-west-1:123456789012:cluster/prod",
    pattern: r"^[a-zA-Z0-9][a-zA-Z0-9._@:/-]{1,250}$",
    folded: false,
};

const M365: UidRule = UidRule {
    name: "m365",
    must_be: "the tenant's domain, without protocol or path",
    example: "contoso.onmicrosoft.com",
    pattern: r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.[A-Za-z]{2,}$",
    folded: false,
};

const GITHUB: UidRule = UidRule {
    name: "github",
    must_be: "the login of a user or organisation: up to 39 letters, digits and hyphens beginning \
              with a letter or digit",
    example: "my-organisation",
    pattern: r"^[a-zA-Z0-9][a-zA-Z0-9-]{0,38}$",
    folded: false,
};

const MONGODBATLAS: UidRule = UidRule {
    name: "mongodbatlas",
    must_be: "the organisation id, 24 hexadecimal digits",
    example: "5f43a7b2c9d8e1f0a1b2c3d4",
    pattern: r"^[0-9a-fA-F]{24}$",
    folded: false,
};

const IAC: UidRule = UidRule {
    name: "iac",
    must_be: "the URL of a repository: http:// or https://, or git@ or ssh:// ending in .git",
    example: "https://github.com/my-organisation/infrastructure.git",
    // Blanks and control characters are written out: `\s` means ASCII to the one engine and
    // Unicode to the other.
    pattern: r"^(https?://|git@|ssh://)[^\x00-\x20\x7f-\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}/][^\x00-\x20\x7f-\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]*\.git$|^https?://[^\x00-\x20\x7f-\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}/][^\x00-\x20\x7f-\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]*$",
    folded: false,
};

const ORACLECLOUD: UidRule = UidRule {
    name: "oraclecloud",
    must_be: "the OCID of the tenancy",
    example: "ocid1.tenancy.oc1..aaaaaaaa3d5c7e9g1i2k4m6o8q",
    pattern: r"^ocid1\.([a-z0-9_-]+)\.([a-z0-9_-]+)\.([a-z0-9_-]*)\.([a-z0-9]+)$",
    folded: false,
};

const ALIBABACLOUD: UidRule = UidRule {
    name: "alibabacloud",
    must_be: "the 16 digits of the account id",
    example: "1234567890123456",
    pattern: r"^[0-9]{16}$",
    folded: false,
};

const CLOUDFLARE: UidRule = UidRule {
    name: "cloudflare",
    must_be: "the account id, 32 hexadecimal digits in lower case",
    example: "372e67954025e0ba6aaa6d586b9e0b59",
    pattern: r"^[a-f0-9]{32}$",
    folded: false,
};

const OPENSTACK: UidRule = UidRule {
    name: "openstack",
    must_be: "the project's id or name: letters, digits and . _ - beginning with a letter or digit",
    example: "a6944d763bf64ee6a275f1263fae0352",
    pattern: r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,254}$",
    folded: false,
};

const IMAGE: UidRule = UidRule {
    name: "image",
    must_be: "a registry or an image reference",
    example: "registry.example.com/team/app:1.4",
    pattern: r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]{2,249}$",
    folded: false,
};

const GOOGLEWORKSPACE: UidRule = UidRule {
    name: "googleworkspace",
    must_be: "the customer id, a capital C followed by letters and digits",
    example: "C01abc2de",
    pattern: r"^C[0-9a-zA-Z]+$",
    folded: false,
};

const VERCEL: UidRule = UidRule {
    name: "vercel",
    must_be: "the team id, team_ followed by 16 to 32 letters and digits",
    example: "team_aBcDeFgHiJkLmNoP12345678",
    pattern: r"^team_[a-zA-Z0-9]{16,32}$",
    folded: false,
};

const OKTA: UidRule = UidRule {
    name: "okta",
    must_be: "the organisation's Okta domain, without protocol or path",
    example: "my-organisation.okta.com",
    pattern: r"^[a-z0-9][a-z0-9-]*\.(okta\.com|oktapreview\.com|okta-emea\.com|okta-gov\.com|okta\.mil|okta-miltest\.com|trex-govcloud\.com)$",
    folded: true,
};
