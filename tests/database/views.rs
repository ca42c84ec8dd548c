//! What normal reads see while something is being deleted.

use prowler_operator::store::partitions;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::seed;
use crate::support::db::{Db, run};

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);

/// What belongs to a provider and is shown to people.
const SHOWN: [&str; 4] = ["providers", "scans", "resources", "findings"];

/// Rows of a table or view that a tenant sees.
async fn seen(db: &Db, tenant: Uuid, relation: &str) -> i64 {
    let mut user = db.user_conn().await;
    run(&mut user, &format!("set api.tenant_id = '{tenant}'")).await;
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {relation}")))
        .fetch_one(&mut user)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_provider_that_is_being_deleted_is_gone_from_normal_reads_with_all_that_is_its_own() {
    let db = Db::new().await;
    partitions::ensure_months(
        &db.admin().await,
        "2026-11-05T00:00:00Z".parse().unwrap(),
        1,
    )
    .await
    .unwrap();
    let mut admin = db.admin_conn().await;
    let relations = seed::relations(&mut admin).await;
    seed::fill(&mut admin, &relations, [A, B]).await;
    let mut stored = Vec::new();
    for table in SHOWN {
        let rows = seen(&db, A, table).await;
        assert!(rows > 0, "{table}");
        for tenant in [A, B] {
            let active = seen(&db, tenant, &format!("active_{table}")).await;
            assert_eq!(active, rows, "{table}");
        }
        stored.push((table, rows));
    }

    run(
        &mut admin,
        &format!("update providers set is_deleted = true where tenant_id = '{A}'"),
    )
    .await;
    for (table, rows) in stored {
        let view = format!("active_{table}");
        assert_eq!(seen(&db, A, &view).await, 0, "{view}");
        assert_eq!(seen(&db, A, table).await, rows, "{table}");
        assert_eq!(seen(&db, B, &view).await, rows, "{view}");
    }
}
