//! Names of the Scans that due times lead to: the same whenever they are claimed, and no two alike.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use prowler_operator::domain::ids::{ScheduleId, TenantId};
use prowler_operator::domain::schedule::Due;
use prowler_operator::store::AdminStore;
use prowler_operator::store::admin::due::{Verdict, record};
use uuid::Uuid;

use crate::support::db::{Db, run};

const TENANT: TenantId = TenantId(Uuid::from_u128(1));

/// Claims this due time of both schedules; the names, unless it is taken back.
async fn claim(admin: &AdminStore, db: &Db, due_at: Timestamp, keep: bool) -> Vec<String> {
    let verdict = |id: u128| Verdict {
        tenant: TENANT,
        id: ScheduleId(Uuid::from_u128(id)),
        before: due_at,
        due: Due {
            claim: Some(due_at),
            passed: None,
            until: due_at,
            next: None,
        },
        joined: None,
        rests: false,
    };
    let mut tx = admin.begin().await.unwrap();
    let slots = record(&mut tx, &[verdict(7), verdict(8)], due_at)
        .await
        .unwrap();
    assert_eq!(slots.len(), 4);
    assert!(slots.iter().all(|slot| !slot.is_skipped));
    if !keep {
        return Vec::new();
    }
    tx.commit().await.unwrap();
    let mut conn = db.admin_conn().await;
    let names = sqlx::query_scalar("select scan_name from schedule_slots where state = 'claimed'")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    run(&mut conn, "update schedule_slots set state = 'created'").await;
    names
}

#[tokio::test]
async fn a_due_time_leads_to_one_name_and_different_ones_to_different_names() {
    let db = Db::new().await;
    let admin = db.admin().await;
    let tenant = TENANT.0;
    let (long, other) = ("s".repeat(253), "s".repeat(201));
    let sql = format!(
        "insert into tenants (id, name) values ('{tenant}', 'a');
         insert into providers (tenant_id, id, provider, uid)
           select '{tenant}', gen_random_uuid(), 'aws', 'account-' || n from generate_series(1, 2) n;
         insert into schedules (tenant_id, id, namespace, name, object_uid, interval_seconds) values
           ('{tenant}', '{}', 'a', '{long}', gen_random_uuid(), 60),
           ('{tenant}', '{}', 'a', '{other}', gen_random_uuid(), 60);
         insert into schedule_providers select d.tenant_id, d.id, p.id from schedules d, providers p",
        Uuid::from_u128(7),
        Uuid::from_u128(8),
    );
    run(&mut db.admin_conn().await, &sql).await;
    let due: Timestamp = "2026-11-23T02:00:00Z".parse().unwrap();
    claim(&admin, &db, due, false).await;
    let mut names = claim(&admin, &db, due, true).await;
    names.extend(claim(&admin, &db, due + SignedDuration::from_secs(60), true).await);
    // Of two accounts, two due times, and two schedules whose names differ only where they are cut off.
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), distinct.len()), (8, 8), "{names:#?}");
    for name in &names {
        assert!(name.len() <= 253);
        let (head, hash) = name.rsplit_once('-').unwrap();
        assert_eq!(hash.len(), 16, "as many bits as make a second one unlikely");
        assert!(
            head.starts_with(&"s".repeat(200)) && head[200..].starts_with('-'),
            "{name}"
        );
    }
    // Claimed anew after all was lost, they are what they were.
    run(&mut db.admin_conn().await, "delete from schedule_slots").await;
    let again = claim(&admin, &db, due, true).await;
    assert!(
        again.iter().all(|name| distinct.contains(name)),
        "{again:#?}"
    );
}
