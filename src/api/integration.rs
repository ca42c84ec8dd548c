//! Integration: where findings are sent besides the database.

use std::fmt;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Condition, LocalRef, conditions, status_ext, yes};

/// Where findings go, whose, and what opens it.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "prowler-operator.dev",
    version = "v1alpha1",
    kind = "Integration",
    plural = "prowlerintegrations",
    singular = "prowlerintegration",
    shortname = "pint",
    category = "prowler",
    namespaced,
    status = "IntegrationStatus",
    derive = "PartialEq",
    cel,
    doc = "A bucket, a hub or a tracker that findings of the tenant are sent to.",
    selectable = ".spec.type",
    printcolumn(
        name = "Type",
        type_ = "string",
        json_path = ".spec.type",
        description = "Where findings go"
    ),
    printcolumn(
        name = "Providers",
        type_ = "integer",
        json_path = ".status.providers",
        description = "Providers whose findings are sent"
    ),
    printcolumn(
        name = "Enabled",
        type_ = "boolean",
        json_path = ".spec.enabled",
        description = "Whether anything is sent"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the integration is valid and stored"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "Why",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since creation"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.type != 'amazon_s3' || (has(self.configuration) && has(self.configuration.bucketName))"
).message("an amazon_s3 integration needs configuration.bucketName").field_path(".configuration"))]
#[x_kube(validation = Rule::new(
    "self.type == 'amazon_s3' || !has(self.configuration) || (!has(self.configuration.bucketName) && !has(self.configuration.outputDirectory))"
).message("bucketName and outputDirectory are for integrations of type amazon_s3").field_path(".configuration"))]
#[x_kube(validation = Rule::new(
    "self.type == 'aws_security_hub' || !has(self.configuration) || (!has(self.configuration.sendOnlyFails) && !has(self.configuration.archivePreviousFindings))"
).message("sendOnlyFails and archivePreviousFindings are for integrations of type aws_security_hub").field_path(".configuration"))]
#[x_kube(validation = Rule::new(
    "self.type != 'aws_security_hub' || (has(self.providerRefs) && size(self.providerRefs) == 1)"
).message("an aws_security_hub integration belongs to exactly one Provider: name it in providerRefs").field_path(".providerRefs"))]
#[x_kube(validation = Rule::new(
    "self.type != 'jira' || !has(self.providerRefs) || size(self.providerRefs) == 0"
).message("a jira integration is for the whole tenant: leave providerRefs out").field_path(".providerRefs"))]
#[x_kube(validation = Rule::new(
    "self.type == 'aws_security_hub' || has(self.credentials)"
).message("integrations of type amazon_s3 and jira need credentials; only aws_security_hub can use the Provider's own").field_path(".credentials"))]
pub struct IntegrationSpec {
    /// Where findings go. Cannot be changed.
    #[serde(rename = "type")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("type cannot be changed: delete this Integration and make another"))]
    pub kind: IntegrationType,
    /// Providers of this namespace whose findings are sent. `amazon_s3`: any number;
    /// `aws_security_hub`: exactly one, of type aws; jira: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub provider_refs: Vec<LocalRef>,
    /// How findings are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Configuration>,
    /// What opens it. Without, `aws_security_hub` uses the Provider's own credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<IntegrationCredentials>,
    /// Whether anything is sent.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// Where findings go.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum IntegrationType {
    /// A bucket: the files of each scan.
    #[serde(rename = "amazon_s3")]
    AmazonS3,
    /// AWS Security Hub of the account that was scanned.
    #[serde(rename = "aws_security_hub")]
    AwsSecurityHub,
    /// Issues in a Jira project, when somebody sends findings there.
    #[serde(rename = "jira")]
    Jira,
}

impl IntegrationType {
    /// The word in manifests and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AmazonS3 => "amazon_s3",
            Self::AwsSecurityHub => "aws_security_hub",
            Self::Jira => "jira",
        }
    }
}

impl fmt::Display for IntegrationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How findings are sent; which fields there are depends on the type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Name of the bucket (`amazon_s3`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$') && !self.contains('..')")
        .message("bucketName must be the name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens, for example acme-findings"))]
    pub bucket_name: Option<String>,
    /// Directory in the bucket (`amazon_s3`). Default: `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 900))]
    #[x_kube(validation = Rule::new(r#"!self.matches('[<>:"|?*\\x00-\\x1f\\x7f]')"#)
        .message("outputDirectory must have none of the characters < > : \" | ? * and no control characters"))]
    #[x_kube(validation = Rule::new("self.split('/').exists(part, part != '' && part != '.' && part != '..') && !self.split('/').exists(part, part == '..')")
        .message("outputDirectory must name a directory below the bucket's root, without '..', for example findings/production"))]
    pub output_directory: Option<String>,
    /// Only failed findings are sent (`aws_security_hub`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_only_fails: Option<bool>,
    /// What Prowler sent before and did not find again is archived (`aws_security_hub`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_previous_findings: Option<bool>,
}

/// What opens an integration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntegrationCredentials {
    /// A Secret with the label `prowler-operator.dev/credentials: "true"`. For AWS its keys are
    /// those of an aws Provider, with `role_arn` for a role to assume; for jira `user_mail`,
    /// `api_token` and `domain`.
    pub secret_ref: LocalRef,
}

/// What the operator knows of an Integration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntegrationStatus {
    /// Generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling or Stalled while they hold; `CredentialsResolved`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Id of the integration's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub integration_id: Option<String>,
    /// Providers whose findings are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub providers: Option<i64>,
}

status_ext!(IntegrationStatus);

impl super::Kind for Integration {
    const KIND: &'static str = "Integration";
    const PLURAL: &'static str = "prowlerintegrations";
}
