//! Why a scan waits: in one sentence, which changes when that matters and costs nothing else.

use prowler_operator::api::scan::ScanState;
use prowler_operator::api::{Provider, Scan};
use prowler_operator::controllers::admission::explain;
use prowler_operator::domain::clock::Clock as _;
use serde_json::json;

use crate::support::db::run;
use crate::support::operator::{Operator, World};

/// A tenant that runs one scan at a time, with so many Providers, each of which has a Scan.
async fn line_of(operator: &Operator, count: usize) -> World {
    let limits = json!({ "limits": { "concurrentScans": 1 } });
    let world = operator.tenant_with(limits).await;
    for n in 0..count {
        let name = format!("p-{n:02}");
        operator.provider(&world, &name, &format!("{n:012}")).await;
        operator.scan(&world, &format!("s-{n:02}"), &name).await;
    }
    world
}

async fn told(operator: &Operator, world: &World, scan: &str) -> String {
    operator.pass::<Scan>(&world.namespace, scan).await;
    operator.message::<Scan>(&world.namespace, scan).await
}

#[tokio::test]
async fn who_waits_far_behind_is_seldom_called_and_written() {
    const MANY: usize = 30;
    let operator = Operator::new().await;
    let world = line_of(&operator, MANY).await;
    operator.admit().await;
    operator.follow::<Scan>(&world.namespace, "s-00").await;
    let cx = &operator.cx;
    assert_eq!(explain(cx).await.unwrap(), MANY - 1, "each is told once");
    assert_eq!(explain(cx).await.unwrap(), 0);
    let tenant = &world.tenant;
    for (scan, place) in [
        ("s-01", "First"),
        ("s-02", "Second"),
        ("s-03", "Third"),
        ("s-04", "Among the first 10"),
        ("s-10", "Among the first 10"),
        ("s-11", "Among the first 100"),
    ] {
        let who = if place.starts_with('A') { "" } else { ": s-00" };
        assert_eq!(
            told(&operator, &world, scan).await,
            format!("{place} in line of Tenant {tenant}, which runs 1 of 1 scans{who}.")
        );
    }
    operator.pass_all::<Scan>(&world).await;
    operator.api.reset();
    operator.pass_all::<Scan>(&world).await;
    assert!(
        operator.api.changes().is_empty(),
        "nothing new, nothing written"
    );
    // One ends: the three in front, the one that comes among the first ten, and nobody else.
    operator.complete(&world, "s-00").await;
    assert_eq!(operator.admit().await, 1);
    assert_eq!(explain(cx).await.unwrap(), 4);
    operator.follow::<Scan>(&world.namespace, "s-01").await;
    operator.api.reset();
    operator.pass_all::<Scan>(&world).await;
    let written: Vec<_> = operator
        .api
        .changes()
        .into_iter()
        .filter(|change| change.contains("/status"))
        .collect();
    assert_eq!(written.len(), 4, "{written:#?}");
    assert!(
        told(&operator, &world, "s-02")
            .await
            .ends_with("scans: s-01.")
    );
}

#[tokio::test]
async fn a_scan_says_until_when_its_account_is_probably_busy() {
    let operator = Operator::new().await;
    let world = line_of(&operator, 1).await;
    operator.admit().await;
    operator.follow::<Scan>(&world.namespace, "s-00").await;
    operator.complete(&world, "s-00").await;
    let sql = "update scans set duration = 600 where state = 'completed'";
    run(&mut operator.db.admin_conn().await, sql).await;
    operator.running_scan(&world, "again", "p-00").await;
    let since = operator.clock.now();
    operator.scan(&world, "waits", "p-00").await;
    assert_eq!(
        told(&operator, &world, "waits").await,
        format!(
            "First in line of Tenant {}; Scan again holds the account since {since}, about until {} if it takes 10m again.",
            world.tenant,
            since + jiff::SignedDuration::from_mins(10)
        )
    );
}

#[tokio::test]
async fn limits_of_the_installation_and_of_a_provider_type_are_told() {
    for (queue, says) in [
        (
            json!({ "maxConcurrent": 1 }),
            "1 of 1 scans run in this installation",
        ),
        (
            json!({ "maxConcurrentPerProviderType": { "aws": 1 } }),
            "1 of 1 scans of aws accounts run in this installation",
        ),
    ] {
        let operator = Operator::configured(json!({ "queues": { "scans": queue } })).await;
        let first = operator.tenant().await;
        operator.provider(&first, "p", "123456789012").await;
        operator.running_scan(&first, "runs", "p").await;
        let second = operator.tenant().await;
        operator.provider(&second, "q", "210987654321").await;
        operator.scan(&second, "waits", "q").await;
        assert_eq!(operator.admit().await, 0);
        // Nothing of the other tenant.
        assert_eq!(
            told(&operator, &second, "waits").await,
            format!("First in line of Tenant {}; {says}.", second.tenant)
        );
        let suspend = json!({ "spec": { "suspend": true } });
        operator
            .patch::<Provider>(&second.namespace, "q", suspend)
            .await;
        operator.follow::<Provider>(&second.namespace, "q").await;
        assert_eq!(
            told(&operator, &second, "waits").await,
            "Its Provider is suspended."
        );
        let scan: Scan = operator.get(&second.namespace, "waits").await;
        assert_eq!(scan.status.unwrap().state, Some(ScanState::Available));
    }
}
