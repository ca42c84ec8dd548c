//! `check` lists everything at once and never stops at the first.

use prowler_operator::check::exit_code;
use prowler_operator::store::isolation::Severity;
use prowler_operator::store::survey;

use crate::support::db::{self, Db, run};

#[tokio::test]
async fn a_sound_installation_has_nothing_to_list() {
    let db = Db::new().await;
    let found = survey::run(&db.user_args(), Some(&db.admin_args()), false).await;
    assert_eq!(found, []);
}

#[tokio::test]
async fn all_breaches_are_listed_errors_first() {
    let db = Db::new().await;
    run(
        &mut db.admin_conn().await,
        "alter table scans no force row level security;
         create index on providers (alias);
         grant select on leases to prowler_user;",
    )
    .await;
    let found = survey::run(&db.user_args(), Some(&db.admin_args()), false).await;
    let list: Vec<_> = found
        .iter()
        .map(|finding| (finding.severity, finding.object.as_str()))
        .collect();
    assert_eq!(
        list,
        [
            (Severity::Error, "leases"),
            (Severity::Error, "scans"),
            (Severity::Warning, "providers_alias_idx"),
        ]
    );
    assert_eq!(exit_code(&found), 2);
}

#[tokio::test]
async fn what_cannot_be_reached_is_a_finding_and_the_rest_goes_on() {
    let db = Db::empty().await;
    let nowhere = db::admin_args("postgres://prowler_admin:s3cret@127.0.0.1:1/prowler");
    let found = survey::run(&db.user_args(), Some(&nowhere), false).await;
    let objects: Vec<_> = found
        .iter()
        .map(|finding| finding.object.as_str())
        .collect();
    assert_eq!(objects, ["DATABASE_ADMIN_URL", "schema prowler"]);
    assert!(!format!("{found:?}").contains("s3cret"));
}

#[tokio::test]
async fn production_asks_for_durability() {
    // The tests' server runs without fsync.
    let db = Db::new().await;
    let found = survey::run(&db.user_args(), None, true).await;
    let objects: Vec<_> = found
        .iter()
        .map(|finding| finding.object.as_str())
        .collect();
    assert_eq!(objects, ["fsync", "full_page_writes"]);
    assert_eq!(exit_code(&found), 1);
}

/// The binary itself, as a person or a pipeline runs it.
fn program(db: &Db, args: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_prowler-operator"))
        .args(args)
        .env("DATABASE_URL", db.user_url())
        .env("DATABASE_ADMIN_URL", db.admin_url())
        .output()
        .unwrap()
}

#[tokio::test]
async fn the_command_answers_with_exit_code_and_json() {
    let db = Db::new().await;
    let sound = program(&db, &["check"]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    assert_eq!(sound.stdout, b"nothing found\n");

    run(
        &mut db.admin_conn().await,
        "create index on providers (alias)",
    )
    .await;
    assert_eq!(program(&db, &["check"]).status.code(), Some(1));

    run(
        &mut db.admin_conn().await,
        "drop policy scans_select on scans",
    )
    .await;
    let unsafe_schema = program(&db, &["check", "--output", "json"]);
    assert_eq!(unsafe_schema.status.code(), Some(2));
    let list: serde_json::Value = serde_json::from_slice(&unsafe_schema.stdout).unwrap();
    assert_eq!(list["findings"][0]["severity"], "error");
    assert_eq!(list["findings"][0]["object"], "scans");
}

#[tokio::test]
async fn without_the_admin_url_the_rest_is_examined() {
    let db = Db::new().await;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_prowler-operator"))
        .arg("check")
        .env("DATABASE_URL", db.user_url())
        .env_remove("DATABASE_ADMIN_URL")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_url_that_cannot_be_read_is_not_repeated() {
    for url in [
        "s3cret",
        "mysql://u:s3cret@h/db",
        "postgres://u:s3cret@h:s3cret/db",
    ] {
        for command in ["check", "migrate"] {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_prowler-operator"))
                .arg(command)
                .env("DATABASE_URL", url)
                .env("DATABASE_ADMIN_URL", url)
                .output()
                .unwrap();
            assert_ne!(output.status.code(), Some(0));
            let words = format!("{output:?}");
            assert!(words.contains("expected postgres://user"), "{words}");
            assert!(!words.contains("s3cret"), "{words}");
        }
    }
}

#[tokio::test]
async fn migrate_says_in_a_sentence_why_it_did_nothing() {
    let db = Db::empty().await;
    for _ in 0..2 {
        let done = program(&db, &["migrate"]);
        assert!(done.status.success(), "{done:?}");
    }
    run(
        &mut db.admin_conn().await,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'from the future', true, '', 0)",
    )
    .await;
    let refused = program(&db, &["migrate"]);
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(
        words.contains("newer than this program (it has migration 9999)"),
        "{words}"
    );
    assert!(!words.contains("change-me"), "{words}");
}
