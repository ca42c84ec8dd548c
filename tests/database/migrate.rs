//! `migrate`: repeatable, safe to run at once, and refusing what it does not know.

use prowler_operator::store::{SchemaState, Store, migrate};

use crate::support::db::{self, Db, run};

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

#[tokio::test]
async fn a_dba_may_make_the_schema_and_keep_create_on_the_database() {
    let db = Db::empty().await;
    run(
        &mut db.superuser_conn().await,
        &format!(
            "revoke create on database {} from prowler_admin;
             create schema prowler authorization prowler_admin",
            db.name()
        ),
    )
    .await;
    migrate::migrate(&db.admin_args()).await.unwrap();
    db.store().await.ready().await.unwrap();
}

#[tokio::test]
async fn a_run_cut_off_leaves_a_schema_the_next_run_finishes() {
    let db = Db::empty().await;
    let args = db.admin_args();
    let cut = tokio::time::timeout(
        std::time::Duration::from_millis(40),
        migrate::migrate(&args),
    );
    let _ = cut.await;
    // Its session, and so its lock, may outlive it for a moment.
    migrate::migrate(&args).await.unwrap();
    db.store().await.ready().await.unwrap();
}

#[tokio::test]
async fn the_development_database_is_what_the_program_would_have_made() {
    let dir = tempfile::tempdir().unwrap();
    let dev = |more: &[&str]| {
        let output = std::process::Command::new("hack/dev-database")
            .arg("--dir")
            .arg(dir.path())
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let exports = dev(&[]);
    let url = |name: &str| {
        let (_, rest) = exports.split_once(&format!("export {name}='")).unwrap();
        rest.split_once('\'').unwrap().0.to_owned()
    };
    let again = dev(&[]);
    let state = migrate::migrate(&db::admin_args(&url("DATABASE_ADMIN_URL"))).await;
    let store = Store::connect("test", &db::user_args(&url("DATABASE_URL"))).await;
    dev(&["--stop"]);
    assert_eq!(again, exports, "a second call finds the first one's server");
    assert_eq!(state.unwrap(), SchemaState::Fits);
    store.unwrap();
}
