//! What may be changed of a stored object, and what may not.

use serde_json::{Value, json};

use super::{Place, sound};

/// A stored object of `kind` with spec `before`, and what the server says to `after`.
async fn change(kind: &str, before: &Value, after: &Value) -> Result<(), String> {
    let place = Place::new().await;
    let stored = place.create(kind, "stored", before).await;
    // Defaults were filled in; a change keeps them unless it says otherwise.
    let mut spec = stored.data["spec"].clone();
    for (key, value) in after.as_object().unwrap() {
        if value.is_null() {
            spec.as_object_mut().unwrap().remove(key);
        } else {
            spec[key] = value.clone();
        }
    }
    place
        .try_change(&stored, &spec)
        .await
        .map_err(|status| status.message)
}

#[tokio::test]
async fn an_account_cannot_become_another() {
    let before = sound("Provider");
    for (after, message) in [
        (
            json!({ "uid": "210987654321" }),
            "uid cannot be changed: delete this Provider and make another",
        ),
        (
            json!({ "provider": "alibabacloud", "uid": "1234567890123456" }),
            "provider cannot be changed: delete this Provider and make another",
        ),
    ] {
        let refusal = change("Provider", &before, &after).await.unwrap_err();
        assert!(refusal.contains(message), "{refusal}");
    }
    for after in [
        json!({ "alias": "production" }),
        json!({ "suspend": true }),
        json!({ "credentials": { "serviceAccountName": "scanner" } }),
        json!({ "scan": { "services": ["s3"] } }),
        json!({ "deletionPolicy": "Retain" }),
    ] {
        change("Provider", &before, &after).await.unwrap();
    }
}

#[tokio::test]
async fn an_integration_cannot_become_of_another_type() {
    let before = sound("Integration");
    let refusal = change(
        "Integration",
        &before,
        &json!({ "type": "jira", "configuration": null }),
    )
    .await
    .unwrap_err();
    let message = "type cannot be changed: delete this Integration and make another";
    assert!(refusal.contains(message), "{refusal}");
    change("Integration", &before, &json!({ "enabled": false }))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_scan_can_only_be_cancelled_and_stays_so() {
    let sparse = sound("Scan");
    let full = json!({
        "providerRef": { "name": "a" },
        "trigger": "scheduled",
        "scan": { "services": ["s3"], "resources": { "limits": { "cpu": "1" } } },
        "priority": 5,
        "ttlSecondsAfterFinished": 60,
        "cancel": false,
    });
    for before in [&sparse, &full] {
        change("Scan", before, &json!({ "cancel": true }))
            .await
            .unwrap();
        change("Scan", before, &json!({})).await.unwrap();
    }
    for (before, after) in [
        (&sparse, json!({ "providerRef": { "name": "b" } })),
        (&sparse, json!({ "trigger": "scheduled" })),
        (&sparse, json!({ "scan": { "services": ["s3"] } })),
        (&sparse, json!({ "scan": {} })),
        (&sparse, json!({ "priority": 1 })),
        (&sparse, json!({ "ttlSecondsAfterFinished": 0 })),
        (&full, json!({ "scan": null })),
        (&full, json!({ "scan": { "services": ["s3", "iam"] } })),
        (
            &full,
            json!({ "scan": { "services": ["s3"], "resources": { "limits": { "cpu": "2" } } } }),
        ),
        (&full, json!({ "priority": null })),
        (&full, json!({ "priority": 6 })),
        (&full, json!({ "ttlSecondsAfterFinished": null })),
        (
            &full,
            json!({ "ttlSecondsAfterFinished": 61, "cancel": true }),
        ),
    ] {
        let refusal = change("Scan", before, &after).await.unwrap_err();
        assert!(
            refusal.contains("a scan cannot be changed, only cancelled"),
            "{after}: {refusal}"
        );
    }
    let mut cancelled = sparse.clone();
    cancelled["cancel"] = json!(true);
    for after in [json!({ "cancel": false }), json!({ "cancel": null })] {
        let refusal = change("Scan", &cancelled, &after).await.unwrap_err();
        assert!(
            refusal.contains("a cancelled scan stays cancelled"),
            "{refusal}"
        );
    }
    change("Scan", &cancelled, &json!({})).await.unwrap();
}

#[tokio::test]
async fn the_other_kinds_may_be_edited() {
    for (kind, after) in [
        (
            "Tenant",
            json!({ "namespaces": ["team-b", "team-c"], "suspend": true }),
        ),
        (
            "ProviderGroup",
            json!({ "providerRefs": null, "selector": { "matchLabels": { "a": "b" } } }),
        ),
        ("Role", json!({ "permissions": ["UNLIMITED_VISIBILITY"] })),
        (
            "ScanSchedule",
            json!({ "schedule": null, "interval": "24h" }),
        ),
        (
            "ScanSchedule",
            json!({ "providerRefs": null, "providerSelector": { "matchLabels": { "a": "b" } } }),
        ),
    ] {
        change(kind, &sound(kind), &after).await.unwrap();
    }
}
