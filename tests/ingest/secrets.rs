//! Secrets that a scanner saw in an account stay there.

use serde_json::{Value, json};

use crate::support::ocsf::{Record, array, record};
use crate::world::World;

/// A file with all of these, and with so many other records that it is published.
fn whole() -> Vec<u8> {
    let plain = (0..30).map(|n| record("c", &format!("plain-{n}")).json());
    array(found().into_iter().chain(plain))
}

/// Where a scanner may come upon a secret, each with one of its own.
fn found() -> Vec<Value> {
    let with = |name: &str, metadata: Value| Record {
        metadata,
        ..record("c", name)
    };
    let mut records = vec![
        with("pod", json!({"containers": {"c": {"image": "nginx", "env": [{"name": "LEVEL", "value": "planted-01"}]}},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"value\":\"planted-02\"}"}}))
            .json(),
        with("function", json!({"environment": {"STAGE": "planted-03", "Variables": {"A": "planted-04"}}})).json(),
        with("machine", json!({"user_data": "#!/bin/sh\nlogin planted-05"})).json(),
        with("build", json!({"environment_variables": [{"name": "A", "value": "planted-06", "type": "PLAINTEXT"}]})).json(),
        with("task", json!({"containerDefinitions": [{"environment": [{"name": "A", "value": "planted-07"}],
            "command": ["run", "--password", "planted-08"]}]}))
            .json(),
        with("stack", json!({"parameters": [{"ParameterKey": "DbPassword", "ParameterValue": "planted-09"}]})).json(),
        with("deep", json!({"a": [{"b": {"client_secret": "planted-10", "url": "https://x:planted-11@example.com/"}}]})).json(),
    ];
    let mut told = record("c", "told")
        .tags(&["db-password:planted-12", "note:token=planted-13"])
        .json();
    told["status_detail"] =
        json!("Found password=planted-14 in https://x:planted-15@example.com/.");
    told["message"] = told["status_detail"].clone();
    told["resources"][0]["data"]["details"] = json!("api_key: planted-16");
    records.push(told);
    // Set aside: without a verdict, and with a uid that is too long.
    let secrets = json!({"env": [{"name": "A", "value": "planted-17"}], "password": "planted-18"});
    let mut odd = json!({"resources": [{"data": {"metadata": secrets}}]});
    odd["status_code"] = json!("MAYBE");
    records.push(odd);
    let mut long = with("long", json!({"token": "planted-19"}))
        .uid(&"u".repeat(301))
        .json();
    // First of its keys, so that it is in the part that is kept.
    long["a"] = json!({"secret": "planted-20"});
    records.push(long);
    records
}

/// A text as Postgres shows bytes.
fn hex(text: &str) -> String {
    let byte = |byte| format!("{byte:02x}");
    text.bytes().map(byte).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn no_secret_of_the_account_is_in_any_table() {
    let world = World::new().await;
    let mut file = whole();
    // No JSON either.
    file.truncate(file.len() - 1);
    file.extend_from_slice(
        b",{\"password\": \"planted-21\", \"env\": [{\"value\": \"planted-22\"}], nope}]",
    );
    let text = String::from_utf8(file.clone()).unwrap();
    for number in 1..=22 {
        assert!(text.contains(&format!("planted-{number:02}")), "{number}");
    }
    world.scan_and_publish(&file).await;

    let tables: Vec<(String,)> = world
        .rows(
            "select table_name::text from information_schema.tables
             where table_schema = current_schema() and table_type = 'BASE TABLE'",
        )
        .await;
    let mut rows = 0;
    for (table,) in &tables {
        let all: Vec<(String,)> = world.rows(&format!("select t::text from {table} t")).await;
        let bytes = hex("planted");
        for (row,) in &all {
            assert!(!row.contains("planted"), "{table}: {row}");
            assert!(!row.contains(&bytes), "{table}: {row}");
        }
        rows += all.len();
    }
    assert!(tables.len() > 15 && rows > 30, "{tables:?}, {rows} rows");
    let masked = "quarantined_findings where encode(head, 'escape') like '%[masked]%'";
    assert_eq!(world.count(masked).await, 3);
    assert_eq!(
        world
            .count("resources where metadata like '%[masked]%'")
            .await,
        8
    );

    // What is around it is there to be looked at.
    let kept: Vec<(String,)> = world
        .rows("select metadata from resources where name = 'pod'")
        .await;
    let kept: Value = serde_json::from_str(&kept[0].0).unwrap();
    let container = &kept["containers"]["c"];
    assert_eq!(container["image"], "nginx");
    assert_eq!(
        container["env"],
        json!([{"name": "LEVEL", "value": "[masked]"}])
    );
}

#[tokio::test]
async fn a_masked_resource_that_did_not_change_is_not_written_again() {
    let world = World::new().await;
    world.scan_and_publish(&whole()).await;
    let sql = "select name, xmin::text from resources order by name";
    let before: Vec<(String, String)> = world.rows(sql).await;
    world.scan_and_publish(&whole()).await;
    assert_eq!(before, world.rows(sql).await);
}
