//! The exceptions, written a second time: `store::isolation` allows them, this says which there
//! are. Whoever adds one writes it down twice, and a reviewer sees it twice.

use sqlx::PgConnection;

use crate::support::db::Db;

async fn list(conn: &mut PgConnection, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(conn).await.unwrap()
}

#[tokio::test]
async fn these_and_no_others_are_not_tenant_tables() {
    let mut conn = Db::new().await.user_conn().await;
    let found = list(
        &mut conn,
        "select relname::text from pg_class c
         where relnamespace = 'prowler'::regnamespace and relkind in ('r', 'p')
           and not exists (select from pg_policy p where p.polrelid = c.oid) order by 1",
    )
    .await;
    assert_eq!(
        found,
        [
            "_sqlx_migrations",
            "installation",
            "leases",
            "tenant_namespaces"
        ]
    );
}

#[tokio::test]
async fn these_and_no_others_run_with_the_owners_rights() {
    let mut conn = Db::new().await.user_conn().await;
    let found = list(
        &mut conn,
        "select oid::regprocedure::text from pg_proc
         where pronamespace = 'prowler'::regnamespace and prosecdef order by 1",
    )
    .await;
    assert_eq!(found, ["scan_of_job(uuid)"]);
    // They answer ids and states, never columns of findings.
    let answers = list(
        &mut conn,
        "select distinct arg from pg_proc, unnest(proargnames) as arg
         where pronamespace = 'prowler'::regnamespace and prosecdef order by 1",
    )
    .await;
    assert_eq!(answers, ["attempt", "job", "scan_id", "tenant_id"]);
}

#[tokio::test]
async fn these_and_no_other_indexes_begin_without_the_tenant() {
    let mut conn = Db::new().await.user_conn().await;
    let found = list(
        &mut conn,
        "select x.relname::text || case when i.indisunique then ' unique' else '' end
         from pg_index i
         join pg_class x on x.oid = i.indexrelid
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
         where x.relnamespace = 'prowler'::regnamespace and a.attname <> 'tenant_id'
           and exists (select from pg_policy p where p.polrelid = i.indrelid)
         order by 1",
    )
    .await;
    assert_eq!(
        found,
        [
            "connection_check_slots unique",
            "connection_checks_due",
            "integrations_object_uid",
            "mute_rules_object_uid",
            "provider_groups_object_uid",
            "providers_object_uid",
            // The queue is one for all tenants, so are its places.
            "queue_slots unique",
            "roles_object_uid",
            "scans_admission",
            "scans_job_uid unique",
            "scans_object_uid",
            "schedules_due",
            "schedules_object_uid",
            // A tenant is its own key.
            "tenants_pkey unique",
            // As are those of a provider type.
            "type_slots unique",
        ]
    );
}

#[tokio::test]
async fn prowler_user_has_these_grants_and_no_others() {
    let mut conn = Db::new().await.user_conn().await;
    // Each tenant table's four are policies too; whatever has fewer or more is named here.
    let found = list(
        &mut conn,
        "select c.relname::text || ' ' || string_agg(lower(g.privilege_type), ',' order by 1)
         from pg_class c, aclexplode(c.relacl) g
         where c.relnamespace = 'prowler'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
           and g.grantee = 'prowler_user'::regrole
         group by c.relname
         having string_agg(lower(g.privilege_type), ',' order by g.privilege_type)
             <> 'delete,insert,select,update'
         order by 1",
    )
    .await;
    assert_eq!(
        found,
        [
            "_sqlx_migrations select",
            "active_findings select",
            "active_providers select",
            "active_resources select",
            "active_scans select",
            "active_schedules select",
            "active_tenants select",
            "installation select",
        ]
    );
}
