//! What the isolation canary's answers are to Tenants: a condition and an event when the answer
//! changes, and nothing otherwise.

use futures::StreamExt as _;
use futures::channel::mpsc;
use futures::future::FutureExt as _;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::reflector;
use kube::runtime::watcher;
use prometheus_client::registry::Registry;
use prowler_operator::api::Tenant;
use prowler_operator::controllers::isolation;
use prowler_operator::metrics::text;

use crate::support::operator::{Operator, World};

const BREAK: &str = "create policy open on prowler.scans for select to prowler_user using (true)";
const MEND: &str = "drop policy open on prowler.scans";

/// A metric's value, if it is there.
fn value(operator: &Operator, name: &str) -> Option<f64> {
    let mut registry = Registry::default();
    operator.cx.metrics.register(&mut registry);
    let (_, text) = text::encode(&registry, "").unwrap();
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value)
}

fn canary(operator: &Operator, what: &str) -> Option<f64> {
    value(
        operator,
        &format!("prowler_operator_isolation_canary_{what}"),
    )
}

async fn shown(operator: &Operator, world: &World) -> Option<(String, String, String)> {
    operator
        .condition::<Tenant>("", &world.tenant, "Isolated")
        .await
}

/// (type, reason, note) of the events about a Tenant whose action is the canary's.
async fn told(operator: &Operator, world: &World) -> Vec<(String, String, String)> {
    let mut told = operator.told("default", &world.tenant).await;
    told.retain(|told| told.action == "Check");
    told.into_iter()
        .map(|told| (told.type_, told.reason, told.note))
        .collect()
}

#[tokio::test]
async fn a_broken_wall_shows_on_every_tenant_until_it_is_mended_and_names_no_other_tenant() {
    let operator = Operator::new().await;
    let worlds = [operator.tenant().await, operator.tenant().await];
    operator.provider(&worlds[0], "p", "123456789012").await;
    operator.scan(&worlds[0], "s", "p").await;
    let pass = async || {
        for world in &worlds {
            operator.follow::<Tenant>("", &world.tenant).await;
        }
    };
    // Before the first answer nothing is said, neither good nor bad.
    assert_eq!(shown(&operator, &worlds[0]).await, None);
    assert_eq!(canary(&operator, "broken"), None);
    assert_eq!(canary(&operator, "last_run_timestamp_seconds"), Some(0.0));

    isolation::look(&operator.cx).await;
    pass().await;
    for world in &worlds {
        let (status, reason, _) = shown(&operator, world).await.unwrap();
        assert_eq!((&*status, &*reason), ("True", "Succeeded"));
        assert_eq!(told(&operator, world).await, [], "good news is no news");
    }
    assert_eq!(canary(&operator, "broken"), Some(0.0));

    operator.change(BREAK).await;
    isolation::look(&operator.cx).await;
    pass().await;
    assert_eq!(canary(&operator, "broken"), Some(1.0));
    let mut versions = Vec::new();
    for (world, other) in [(&worlds[0], &worlds[1]), (&worlds[1], &worlds[0])] {
        let (status, reason, message) = shown(&operator, world).await.unwrap();
        assert_eq!((&*status, &*reason), ("False", "IsolationBroken"));
        assert!(
            message.contains("select on scans with no tenant set"),
            "{message}"
        );
        for secret in [
            other.tenant.clone(),
            other.namespace.clone(),
            operator.tenant_id(other).to_string(),
        ] {
            assert!(!message.contains(&secret), "{message}");
        }
        // Its spec is carried out all the same.
        assert_eq!(
            operator.says::<Tenant>("", &world.tenant).await,
            "Current Succeeded"
        );
        let events = told(&operator, world).await;
        assert_eq!(events, [("Warning".into(), reason, message)]);
        let tenant: Tenant = operator.get("", &world.tenant).await;
        versions.push(tenant.resource_version());
    }
    // The same answer again is not written again.
    isolation::look(&operator.cx).await;
    pass().await;
    for (world, version) in worlds.iter().zip(versions) {
        let tenant: Tenant = operator.get("", &world.tenant).await;
        assert_eq!(tenant.resource_version(), version);
    }

    operator.change(MEND).await;
    isolation::look(&operator.cx).await;
    pass().await;
    assert_eq!(canary(&operator, "broken"), Some(0.0));
    for world in &worlds {
        assert_eq!(shown(&operator, world).await.unwrap().0, "True");
        let mut events = told(&operator, world).await;
        events.sort();
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!((&*events[0].0, &*events[0].1), ("Normal", "Succeeded"));
    }
    let runs = |result: &str| canary(&operator, &format!("runs_total{{result=\"{result}\"}}"));
    assert_eq!(
        (runs("held"), runs("broken"), runs("failed")),
        (Some(2.0), Some(2.0), None)
    );
}

#[tokio::test]
async fn a_canary_that_cannot_run_is_neither_good_news_nor_bad_and_its_last_run_gets_old() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", "123456789012").await;
    operator.scan(&world, "s", "p").await;
    operator.sql.set_away(true);
    assert!(!isolation::look(&operator.cx).await, "it came to no end");
    let state = || {
        (
            canary(&operator, "broken"),
            canary(&operator, "last_run_timestamp_seconds"),
        )
    };
    assert_eq!(state(), (None, Some(0.0)));
    operator.database_returns().await;
    operator.follow::<Tenant>("", &world.tenant).await;
    assert_eq!(shown(&operator, &world).await, None);

    operator.change(BREAK).await;
    isolation::look(&operator.cx).await;
    operator.follow::<Tenant>("", &world.tenant).await;
    let before = shown(&operator, &world).await.unwrap();
    let known = state();
    assert_eq!(known.0, Some(1.0));
    operator.change(MEND).await;
    operator.wait(600);
    operator.sql.set_away(true);
    assert!(!isolation::look(&operator.cx).await, "it came to no end");
    operator.database_returns().await;
    operator.follow::<Tenant>("", &world.tenant).await;
    assert_eq!(
        state(),
        known,
        "what was found stays until something else is"
    );
    assert_eq!(shown(&operator, &world).await.unwrap(), before);
    assert_eq!(
        canary(&operator, "runs_total{result=\"failed\"}"),
        Some(2.0)
    );

    isolation::look(&operator.cx).await;
    operator.follow::<Tenant>("", &world.tenant).await;
    assert_eq!(shown(&operator, &world).await.unwrap().0, "True");
    assert_eq!(state().0, Some(0.0));
    assert!(state().1 > known.1);
}

#[tokio::test]
async fn a_tenant_that_is_stalled_shows_a_broken_wall_too() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let limits = serde_json::json!({ "spec": { "limits": { "concurrentScans": 9999 } } });
    operator.patch::<Tenant>("", &world.tenant, limits).await;
    operator.change(BREAK).await;
    operator.provider(&world, "p", "123456789012").await;
    operator.scan(&world, "s", "p").await;
    isolation::look(&operator.cx).await;
    operator.follow::<Tenant>("", &world.tenant).await;
    assert_eq!(
        operator.says::<Tenant>("", &world.tenant).await,
        "Failed LimitExceeded"
    );
    assert_eq!(shown(&operator, &world).await.unwrap().0, "False");
    assert_eq!(told(&operator, &world).await.len(), 1);
}

#[tokio::test]
async fn tenants_are_called_when_the_answer_changes_and_only_then() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let (reader, mut writer) = reflector::store();
    let tenant: Tenant = operator.get("", &world.tenant).await;
    writer.apply_watcher_event(&watcher::Event::Apply(DeserializeGuard(Ok(tenant))));
    operator.cx.wake.remember::<Tenant>(reader);
    let mut calls = std::pin::pin!(operator.cx.wake.listen::<Tenant>(mpsc::unbounded().0));
    assert!(isolation::look(&operator.cx).await);
    let called = calls.next().now_or_never().flatten().unwrap();
    assert_eq!(called.name, world.tenant);
    isolation::look(&operator.cx).await;
    assert!(calls.next().now_or_never().is_none(), "the same answer");
}
