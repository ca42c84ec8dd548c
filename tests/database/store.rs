//! Transactions, pools and errors: nothing leaks between tenants, nothing secret into words.

use prowler_operator::domain::ids::{InstallationId, ObjectUid, TenantId};
use prowler_operator::store::installation::{self, Claim, Lease};
use prowler_operator::store::tenants::{self, TenantRecord};
use prowler_operator::store::{AdminStore, Change, Store, StoreError, partitions};
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use crate::support::db::{self, Db, run};

const A: TenantId = TenantId(Uuid::from_u128(0xa));
const JOB: ObjectUid = ObjectUid(Uuid::from_u128(0x10b));

#[tokio::test]
async fn text_that_is_no_uuid_is_refused_before_any_connection() {
    // Nobody listens there: an attempt to connect would end otherwise.
    let url = "postgres://prowler_user:s3cret@127.0.0.1:1/prowler";
    let store = Store::open("test", &db::user_args(url)).unwrap();
    for text in ["", "everyone", "' or true --", "0199", "{0199}"] {
        let error = store.tenant_from_text(text).await.unwrap_err();
        assert_eq!(error.to_string(), "Must be a valid UUID", "{text}");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn a_dropped_transaction_leaves_neither_transaction_nor_tenant_behind() {
    let db = Db::new().await;
    let mut args = db.user_args();
    // One connection: whatever comes next gets the one that was just used.
    args.database_pool_size = 1;
    let store = Store::connect("stale", &args).await.unwrap();
    seed_scan(&db).await;
    for commit in [true, false] {
        let tx = store.tenant(A).await.unwrap();
        if commit {
            tx.commit().await.unwrap();
        } else {
            drop(tx);
        }
        // The same session, outside any transaction: the look-up by Job still works (it runs
        // with its owner's rights), and the session shows no tenant.
        assert!(store.scan_of_job(JOB).await.unwrap().is_some());
        let (sessions, state): (i64, String) = sqlx::query_as(
            "select count(*), max(state) from pg_stat_activity
             where application_name = 'stale:default'",
        )
        .fetch_one(&mut db.superuser_conn().await)
        .await
        .unwrap();
        assert_eq!((sessions, &*state), (1, "idle"), "committed: {commit}");
    }
}

fn record(name: &str) -> TenantRecord {
    TenantRecord {
        object: ObjectUid(Uuid::from_u128(0x0b)),
        name: name.to_owned(),
        display_name: name.to_owned(),
        deletion_policy: "Delete".to_owned(),
        suspend: false,
        concurrent_scans: 1,
        max_providers: 10,
        spec: serde_json::json!({}),
    }
}

#[tokio::test]
async fn only_what_is_committed_stays_and_only_its_tenant_sees_it() {
    let db = Db::new().await;
    let mut args = db.user_args();
    args.database_pool_size = 1;
    let store = Store::connect("test", &args).await.unwrap();

    let mut tx = store.tenant(A).await.unwrap();
    assert_eq!(
        tenants::upsert(&mut tx, &record("a")).await.unwrap(),
        Change::Created
    );
    drop(tx);
    let mut tx = store.tenant(A).await.unwrap();
    assert_eq!(
        tenants::upsert(&mut tx, &record("a")).await.unwrap(),
        Change::Created
    );
    assert_eq!(tx.tenant(), A);
    tx.commit().await.unwrap();

    let mut tx = store.tenant(A).await.unwrap();
    assert_eq!(
        tenants::upsert(&mut tx, &record("a")).await.unwrap(),
        Change::Unchanged
    );
    assert!(tenants::retire(&mut tx).await.unwrap());
    drop(tx);
    // The same session, another tenant: nothing of the first is there to retire.
    let mut tx = store
        .tenant_from_text(&Uuid::from_u128(0xb).to_string())
        .await
        .unwrap();
    assert!(!tenants::retire(&mut tx).await.unwrap());
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_failed_statement_leaves_the_transaction_failed_and_the_pool_usable() {
    let db = Db::new().await;
    let mut args = db.user_args();
    args.database_pool_size = 1;
    let store = Store::connect("test", &args).await.unwrap();
    let mut tx = store.tenant(A).await.unwrap();
    let mut bad = record("a");
    bad.deletion_policy = "Sometimes".to_owned();
    let error = tenants::upsert(&mut tx, &bad).await.unwrap_err();
    assert!(error.violates("tenants_deletion_policy_check"), "{error:?}");
    assert!(!error.is_transient());
    drop(tx);
    let mut tx = store.tenant(A).await.unwrap();
    tenants::upsert(&mut tx, &record("a")).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn more_callers_than_connections_wait_and_a_full_pool_is_transient() {
    let db = Db::new().await;
    let mut args = db.user_args();
    args.database_pool_size = 2;
    let store = Store::connect("test", &args).await.unwrap();
    let all = futures::future::join_all((0..50).map(|_| async {
        let mut tx = store.tenant(A).await?;
        tenants::counts(&mut tx).await?;
        tx.commit().await
    }))
    .await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");

    let _held = (
        store.tenant(A).await.unwrap(),
        store.tenant(A).await.unwrap(),
    );
    let error = store.tenant(A).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_job_leads_to_its_scan_and_an_unknown_one_to_none() {
    let db = Db::new().await;
    seed_scan(&db).await;
    let store = db.store().await;
    let found = store.scan_of_job(JOB).await.unwrap().unwrap();
    assert_eq!((found.tenant, found.attempt), (A, 3));
    let none = store
        .scan_of_job(ObjectUid(Uuid::from_u128(1)))
        .await
        .unwrap();
    assert_eq!(none, None);
}

async fn seed_scan(db: &Db) {
    run(
        &mut db.admin_conn().await,
        &format!(
            "insert into tenants (id, name) values ('{A}', 'a');
             insert into providers (tenant_id, id, provider, uid) values ('{A}', '{A}', 'aws', '123');
             insert into scans (tenant_id, id, provider_id, trigger, attempt, job_uid)
                 values ('{A}', '{A}', '{A}', 'manual', 3, '{JOB}')"
        ),
    )
    .await;
}

#[tokio::test]
async fn sessions_say_which_component_they_serve() {
    let db = Db::new().await;
    let _store = Store::connect("server", &db.user_args()).await.unwrap();
    let _admin = AdminStore::connect("controller", &db.admin_args())
        .await
        .unwrap();
    let names: Vec<String> = sqlx::query_scalar(
        "select application_name from pg_stat_activity
         where datname = current_database() and application_name like '%:%' order by 1",
    )
    .fetch_all(&mut db.superuser_conn().await)
    .await
    .unwrap();
    assert_eq!(names, ["controller:admin", "server:default"]);
}

#[tokio::test]
async fn a_server_that_goes_away_is_waited_for_and_comes_back() {
    let db = Db::alone().await;
    let store = db.store().await;
    let admin = db.admin().await;
    let mut open = store.tenant(A).await.unwrap();
    let scan = prowler_operator::domain::ids::ScanId(
        prowler_operator::domain::uuid7::datetime_to_uuid7(
            "2026-11-05T00:00:00Z".parse().unwrap(),
            1,
        )
        .unwrap(),
    );

    db.server().stop();
    for error in [
        partitions::month_exists(&mut open, scan).await.unwrap_err(),
        open.commit().await.unwrap_err(),
        store.tenant(A).await.unwrap_err(),
        store.ready().await.unwrap_err(),
        installation::read(&admin).await.unwrap_err(),
    ] {
        assert!(error.is_transient(), "{error:?}");
    }

    db.server().start_again().await;
    store.ready().await.unwrap();
    store.tenant(A).await.unwrap().commit().await.unwrap();
    installation::read(&admin).await.unwrap();
}

#[tokio::test]
async fn a_cut_session_is_transient_and_the_pool_heals() {
    let db = Db::new().await;
    let store = Store::connect("cut", &db.user_args()).await.unwrap();
    let open = store.tenant(A).await.unwrap();
    run(
        &mut db.superuser_conn().await,
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cut:default'",
    )
    .await;
    let error = open.commit().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    // Sessions that died while idle are found out by the first use at the latest.
    let mut failures = 0;
    while let Err(error) = store.ready().await {
        assert!(error.is_transient(), "{error:?}");
        failures += 1;
        assert!(failures <= 10, "the pool does not heal");
    }
}

#[tokio::test]
async fn a_primary_that_became_read_only_and_a_full_one_are_transient() {
    let db = Db::new().await;
    let admin = db.admin().await;
    let mut superuser = db.superuser_conn().await;
    run(
        &mut superuser,
        &format!(
            "alter database {} set default_transaction_read_only = on",
            db.name()
        ),
    )
    .await;
    let fresh = db.admin().await;
    let error = installation::claim(&fresh, InstallationId(Uuid::from_u128(1)))
        .await
        .unwrap_err();
    assert!(error.is_transient(), "25006: {error:?}");
    drop(admin);

    run(
        &mut superuser,
        "create role crowded login connection limit 0 in role prowler_user",
    )
    .await;
    run(
        &mut superuser,
        &format!("grant connect on database {} to crowded", db.name()),
    )
    .await;
    let error = Store::connect("test", &db::user_args(&db.url("crowded")))
        .await
        .unwrap_err();
    assert!(error.is_transient(), "53300: {error:?}");
}

/// Answers every connection's first question with this, and ends it.
async fn answering(bytes: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The driver's first question has eight bytes.
            stream.read_exact(&mut [0; 8]).await.unwrap();
            stream.write_all(bytes).await.unwrap();
        }
    });
    format!("postgres://prowler_user:s3cret@127.0.0.1:{port}/prowler")
}

#[tokio::test]
async fn a_greeting_that_is_none_says_whether_to_wait() {
    for (greeting, transient, said) in [
        // As a proxy does whose server is away.
        (
            &b""[..],
            true,
            "the connection ended before a server answered",
        ),
        // As Postgres does that cannot have one more process.
        (
            b"Ecould not fork",
            true,
            "the server takes no connection now",
        ),
        (
            b"SHTTP/1.1 400",
            true,
            "no TLS connection came about: received corrupt message",
        ),
        (
            b"HTTP/1.1 400 Bad Request",
            false,
            "what answers at its address is no Postgres server",
        ),
    ] {
        let url = answering(greeting).await;
        let error = Store::connect("test", &db::user_args(&url))
            .await
            .unwrap_err();
        assert_eq!(error.is_transient(), transient, "{error:?}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn no_error_repeats_url_password_or_row() {
    let db = Db::new().await;
    let mut errors = Vec::new();
    for url in [
        "postgres://prowler_user:s3cret@127.0.0.1:1/prowler".to_owned(),
        "postgres://prowler_user:s3cret@127.0.0.1:s3cret/prowler".to_owned(),
        "mysql://prowler_user:s3cret@127.0.0.1/prowler".to_owned(),
        "s3cret".to_owned(),
        "postgres://prowler_user:s3cret@127.0.0.1/prowler?sslmode=s3cret".to_owned(),
        "postgres://prowler_user:s3cret@s3cret.invalid/prowler".to_owned(),
        db.url("nobody:s3cret"),
    ] {
        errors.push(
            Store::connect("test", &db::user_args(&url))
                .await
                .unwrap_err(),
        );
    }
    let mut conn = db.admin_conn().await;
    for statement in [
        "select 's3cret'::uuid",
        "insert into tenants (id, name, deletion_policy) values (gen_random_uuid(), 'x', 's3cret')",
        "do $$ begin raise exception 's3cret'; end $$",
        "insert into leases (name, holder) values ('s3cret', 'a'), ('s3cret', 'b')",
        "insert into tenant_namespaces (namespace, tenant_id) values ('s3cret', gen_random_uuid())",
        "select '{s3cret'::jsonb",
    ] {
        let error = sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut conn)
            .await
            .unwrap_err();
        errors.push(StoreError::from(error));
    }
    for error in errors {
        let words = format!("{error} {error:?} {:?}", anyhow::Error::from(error.clone()));
        assert!(!words.contains("s3cret"), "{words}");
        assert!(!words.contains("postgres://p"), "{words}");
    }
}

#[tokio::test]
async fn constraints_become_conflicts_by_name() {
    let db = Db::new().await;
    let mut conn = db.admin_conn().await;
    run(
        &mut conn,
        &format!(
            "insert into tenants (id, name) values ('{A}', 'a');
             insert into providers (tenant_id, id, provider, uid)
                 values ('{A}', gen_random_uuid(), 'aws', '123456789012');
             insert into schedules (tenant_id, id, namespace, name, interval_seconds)
                 values ('{A}', gen_random_uuid(), 'a', 'nightly', 3600);
             insert into schedule_slots
                 (tenant_id, schedule_id, provider_id, due_at, scan_name, state)
                 select d.tenant_id, d.id, p.id, due_at, 'nightly-1', state
                 from schedules d, providers p,
                   (values (now(), 'claimed'), (now() - interval '1 hour', 'missed'))
                     as slots (due_at, state)"
        ),
    )
    .await;
    for (statement, constraint) in [
        (
            format!(
                "insert into providers (tenant_id, id, provider, uid)
                 values ('{A}', gen_random_uuid(), 'aws', '123456789012')"
            ),
            "unique_provider_uids",
        ),
        (
            format!(
                "insert into scans (tenant_id, id, provider_id, trigger)
                 values ('{A}', gen_random_uuid(), gen_random_uuid(), 'manual')"
            ),
            "scans_tenant_id_provider_id_fkey",
        ),
        (
            "insert into schedule_slots
                 (tenant_id, schedule_id, provider_id, due_at, scan_name, state)
                 select d.tenant_id, d.id, p.id, now() + interval '1 hour', 'nightly-1', 'claimed'
                 from schedules d, providers p"
                .to_owned(),
            "schedule_slots_scan_name",
        ),
    ] {
        let error = sqlx::query(AssertSqlSafe(statement))
            .execute(&mut conn)
            .await
            .unwrap_err();
        let error = StoreError::from(error);
        assert!(error.violates(constraint), "{error:?}");
        assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_first_installation_claims_the_database() {
    let db = Db::new().await;
    let admin = db.admin().await;
    let ids: Vec<_> = (1..=8)
        .map(|n| InstallationId(Uuid::from_u128(n)))
        .collect();
    assert_eq!(installation::read(&admin).await.unwrap(), None);
    let claims =
        futures::future::join_all(ids.iter().map(|id| installation::claim(&admin, *id))).await;
    let holder = installation::read(&admin).await.unwrap().unwrap();
    for (id, claim) in ids.iter().zip(claims) {
        let expected = if *id == holder {
            Claim::Claimed
        } else {
            Claim::Other(holder)
        };
        assert_eq!(claim.unwrap(), expected);
    }
    assert_eq!(
        installation::claim(&admin, holder).await.unwrap(),
        Claim::Claimed
    );
}

#[tokio::test]
async fn a_live_lease_is_not_taken_over_and_a_silent_one_is() {
    let db = Db::new().await;
    let admin = db.admin().await;
    assert_eq!(
        installation::renew(&admin, "one").await.unwrap(),
        Lease::Ours
    );
    assert_eq!(
        installation::renew(&admin, "one").await.unwrap(),
        Lease::Ours
    );
    assert_eq!(
        installation::live_holder(&admin).await.unwrap().as_deref(),
        Some("one")
    );
    let Lease::Other { holder, .. } = installation::renew(&admin, "two").await.unwrap() else {
        panic!("a live lease was taken");
    };
    assert_eq!(holder, "one");
    run(
        &mut db.admin_conn().await,
        "update leases set renewed_at = now() - interval '5 minutes 1 second'",
    )
    .await;
    assert_eq!(installation::live_holder(&admin).await.unwrap(), None);
    assert_eq!(
        installation::renew(&admin, "two").await.unwrap(),
        Lease::Ours
    );
    // Giving up what is another's does nothing; giving up one's own frees it at once.
    installation::release(&admin, "one").await.unwrap();
    assert_ne!(
        installation::renew(&admin, "one").await.unwrap(),
        Lease::Ours
    );
    installation::release(&admin, "two").await.unwrap();
    assert_eq!(
        installation::renew(&admin, "one").await.unwrap(),
        Lease::Ours
    );
}
