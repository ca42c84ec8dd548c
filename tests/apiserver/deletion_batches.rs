//! Deletion by batches where only a schedule's due times are many: no transaction takes more of
//! them than one batch, whatever it is that goes.

use prowler_operator::api::{Provider, Tenant};
use prowler_operator::store::deletion::BATCH;
use serde_json::json;

use crate::support::db::run;
use crate::support::operator::{ACCOUNT, Operator, World, aws};

/// More than one batch, less than two.
const MANY: i64 = 6_000;

/// A tenant with a Provider `p` of this policy, and a schedule with as many due times that are past
/// and scans that have ended as take two batches. From here on the database refuses a transaction
/// that takes more of either than one.
async fn with_many_due_times(operator: &Operator, policy: &str) -> World {
    let world = operator.tenant().await;
    operator.aws_secret(&world.namespace, "p-keys").await;
    let mut spec = aws(ACCOUNT, "p-keys");
    spec["deletionPolicy"] = json!(policy);
    operator
        .becomes::<Provider>(&world.namespace, "p", spec)
        .await;
    let sql = format!(
        "insert into schedules (tenant_id, id, namespace, name, interval_seconds)
           select tenant_id, gen_random_uuid(), namespace, 'nightly', 3600 from providers;
         insert into schedule_slots (tenant_id, schedule_id, provider_id, due_at, scan_name, state)
           select p.tenant_id, d.id, p.id, now() - n * interval '1 hour', 'nightly-' || n, 'claimed'
           from providers p, schedules d, generate_series(1, {MANY}) n;
         insert into scans (tenant_id, id, provider_id, schedule_id, trigger, state)
           select p.tenant_id, gen_random_uuid(), p.id, d.id, 'scheduled', 'completed'
           from providers p, schedules d, generate_series(1, {MANY}) n;
         create function bounded() returns trigger language plpgsql as $$
         declare
           counter text := 'test.' || tg_table_name;
           taken integer := coalesce(nullif(current_setting(counter, true), ''), '0')::integer + 1;
         begin
           if taken > {BATCH} then
             raise exception 'more than {BATCH} rows of % in one transaction', tg_table_name;
           end if;
           perform set_config(counter, taken::text, true);
           if tg_op = 'DELETE' then
             return old;
           end if;
           return new;
         end $$;
         create trigger bounded before delete on schedule_slots
           for each row execute function bounded();
         create trigger bounded before update of schedule_id on scans
           for each row execute function bounded();"
    );
    run(&mut operator.db.admin_conn().await, &sql).await;
    world
}

#[tokio::test]
async fn the_due_times_of_a_deleted_provider_go_by_batches() {
    let operator = Operator::new().await;
    let world = with_many_due_times(&operator, "Delete").await;
    operator.deletes::<Provider>(&world.namespace, "p").await;
    for (table, rows) in [
        ("schedule_slots", 0),
        ("scans", 0),
        ("providers", 0),
        ("schedules", 1),
    ] {
        assert_eq!(operator.count(table).await, rows, "{table}");
    }
}

#[tokio::test]
async fn the_due_times_of_a_namespace_given_back_go_by_batches() {
    let operator = Operator::new().await;
    let world = with_many_due_times(&operator, "Retain").await;
    let more = operator.server.namespace().await;
    operator.claim(&world.tenant, &[&more]).await;
    assert_eq!(
        operator.says::<Tenant>("", &world.tenant).await,
        "Current Succeeded"
    );
    for (rows_of, rows) in [
        ("schedule_slots", 0),
        ("schedules", 0),
        ("scans", MANY),
        ("scans where schedule_id is not null", 0),
        ("providers where retained", 1),
    ] {
        assert_eq!(operator.count(rows_of).await, rows, "{rows_of}");
    }
}
