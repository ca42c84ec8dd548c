//! What the installation page tells a DBA to run is what these tests ran, and what other pages tell
//! somebody to ask is understood.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::db::Db;

#[test]
fn the_installation_page_shows_the_sql_that_the_harness_executes() {
    let page = include_str!("../../docs/install.md");
    for file in [
        include_str!("../../hack/roles.sql"),
        include_str!("../../hack/grants.sql"),
    ] {
        assert!(
            page.contains(&format!("```sql\n{file}```")),
            "docs/install.md differs from:\n{file}"
        );
    }
}

#[tokio::test]
async fn every_question_that_a_page_asks_is_understood() {
    let db = Db::new().await;
    // As somebody with psql: the schema is not on the path.
    let mut conn = PgConnection::connect(&db.admin_url()).await.unwrap();
    let mut asked = 0;
    for page in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap() {
        let path = page.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for block in text.split("```sql\n-- as prowler_admin").skip(1) {
            let (question, _) = block.split_once("```").unwrap();
            let sql = AssertSqlSafe(format!("--{question}"));
            let answer = sqlx::query(sql).fetch_all(&mut conn).await;
            assert!(answer.is_ok(), "{}: {answer:?}", path.display());
            asked += 1;
        }
    }
    assert!(asked >= 2, "{asked}");
}
