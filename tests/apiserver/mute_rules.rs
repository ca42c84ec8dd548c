//! Mute rules: what is stored of them, and that they go with their object or their namespace.

use prowler_operator::api::{MuteRule, Tenant};
use serde_json::json;

use crate::support::operator::Operator;

const ROWS: &str = "select string_agg(name || ': ' || reason || ' ' || enabled || ' ' || finding_uids::text, '; ' order by name)
                    from mute_rules";

#[tokio::test]
async fn a_rule_is_stored_as_it_is_and_goes_with_its_object() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let rule = json!({ "reason": "Accepted until the move.", "findingUids": ["a", "b"] });
    let says = operator
        .becomes::<MuteRule>(&world.namespace, "rule", rule)
        .await;
    assert_eq!(says, "Current Succeeded");
    assert_eq!(
        operator.sql(ROWS).await,
        "rule: Accepted until the move. true {a,b}"
    );
    let status = operator.status::<MuteRule>(&world.namespace, "rule").await;
    assert_eq!(status["findings"], json!(2));

    let rule = json!({ "reason": "No longer.", "findingUids": ["c"], "enabled": false });
    operator
        .becomes::<MuteRule>(&world.namespace, "rule", rule)
        .await;
    assert_eq!(operator.sql(ROWS).await, "rule: No longer. false {c}");
    assert_eq!(
        operator.message::<MuteRule>(&world.namespace, "rule").await,
        "The rule is stored; it counts for no scan while spec.enabled is false."
    );
    operator.deletes::<MuteRule>(&world.namespace, "rule").await;
    assert_eq!(operator.count("mute_rules").await, 0);
}

#[tokio::test]
async fn a_rule_that_comes_back_with_another_uid_finds_its_row() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let make = async || {
        let rule = json!({ "reason": "accepted", "findingUids": ["a"] });
        operator
            .becomes::<MuteRule>(&world.namespace, "rule", rule)
            .await;
        operator.sql("select id::text from mute_rules").await
    };
    let before = make().await;
    operator
        .vanishes::<MuteRule>(&world.namespace, "rule")
        .await;
    assert_eq!(make().await, before);
    operator.deletes::<MuteRule>(&world.namespace, "rule").await;
    assert_eq!(operator.count("mute_rules").await, 0);
}

#[tokio::test]
async fn a_rule_of_a_namespace_that_is_given_back_goes() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let rule = json!({ "reason": "accepted", "findingUids": ["a"] });
    operator
        .becomes::<MuteRule>(&world.namespace, "rule", rule)
        .await;
    operator.deletes::<Tenant>("", &world.tenant).await;
    assert_eq!(operator.count("mute_rules").await, 0);
    let now = operator
        .now_says::<MuteRule>(&world.namespace, "rule")
        .await;
    assert_eq!(now, "InProgress TenantNotFound");
    let status = operator.status::<MuteRule>(&world.namespace, "rule").await;
    assert_eq!(
        (&status["ruleId"], &status["findings"]),
        (&json!(null), &json!(null))
    );
}
