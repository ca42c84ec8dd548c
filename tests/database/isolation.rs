//! Tenants are kept apart: the catalogue says so, and every table is tried.

use prowler_operator::store::isolation;

use crate::support::db::Db;

#[tokio::test]
async fn the_catalogue_shows_nothing_to_find() {
    let db = Db::new().await;
    let findings = isolation::examine_schema(&mut db.user_conn().await)
        .await
        .unwrap();
    assert_eq!(findings, []);
    let findings = isolation::examine_role(&mut db.user_conn().await)
        .await
        .unwrap();
    assert_eq!(findings, []);
    let findings = isolation::examine_admin(&mut db.admin_conn().await)
        .await
        .unwrap();
    assert_eq!(findings, []);
}
