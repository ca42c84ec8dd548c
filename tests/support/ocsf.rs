//! OCSF records in the shape that Prowler writes: single ones for tests, and as many as wanted
//! of real size (about 7 kB) for the benchmark.

#![allow(dead_code, reason = "not every test binary uses all of it")]

use std::fmt::Write as _;
use std::io::Write;

use serde_json::{Value, json};

/// The account of the records.
pub const ACCOUNT: &str = "123456789012";

/// A record to be varied.
#[derive(Clone, Debug)]
pub struct Record {
    pub check: String,
    pub account: String,
    pub region: String,
    /// Name of the resource; part of the finding's uid.
    pub name: String,
    /// Identity of the resource.
    pub resource: String,
    pub status: &'static str,
    pub severity: &'static str,
    pub muted: bool,
    pub tags: Vec<String>,
    /// What the scanner knows of the resource.
    pub metadata: Value,
    pub uid: Option<String>,
}

/// A failed check of a resource.
pub fn record(check: &str, name: &str) -> Record {
    Record {
        check: check.to_owned(),
        account: ACCOUNT.to_owned(),
        region: "eu-west-1".to_owned(),
        name: name.to_owned(),
        resource: format!("arn:aws:s3:::{name}"),
        status: "FAIL",
        severity: "High",
        muted: false,
        tags: Vec::new(),
        metadata: json!({"name": name}),
        uid: None,
    }
}

impl Record {
    pub fn status(mut self, status: &'static str) -> Self {
        self.status = status;
        self
    }

    pub fn severity(mut self, severity: &'static str) -> Self {
        self.severity = severity;
        self
    }

    pub fn muted(mut self) -> Self {
        self.muted = true;
        self
    }

    pub fn tags(mut self, tags: &[&str]) -> Self {
        self.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        self
    }

    pub fn account(mut self, account: &str) -> Self {
        self.account = account.to_owned();
        self
    }

    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = resource.to_owned();
        self
    }

    pub fn region(mut self, region: &str) -> Self {
        self.region = region.to_owned();
        self
    }

    pub fn uid(mut self, uid: &str) -> Self {
        self.uid = Some(uid.to_owned());
        self
    }

    /// The finding's uid, as Prowler makes it.
    pub fn finding_uid(&self) -> String {
        self.uid.clone().unwrap_or_else(|| {
            format!(
                "prowler-aws-{}-{}-{}-{}",
                self.check, self.account, self.region, self.name
            )
        })
    }

    pub fn json(&self) -> Value {
        let detail = format!("Resource {} and check {}.", self.name, self.check);
        json!({
            "message": detail,
            "metadata": {
                "event_code": self.check,
                "product": {"name": "Prowler", "uid": "prowler", "vendor_name": "Prowler", "version": "5.0.0"},
                "profiles": ["cloud", "datetime"], "tenant_uid": "", "version": "1.5.0"
            },
            "severity_id": 4, "severity": self.severity,
            "status": if self.muted { "Suppressed" } else { "New" },
            "status_code": self.status, "status_detail": detail,
            "status_id": if self.muted { 3 } else { 1 },
            "unmapped": {
                "related_url": "", "categories": ["internet-exposed"], "depends_on": [], "related_to": [],
                "additional_urls": [], "notes": "",
                "compliance": {"CIS-3.0": ["1.1", "1.2"], "ENS-RD2022": ["op.acc.1"]},
                "scan_id": "01a206c6-718f-7ff7-863a-0b8d4a3d515a",
                "provider_uid": self.account, "provider": "aws"
            },
            "activity_name": "Create", "activity_id": 1,
            "finding_info": {
                "analytic": {"category": "s3", "name": self.check, "type": "Rule", "type_id": 1, "uid": self.check},
                "created_time": 1_795_409_998, "created_time_dt": "2026-11-23T04:59:58.223202",
                "desc": format!("What {} examines.", self.check), "title": format!("Title of {}", self.check),
                "types": ["Software and Configuration Checks"], "uid": self.finding_uid(), "name": self.name
            },
            "resources": [{
                "cloud_partition": "aws", "region": self.region,
                "data": {"details": "", "metadata": self.metadata},
                "group": {"name": "s3"}, "labels": self.tags, "name": self.name, "type": "AwsS3Bucket",
                "uid": self.resource
            }],
            "category_name": "Findings", "category_uid": 2, "class_name": "Detection Finding", "class_uid": 2004,
            "cloud": {
                "account": {"name": "", "type": "AWS Account", "type_id": 10, "uid": self.account, "labels": []},
                "org": {"name": "", "ou_uid": "", "ou_name": "", "uid": ""},
                "provider": "aws", "region": self.region
            },
            "remediation": {"desc": format!("Repair what {} found.", self.check), "references": ["https://hub.prowler.com"]},
            "risk_details": "Somebody may read it.",
            "time": 1_795_409_998, "time_dt": "2026-11-23T04:59:58.223202",
            "type_uid": 200_401, "type_name": "Detection Finding: Create"
        })
    }
}

/// A whole file of records, as Prowler writes it.
pub fn file(records: &[Record]) -> Vec<u8> {
    array(records.iter().map(Record::json))
}

/// A whole file of any values.
pub fn array(values: impl IntoIterator<Item = Value>) -> Vec<u8> {
    let texts: Vec<_> = values
        .into_iter()
        .map(|value| serde_json::to_string_pretty(&value).unwrap())
        .collect();
    format!("[{}]", texts.join(",")).into_bytes()
}

/// The shape of a large file.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub findings: usize,
    pub checks: usize,
    pub regions: usize,
    pub resources: usize,
}

impl Shape {
    /// What the budgets speak of, for so many findings.
    pub fn of(findings: usize) -> Self {
        Self {
            findings,
            checks: 300,
            regions: 20,
            resources: findings.div_ceil(10),
        }
    }
}

/// Writes a large file; in `round` 1 and later one finding in fifty has another verdict than
/// in the round before.
pub fn write_large(out: &mut impl Write, shape: Shape, round: usize) -> std::io::Result<()> {
    let checks: Vec<String> = (0..shape.checks).map(constants).collect();
    let per_check = shape.findings.div_ceil(shape.checks);
    let apart = shape.resources.div_ceil(per_check);
    let mut text = String::new();
    for number in 0..shape.findings {
        text.clear();
        text.push(if number == 0 { '[' } else { ',' });
        // Findings of a check stand together, each of another resource; all checks together
        // meet every one.
        let (check, place) = (number / per_check, number % per_check);
        let resource = place * shape.resources / per_check + check % apart;
        one_of_many(
            &mut text,
            number,
            check,
            resource,
            &checks[check],
            shape,
            round,
        );
        out.write_all(text.as_bytes())?;
    }
    out.write_all(if shape.findings == 0 { b"[]" } else { b"]" })
}

/// The part of a record that is the same for all of its check: some 5.5 kB.
fn constants(check: usize) -> String {
    let mut compliance = String::new();
    for framework in 0..28 {
        let comma = if framework == 0 { "" } else { "," };
        write!(
            compliance,
            "{comma}\n            \"Framework-{framework}.{check}\": [\n                \"{framework}.{check}.1\",\n                \
             \"requirement_{framework}_{check}\"\n            ]"
        )
        .unwrap();
    }
    let prose = "Without **this setting**, long-lived keys enable persistent access, causing \
                 **data exfiltration**, unauthorised change and difficult revocation. "
        .repeat(4);
    format!(
        "\"risk_details\": \"{prose}Check {check}.\",\n    \"remediation\": {{\n        \"desc\": \"{prose}\",\n        \
         \"references\": [\n            \"https://hub.prowler.com/check/service_check_number_{check}\"\n        ]\n    }},\n    \
         \"unmapped\": {{\n        \"related_url\": \"\",\n        \"categories\": [\n            \"identity-access\",\n            \"encryption\"\n        ],\n        \
         \"depends_on\": [],\n        \"related_to\": [],\n        \"additional_urls\": [\n            \"https://docs.example.com/{check}\"\n        ],\n        \
         \"notes\": \"\",\n        \"compliance\": {{{compliance}\n        }},\n        \"scan_id\": \"01a206c6-718f-7ff7-863a-0b8d4a3d515a\",\n        \
         \"provider_uid\": \"{ACCOUNT}\",\n        \"provider\": \"aws\"\n    }},"
    )
}

fn one_of_many(
    text: &mut String,
    number: usize,
    check: usize,
    resource: usize,
    constants: &str,
    shape: Shape,
    round: usize,
) {
    let region = format!("eu-region-{}", resource % shape.regions);
    let name = format!("resource-name-{resource:06}");
    let id = format!("service_check_number_{check}_is_configured_properly");
    let flips = if number % 50 == 7 { round } else { 0 };
    let status = ["FAIL", "PASS"][(number * 7 / 3 + flips) % 2];
    let severity = ["Critical", "High", "Medium", "Low"][check % 4];
    let service = check % 40;
    write!(
        text,
        "{{\n    \"message\": \"Resource {name} does not have setting {check} configured properly.\",\n    \
         \"metadata\": {{\n        \"event_code\": \"{id}\",\n        \"product\": {{\n            \"name\": \"Prowler\",\n            \
         \"uid\": \"prowler\",\n            \"vendor_name\": \"Prowler\",\n            \"version\": \"5.0.0\"\n        }},\n        \
         \"profiles\": [\n            \"cloud\",\n            \"datetime\"\n        ],\n        \"tenant_uid\": \"\",\n        \"version\": \"1.5.0\"\n    }},\n    \
         \"severity_id\": 3,\n    \"severity\": \"{severity}\",\n    \"status\": \"New\",\n    \"status_code\": \"{status}\",\n    \
         \"status_detail\": \"Resource {name} does not have setting {check} configured properly.\",\n    \"status_id\": 1,\n    {constants}\n    \
         \"activity_name\": \"Create\",\n    \"activity_id\": 1,\n    \"finding_info\": {{\n        \"analytic\": {{\n            \
         \"category\": \"service{service}\",\n            \"name\": \"Title of check {check}\",\n            \"type\": \"Rule\",\n            \
         \"type_id\": 1,\n            \"uid\": \"{id}\"\n        }},\n        \"created_time\": 1795409998,\n        \
         \"created_time_dt\": \"2026-11-23T04:59:58.223202\",\n        \"desc\": \"This evaluates whether setting {check} is configured.\",\n        \
         \"title\": \"Title of check {check}\",\n        \"types\": [\n            \"Software and Configuration Checks/Best Practices\"\n        ],\n        \
         \"uid\": \"prowler-aws-{id}-{ACCOUNT}-{region}-{name}\"\n    }},\n    \"resources\": [\n        {{\n            \"cloud_partition\": \"aws\",\n            \
         \"region\": \"{region}\",\n            \"data\": {{\n                \"details\": \"\",\n                \"metadata\": {{\n                    \
         \"arn\": \"arn:aws:service{resource}:{region}:{ACCOUNT}:thing/{name}\",\n                    \"encrypted\": false,\n                    \
         \"policy\": {{\n                        \"Version\": \"2012-10-17\",\n                        \"Statement\": [\n                            {{\n                                \
         \"Effect\": \"Allow\",\n                                \"Action\": \"sts:AssumeRole\",\n                                \"Resource\": \"arn:aws:s3:::{name}/*\"\n                            }}\n                        ]\n                    }}\n                }}\n            }},\n            \
         \"group\": {{\n                \"name\": \"service{service}\"\n            }},\n            \"labels\": [\n                \"Name:{name}\",\n                \
         \"team:team-{}\"\n            ],\n            \"name\": \"{name}\",\n            \"type\": \"AwsType{}\",\n            \
         \"uid\": \"arn:aws:service{resource}:{region}:{ACCOUNT}:thing/{name}\"\n        }}\n    ],\n    \"category_name\": \"Findings\",\n    \
         \"category_uid\": 2,\n    \"class_name\": \"Detection Finding\",\n    \"class_uid\": 2004,\n    \"cloud\": {{\n        \"account\": {{\n            \
         \"name\": \"\",\n            \"type\": \"AWS Account\",\n            \"type_id\": 10,\n            \"uid\": \"{ACCOUNT}\",\n            \"labels\": []\n        }},\n        \
         \"org\": {{\n            \"name\": \"\",\n            \"ou_uid\": \"\",\n            \"ou_name\": \"\",\n            \"uid\": \"\"\n        }},\n        \
         \"provider\": \"aws\",\n        \"region\": \"{region}\"\n    }},\n    \"time\": 1795409998,\n    \"time_dt\": \"2026-11-23T04:59:58.223202\",\n    \
         \"type_uid\": 200401,\n    \"type_name\": \"Detection Finding: Create\"\n}}",
        resource % 50,
        resource % 60,
    )
    .unwrap();
}
