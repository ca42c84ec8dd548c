//! The definitions as the API server gets them, and as YAML.
//!
//! What the derive macros make is adjusted once, for all kinds: status begins as "not yet
//! observed", an absent field is absent and not null, and no text goes without a bound.

use std::process::ExitCode;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{Integration, MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant};

/// All definitions, in the order in which they are explained.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    [
        Tenant::crd(),
        Provider::crd(),
        ProviderGroup::crd(),
        Role::crd(),
        ScanSchedule::crd(),
        Scan::crd(),
        Integration::crd(),
        MuteRule::crd(),
    ]
    .into_iter()
    .map(adjusted)
    .collect()
}

/// Prints all definitions as a YAML stream.
pub fn print_crds() -> anyhow::Result<ExitCode> {
    use std::io::Write;

    let mut out = std::io::stdout().lock();
    for crd in all_crds() {
        writeln!(out, "---")?;
        out.write_all(to_yaml(&crd)?.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One definition as YAML, the same bytes each time.
pub fn to_yaml(crd: &CustomResourceDefinition) -> anyhow::Result<String> {
    let mut value = serde_json::to_value(crd)?;
    plain(&mut value);
    Ok(serde_saphyr::to_string(&value)?)
}

fn adjusted(crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let Ok(mut value) = serde_json::to_value(&crd) else {
        return crd;
    };
    if let Some(versions) = value
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut)
    {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                tidy(schema);
                if let Some(status) = schema
                    .pointer_mut("/properties/status")
                    .and_then(Value::as_object_mut)
                {
                    // Generic tools take an object without status for finished.
                    status.insert("default".into(), json!({ "observedGeneration": -1 }));
                }
                bound_conditions(schema);
            }
        }
    }
    serde_json::from_value(value).unwrap_or(crd)
}

/// Takes away what the derive macros add and a Kubernetes API does not have.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            // An optional field is left out, not null: `has()` in a rule then means what it says.
            map.remove("nullable");
            // Lines of a comment in the source are not lines for a reader.
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text
                    .split("\n\n")
                    .map(|paragraph| paragraph.replace('\n', " "))
                    .collect::<Vec<_>>()
                    .join("\n\n");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Bounds a condition as Kubernetes itself does.
fn bound_conditions(schema: &mut Value) {
    let Some(condition) = schema
        .pointer_mut("/properties/status/properties/conditions/items/properties")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let mut set = |field: &str, more: Value| {
        if let (Some(Value::Object(target)), Value::Object(more)) = (condition.get_mut(field), more)
        {
            target.extend(more);
        }
    };
    set("type", json!({ "maxLength": 316 }));
    set("status", json!({ "enum": ["True", "False", "Unknown"] }));
    set("reason", json!({ "minLength": 1, "maxLength": 1024 }));
    set("message", json!({ "maxLength": 32768 }));
    set("observedGeneration", json!({ "minimum": 0 }));
}

/// Drops nulls and empty lists, which some tools take for values, and writes whole numbers whole.
fn plain(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(plain);
            map.retain(|_, value| {
                !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty())
            });
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().and_then(whole) {
                *number = whole.into();
            }
        }
        _ => {}
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the guard keeps to what both types hold"
)]
fn whole(float: f64) -> Option<i64> {
    (float.fract() == 0.0 && float.abs() < 1e15).then_some(float as i64)
}
