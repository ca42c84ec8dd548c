//! What a file of Prowler says, read as plainly as can be: every record whole, as a JSON value, and
//! none of the program's own words. `real` holds it against the tables.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Rows as they must be: findings in the file's order, resources by uid.
#[derive(Debug, PartialEq)]
pub struct Rows {
    pub findings: Vec<Value>,
    pub resources: Vec<Value>,
    pub counts: Value,
}

impl Rows {
    /// Distinct checks.
    pub fn checks(&self) -> usize {
        let checks = self.findings.iter().map(|row| row["check"].as_str());
        checks.collect::<BTreeSet<_>>().len()
    }
}

/// The rows of a file that no scan came before.
pub fn read(provider: &str, file: &[u8]) -> Rows {
    let records: Vec<Value> = serde_json::from_slice(file).unwrap();
    let mut resources = BTreeMap::new();
    for record in &records {
        let uid = text(&record["resources"][0]["uid"]);
        // What later records say of the same resource is not kept, but their failures count.
        let row = resources
            .entry(uid)
            .or_insert_with(|| resource(provider, record));
        let failed = row["failed"].as_u64().unwrap() + u64::from(is_failure(record));
        row["failed"] = failed.into();
    }
    Rows {
        findings: records.iter().map(|it| finding(provider, it)).collect(),
        resources: resources.into_values().collect(),
        counts: counts(provider, &records),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn is_muted(record: &Value) -> bool {
    record["status"] == "Suppressed"
}

fn is_failure(record: &Value) -> bool {
    record["status_code"] == "FAIL" && !is_muted(record)
}

fn region(provider: &str, record: &Value) -> String {
    let resource = &record["resources"][0];
    if provider == "kubernetes" {
        format!("namespace: {}", text(&resource["namespace"]))
    } else {
        text(&resource["region"])
    }
}

fn finding(provider: &str, record: &Value) -> Value {
    let resource = &record["resources"][0];
    let muted = is_muted(record);
    json!({
        "uid": record["finding_info"]["uid"],
        "check": record["metadata"]["event_code"],
        "status": record["status_code"],
        "status_extended": record["status_detail"],
        "severity": text(&record["severity"]).to_lowercase(),
        "muted": muted,
        "muted_reason": muted.then_some("Muted by mutelist"),
        "delta": "new",
        "regions": [region(provider, record)],
        "services": [resource["group"]["name"]],
        "types": [resource["type"]],
        "categories": record["unmapped"]["categories"],
        "resource": resource["uid"],
        "metadata": metadata(record),
    })
}

/// The constants of the record's check.
fn metadata(record: &Value) -> Value {
    let (info, unmapped) = (&record["finding_info"], &record["unmapped"]);
    let remediation = &record["remediation"];
    json!({
        "checkid": record["metadata"]["event_code"],
        "checktitle": info["title"],
        "checktype": info["types"],
        "servicename": record["resources"][0]["group"]["name"],
        "description": info["desc"],
        "risk": record["risk_details"],
        "relatedurl": unmapped["related_url"],
        "additionalurls": unmapped["additional_urls"],
        "remediation": {"recommendation": {
            "text": remediation["desc"],
            "url": text(&remediation["references"][0]),
            "references": remediation["references"],
        }},
        "categories": unmapped["categories"],
        "dependson": unmapped["depends_on"],
        "relatedto": unmapped["related_to"],
        "notes": unmapped["notes"],
        "compliance": unmapped["compliance"],
    })
}

fn resource(provider: &str, record: &Value) -> Value {
    let resource = &record["resources"][0];
    let metadata = &resource["data"]["metadata"];
    let labels = resource["labels"].as_array();
    let tags: BTreeSet<String> = labels
        .into_iter()
        .flatten()
        .map(|label| text(label).replacen(':', "=", 1))
        .collect();
    json!({
        "uid": resource["uid"],
        "name": resource["name"],
        "region": region(provider, record),
        "service": resource["group"]["name"],
        "type": resource["type"],
        "partition": resource["cloud_partition"],
        "details": resource["data"]["details"],
        "metadata": if *metadata == json!({}) { &Value::Null } else { metadata },
        "tags": tags,
        "failed": 0,
    })
}

fn counts(provider: &str, records: &[Value]) -> Value {
    let count = |counted: &dyn Fn(&Value) -> bool| records.iter().filter(|it| counted(it)).count();
    let verdict = |verdict| count(&|it| it["status_code"] == verdict && !is_muted(it));
    let failures = |severity| count(&|it| it["severity"] == severity && is_failure(it));
    let places: BTreeSet<_> = records
        .iter()
        .map(|it| (text(&it["resources"][0]["uid"]), region(provider, it)))
        .collect();
    json!({
        "resources": places.len(),
        "total": records.len(),
        "pass": verdict("PASS"),
        "fail": verdict("FAIL"),
        "manual": verdict("MANUAL"),
        "muted": count(&is_muted),
        "new": records.len() - count(&is_muted),
        "changed": 0,
        "critical": failures("Critical"),
        "high": failures("High"),
        "medium": failures("Medium"),
        "low": failures("Low"),
        "informational": failures("Informational"),
    })
}
