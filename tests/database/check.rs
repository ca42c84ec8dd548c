//! `check` lists everything at once and never stops at the first.

use jiff::Timestamp;
use prowler_operator::check::exit_code;
use prowler_operator::config::check::FailOn;
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::store::isolation::{Finding, Severity};
use prowler_operator::store::partitions;
use prowler_operator::store::survey::{self, Production};

use crate::support::db::{self, Db, run};

fn production(now: &str) -> Production {
    Production {
        now: now.parse().unwrap(),
        months_ahead: 2,
    }
}

/// Severity and object of each finding.
fn objects(found: &[Finding]) -> Vec<(Severity, &str)> {
    found
        .iter()
        .map(|finding| (finding.severity, finding.object.as_str()))
        .collect()
}

#[tokio::test]
async fn a_sound_installation_has_nothing_to_list() {
    let db = Db::new().await;
    let found = survey::run(&db.user_args(), Some(&db.admin_args()), None).await;
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
    let found = survey::run(&db.user_args(), Some(&db.admin_args()), None).await;
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
    assert_eq!(exit_code(&found, FailOn::Warning), 2);
}

#[tokio::test]
async fn what_cannot_be_reached_is_a_finding_and_the_rest_goes_on() {
    let db = Db::empty().await;
    let nowhere = db::admin_args("postgres://prowler_admin:s3cret@127.0.0.1:1/prowler");
    let found = survey::run(&db.user_args(), Some(&nowhere), None).await;
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
    let now = "2026-11-15T00:00:00Z";
    made_from(&db, now, 3).await;
    let found = survey::run(&db.user_args(), None, Some(&production(now))).await;
    assert_eq!(
        objects(&found),
        [
            (Severity::Warning, "fsync"),
            (Severity::Warning, "full_page_writes"),
        ]
    );
    assert_eq!(exit_code(&found, FailOn::Warning), 1);
    assert_eq!(exit_code(&found, FailOn::Error), 0);

    let durable = Db::durable().await;
    made_from(&durable, now, 3).await;
    let found = survey::run(&durable.user_args(), None, Some(&production(now))).await;
    assert_eq!(found, []);
}

async fn made_from(db: &Db, from: &str, months: u32) {
    let from: Timestamp = from.parse().unwrap();
    partitions::ensure_months(&db.admin().await, from, months)
        .await
        .unwrap();
}

#[tokio::test]
async fn production_asks_for_months_ahead() {
    let db = Db::new().await;
    let partitions = async |now: &str| -> Vec<(Severity, String)> {
        let found = survey::run(&db.user_args(), None, Some(&production(now))).await;
        found
            .into_iter()
            .filter(|finding| finding.object == "partitions")
            .map(|finding| (finding.severity, finding.sentence))
            .collect()
    };
    let none = partitions("2026-11-15T00:00:00Z").await;
    assert_eq!(none[0].0, Severity::Error);
    assert!(
        none[0]
            .1
            .starts_with("There is no month for findings of today")
    );

    // November, December, January.
    made_from(&db, "2026-11-15T00:00:00Z", 3).await;
    assert_eq!(partitions("2026-11-15T00:00:00Z").await, []);
    assert_eq!(partitions("2026-11-30T23:59:59Z").await, []);
    let fewer = partitions("2026-12-01T00:00:00Z").await;
    assert_eq!(fewer[0].0, Severity::Warning);
    assert!(
        fewer[0].1.starts_with(
            "Months for findings beyond the present one: 1, where partitions.monthsAhead asks for 2."
        ),
        "{fewer:?}"
    );
    assert_eq!(partitions("2027-01-31T00:00:00Z").await.len(), 1);
    assert_eq!(
        partitions("2027-02-01T00:00:00Z").await[0].0,
        Severity::Error
    );

    // A month counts when both of its tables are there, and only without a gap before it.
    run(
        &mut db.admin_conn().await,
        "alter table resource_finding_mappings
         detach partition resource_finding_mappings_2026_dec",
    )
    .await;
    let gap = partitions("2026-11-15T00:00:00Z").await;
    assert!(gap[0].1.contains("beyond the present one: 0,"), "{gap:?}");
}

#[tokio::test]
async fn production_asks_that_the_database_is_verified() {
    // Nobody listens there: what the URL says is found all the same.
    let warned = async |url: &str| -> Vec<String> {
        let now = production("2026-11-15T00:00:00Z");
        let found = survey::run(&db::user_args(url), None, Some(&now)).await;
        let words = format!("{found:?}");
        assert!(!words.contains("s3cret"), "{words}");
        found
            .into_iter()
            .filter(|finding| finding.severity == Severity::Warning)
            .map(|finding| format!("{}: {}", finding.object, finding.sentence))
            .collect()
    };
    let host = "postgres://prowler_user:s3cret@192.0.2.1:1/prowler?connect_timeout=1";
    for (mode, risk) in [
        ("", "With sslmode=prefer passwords and findings may travel"),
        (
            "&sslmode=disable",
            "With sslmode=disable passwords and findings travel",
        ),
        (
            "&sslmode=allow",
            "With sslmode=allow passwords and findings may travel",
        ),
        (
            "&sslmode=require",
            "With sslmode=require whoever is on the way",
        ),
        ("&sslmode=verify-ca", "With sslmode=verify-ca every host"),
    ] {
        let found = warned(&format!("{host}{mode}")).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("DATABASE_URL: {risk}")),
            "{found:?}"
        );
    }
    assert_eq!(
        warned(&format!("{host}&sslmode=verify-full")).await,
        [""; 0]
    );
    // On the machine itself there is nobody on the way.
    for local in ["127.0.0.1:1", "localhost:1"] {
        let url = format!("postgres://prowler_user:s3cret@{local}/prowler");
        assert_eq!(warned(&url).await, [""; 0]);
    }
    // Without `--deploy` nobody asks.
    let found = survey::run(&db::user_args(host), None, None).await;
    assert_eq!(objects(&found), [(Severity::Error, "DATABASE_URL")]);
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
    // Errors fail whatever the caller asks for.
    let lenient = program(&db, &["check", "--fail-on", "error"]);
    assert_eq!(lenient.status.code(), Some(2));
}

#[tokio::test]
async fn without_a_cluster_the_database_is_examined_and_the_rest_is_told() {
    let db = Db::new().await;
    made_from(&db, &SystemClock.now().to_string(), 4).await;
    let check = |args: &[&str]| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_prowler-operator"));
        program
            .args(["check", "--deploy", "--output", "json"])
            .args(args)
            .env("DATABASE_URL", db.user_url())
            .env_remove("KUBECONFIG")
            .env_remove("KUBERNETES_SERVICE_HOST")
            // No kubeconfig of whoever runs the tests.
            .env("HOME", "/nonexistent");
        let output = program.output().unwrap();
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let objects: Vec<_> = list["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["object"].as_str().unwrap().to_owned())
            .collect();
        (output.status.code(), objects, list)
    };
    let (code, objects, list) = check(&[]);
    assert_eq!(objects, ["cluster", "fsync", "full_page_writes"]);
    assert_eq!(code, Some(1));
    let told = list["findings"][0]["message"].as_str().unwrap();
    assert!(
        told.starts_with(
            "It could not be examined: there is neither a kubeconfig nor a ServiceAccount of a pod."
        ),
        "{told}"
    );
    assert_eq!(check(&["--fail-on", "error"]).0, Some(0));

    // A configuration file is examined without a cluster; what it asks for is what counts.
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "{scanner: {image: x, allowedImages: [y/*]}, upload: {image: z}, partitions: {monthsAhead: 9}}";
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let (_, objects, _) = check(&["--config", path]);
    for expected in ["image x", "image z", "partitions", "scanner.allowedImages"] {
        assert!(
            objects.iter().any(|object| object == expected),
            "{objects:?}"
        );
    }
    std::fs::write(file.path(), "{scanner: {picture: x}}").unwrap();
    let (code, objects, list) = check(&["--config", path]);
    assert_eq!((code, &*objects[0]), (Some(2), path));
    assert!(list.to_string().contains("picture"), "{list}");
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
