//! Accounts: one account is one row of its tenant, whoever declares it, how often, and with which
//! object; and there are no more of them than the tenant may have.

use prowler_operator::api::{Provider, Scan, Tenant};
use serde_json::{Value, json};

use crate::support::operator::{ACCOUNT, Operator, World, aws, unique};

const OTHER: &str = "210987654321";
const THIRD: &str = "333333333333";

async fn says(operator: &Operator, world: &World, name: &str) -> String {
    operator.now_says::<Provider>(&world.namespace, name).await
}

async fn id_of(operator: &Operator, world: &World, name: &str) -> Value {
    operator.status::<Provider>(&world.namespace, name).await["providerId"].take()
}

/// A tenant with a second namespace.
async fn two_places(operator: &Operator) -> (World, World) {
    let world = operator.tenant().await;
    let more = operator.server.namespace().await;
    operator
        .claim(&world.tenant, &[&world.namespace, &more])
        .await;
    let there = world.at(&more);
    (world, there)
}

#[tokio::test]
async fn an_account_declared_twice_is_the_first_s_until_that_goes() {
    let operator = Operator::new().await;
    let (here, there) = two_places(&operator).await;
    operator.provider(&here, "first", ACCOUNT).await;
    operator.provider(&there, "second", ACCOUNT).await;
    assert_eq!(
        says(&operator, &there, "second").await,
        "Failed DuplicateUID"
    );
    assert_eq!(
        operator
            .message::<Provider>(&there.namespace, "second")
            .await,
        format!(
            "Provider {}/first of this tenant already holds aws {ACCOUNT}; delete one of the two.",
            here.namespace
        )
    );
    assert_eq!(says(&operator, &here, "first").await, "Current Succeeded");
    assert_eq!(operator.count("providers").await, 1);
    // Another tenant may have the same account, and knows nothing of this one.
    let stranger = operator.tenant().await;
    operator.provider(&stranger, "first", ACCOUNT).await;
    assert_eq!(
        says(&operator, &stranger, "first").await,
        "Current Succeeded"
    );

    let first = id_of(&operator, &here, "first").await;
    operator.deletes::<Provider>(&here.namespace, "first").await;
    assert_eq!(says(&operator, &there, "second").await, "Current Succeeded");
    assert_ne!(id_of(&operator, &there, "second").await, first);
}

#[tokio::test]
async fn of_two_declared_at_once_to_two_controllers_one_has_the_account() {
    let operator = Operator::new().await;
    let other = operator.beside(0).await;
    let world = operator.tenant().await;
    other.reload().await;
    operator.aws_secret(&world.namespace, "keys").await;
    for n in 0..5 {
        let account = format!("{n:012}");
        let names = [format!("a-{n}"), format!("b-{n}")];
        for name in &names {
            operator
                .apply::<Provider>(&world.namespace, name, aws(&account, "keys"))
                .await;
            operator.pass::<Provider>(&world.namespace, name).await;
        }
        tokio::join!(
            operator.follow::<Provider>(&world.namespace, &names[0]),
            other.follow::<Provider>(&world.namespace, &names[1]),
        );
        let mut both = [
            says(&operator, &world, &names[0]).await,
            says(&operator, &world, &names[1]).await,
        ];
        both.sort();
        assert_eq!(both, ["Current Succeeded", "Failed DuplicateUID"]);
    }
    assert_eq!(operator.count("providers").await, 5);
}

#[tokio::test]
async fn one_object_looked_at_by_two_controllers_is_one_row() {
    let operator = Operator::new().await;
    let other = operator.beside(0).await;
    let world = operator.tenant().await;
    other.reload().await;
    operator.aws_secret(&world.namespace, "keys").await;
    for n in 0..5 {
        let (account, name) = (format!("{n:012}"), format!("p-{n}"));
        operator
            .apply::<Provider>(&world.namespace, &name, aws(&account, "keys"))
            .await;
        operator.pass::<Provider>(&world.namespace, &name).await;
        tokio::join!(
            operator.pass::<Provider>(&world.namespace, &name),
            other.pass::<Provider>(&world.namespace, &name),
        );
        assert_eq!(says(&operator, &world, &name).await, "Current Succeeded");
    }
    assert_eq!(operator.count("providers").await, 5);
}

#[tokio::test]
async fn an_okta_domain_is_one_account_however_it_is_written() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    let okta = |uid: &str| json!({ "provider": "okta", "uid": uid });
    let says = operator
        .becomes::<Provider>(&world.namespace, "a", okta(" Example.OKTA.com "))
        .await;
    assert_eq!(says, "Current Succeeded");
    assert_eq!(
        operator.sql("select uid from providers").await,
        "example.okta.com"
    );
    for (n, uid) in ["example.okta.com", "EXAMPLE.okta.com\n"]
        .iter()
        .enumerate()
    {
        let name = format!("b-{n}");
        let says = operator
            .becomes::<Provider>(&world.namespace, &name, okta(uid))
            .await;
        assert_eq!(says, "Failed DuplicateUID", "{uid:?}");
        let told = operator.message::<Provider>(&world.namespace, &name).await;
        assert!(told.contains("holds okta example.okta.com;"), "{told}");
    }
    assert_eq!(operator.count("providers").await, 1);
}

#[tokio::test]
async fn one_provider_too_many_waits_until_another_goes_or_the_limit_is_raised() {
    let operator = Operator::new().await;
    let limits = |n| json!({ "limits": { "providers": n } });
    let world = operator.tenant_with(limits(2)).await;
    operator.provider(&world, "first", ACCOUNT).await;
    operator.provider(&world, "second", OTHER).await;
    operator.provider(&world, "third", THIRD).await;
    assert_eq!(
        says(&operator, &world, "third").await,
        "Failed TenantLimitReached"
    );
    assert_eq!(
        operator
            .message::<Provider>(&world.namespace, "third")
            .await,
        format!(
            "Tenant {} has 2 of 2 Providers; delete one, or have spec.limits.providers of the Tenant raised.",
            world.tenant
        )
    );
    operator
        .deletes::<Provider>(&world.namespace, "first")
        .await;
    assert_eq!(says(&operator, &world, "third").await, "Current Succeeded");

    // A limit that is lowered takes nothing away.
    let spec = |n| json!({ "namespaces": [world.namespace], "limits": { "providers": n } });
    operator.tenant_is(&world.tenant, spec(1)).await;
    assert_eq!(says(&operator, &world, "second").await, "Current Succeeded");
    operator.provider(&world, "fourth", ACCOUNT).await;
    assert_eq!(
        says(&operator, &world, "fourth").await,
        "Failed TenantLimitReached"
    );
    let told = operator
        .message::<Provider>(&world.namespace, "fourth")
        .await;
    assert!(told.contains("has 2 of 1 Providers"), "{told}");
    operator.tenant_is(&world.tenant, spec(3)).await;
    assert_eq!(says(&operator, &world, "fourth").await, "Current Succeeded");
}

#[tokio::test]
async fn the_limit_of_providers_holds_however_many_come_at_once() {
    let operator = Operator::new().await;
    let limits = json!({ "limits": { "providers": 3 } });
    let world = operator.tenant_with(limits).await;
    let other = operator.beside(0).await;
    operator.aws_secret(&world.namespace, "keys").await;
    let names: Vec<_> = (0..8).map(|n| format!("p-{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let account = format!("{n:012}");
        operator
            .apply::<Provider>(&world.namespace, name, aws(&account, "keys"))
            .await;
        operator.pass::<Provider>(&world.namespace, name).await;
    }
    let passes = names.iter().enumerate().map(|(n, name)| {
        let controller = if n % 2 == 0 { &operator } else { &other };
        controller.pass::<Provider>(&world.namespace, name)
    });
    futures::future::join_all(passes).await;
    assert_eq!(operator.count("providers").await, 3);
    let mut refused = 0;
    for name in &names {
        let says = operator.says::<Provider>(&world.namespace, name).await;
        refused += usize::from(says == "Failed TenantLimitReached");
    }
    assert_eq!(refused, 5);
}

#[tokio::test]
async fn an_object_that_comes_back_with_another_uid_finds_its_account_and_its_scans() {
    let mut operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    operator.running_scan(&world, "past", "production").await;
    operator.complete(&world, "past").await;
    let before = id_of(&operator, &world, "production").await;
    operator.vanishes::<Scan>(&world.namespace, "past").await;
    operator
        .vanishes::<Provider>(&world.namespace, "production")
        .await;
    operator.restart().await;
    // From a backup, perhaps under another name.
    let spec = aws(ACCOUNT, "production-keys");
    let says = operator
        .becomes::<Provider>(&world.namespace, "restored", spec)
        .await;
    assert_eq!(says, "Current Succeeded");
    assert_eq!(id_of(&operator, &world, "restored").await, before);
    let status = operator
        .status::<Provider>(&world.namespace, "restored")
        .await;
    assert_eq!(status["lastScan"]["name"], json!("past"));
    assert_eq!(operator.count("providers where name = 'restored'").await, 1);
    operator
        .deletes::<Provider>(&world.namespace, "restored")
        .await;
    assert_eq!(operator.count("providers").await, 0);
}

#[tokio::test]
async fn a_holder_that_is_there_keeps_the_account_whatever_the_api_server_s_trouble() {
    use crate::support::faults::Fault;

    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "first", ACCOUNT).await;
    operator.aws_secret(&world.namespace, "keys").await;
    operator
        .apply::<Provider>(&world.namespace, "second", aws(ACCOUNT, "keys"))
        .await;
    operator.pass::<Provider>(&world.namespace, "second").await;
    let before = id_of(&operator, &world, "first").await;
    for fault in [
        Fault::Refuse,
        Fault::Answer(500),
        Fault::Answer(403),
        Fault::Lose,
    ] {
        for n in 1..6 {
            operator.api.arm(n, fault);
            operator.pass::<Provider>(&world.namespace, "second").await;
            operator.api.reset();
        }
    }
    let holder = operator.sql("select name from providers").await;
    assert_eq!(holder, "first");
    assert_eq!(
        says(&operator, &world, "second").await,
        "Failed DuplicateUID"
    );
    assert_eq!(id_of(&operator, &world, "first").await, before);
}

#[tokio::test]
async fn an_account_may_be_declared_again_while_its_old_rows_still_go() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "old", ACCOUNT).await;
    let job = operator.running_scan(&world, "now", "old").await;
    let scanning = crate::support::operator::scanning();
    operator.pod(&job, scanning).await;
    let old = id_of(&operator, &world, "old").await;
    operator.delete::<Provider>(&world.namespace, "old").await;
    operator.pass::<Provider>(&world.namespace, "old").await;
    assert!(!operator.is_gone::<Provider>(&world.namespace, "old").await);
    operator.provider(&world, "new", ACCOUNT).await;
    assert_eq!(says(&operator, &world, "new").await, "Current Succeeded");
    let new = id_of(&operator, &world, "new").await;
    assert_ne!(new, old);
    // The old one's end takes nothing of the new one.
    operator.scan(&world, "next", "new").await;
    operator.collect_garbage(&world).await;
    operator.follow::<Provider>(&world.namespace, "old").await;
    assert!(operator.is_gone::<Provider>(&world.namespace, "old").await);
    assert_eq!(
        operator.sql("select id from providers").await,
        new.as_str().unwrap()
    );
    assert_eq!(operator.admit().await, 1);
}

#[tokio::test]
async fn a_tenant_that_comes_back_with_another_uid_finds_its_rows() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "production", ACCOUNT).await;
    let before = id_of(&operator, &world, "production").await;
    operator.vanishes::<Tenant>("", &world.tenant).await;
    // Meanwhile nobody else gets what it holds.
    let other = unique("tenant");
    operator.claim(&other, &[&world.namespace]).await;
    assert_eq!(
        operator.says::<Tenant>("", &other).await,
        "Failed NamespaceConflict"
    );
    operator.claim(&world.tenant, &[&world.namespace]).await;
    assert_eq!(
        operator.says::<Tenant>("", &world.tenant).await,
        "Current Succeeded"
    );
    assert_eq!(
        says(&operator, &world, "production").await,
        "Current Succeeded"
    );
    assert_eq!(id_of(&operator, &world, "production").await, before);
    operator.deletes::<Tenant>("", &world.tenant).await;
    assert!(operator.rows(operator.tenant_id(&world)).await.is_empty());
}
