//! What a store refuses to start with, and what the sentence tells to do.

use prowler_operator::store::{AdminStore, SchemaState, Store, StoreError, migrate};

use crate::support::db::{self, Db, run};

/// The sentence of a refusal.
fn refusal(result: Result<Store, StoreError>) -> String {
    match result {
        Err(StoreError::Refused(sentence)) => sentence,
        Err(other) => panic!("refused otherwise: {other:?}"),
        Ok(_) => panic!("was not refused"),
    }
}

async fn connect_as(db: &Db, role: &str) -> Result<Store, StoreError> {
    Store::connect("test", &db::user_args(&db.url(role))).await
}

#[tokio::test]
async fn a_superuser_is_refused() {
    let db = Db::new().await;
    let sentence = refusal(connect_as(&db, "postgres").await);
    assert!(sentence.contains("DATABASE_URL is unsafe"), "{sentence}");
    assert!(sentence.contains("does not bind a superuser"), "{sentence}");
    assert!(
        sentence.contains("Connect as the plain role prowler_user"),
        "{sentence}"
    );
}

#[tokio::test]
async fn the_owner_of_the_schema_is_refused() {
    let db = Db::new().await;
    let sentence = refusal(connect_as(&db, "prowler_admin").await);
    assert!(sentence.contains("owns the schema"), "{sentence}");
}

#[tokio::test]
async fn roles_that_can_become_more_are_refused() {
    let db = Db::new().await;
    let mut conn = db.superuser_conn().await;
    for (role, make, words) in [
        (
            "r_bypass",
            "create role r_bypass login bypassrls in role prowler_user",
            "has BYPASSRLS",
        ),
        (
            "r_creator",
            "create role r_creator login createrole in role prowler_user",
            "has CREATEROLE",
        ),
        (
            "r_copier",
            "create role r_copier login replication in role prowler_user",
            "has REPLICATION",
        ),
        (
            "r_owner",
            "create role r_owner login in role prowler_user, prowler_admin",
            "revoke prowler_admin from r_owner",
        ),
        (
            "r_super",
            "create role r_super login in role prowler_user, postgres",
            "is a member of postgres, which is a superuser",
        ),
        (
            "r_reader",
            "create role r_reader login in role prowler_user, pg_read_server_files",
            "can read the server's files",
        ),
        (
            "r_quiet",
            "create role r_quiet login noinherit in role prowler_user, prowler_admin",
            "owns the schema",
        ),
        (
            "r_stranger",
            "create role r_stranger login",
            "neither that role nor a member",
        ),
    ] {
        run(&mut conn, make).await;
        // A stranger may not even connect otherwise.
        run(
            &mut conn,
            &format!("grant connect on database {} to {role}", db.name()),
        )
        .await;
        let sentence = refusal(connect_as(&db, role).await);
        assert!(sentence.contains(words), "{role}: {sentence}");
    }
    run(&mut conn, "create role r_plain login in role prowler_user").await;
    connect_as(&db, "r_plain").await.unwrap();
}

#[tokio::test]
async fn an_unsafe_replica_is_refused_too() {
    let db = Db::new().await;
    let mut args = db.user_args();
    args.database_replica_url = Some(db.superuser_url().parse().unwrap());
    let sentence = refusal(Store::connect("test", &args).await);
    assert!(
        sentence.contains("DATABASE_REPLICA_URL is unsafe"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_table_without_forced_row_security_is_refused() {
    let db = Db::new().await;
    run(
        &mut db.admin_conn().await,
        "alter table scans no force row level security",
    )
    .await;
    let sentence = refusal(Store::connect("test", &db.user_args()).await);
    assert!(
        sentence.contains("scans: Row-level security is not enabled and forced"),
        "{sentence}"
    );
    assert!(
        sentence.contains("select prowler.protect('prowler.scans')"),
        "{sentence}"
    );
    // The cure that the sentence names is one.
    run(
        &mut db.admin_conn().await,
        "select prowler.protect('prowler.scans')",
    )
    .await;
    Store::connect("test", &db.user_args()).await.unwrap();
}

#[tokio::test]
async fn a_table_whose_updates_would_silently_change_nothing_is_refused() {
    let db = Db::new().await;
    run(
        &mut db.admin_conn().await,
        "drop policy scans_update on scans",
    )
    .await;
    let sentence = refusal(Store::connect("test", &db.user_args()).await);
    assert!(
        sentence.contains("scans: It has no policy for prowler_user to update"),
        "{sentence}"
    );
    run(
        &mut db.admin_conn().await,
        "select prowler.protect('prowler.scans')",
    )
    .await;
    Store::connect("test", &db.user_args()).await.unwrap();
}

#[tokio::test]
async fn an_unprotected_partition_is_refused() {
    let db = Db::new().await;
    run(
        &mut db.admin_conn().await,
        "create table by_hand partition of findings for values
             from ('01b00000-0000-0000-0000-000000000000') to ('01b10000-0000-0000-0000-000000000000')",
    )
    .await;
    let sentence = refusal(Store::connect("test", &db.user_args()).await);
    assert!(sentence.contains("by_hand"), "{sentence}");
}

#[tokio::test]
async fn the_admin_url_of_another_role_is_refused() {
    let db = Db::new().await;
    for url in [db.user_url(), db.superuser_url()] {
        let error = AdminStore::connect("test", &db::admin_args(&url))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("Connect as prowler_admin"),
            "{error}"
        );
        let error = migrate::migrate(&db::admin_args(&url)).await.unwrap_err();
        assert!(
            error.to_string().contains("Connect as prowler_admin"),
            "{error}"
        );
    }
}

fn schema_state(error: &StoreError) -> SchemaState {
    match error {
        StoreError::Schema(state) => *state,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_store_is_unready_until_the_schema_is_there() {
    let db = Db::empty().await;
    let store = Store::open("test", &db.user_args()).unwrap();
    let error = store.ready().await.unwrap_err();
    assert_eq!(schema_state(&error), SchemaState::Missing);
    assert!(
        error.to_string().contains("prowler-operator migrate"),
        "{error}"
    );
    assert!(!error.is_transient());

    migrate::migrate(&db.admin_args()).await.unwrap();
    store.ready().await.unwrap();
}

#[tokio::test]
async fn an_older_schema_is_refused_until_it_is_migrated() {
    let db = Db::empty().await;
    let mut admin = db.admin_conn().await;
    run(&mut admin, "create schema prowler").await;
    sqlx::migrate!().run_to(4, &mut admin).await.unwrap();
    let error = Store::connect("test", &db.user_args()).await.unwrap_err();
    assert_eq!(schema_state(&error), SchemaState::Older { missing: 5 });
    assert!(error.to_string().contains("run this version's"), "{error}");

    migrate::migrate(&db.admin_args()).await.unwrap();
    Store::connect("test", &db.user_args()).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_every_part() {
    let db = Db::new().await;
    run(
        &mut db.admin_conn().await,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'from the future', true, '', 0)",
    )
    .await;
    let newer = SchemaState::Newer { found: 9999 };
    let error = Store::connect("test", &db.user_args()).await.unwrap_err();
    assert_eq!(schema_state(&error), newer);
    assert!(
        error.to_string().contains("newer than this program"),
        "{error}"
    );
    let error = AdminStore::connect("test", &db.admin_args())
        .await
        .unwrap_err();
    assert_eq!(schema_state(&error), newer);
    let error = migrate::migrate(&db.admin_args()).await.unwrap_err();
    assert_eq!(schema_state(&error), newer);
}

#[tokio::test]
async fn a_schema_that_grows_while_the_program_runs_leaves_it_ready() {
    let db = Db::new().await;
    let store = db.store().await;
    run(
        &mut db.admin_conn().await,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'from the future', true, '', 0)",
    )
    .await;
    store.ready().await.unwrap();
}

#[tokio::test]
async fn another_builds_history_is_refused() {
    let db = Db::new().await;
    run(
        &mut db.admin_conn().await,
        "update _sqlx_migrations set checksum = '' where version = 2",
    )
    .await;
    let error = migrate::migrate(&db.admin_args()).await.unwrap_err();
    assert_eq!(schema_state(&error), SchemaState::Diverged { version: 2 });
}
