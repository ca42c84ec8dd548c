//! What the installation page tells a DBA to run is what these tests ran.

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
