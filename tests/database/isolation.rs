//! Tenants are kept apart: the catalogue says so, and every table, partition and view is tried.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prowler_operator::store::{isolation, partitions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use super::seed::{self, Relation};
use crate::support::db::{Db, run};

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);

#[tokio::test]
async fn the_catalogue_shows_nothing_to_find() {
    let db = Db::new().await;
    nothing_to_find(&db).await;
}

#[tokio::test]
async fn the_catalogue_shows_nothing_to_find_where_a_plain_administrator_made_the_roles() {
    let db = Db::managed().await;
    nothing_to_find(&db).await;
}

async fn nothing_to_find(db: &Db) {
    partitions::ensure_months(&db.admin().await, month(), 2)
        .await
        .unwrap();
    let mut user = db.user_conn().await;
    let none: [isolation::Finding; 0] = [];
    assert_eq!(isolation::examine_schema(&mut user).await.unwrap(), none);
    assert_eq!(isolation::examine_role(&mut user).await.unwrap(), none);
    let mut admin = db.admin_conn().await;
    assert_eq!(isolation::examine_admin(&mut admin).await.unwrap(), none);
}

#[tokio::test]
async fn no_table_partition_or_view_lets_another_tenants_rows_through() {
    every_relation_is_tried(&Db::new().await).await;
}

#[tokio::test]
async fn nor_does_any_where_a_plain_administrator_made_the_roles() {
    every_relation_is_tried(&Db::managed().await).await;
}

#[tokio::test]
async fn removing_a_tenant_takes_its_rows_along_and_no_others() {
    let db = Db::new().await;
    partitions::ensure_months(&db.admin().await, month(), 1)
        .await
        .unwrap();
    let mut admin = db.admin_conn().await;
    let relations = seed::relations(&mut admin).await;
    seed::fill(&mut admin, &relations, [A, B]).await;
    let of_tenants: Vec<_> = relations
        .iter()
        .filter(|relation| relation.key.is_some() && relation.name != "tenant_namespaces")
        .collect();
    let before = contents(&mut admin, &of_tenants).await;

    let mut user = db.user_conn().await;
    run(&mut user, &format!("set api.tenant_id = '{A}'")).await;
    // What there is much of leaves in batches before its tenant, and is not lost by accident.
    let error = sqlx::query("delete from tenants")
        .execute(&mut user)
        .await
        .expect_err("resources are left");
    assert_eq!(code(&error), "23503", "{error}");
    run(
        &mut user,
        "delete from resource_finding_mappings; delete from findings; delete from resource_tag_mappings;
         delete from resources",
    )
    .await;
    run(&mut user, "delete from tenants").await;

    for relation in &of_tenants {
        let (name, key) = (&relation.name, relation.key.as_ref().unwrap());
        let left: Vec<(Uuid, String)> = sqlx::query_as(AssertSqlSafe(format!(
            "select {key}, row_to_json(t)::text from {name} t order by 2"
        )))
        .fetch_all(&mut admin)
        .await
        .unwrap();
        let others: Vec<_> = before[name]
            .iter()
            .filter(|(tenant, _)| *tenant == B)
            .cloned()
            .collect();
        assert_eq!(left, others, "{name}");
    }
}

#[tokio::test]
async fn the_policy_is_an_index_condition_not_a_filter() {
    let db = Db::new().await;
    let mut user = db.user_conn().await;
    run(
        &mut user,
        &format!("set api.tenant_id = '{A}'; set enable_seqscan = off"),
    )
    .await;
    // Only by the policy: the statement names no tenant.
    for query in [
        "select * from scans where id = gen_random_uuid()",
        "select * from resources",
    ] {
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("explain {query}")))
            .fetch_all(&mut user)
            .await
            .unwrap();
        assert!(
            plan.iter()
                .any(|line| line.contains("Index Cond: (") && line.contains("tenant_id = $")),
            "{query}\n{plan:#?}"
        );
    }
}

fn month() -> Timestamp {
    "2026-11-05T00:00:00Z".parse().unwrap()
}

/// How `api.tenant_id` may stand when a statement arrives.
const CONTEXTS: [(&str, &str); 7] = [
    ("absent", ""),
    ("empty", "set api.tenant_id = ''"),
    (
        "of nobody",
        "set api.tenant_id = '00000000-0000-0000-0000-0000000000ff'",
    ),
    ("no uuid", "set api.tenant_id = 'everyone'"),
    ("a wildcard", "set api.tenant_id = '%'"),
    (
        "stale",
        "begin; select set_config('api.tenant_id', '00000000-0000-0000-0000-00000000000b', true); \
         commit",
    ),
    (
        "another's",
        "set api.tenant_id = '00000000-0000-0000-0000-00000000000a'",
    ),
];

async fn every_relation_is_tried(db: &Db) {
    partitions::ensure_months(&db.admin().await, month(), 2)
        .await
        .unwrap();
    let mut admin = db.admin_conn().await;
    let relations = seed::relations(&mut admin).await;
    seed::fill(&mut admin, &relations, [A, B]).await;

    let of_tenants: Vec<_> = relations
        .iter()
        .filter(|relation| relation.key.is_some() && relation.name != "tenant_namespaces")
        .collect();
    assert!(
        of_tenants.len() > 20,
        "too few relations were found: {of_tenants:?}"
    );
    let before = contents(&mut admin, &of_tenants).await;

    // Without this, the rest could pass on empty tables.
    for relation in &of_tenants {
        sees_its_own_rows_and_no_others(db, relation).await;
    }
    for (context, set_up) in CONTEXTS {
        // A connection of its own for each: nothing is left from the one before.
        let mut user = db.user_conn().await;
        run(&mut user, set_up).await;
        for relation in &of_tenants {
            let rows = &before[&relation.name];
            let place = format!("{} with the setting {context}", relation.name);
            reads_nothing(&mut user, relation, &place).await;
            changes_nothing(&mut user, relation, &place).await;
            inserts_nothing(&mut user, relation, rows, &place).await;
        }
    }
    assert_eq!(contents(&mut admin, &of_tenants).await, before);

    let mut user = db.user_conn().await;
    for relation in relations
        .iter()
        .filter(|relation| relation.key.is_none() || relation.name == "tenant_namespaces")
    {
        tables_of_no_tenant_are_not_written(&mut user, relation).await;
    }
}

/// All rows as text; `B`'s among them are what must not move.
async fn contents(
    admin: &mut PgConnection,
    relations: &[&Relation],
) -> BTreeMap<String, Vec<(Uuid, String)>> {
    let mut contents = BTreeMap::new();
    for relation in relations {
        let (name, key) = (&relation.name, relation.key.as_ref().unwrap());
        let rows: Vec<(Uuid, String)> = sqlx::query_as(AssertSqlSafe(format!(
            "select {key}, row_to_json(t)::text from {name} t order by 2"
        )))
        .fetch_all(&mut *admin)
        .await
        .unwrap();
        for tenant in [A, B] {
            assert!(
                rows.iter().any(|(of, _)| *of == tenant),
                "{name} has no row of {tenant}: the test would prove nothing"
            );
        }
        contents.insert(name.clone(), rows);
    }
    contents
}

async fn sees_its_own_rows_and_no_others(db: &Db, relation: &Relation) {
    let (name, key) = (&relation.name, relation.key.as_ref().unwrap());
    let mut user = db.user_conn().await;
    run(&mut user, &format!("set api.tenant_id = '{B}'")).await;
    let tenants: Vec<Uuid> =
        sqlx::query_scalar(AssertSqlSafe(format!("select distinct {key} from {name}")))
            .fetch_all(&mut user)
            .await
            .unwrap();
    assert_eq!(tenants, [B], "{name}");
}

async fn reads_nothing(user: &mut PgConnection, relation: &Relation, place: &str) {
    let (name, key) = (&relation.name, relation.key.as_ref().unwrap());
    let found = sqlx::query_scalar::<_, i64>(AssertSqlSafe(format!(
        "select count(*) from {name} where {key} = '{B}'"
    )))
    .fetch_one(user)
    .await;
    match found {
        Ok(count) => assert_eq!(count, 0, "read: {place}"),
        // The setting is no uuid: the policy cannot be evaluated, and nothing is read.
        Err(error) => assert_eq!(code(&error), "22P02", "read: {place}: {error}"),
    }
}

/// Updates and deletes, aimed at the other tenant and at everything; rolled back.
async fn changes_nothing(user: &mut PgConnection, relation: &Relation, place: &str) {
    let (name, key) = (&relation.name, relation.key.as_ref().unwrap());
    for statement in [
        format!("update {name} set {key} = {key} where {key} = '{B}'"),
        format!("delete from {name} where {key} = '{B}'"),
        format!("update {name} set {key} = '{B}'"),
        format!("select 1 from {name} where {key} = '{B}' for update"),
        format!("truncate {name}"),
    ] {
        let mut tx = user.begin().await.unwrap();
        let done = sqlx::query(AssertSqlSafe(statement.clone()))
            .execute(&mut *tx)
            .await;
        match done {
            Ok(done) => assert_eq!(done.rows_affected(), 0, "{statement}: {place}"),
            Err(error) => assert!(
                // Refused by a policy or privilege; the setting is no uuid; no view is updated
                // or truncated.
                ["42501", "22P02", "55000", "42809"].contains(&&*code(&error)),
                "{statement}: {place}: {error}"
            ),
        }
        tx.rollback().await.unwrap();
    }
}

/// The other tenant's very rows, and new ones in its name.
async fn inserts_nothing(
    user: &mut PgConnection,
    relation: &Relation,
    rows: &[(Uuid, String)],
    place: &str,
) {
    let name = &relation.name;
    let (_, row) = rows.iter().find(|(tenant, _)| *tenant == B).unwrap();
    for conflict in ["", "on conflict do nothing"] {
        let error = sqlx::query(AssertSqlSafe(format!(
            "insert into {name} select * from json_populate_record(null::{name}, $1::json) {conflict}"
        )))
        .bind(row)
        .execute(&mut *user)
        .await
        .expect_err(place);
        assert!(
            ["42501", "22P02", "55000"].contains(&&*code(&error)),
            "insert {conflict}: {place}: {error}"
        );
    }
}

async fn tables_of_no_tenant_are_not_written(user: &mut PgConnection, relation: &Relation) {
    let name = &relation.name;
    for statement in [
        format!("insert into {name} default values"),
        format!("delete from {name}"),
        format!("truncate {name}"),
        format!("select * from {name}"),
    ] {
        let done = sqlx::query(AssertSqlSafe(statement.clone()))
            .execute(&mut *user)
            .await;
        let read = statement.starts_with("select")
            && ["_sqlx_migrations", "installation"].contains(&name.as_str());
        match done {
            Ok(_) => assert!(read, "{statement}"),
            Err(error) => {
                assert!(!read, "{statement}: {error}");
                assert_eq!(code(&error), "42501", "{statement}: {error}");
            }
        }
    }
}

fn code(error: &sqlx::Error) -> String {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .unwrap_or_default()
        .into_owned()
}
