//! `migrate`: repeatable, safe to run at once, and refusing what it does not know.

use prowler_operator::store::{SchemaState, migrate};

use crate::support::db::Db;

#[tokio::test]
async fn many_at_once_on_an_empty_database_all_succeed_and_one_does_the_work() {
    let db = Db::empty().await;
    let args = db.admin_args();
    let runs = futures::future::join_all((0..5).map(|_| migrate::migrate(&args))).await;
    let did: Vec<_> = runs.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        did.iter()
            .filter(|state| **state == SchemaState::Missing)
            .count(),
        1
    );
    assert_eq!(
        did.iter()
            .filter(|state| **state == SchemaState::Fits)
            .count(),
        4
    );
    db.store().await.ready().await.unwrap();
}
