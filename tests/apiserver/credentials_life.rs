//! Until when credentials are good: shown with the days left, told as the end comes near, and no
//! scan is begun with what has ended.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use prowler_operator::api::{Provider, Scan};
use prowler_operator::domain::clock::Clock as _;
use serde_json::json;

use crate::support::credentials::{pfx, token};
use crate::support::operator::{Operator, World, check_said};

const DAY: i64 = 86_400;
const VERCEL: &str = "team_prowler1234567890abcd";

impl Operator {
    /// A Secret whose token ends in so many seconds.
    async fn token_secret(&self, world: &World, seconds: i64) -> String {
        let end = self.clock.now() + SignedDuration::from_secs(seconds);
        let value = token(end);
        self.secret(&world.namespace, "keys", true, &[("api_token", &value)])
            .await;
        value
    }

    async fn vercel(&self, world: &World) -> String {
        let spec = json!({ "provider": "vercel", "uid": VERCEL,
                           "credentials": { "type": "static", "secretRef": { "name": "keys" } } });
        self.becomes::<Provider>(&world.namespace, "site", spec)
            .await
    }

    /// A pass over the account and what it says then: readiness, days left, whether the end is
    /// near.
    async fn life(&self, world: &World, name: &str) -> (String, Option<i64>, bool) {
        self.follow::<Provider>(&world.namespace, name).await;
        let says = self.says::<Provider>(&world.namespace, name).await;
        let provider: Provider = self.get(&world.namespace, name).await;
        let life = provider.status.unwrap().credentials;
        let near = self
            .condition::<Provider>(&world.namespace, name, "CredentialsExpiring")
            .await;
        let left = life.map(|life| life.days_left);
        (says, left, near.is_some())
    }

    /// How often the end was told.
    async fn told_of_the_end(&self, world: &World, name: &str) -> i32 {
        let told = self.told(&world.namespace, name).await;
        let about = told
            .iter()
            .filter(|told| told.reason == "CredentialsExpiring" && told.type_ == "Warning");
        about.map(|told| told.times).sum()
    }
}

fn ok(days: i64, near: bool) -> (String, Option<i64>, bool) {
    ("Current Succeeded".to_owned(), Some(days), near)
}

#[tokio::test]
async fn the_end_of_a_token_is_counted_down_told_three_times_and_then_nothing_starts() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let first = operator.token_secret(&world, 40 * DAY + 60).await;
    assert_eq!(operator.vercel(&world).await, "Current Succeeded");
    assert_eq!(operator.life(&world, "site").await, ok(40, false));
    for (days, near, told) in [
        (31, false, 0),
        (30, true, 1),
        (29, true, 1),
        (7, true, 2),
        (2, true, 2),
        (1, true, 3),
        (0, true, 3),
    ] {
        let provider: Provider = operator.get(&world.namespace, "site").await;
        let before = provider.status.unwrap().credentials.unwrap().days_left;
        operator.wait((before - days) * DAY);
        assert_eq!(operator.life(&world, "site").await, ok(days, near));
        assert_eq!(
            operator.told_of_the_end(&world, "site").await,
            told,
            "{days} days"
        );
        // No write, no event by a pass of the same day.
        let shown: Provider = operator.get(&world.namespace, "site").await;
        operator.pass::<Provider>(&world.namespace, "site").await;
        let again: Provider = operator.get(&world.namespace, "site").await;
        assert_eq!(
            again.metadata.resource_version,
            shown.metadata.resource_version
        );
    }
    let (_, _, message) = operator
        .condition::<Provider>(&world.namespace, "site", "CredentialsExpiring")
        .await
        .unwrap();
    assert!(
        message.starts_with("Secret keys: api_token is good until 20"),
        "{message}"
    );

    operator.scan(&world, "late", "site").await;
    operator.wait(61);
    assert_eq!(
        operator.life(&world, "site").await,
        ("Failed CredentialsExpired".to_owned(), Some(0), true)
    );
    let message = operator.message::<Provider>(&world.namespace, "site").await;
    assert!(
        message.contains("Secret 'keys': api_token expired at 20"),
        "{message}"
    );
    assert!(!message.contains(&first), "{message}");
    // Let in before anybody looked: what would start it looks again.
    operator.admit().await;
    operator.follow::<Scan>(&world.namespace, "late").await;
    assert_eq!(
        operator.says::<Scan>(&world.namespace, "late").await,
        "Failed CredentialsExpired"
    );

    operator.delete::<Secret>(&world.namespace, "keys").await;
    operator.token_secret(&world, 365 * DAY + 60).await;
    assert_eq!(operator.life(&world, "site").await, ok(365, false));
}

#[tokio::test]
async fn an_owner_may_say_when_a_key_ends_and_is_reminded_but_not_stopped() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator
        .secret(&world.namespace, "keys", true, &[("api_token", "opaque")])
        .await;
    operator.vercel(&world).await;
    assert_eq!(
        operator.life(&world, "site").await,
        ("Current Succeeded".to_owned(), None, false)
    );
    let annotate = async |value: serde_json::Value| {
        let patch =
            json!({ "metadata": { "annotations": { "prowler-operator.dev/expires": value } } });
        operator
            .patch::<Secret>(&world.namespace, "keys", patch)
            .await;
    };
    let in_days = |days: i64| {
        let end = operator.clock.now() + SignedDuration::from_secs(days * DAY + 60);
        json!(end.to_string())
    };
    annotate(in_days(90)).await;
    assert_eq!(operator.life(&world, "site").await, ok(90, false));
    annotate(in_days(5)).await;
    assert_eq!(operator.life(&world, "site").await, ok(5, true));
    assert_eq!(operator.told_of_the_end(&world, "site").await, 1);
    operator.wait(6 * DAY);
    assert_eq!(operator.life(&world, "site").await, ok(0, true));
    annotate(json!("next spring")).await;
    assert_eq!(
        operator.life(&world, "site").await.0,
        "Failed InvalidSpec",
        "a date that nobody can read reminds nobody"
    );
    annotate(json!(null)).await;
    assert_eq!(
        operator.life(&world, "site").await,
        ("Current Succeeded".to_owned(), None, false)
    );
}

#[tokio::test]
async fn what_only_the_check_can_open_tells_its_end_by_the_check() {
    let mut operator = Operator::new().await;
    let world = operator.tenant().await;
    let id = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
    let data = [
        ("client_id", id),
        ("tenant_id", id),
        ("certificate_content", &*pfx(90)),
    ];
    operator.secret(&world.namespace, "keys", true, &data).await;
    let spec = json!({ "provider": "m365", "uid": "example.onmicrosoft.com",
                       "credentials": { "type": "static", "secretRef": { "name": "keys" } } });
    let says = operator
        .becomes::<Provider>(&world.namespace, "office", spec)
        .await;
    assert_eq!(says, "Current Succeeded");
    assert_eq!(operator.life(&world, "office").await.1, None, "sealed");

    let check = async |seconds: i64| {
        assert_eq!(operator.let_in().await, 1);
        let job = operator.check_of(&world, "office").await;
        let end = operator.clock.now().as_second() + seconds;
        let said = check_said(&json!({ "connected": true, "expires": end }));
        operator.pod(&job, said).await;
    };
    check(20 * DAY + 60).await;
    assert_eq!(operator.life(&world, "office").await, ok(20, true));
    assert_eq!(operator.told_of_the_end(&world, "office").await, 1);
    operator.restart().await;
    assert_eq!(operator.life(&world, "office").await, ok(20, true));
    operator.wait(20 * DAY + 61);
    assert_eq!(
        operator.life(&world, "office").await,
        ("Failed CredentialsExpired".to_owned(), Some(0), true)
    );
    // Other credentials: what was found of the old ones is nothing to them.
    let other = json!({ "stringData": { "certificate_content": pfx(400) } });
    operator
        .patch::<Secret>(&world.namespace, "keys", other)
        .await;
    assert_eq!(
        operator.life(&world, "office").await,
        ("Current Succeeded".to_owned(), None, false)
    );
}
