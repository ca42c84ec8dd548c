//! One of the two halves is lost and comes back: all objects from their manifests, with new uids and
//! no status; or the database from a backup of an hour ago. Neither makes a scan run twice.

use kube::ResourceExt as _;
use prowler_operator::api::{MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

use super::schedules::{clock, finish_all, later, made, scheduled};
use crate::support::behaviour::given;
use crate::support::db::run;
use crate::support::operator::{ACCOUNT, Operator, World, aws};

const OTHER: &str = "210987654321";
const HOUR: i64 = 3600;

/// Every hour, at the minute it is now.
fn hourly(operator: &Operator) -> Value {
    let minute = clock(operator, 0)[3..].to_owned();
    json!({ "schedule": format!("{minute} * * * *") })
}

/// Every table's rows, kept beside them as `pg_dump` would keep them elsewhere.
async fn back_up(operator: &Operator) -> Vec<String> {
    let mut conn = operator.db.superuser_conn().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class where relnamespace = 'prowler'::regnamespace
           and relkind in ('r', 'p') and not relispartition and relname <> '_sqlx_migrations'",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    run(&mut conn, "create schema backup").await;
    for table in &tables {
        let copy = format!("create table backup.{table} as select * from prowler.{table}");
        run(&mut conn, &copy).await;
    }
    tables
}

/// The database is as it was, and the controller starts anew.
async fn restore(operator: &mut Operator, tables: &[String]) {
    let mut conn = operator.db.superuser_conn().await;
    // As pg_restore does it: references are not looked at while tables are filled one by one.
    run(
        &mut conn,
        "begin; set local session_replication_role = replica",
    )
    .await;
    for table in tables {
        refill(&mut conn, table).await;
    }
    run(&mut conn, "commit").await;
    operator.restart().await;
}

async fn refill(conn: &mut PgConnection, table: &str) {
    run(conn, &format!("delete from prowler.{table}")).await;
    let copy = format!("insert into prowler.{table} select * from backup.{table}");
    sqlx::query(AssertSqlSafe(copy))
        .execute(conn)
        .await
        .unwrap();
}

/// (state, uid) of a Scan.
async fn scan(operator: &Operator, world: &World, name: &str) -> (String, Option<String>) {
    let scan: Scan = operator.get(&world.namespace, name).await;
    let state = scan.status.as_ref().and_then(|status| status.state);
    (format!("{state:?}"), scan.uid())
}

#[tokio::test]
async fn objects_that_come_back_with_new_uids_and_no_status_find_their_rows_and_scan_nothing_twice()
{
    let mut operator = Operator::new().await;
    let spec = hourly(&operator);
    let world = scheduled(&operator, &["p", "q"], spec.clone()).await;
    let namespace = world.namespace.clone();
    let refs = json!([{ "name": "p" }, { "name": "q" }]);
    let group = json!({ "providerRefs": refs });
    let role = json!({ "permissions": ["MANAGE_SCANS"] });
    let muted = json!({ "reason": "accepted", "findingUids": ["a"] });
    operator
        .apply::<ProviderGroup>(&namespace, "group", group.clone())
        .await;
    operator
        .apply::<Role>(&namespace, "auditor", role.clone())
        .await;
    operator
        .apply::<MuteRule>(&namespace, "rule", muted.clone())
        .await;
    operator.settle(&world).await;
    later(&operator, &world, HOUR).await;
    finish_all(&operator, &world).await;
    operator.settle(&world).await;
    assert_eq!(made(&operator, &world).await.len(), 2);
    let ids = {
        let tables = [
            "tenants",
            "providers",
            "provider_groups",
            "roles",
            "schedules",
            "mute_rules",
            "scans",
        ];
        let queries = tables.map(|table| format!("select '{table} ' || id from {table}"));
        let all = queries.join(" union all ");
        format!("select string_agg(x, E'\\n' order by x) from ({all}) as list (x)")
    };
    let before = operator.sql(&ids).await;

    // Etcd is lost: nobody asks the program, and nothing is left.
    for name in operator.names::<Scan>(&namespace).await {
        operator.vanishes::<Scan>(&namespace, &name).await;
    }
    operator
        .vanishes::<ScanSchedule>(&namespace, "nightly")
        .await;
    operator.vanishes::<MuteRule>(&namespace, "rule").await;
    operator.vanishes::<Role>(&namespace, "auditor").await;
    operator
        .vanishes::<ProviderGroup>(&namespace, "group")
        .await;
    for name in ["p", "q"] {
        operator.vanishes::<Provider>(&namespace, name).await;
    }
    operator.vanishes::<Tenant>("", &world.tenant).await;
    operator.collect_garbage(&world).await;
    operator.restart().await;

    // GitOps applies what it has, in no good order.
    let mut spec = given(spec);
    spec["providerRefs"] = refs;
    operator
        .apply::<ScanSchedule>(&namespace, "nightly", spec)
        .await;
    operator.apply::<MuteRule>(&namespace, "rule", muted).await;
    operator.apply::<Role>(&namespace, "auditor", role).await;
    operator
        .apply::<ProviderGroup>(&namespace, "group", group)
        .await;
    for (name, uid) in [("p", ACCOUNT), ("q", OTHER)] {
        let spec = aws(uid, &format!("{name}-keys"));
        operator.apply::<Provider>(&namespace, name, spec).await;
    }
    let tenant = json!({ "namespaces": [namespace] });
    operator.apply::<Tenant>("", &world.tenant, tenant).await;
    operator.settle(&world).await;

    assert_eq!(
        operator.sql(&ids).await,
        before,
        "the same rows, and no more"
    );
    for name in ["p", "q"] {
        assert_eq!(
            operator.says::<Provider>(&namespace, name).await,
            "Current Succeeded"
        );
    }
    assert_eq!(
        operator.says::<ScanSchedule>(&namespace, "nightly").await,
        "Current Succeeded"
    );
    assert_eq!(
        operator.names::<Scan>(&namespace).await,
        [""; 0],
        "done before"
    );
    // And life goes on.
    later(&operator, &world, HOUR).await;
    assert_eq!(made(&operator, &world).await.len(), 2);
    finish_all(&operator, &world).await;
}

#[tokio::test]
async fn a_database_from_an_hour_ago_fires_no_slot_twice_and_keeps_nothing_waiting() {
    let mut operator = Operator::new().await;
    let spec = hourly(&operator);
    let world = scheduled(&operator, &["p"], spec).await;
    let namespace = world.namespace.clone();
    later(&operator, &world, HOUR).await;
    finish_all(&operator, &world).await;
    operator.settle(&world).await;
    let tables = back_up(&operator).await;

    // An hour that the database will not remember: a slot, and a Scan of somebody's own.
    later(&operator, &world, HOUR).await;
    finish_all(&operator, &world).await;
    operator.scan(&world, "by-hand", "p").await;
    finish_all(&operator, &world).await;
    operator.settle(&world).await;
    let names = operator.names::<Scan>(&namespace).await;
    let mut before = Vec::new();
    for name in &names {
        before.push(scan(&operator, &world, name).await);
    }
    assert_eq!(names.len(), 3);
    let jobs = operator.jobs(&world).await.len();
    operator.wait(120);

    restore(&mut operator, &tables).await;
    operator.settle(&world).await;
    assert_eq!(operator.admit().await, 0, "nothing runs again");
    operator.settle(&world).await;
    assert_eq!(operator.names::<Scan>(&namespace).await, names);
    for (name, before) in names.iter().zip(&before) {
        assert_eq!(scan(&operator, &world, name).await, *before, "{name}");
    }
    assert_eq!(operator.jobs(&world).await.len(), jobs);
    assert_eq!(
        operator.says::<ScanSchedule>(&namespace, "nightly").await,
        "Current Succeeded"
    );
    let waiting = "schedule_slots where state = 'claimed' and scan_id is null";
    assert_eq!(operator.count(waiting).await, 0, "no slot waits for ever");

    // The next due time leads to its Scan, which runs.
    later(&operator, &world, HOUR).await;
    let fresh: Vec<_> = operator.names::<Scan>(&namespace).await;
    let fresh: Vec<_> = fresh.iter().filter(|name| !names.contains(name)).collect();
    assert_eq!(fresh.len(), 1, "{fresh:?}");
    finish_all(&operator, &world).await;
    assert!(
        scan(&operator, &world, fresh[0])
            .await
            .0
            .contains("Completed")
    );
}

#[tokio::test]
async fn a_scan_that_ran_when_the_database_forgot_it_ends_and_its_account_is_free() {
    let mut operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    let tables = back_up(&operator).await;
    let job = operator.running_scan(&world, "forgotten", "p").await;
    restore(&mut operator, &tables).await;
    operator.follow::<Scan>(&world.namespace, "forgotten").await;
    let says = operator.says::<Scan>(&world.namespace, "forgotten").await;
    assert_eq!(
        says,
        "Failed Cancelled",
        "{}",
        operator
            .message::<Scan>(&world.namespace, "forgotten")
            .await
    );
    let message = operator
        .message::<Scan>(&world.namespace, "forgotten")
        .await;
    assert!(message.contains("database"), "{message}");
    operator.collect_garbage(&world).await;
    let jobs = operator.jobs(&world).await;
    assert!(
        jobs.iter().all(|left| left.uid() != job.uid()),
        "its pod is none the row knows"
    );
    operator.running_scan(&world, "next", "p").await;
    operator.complete(&world, "next").await;
}

#[tokio::test]
async fn an_account_under_another_name_keeps_its_row_and_its_scans() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "old-name", ACCOUNT).await;
    operator.running_scan(&world, "s", "old-name").await;
    operator.complete(&world, "s").await;
    let id = operator.sql("select id from providers").await;
    operator
        .vanishes::<Provider>(&world.namespace, "old-name")
        .await;
    let spec = aws(ACCOUNT, "old-name-keys");
    operator
        .apply::<Provider>(&world.namespace, "new-name", spec)
        .await;
    operator.settle(&world).await;
    assert_eq!(
        operator
            .says::<Provider>(&world.namespace, "new-name")
            .await,
        "Current Succeeded"
    );
    let rows = "select string_agg(id || ' ' || name, ',') from providers";
    assert_eq!(operator.sql(rows).await, format!("{id} new-name"));
    assert_eq!(operator.count("scans where state = 'completed'").await, 1);
    let says = operator.says::<Scan>(&world.namespace, "s").await;
    assert_eq!(says, "Current Completed");
    // And is scanned under its new name.
    operator.running_scan(&world, "t", "new-name").await;
    operator.complete(&world, "t").await;
}
