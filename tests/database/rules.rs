//! Every rule about isolation finds its fault: each is broken on purpose, examined, undone.

use prowler_operator::store::isolation::{self, Finding, Severity};
use sqlx::PgConnection;

use crate::support::db::{Db, run};

/// What is broken, the object that must be named, and words of the sentence.
const BREACHES: [(&str, &str, &str, Severity); 30] = [
    (
        "alter table providers disable row level security",
        "providers",
        "not enabled and forced",
        Severity::Error,
    ),
    (
        "alter table providers no force row level security",
        "providers",
        "not enabled and forced",
        Severity::Error,
    ),
    (
        "alter table findings_2026_nov no force row level security",
        "findings_2026_nov",
        "not enabled and forced",
        Severity::Error,
    ),
    (
        "drop policy providers_select on providers",
        "providers",
        "no policy for prowler_user to select",
        Severity::Error,
    ),
    (
        "drop policy providers_insert on providers",
        "providers",
        "no policy for prowler_user to insert",
        Severity::Error,
    ),
    (
        "drop policy providers_update on providers",
        "providers",
        "no policy for prowler_user to update",
        Severity::Error,
    ),
    (
        "drop policy providers_delete on providers",
        "providers",
        "no policy for prowler_user to delete",
        Severity::Error,
    ),
    (
        "drop policy providers_admin on providers",
        "providers",
        "no policy for prowler_admin",
        Severity::Error,
    ),
    (
        "create policy wide on providers using (true)",
        "providers",
        "Policy wide",
        Severity::Error,
    ),
    (
        "create policy wide on providers for select to prowler_user using (true)",
        "providers",
        "Policy wide",
        Severity::Error,
    ),
    (
        "create policy narrow on providers as restrictive to prowler_user using (true)",
        "providers",
        "Policy narrow",
        Severity::Error,
    ),
    (
        "alter policy providers_update on providers using (tenant_id is not null)",
        "providers",
        "Policy providers_update",
        Severity::Error,
    ),
    (
        "alter policy providers_select on providers to public",
        "providers",
        "Policy providers_select",
        Severity::Error,
    ),
    (
        "grant truncate on providers to prowler_user",
        "providers",
        "truncate",
        Severity::Error,
    ),
    (
        "grant select on providers to public",
        "providers",
        "public has select",
        Severity::Error,
    ),
    (
        "grant select on leases to prowler_user",
        "leases",
        "select",
        Severity::Error,
    ),
    (
        "grant insert on installation to prowler_user",
        "installation",
        "insert",
        Severity::Error,
    ),
    (
        "grant select (tenant_id) on tenant_namespaces to prowler_user",
        "tenant_namespaces.tenant_id",
        "select",
        Severity::Error,
    ),
    (
        "grant create on schema prowler to prowler_user",
        "prowler",
        "create",
        Severity::Error,
    ),
    (
        "grant usage on schema prowler to public",
        "prowler",
        "usage",
        Severity::Error,
    ),
    (
        "grant execute on function protect to prowler_user",
        "protect",
        "execute",
        Severity::Error,
    ),
    (
        "grant select on providers to pg_monitor",
        "providers",
        "pg_monitor has select",
        Severity::Warning,
    ),
    (
        "create view all_providers as select * from providers",
        "all_providers",
        "owner's rights",
        Severity::Error,
    ),
    (
        "create materialized view frozen as select * from providers; grant select on frozen to prowler_user",
        "frozen",
        "select",
        Severity::Error,
    ),
    (
        "create table plain (tenant_id uuid not null, id uuid, primary key (tenant_id, id))",
        "plain",
        "not enabled and forced",
        Severity::Error,
    ),
    (
        "create table keyless (id uuid primary key); select protect('keyless', key_column => 'id')",
        "keyless",
        "column tenant_id",
        Severity::Error,
    ),
    (
        "create table findings_2027_jan partition of findings for values from ('01b00000-0000-0000-0000-000000000000') to ('01b10000-0000-0000-0000-000000000000')",
        "findings_2027_jan",
        "not enabled and forced",
        Severity::Error,
    ),
    (
        "create function everything() returns bigint language sql security definer as 'select count(*) from prowler.providers'",
        "everything",
        "owner's rights",
        Severity::Error,
    ),
    (
        "alter function scan_of_job reset search_path",
        "scan_of_job",
        "search_path",
        Severity::Error,
    ),
    (
        "create table crossing (tenant_id uuid not null references tenants, id uuid, other uuid, primary key (tenant_id, id)); alter table providers add unique (id); alter table crossing add foreign key (other) references providers (id)",
        "crossing_other_fkey",
        "another tenant's row",
        Severity::Error,
    ),
];

/// A database with partitions, as its owner sees it.
async fn with_partitions() -> (Db, PgConnection) {
    let db = Db::new().await;
    prowler_operator::store::partitions::ensure_months(
        &db.admin().await,
        "2026-11-05T00:00:00Z".parse().unwrap(),
        1,
    )
    .await
    .unwrap();
    let conn = db.admin_conn().await;
    (db, conn)
}

#[tokio::test]
async fn each_breach_is_found_and_named() {
    let (_db, mut conn) = with_partitions().await;
    for (breach, object, words, severity) in BREACHES {
        run(&mut conn, "begin").await;
        run(&mut conn, breach).await;
        let findings = isolation::examine_schema(&mut conn).await.unwrap();
        assert!(
            findings.iter().any(|finding| finding.object == object
                && finding.sentence.contains(words)
                && finding.severity == severity),
            "{breach}\nfound only {findings:#?}"
        );
        run(&mut conn, "rollback").await;
    }
}

/// What a finding tells to run.
fn cure(finding: &Finding) -> &str {
    let (_, statement) = finding
        .sentence
        .split_once("Run as prowler_admin: ")
        .unwrap();
    statement
}

#[tokio::test]
async fn a_policy_that_is_missing_is_named_with_table_and_command_and_the_cure_is_one() {
    let (_db, mut conn) = with_partitions().await;
    for table in ["scans", "tenants", "findings", "findings_2026_nov"] {
        for command in ["select", "insert", "update", "delete"] {
            let breach = format!("drop policy {table}_{command} on {table}");
            run(&mut conn, "begin").await;
            run(&mut conn, &breach).await;
            let findings = isolation::examine_schema(&mut conn).await.unwrap();
            let [found] = &findings[..] else {
                panic!("{breach}\nfound {findings:#?}");
            };
            assert_eq!(found.object, table, "{breach}");
            assert_eq!(found.severity, Severity::Error, "{breach}");
            let words = format!("It has no policy for prowler_user to {command}. ");
            assert!(found.sentence.starts_with(&words), "{breach}\n{found}");
            run(&mut conn, cure(found)).await;
            let left = isolation::examine_schema(&mut conn).await.unwrap();
            assert!(left.is_empty(), "{breach}\nleft {left:#?}");
            run(&mut conn, "rollback").await;
        }
    }
}

#[tokio::test]
async fn a_table_needs_a_policy_for_each_command_that_is_granted_and_for_no_other() {
    let db = Db::new().await;
    let mut conn = db.admin_conn().await;
    run(
        &mut conn,
        "create table readable (tenant_id uuid not null references tenants, id uuid,
             primary key (tenant_id, id));
         select protect('readable', array['select'])",
    )
    .await;
    let findings = isolation::examine_schema(&mut conn).await.unwrap();
    assert!(findings.is_empty(), "{findings:#?}");

    run(&mut conn, "grant delete on readable to prowler_user").await;
    let findings = isolation::examine_schema(&mut conn).await.unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].object, "readable");
    assert!(
        findings[0]
            .sentence
            .starts_with("It has no policy for prowler_user to delete."),
        "{findings:#?}"
    );
}

#[tokio::test]
async fn an_index_that_does_not_begin_with_the_tenant_is_a_warning() {
    let db = Db::new().await;
    let mut conn = db.admin_conn().await;
    run(
        &mut conn,
        "create index providers_alias on providers (alias)",
    )
    .await;
    let findings = isolation::examine_schema(&mut conn).await.unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].object, "providers_alias");
    assert_eq!(findings[0].severity, Severity::Warning);
    db.store().await;
}

#[tokio::test]
async fn a_partition_in_another_schema_is_found_too() {
    let db = Db::new().await;
    let mut conn = db.admin_conn().await;
    run(
        &mut conn,
        "create schema elsewhere;
         create table elsewhere.findings_2027_jan partition of findings for values
             from ('01b00000-0000-0000-0000-000000000000') to ('01b10000-0000-0000-0000-000000000000');",
    )
    .await;
    let findings = isolation::examine_schema(&mut conn).await.unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding.object == "findings_2027_jan")
    );
}
