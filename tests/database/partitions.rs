//! Months are made apart, protected and attached, by any number at once.

use jiff::Timestamp;
use prowler_operator::domain::ids::{ScanId, TenantId};
use prowler_operator::domain::uuid7::datetime_to_uuid7;
use prowler_operator::store::{StoreError, partitions};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::db::{Db, run};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_month_of_a_scan_and_the_following_ones_are_made_once() {
    let db = Db::new().await;
    let admin = db.admin().await;
    // The last millisecond of a year, in UTC.
    let from = at("2026-12-31T23:59:59.999Z");
    let made = partitions::ensure_months(&admin, from, 2).await.unwrap();
    assert_eq!(
        made,
        [
            "findings_2026_dec",
            "resource_finding_mappings_2026_dec",
            "findings_2027_jan",
            "resource_finding_mappings_2027_jan",
        ]
    );
    let again = partitions::ensure_months(&admin, from, 3).await.unwrap();
    assert_eq!(
        again,
        ["findings_2027_feb", "resource_finding_mappings_2027_feb"]
    );
}

#[tokio::test]
async fn every_moment_of_a_month_finds_its_partition_and_no_other() {
    let db = Db::new().await;
    partitions::ensure_months(&db.admin().await, at("2026-11-15T00:00:00Z"), 2)
        .await
        .unwrap();
    let mut conn = db.admin_conn().await;
    for (moment, partition) in [
        ("2026-11-01T00:00:00Z", "resource_finding_mappings_2026_nov"),
        (
            "2026-11-30T23:59:59.999Z",
            "resource_finding_mappings_2026_nov",
        ),
        ("2026-12-01T00:00:00Z", "resource_finding_mappings_2026_dec"),
    ] {
        for random in [0, u128::MAX] {
            let id = datetime_to_uuid7(at(moment), random).unwrap();
            let found: String = sqlx::query_scalar(
                "insert into resource_finding_mappings (tenant_id, resource_id, finding_id)
                 values ($1, $1, $1) returning tableoid::regclass::text",
            )
            .bind(id)
            .fetch_one(&mut conn)
            .await
            .unwrap();
            assert_eq!(found, partition, "{moment}");
        }
    }
}

#[tokio::test]
async fn ten_at_once_make_each_month_once() {
    let db = Db::new().await;
    let mut admins = Vec::new();
    for _ in 0..10 {
        admins.push(db.admin().await);
    }
    let all = futures::future::join_all(
        admins
            .iter()
            .map(|admin| partitions::ensure_months(admin, at("2026-11-05T00:00:00Z"), 3)),
    )
    .await;
    let made: usize = all.into_iter().map(|made| made.unwrap().len()).sum();
    assert_eq!(made, 6);
}

#[tokio::test]
async fn a_month_knows_whether_it_is_there() {
    let db = Db::new().await;
    let store = db.store().await;
    let scan = ScanId(datetime_to_uuid7(at("2026-11-05T00:00:00Z"), 1).unwrap());
    let mut tx = store.tenant(TenantId(Uuid::from_u128(1))).await.unwrap();
    assert!(!partitions::month_exists(&mut tx, scan).await.unwrap());
    partitions::ensure_months(&db.admin().await, at("2026-11-30T00:00:00Z"), 1)
        .await
        .unwrap();
    assert!(partitions::month_exists(&mut tx, scan).await.unwrap());
    let v4 = ScanId(Uuid::from_u128(0x9c5b_94b1_35ad_49bb_b118_8e8f_c24a_bf80));
    let error = partitions::month_exists(&mut tx, v4).await.unwrap_err();
    assert_eq!(error.to_string(), "Invalid UUIDv7 value.");
}

#[tokio::test]
async fn readers_and_writers_in_the_middle_of_their_work_are_not_in_the_way() {
    let db = Db::new().await;
    let admin = db.admin().await;
    partitions::ensure_months(&admin, at("2026-11-05T00:00:00Z"), 1)
        .await
        .unwrap();
    let mut busy = db.admin_conn().await;
    let id = datetime_to_uuid7(at("2026-11-05T00:00:00Z"), 0).unwrap();
    run(
        &mut busy,
        &format!(
            "begin;
             insert into resource_finding_mappings (tenant_id, resource_id, finding_id)
                 values ('{id}', '{id}', '{id}');
             select count(*) from findings"
        ),
    )
    .await;
    // What has to wait for them is given up and not made.
    let made = partitions::ensure_months(&admin, at("2026-11-05T00:00:00Z"), 2)
        .await
        .unwrap();
    assert_eq!(made.len(), 2);
    run(&mut busy, "commit").await;
}

#[tokio::test]
async fn a_locked_table_is_not_waited_for_and_the_next_call_goes_on() {
    let db = Db::new().await;
    let admin = db.admin().await;
    let mut other = db.admin_conn().await;
    run(&mut other, "begin; lock table findings in share mode").await;
    let error = partitions::ensure_months(&admin, at("2026-11-05T00:00:00Z"), 1)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    run(&mut other, "rollback").await;
    let made = partitions::ensure_months(&admin, at("2026-11-05T00:00:00Z"), 1)
        .await
        .unwrap();
    assert_eq!(made.len(), 2);
}

#[tokio::test]
async fn no_table_and_no_partition_has_statistics_of_tenants() {
    let db = Db::new().await;
    partitions::ensure_months(&db.admin().await, at("2026-11-15T00:00:00Z"), 1)
        .await
        .unwrap();
    let mut conn = db.admin_conn().await;
    let tables: Vec<(String, Option<i32>)> = sqlx::query_as(
        "select c.relname::text, nullif(a.attstattarget, -1)::integer from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
         where c.relnamespace = 'prowler'::regnamespace and c.relkind in ('r', 'p')",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    for (table, statistics) in tables {
        assert_eq!(
            statistics,
            Some(0),
            "alter table {table} alter column tenant_id set statistics 0"
        );
    }
}

#[tokio::test]
async fn a_tenant_that_came_after_the_statistics_is_read_by_the_keys() {
    let db = Db::new().await;
    partitions::ensure_months(&db.admin().await, at("2026-11-15T00:00:00Z"), 1)
        .await
        .unwrap();
    let mut conn = db.admin_conn().await;
    let mut load = async |tenant: u128, day: u32| {
        let scan = datetime_to_uuid7(at(&format!("2026-11-{day}T00:00:00Z")), 0).unwrap();
        let tenant = format!("'{}'", Uuid::from_u128(tenant));
        let sql = format!(
            "insert into tenants (id, name) values ({tenant}, {tenant});
             insert into providers (tenant_id, id, provider, uid) values ({tenant}, {tenant}, 'aws', '123456789012');
             insert into findings (tenant_id, id, scan_id, provider_id, uid, check_id, check_sha256,
               status, severity, first_seen_at)
             select {tenant}::uuid, ('{prefix}' || lpad(to_hex(n), 12, '0'))::uuid, '{scan}', {tenant}::uuid, n::text,
               'c', '', 'FAIL', 'low', now() from generate_series(1, 20000) n;
             insert into resource_finding_mappings (tenant_id, resource_id, finding_id)
             select {tenant}::uuid, md5((n % 2000)::text)::uuid, ('{prefix}' || lpad(to_hex(n), 12, '0'))::uuid
             from generate_series(1, 20000) n;
             insert into resources (tenant_id, id, provider_id, uid, digest)
             select {tenant}::uuid, md5(n::text)::uuid, {tenant}::uuid, n::text, '' from generate_series(0, 1999) n;",
            prefix = &scan.to_string()[..24],
        );
        run(&mut conn, &sql).await;
        scan
    };
    load(1, 10).await;
    run(&mut db.superuser_conn().await, "analyze").await;
    let scan = load(2, 20).await;
    let (first, last) = prowler_operator::domain::uuid7::finding_ids(ScanId(scan));
    let tenant = Uuid::from_u128(2);
    let mut user = db.user_conn().await;
    run(
        &mut user,
        &format!("select set_config('api.tenant_id', '{tenant}', false)"),
    )
    .await;
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "explain (analyze, costs off, timing off, summary off)
         select f.id, r.name from active_findings f
         join resource_finding_mappings m on m.tenant_id = '{tenant}' and m.finding_id = f.id
         join active_resources r on r.tenant_id = '{tenant}' and r.id = m.resource_id
         where f.tenant_id = '{tenant}' and f.scan_id = '{scan}'
           and f.id between '{first}' and '{last}' and f.status = 'FAIL'
         order by f.id limit 50"
    )))
    .fetch_all(&mut user)
    .await
    .unwrap();
    let plan = plan.join("\n");
    for index in [
        "findings_2026_nov_pkey",
        "resource_finding_mappings_2026_nov_pkey",
        "resources_pkey",
    ] {
        assert!(plan.contains(index), "{plan}");
    }
    // Rows of each step, `rows=50 loops=1`: none goes through all there are.
    for line in plan.lines() {
        let of = |name: &str| {
            let rest = line.split_once(name)?.1;
            rest.split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse::<u64>()
                .ok()
        };
        let rows = of("rows=").unwrap_or(0) * of("loops=").unwrap_or(1);
        assert!(rows <= 100, "{line}\n{plan}");
    }
}
