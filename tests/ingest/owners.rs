//! Nothing of a publication outlives its provider or its tenant, though no reference holds it.

use std::time::Duration;

use prowler_operator::ingest::Outcome;
use prowler_operator::store::{StoreError, deletion, tenants};
use sqlx::Connection as _;

use crate::site::within;
use crate::support::db::run;
use crate::support::ocsf::{file, record};
use crate::world::World;

/// Marks the account as deleted, and its scans as over.
const MARK: &str = "update providers set is_deleted = true, deleted_at = now();
     update scans set holds_account = false, slot = null, queue_slot = null";

/// Deletes all of an account that is marked.
async fn delete(world: &World) {
    while !deletion::step(&world.store, world.tenant, world.provider)
        .await
        .unwrap()
        .done
    {}
}

#[tokio::test]
async fn a_deletion_waits_for_a_publication_that_is_about_to_commit_and_takes_its_rows_along() {
    let world = World::new().await;
    let attempt = world.scan().await;
    let file = file(&[record("c", "a").tags(&["k:v"]), record("c", "b")]);
    // Held in the middle of its end: it has locked its provider, and may not write resources yet.
    let mut other = world.conn().await;
    let mut held = other.begin().await.unwrap();
    run(&mut held, "lock table resources in share mode").await;

    let deletion = async {
        within(20, "the publication to stand at its resources", || async {
            let waiting = "pg_locks where not granted and relation = 'resources'::regclass";
            (world.count(waiting).await == 1).then_some(())
        })
        .await;
        let mut owner = world.conn().await;
        let mark = run(&mut owner, MARK);
        tokio::pin!(mark);
        let early = tokio::time::timeout(Duration::from_millis(300), &mut mark).await;
        assert!(early.is_err(), "the provider's row was not held");
        held.commit().await.unwrap();
        mark.await;
        delete(&world).await;
    };
    let (outcome, ()) = tokio::join!(world.publish(&attempt, &file), deletion);
    assert!(matches!(outcome, Outcome::Published(_)), "{outcome:?}");
    let mut left = world.stored().await;
    // Of the tenant, not of the account.
    left.retain(|(table, _)| *table != "check_metadata");
    assert_eq!(left, []);
    assert_eq!(world.count("providers").await, 0);
}

#[tokio::test]
async fn a_tenant_goes_when_its_providers_have_and_takes_its_tags_along() {
    let world = World::new().await;
    let file = file(&[record("c", "a").tags(&["k:v"])]);
    world.scan_and_publish(&file).await;
    let mut tx = world.store.tenant(world.tenant).await.unwrap();
    let refused = tenants::remove(&mut tx).await.unwrap_err();
    drop(tx);
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    assert!(refused.to_string().contains("providers (1)"), "{refused}");

    world.admin(MARK).await;
    delete(&world).await;
    // One that no removal of unused tags has met.
    world
        .admin(&format!(
            "insert into resource_tags (tenant_id, id, key, value)
             values ('{}', gen_random_uuid(), 'k', 'v')",
            world.tenant
        ))
        .await;
    let mut tx = world.store.tenant(world.tenant).await.unwrap();
    tenants::remove(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.stored().await, []);
    assert_eq!(world.count("tenants").await, 0);
}
