use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn masked_json(value: &Value) -> Value {
    let text = serde_json::to_string_pretty(value).unwrap();
    let masked = super::json(&text);
    assert_eq!(masked, super::json(&text), "the same each time");
    assert_eq!(masked, super::json(&masked), "and of what is masked");
    serde_json::from_str(&masked).unwrap_or_else(|error| panic!("{error}: {masked}"))
}

#[test]
fn values_of_variables_are_masked_and_their_names_and_sources_are_not() {
    for (found, kept) in [
        // A pod.
        (
            json!({"name": "web", "containers": {"c": {"image": "nginx:1.27", "env": [
                {"name": "LOG_LEVEL", "value": "hunterTwo"}, {"name": "EMPTY", "value": null},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]}}}),
            json!({"name": "web", "containers": {"c": {"image": "nginx:1.27", "env": [
                {"name": "LOG_LEVEL", "value": "[masked]"}, {"name": "EMPTY", "value": null},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]}}}),
        ),
        // A function, in both forms.
        (
            json!({"runtime": "python3.12", "environment": {"STAGE": "hunterTwo", "PORT": 8080, "name": "hunterTwo"}}),
            json!({"runtime": "python3.12", "environment": {"STAGE": "[masked]", "PORT": "[masked]", "name": "[masked]"}}),
        ),
        (
            json!({"Environment": {"Variables": {"STAGE": "hunterTwo"}}, "variables": {"a": {"b": "hunterTwo"}}}),
            json!({"Environment": {"Variables": {"STAGE": "[masked]"}}, "variables": {"a": {"b": "[masked]"}}}),
        ),
        // A build, a task, an image.
        (
            json!({"environment_variables": [{"name": "A", "value": "hunterTwo", "type": "PLAINTEXT"}],
                   "env": ["A=hunterTwo"]}),
            json!({"environment_variables": [{"name": "A", "value": "[masked]", "type": "PLAINTEXT"}],
                   "env": ["[masked]"]}),
        ),
        // A label of this name is none.
        (
            json!({"labels": {"environment": "production", "env": "prod"}, "environment": "GEN_1"}),
            json!({"labels": {"environment": "production", "env": "prod"}, "environment": "GEN_1"}),
        ),
    ] {
        assert_eq!(masked_json(&found), kept);
    }
}

#[test]
fn scripts_and_copies_of_whole_objects_are_masked() {
    let found = json!({"user_data": "IyEvYmluL2Jhc2g=", "userData": {"value": "hunterTwo"}, "user_data_encryption": "DISABLED",
        "metadata": {"items": [{"key": "startup-script", "value": "hunterTwo"}, {"key": "enable-oslogin", "value": "TRUE"}]},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"env\":[{\"value\":\"hunterTwo\"}]}",
                        "example.com/owner": "alice"}});
    let kept = json!({"user_data": "[masked]", "userData": {"value": "[masked]"}, "user_data_encryption": "DISABLED",
        "metadata": {"items": [{"key": "startup-script", "value": "[masked]"}, {"key": "enable-oslogin", "value": "TRUE"}]},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "[masked]",
                        "example.com/owner": "alice"}});
    assert_eq!(masked_json(&found), kept);
}

#[test]
fn texts_whose_name_promises_a_secret_are_masked_and_facts_about_them_are_not() {
    let found = json!({
        "password": "hunterTwo", "tokens": ["hunterTwo", 5], "connection_string": "hunterTwo",
        "secrets": [{"name": "db", "arn": "arn:aws:secretsmanager:eu-west-1:1:secret:db-AbCdEf"}],
        "tags": [{"Key": "db-password", "Value": "hunterTwo"}, {"Value": "hunterTwo", "Key": "ApiToken"}, {"Key": "env", "Value": "prod"}],
        "parameters": [{"ParameterKey": "DbPassword", "ParameterValue": "hunterTwo"}, {"ParameterName": "rds.force_ssl", "ParameterValue": "1"}],
        "command": ["serve", "--db-password", "hunterTwo", "--port", "8080", "--token=hunterTwo"],
        "password_enabled": "true", "password_last_used": "2026-11-23 04:58:22+00:00", "http_tokens": "required",
        "access_key_1_active": "true", "mfa_token": null, "password_policy": {"length": 14, "symbols": true},
        "automount_service_account_token": false, "authType": "AWS_IAM", "secret_arn": "arn:aws:x", "api_keys": [],
    });
    let kept = json!({
        "password": "[masked]", "tokens": ["[masked]", 5], "connection_string": "[masked]",
        "secrets": [{"name": "db", "arn": "arn:aws:secretsmanager:eu-west-1:1:secret:db-AbCdEf"}],
        "tags": [{"Key": "db-password", "Value": "[masked]"}, {"Value": "[masked]", "Key": "ApiToken"}, {"Key": "env", "Value": "prod"}],
        "parameters": [{"ParameterKey": "DbPassword", "ParameterValue": "[masked]"}, {"ParameterName": "rds.force_ssl", "ParameterValue": "1"}],
        "command": ["serve", "--db-password", "[masked]", "--port", "8080", "--token=[masked]"],
        "password_enabled": "true", "password_last_used": "2026-11-23 04:58:22+00:00", "http_tokens": "required",
        "access_key_1_active": "true", "mfa_token": null, "password_policy": {"length": 14, "symbols": true},
        "automount_service_account_token": false, "authType": "AWS_IAM", "secret_arn": "arn:aws:x", "api_keys": [],
    });
    assert_eq!(masked_json(&found), kept);
}

#[test]
fn credentials_within_a_text_are_masked_and_the_text_stays_json() {
    let found = json!({
        "description": "key AKIAIOSFODNN7EXAMPLE of \"alice\"\nand https://user:hunterTwo@example.com/",
        "definition": "{\"States\": {\"Password\": \"hunterTwo\", \"Next\": \"Done\"}}",
        "data": {"config.yaml": "region: eu-west-1\npassword: hunterTwo\n"},
    });
    let kept = json!({
        "description": "key [masked] of \"alice\"\nand https://[masked]@example.com/",
        "definition": "{\"States\": {\"Password\": \"[masked]\", \"Next\": \"Done\"}}",
        "data": {"config.yaml": "region: eu-west-1\npassword: [masked]\n"},
    });
    assert_eq!(masked_json(&found), kept);
}

#[test]
fn verdicts_and_tags_are_masked_too() {
    let verdict = |said: &'static str| text(Cow::Borrowed(said));
    assert_eq!(
        verdict("found token=hunterTwo in a.py"),
        "found token=[masked] in a.py"
    );
    let harmless = "User alice has rotated access key 1 in over 90 days (365 days).";
    assert!(matches!(verdict(harmless), Cow::Borrowed(same) if same == harmless));
    let found = Resource {
        uid: "arn:b".into(),
        name: "b".into(),
        region: "eu-west-1".into(),
        service: "s3".into(),
        kind: "AwsS3Bucket".into(),
        partition: None,
        details: "password: hunterTwo".into(),
        metadata: None,
        tags: [
            "db-password=hunterTwo",
            "password-rotated=yes",
            "team=payments",
            "note=token: hunterTwo",
        ]
        .map(|tag| tag.split_once('=').unwrap())
        .map(|(key, value)| (key.into(), value.into()))
        .into(),
    };
    let told = resource(&found);
    assert_eq!(told.details, "password: [masked]");
    let values: Vec<_> = told.tags.iter().map(|(_, value)| value.as_ref()).collect();
    assert_eq!(values, ["[masked]", "yes", "payments", "token: [masked]"]);
}

#[test]
fn the_beginning_of_a_record_is_masked_before_it_is_cut_and_else_its_very_bytes() {
    let record =
        br#"{"a": nope, "env": [{"name": "A", "value": "hunterTwo"}], "password": "hunterT"#;
    let masked = br#"{"a":nope,"env":[{"name":"A","value":"[masked]"}],"password":"[masked]"#;
    assert!(beginning(record).starts_with(masked));
    // Wherever the record is cut off.
    for bytes in 0..record.len() {
        let beginning = beginning(&record[..bytes]);
        let text = String::from_utf8_lossy(&beginning);
        assert!(!text.contains("hunter"), "{text}");
    }
    for record in [&b"{\"a\": \"\xff\", \n \"b\": 1}"[..], b"[\x00", b""] {
        assert_eq!(beginning(record), record);
    }
}

#[test]
fn what_real_scans_found_stays_as_it_is() {
    for file in ["aws", "kubernetes"] {
        let path = format!(
            "{}/tests/fixtures/{file}.ocsf.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let records: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for record in records {
            let metadata = &record["resources"][0]["data"]["metadata"];
            assert_eq!(masked_json(metadata), *metadata);
            let said = record["status_detail"].as_str().unwrap();
            assert_eq!(text(Cow::Borrowed(said)), said);
        }
    }
}

fn values() -> impl Strategy<Value = Value> {
    const NAMES: &[&str] = &[
        "env",
        "name",
        "value",
        "password",
        "user_data",
        "x",
        "Key",
        "--token",
        "a=b",
    ];
    let text = prop_oneof![
        proptest::sample::select(NAMES).prop_map(str::to_owned),
        "\\PC{0,20}",
        "password=[a-z]{3}\"\\\\",
    ];
    let leaf = prop_oneof![
        text.clone().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((text.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// The same shape: objects with the same keys, lists as long, and texts for what is hidden.
fn is_like(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|found| is_like(value, found)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_like(one, other))
        }
        (Value::Object(_) | Value::Array(_) | Value::Null, _) => before == after,
        (_, Value::String(masked)) => before == after || masked.contains(MASK),
        _ => before == after,
    }
}

proptest! {
    #[test]
    fn whatever_is_masked_keeps_its_shape(value in values()) {
        let masked = masked_json(&value);
        prop_assert!(is_like(&value, &masked), "{value}\n{masked}");
    }

    #[test]
    fn nothing_makes_the_beginning_of_a_record_panic(value in values(), cut in any::<prop::sample::Index>(), odd in any::<[u8; 3]>()) {
        let mut bytes = serde_json::to_vec(&value).unwrap();
        bytes.truncate(cut.index(bytes.len() + 1));
        bytes.extend(odd);
        let _ = beginning(&bytes);
    }
}
