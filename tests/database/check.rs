//! `check` lists everything at once and never stops at the first.

use prowler_operator::check::exit_code;
use prowler_operator::store::isolation::Severity;
use prowler_operator::store::survey;

use crate::support::db::{self, Db, run};

#[tokio::test]
async fn a_sound_installation_has_nothing_to_list() {
    let db = Db::new().await;
    let found = survey::run(&db.user_args(), Some(&db.admin_args()), false).await;
    assert_eq!(found, []);
}

#[tokio::test]
async fn all_breaches_are_listed_errors_first() {
    let db = Db::new().await;
    run(
        &mut db.admin_conn().await,
        "alter table scans no force row level security;
         create index on providers (alias);
         grant select on leases to prowler_user;",
    )
    .await;
    let found = survey::run(&db.user_args(), Some(&db.admin_args()), false).await;
    let list: Vec<_> = found
        .iter()
        .map(|finding| (finding.severity, finding.object.as_str()))
        .collect();
    assert_eq!(
        list,
        [
            (Severity::Error, "leases"),
            (Severity::Error, "scans"),
            (Severity::Warning, "providers_alias_idx"),
        ]
    );
    assert_eq!(exit_code(&found), 2);
}

#[tokio::test]
async fn what_cannot_be_reached_is_a_finding_and_the_rest_goes_on() {
    let db = Db::empty().await;
    let nowhere = db::admin_args("postgres://prowler_admin:s3cret@127.0.0.1:1/prowler");
    let found = survey::run(&db.user_args(), Some(&nowhere), false).await;
    let objects: Vec<_> = found
        .iter()
        .map(|finding| finding.object.as_str())
        .collect();
    assert_eq!(objects, ["DATABASE_ADMIN_URL", "schema prowler"]);
    assert!(!format!("{found:?}").contains("s3cret"));
}

#[tokio::test]
async fn production_asks_for_durability() {
    // The tests' server runs without fsync.
    let db = Db::new().await;
    let found = survey::run(&db.user_args(), None, true).await;
    let objects: Vec<_> = found
        .iter()
        .map(|finding| finding.object.as_str())
        .collect();
    assert_eq!(objects, ["fsync", "full_page_writes"]);
    assert_eq!(exit_code(&found), 1);
}
