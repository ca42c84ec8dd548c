//! What a record means: OCSF's words turned into ours.

use std::borrow::Cow;

use super::lenient::Text;
use super::mask;
use super::record::{Record, ResourceDetails};
use crate::api::account::ProviderType;
use crate::domain::finding::{CHECK_ID_MAX, Finding, Resource, Severity, Status};

/// How a cluster's namespaces appear among regions.
const NAMESPACE: &str = "namespace: ";

/// The finding of a record; otherwise why it is none, without quoting its values.
pub(super) fn understand<'a>(
    provider: ProviderType,
    record: &'a Record<'_>,
) -> Result<Finding<'a>, String> {
    let status = record.status_code.as_str();
    let Some(status) = Status::from_name(status) else {
        return Err(match status {
            "" => "status_code is missing".to_owned(),
            _ => "status_code is neither PASS, FAIL nor MANUAL".to_owned(),
        });
    };
    let uid = record.finding_info.0.uid.as_str();
    if uid.is_empty() {
        return Err("finding_info.uid is missing".to_owned());
    }
    let check_id = record.metadata.0.event_code.as_str();
    if check_id.is_empty() {
        return Err("metadata.event_code (the check) is missing".to_owned());
    }
    if check_id.chars().count() > CHECK_ID_MAX {
        return Err(format!(
            "metadata.event_code (the check) is longer than {CHECK_ID_MAX} characters"
        ));
    }
    let detail = match record.status_detail.as_str() {
        "" => &record.message,
        _ => &record.status_detail,
    };
    Ok(Finding {
        uid: uid.into(),
        check_id: check_id.into(),
        status,
        status_extended: mask::text(detail.as_str().into()),
        severity: Severity::from_name(record.severity.as_str()),
        muted: record.status.as_str() == "Suppressed",
        categories: record
            .unmapped
            .0
            .categories
            .0
            .iter()
            .map(Text::as_str)
            .filter(|category| !category.is_empty())
            .map(Cow::from)
            .collect(),
        resource: record
            .resources
            .0
            .as_ref()
            .map(|details| resource(provider, details, &record.cloud.0.region)),
    })
}

fn resource<'a>(
    provider: ProviderType,
    details: &'a ResourceDetails<'_>,
    account_region: &'a Text<'_>,
) -> Resource<'a> {
    let region = if provider == ProviderType::Kubernetes {
        namespace(details.namespace.as_str(), details.region.as_str())
    } else if details.region.as_str().is_empty() {
        account_region.as_str().into()
    } else {
        details.region.as_str().into()
    };
    let partition = details.cloud_partition.as_str();
    Resource {
        uid: details.uid.as_str().into(),
        name: details.name.as_str().into(),
        region,
        service: details.group.0.name.as_str().into(),
        kind: details.kind.as_str().into(),
        partition: (!partition.is_empty()).then_some(partition.into()),
        details: details.data.0.details.as_str().into(),
        metadata: details
            .data
            .0
            .metadata
            .and_then(|raw| std::str::from_utf8(raw.0).ok())
            .filter(|json| !matches!(*json, "{}" | "null" | "\"\"")),
        tags: details
            .labels
            .0
            .iter()
            .filter(|label| !label.as_str().is_empty())
            .map(|label| tag(label.as_str()))
            .collect(),
    }
}

/// The original's region of a cluster's object; the file leaves the prefix out.
fn namespace<'a>(namespace: &'a str, region: &'a str) -> Cow<'a, str> {
    let name = if namespace.is_empty() {
        region
    } else {
        namespace
    };
    if name.is_empty() || name.starts_with(NAMESPACE) {
        name.into()
    } else {
        Cow::Owned(format!("{NAMESPACE}{name}"))
    }
}

/// `key:value`, split at the first colon; a label without one is a key.
fn tag(label: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    let (key, value) = label.split_once(':').unwrap_or((label, ""));
    (key.into(), value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> Record<'_> {
        serde_json::from_str(json).unwrap()
    }

    const AWS: &str = r#"{
        "message": "m", "status_detail": "Bucket is public.", "status_code": "FAIL", "status": "New",
        "severity": "High", "metadata": {"event_code": "s3_public"},
        "finding_info": {"uid": "prowler-aws-s3_public-1-eu-west-1-b"},
        "cloud": {"account": {"uid": "1"}, "region": "eu-west-1"},
        "resources": [{"uid": "arn:b", "name": "b", "type": "AwsS3Bucket", "region": "eu-west-1",
          "cloud_partition": "aws", "group": {"name": "s3"}, "labels": ["env:a:b", "alone", ""],
          "data": {"details": "d", "metadata": {"k": 1}}}],
        "unmapped": {"categories": ["internet-exposed", null]}
    }"#;

    #[test]
    fn a_record_of_a_cloud_is_read_field_by_field() {
        let aws = record(AWS);
        let finding = understand(ProviderType::Aws, &aws).unwrap();
        assert_eq!(finding.uid, "prowler-aws-s3_public-1-eu-west-1-b");
        assert_eq!(finding.check_id, "s3_public");
        assert_eq!(finding.status, Status::Fail);
        assert_eq!(finding.status_extended, "Bucket is public.");
        assert_eq!(finding.severity, Severity::High);
        assert!(!finding.muted);
        assert_eq!(finding.categories, ["internet-exposed"]);
        let resource = finding.resource.unwrap();
        assert_eq!(resource.region, "eu-west-1");
        assert_eq!(resource.service, "s3");
        assert_eq!(resource.partition.as_deref(), Some("aws"));
        assert_eq!(resource.metadata, Some(r#"{"k": 1}"#));
        let tags: Vec<_> = resource
            .tags
            .iter()
            .map(|(k, v)| (k.as_ref(), v.as_ref()))
            .collect();
        assert_eq!(tags, [("env", "a:b"), ("alone", "")]);
    }

    #[test]
    fn namespaces_become_regions_with_the_prefix_of_the_original() {
        for (details, region) in [
            (r#"{"namespace": "kube-system"}"#, "namespace: kube-system"),
            (
                r#"{"namespace": "cluster-wide"}"#,
                "namespace: cluster-wide",
            ),
            (r#"{"namespace": "namespace: a"}"#, "namespace: a"),
            (r"{}", ""),
        ] {
            let json = format!(
                r#"{{"status_code": "PASS", "metadata": {{"event_code": "c"}},
                    "finding_info": {{"uid": "u"}}, "resources": [{details}]}}"#
            );
            let record = record(&json);
            let finding = understand(ProviderType::Kubernetes, &record).unwrap();
            assert_eq!(finding.resource.unwrap().region, region, "{details}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let whole = r#"{"status_code": "PASS", "metadata": {"event_code": "c"}, "finding_info": {"uid": "u"}}"#;
        assert!(understand(ProviderType::Aws, &record(whole)).is_ok());
        let long = "c".repeat(101);
        for (from, to, reason) in [
            ("PASS", "", "status_code is missing"),
            (
                "PASS",
                "pass",
                "status_code is neither PASS, FAIL nor MANUAL",
            ),
            (
                r#""uid": "u""#,
                r#""uid": """#,
                "finding_info.uid is missing",
            ),
            (
                r#""event_code": "c""#,
                r#""x": 1"#,
                "metadata.event_code (the check) is missing",
            ),
            (
                r#": "c""#,
                &format!(": \"{long}\""),
                "metadata.event_code (the check) is longer than 100 characters",
            ),
        ] {
            let json = whole.replace(from, to);
            assert_eq!(
                understand(ProviderType::Aws, &record(&json)).unwrap_err(),
                reason
            );
        }
    }

    #[test]
    fn suppressed_findings_are_muted_and_a_missing_detail_falls_back_to_the_message() {
        let json = r#"{"status_code": "FAIL", "status": "Suppressed", "message": "m",
            "metadata": {"event_code": "c"}, "finding_info": {"uid": "u"}, "severity": 7}"#;
        let record = record(json);
        let finding = understand(ProviderType::Aws, &record).unwrap();
        assert!(finding.muted);
        assert_eq!(finding.status_extended, "m");
        assert_eq!(finding.severity, Severity::Informational);
        assert!(finding.resource.is_none());
    }
}
