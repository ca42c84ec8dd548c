//! What must be true of role and catalogue for tenants to be kept apart.
//!
//! One list of findings with three readers: start-up refuses on an error, `check` prints all
//! of them, and the catalogue test demands that there are none. What is allowed to differ
//! from a tenant table is a closed list here, so that an exception is a diff in this file.

pub mod canary;
mod catalogue;
mod lists;
mod rules;

use std::fmt;

use sqlx::PgConnection;

use super::StoreError;

/// The role that is bound by row security.
pub const USER: &str = "prowler_user";
/// The role that owns schema `prowler`.
pub const ADMIN: &str = "prowler_admin";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Not as designed, yet tenants are kept apart.
    Warning,
    /// Tenants are not kept apart, or may not be: the program does not start.
    Error,
}

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// The role, table, view, index or function concerned.
    pub object: String,
    /// What is wrong and what to do, as sentences.
    pub sentence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.sentence)
    }
}

/// What is unsafe about the role of this connection, taken for `prowler_user`.
pub async fn examine_role(conn: &mut PgConnection) -> Result<Vec<Finding>, StoreError> {
    Ok(rules::role(&catalogue::reachable_roles(conn).await?))
}

/// What is wrong about the role of this connection, taken for `prowler_admin`.
pub async fn examine_admin(conn: &mut PgConnection) -> Result<Vec<Finding>, StoreError> {
    Ok(rules::admin(&catalogue::reachable_roles(conn).await?))
}

/// What is wrong with schema `prowler`: tables, partitions, views, functions, grants, indexes
/// and references.
pub async fn examine_schema(conn: &mut PgConnection) -> Result<Vec<Finding>, StoreError> {
    let relations = catalogue::relations(conn).await?;
    let grants = catalogue::grants(conn).await?;
    let mut findings = rules::relations(&relations);
    findings.extend(rules::policies(
        &relations,
        &catalogue::policies(conn).await?,
        &grants,
    ));
    findings.extend(rules::grants(&grants));
    findings.extend(rules::functions(&catalogue::functions(conn).await?));
    findings.extend(rules::indexes(&catalogue::indexes(conn).await?));
    findings.extend(rules::references(&catalogue::references(conn).await?));
    findings.sort_by(|a, b| (b.severity, &a.object).cmp(&(a.severity, &b.object)));
    Ok(findings)
}

/// Refuses a role under which row security would not hold; `variable` is where its URL came from.
pub(super) async fn refuse_unsafe_role(
    conn: &mut PgConnection,
    variable: &str,
) -> Result<(), StoreError> {
    refuse(examine_role(conn).await?, &format!("{variable} is unsafe"))
}

/// Refuses an admin connection that is not the schema's owner.
pub(super) async fn refuse_wrong_admin(conn: &mut PgConnection) -> Result<(), StoreError> {
    refuse(
        examine_admin(conn).await?,
        "DATABASE_ADMIN_URL cannot be used",
    )
}

/// Refuses a schema in which some table would not keep tenants apart.
pub(super) async fn refuse_unsafe_schema(conn: &mut PgConnection) -> Result<(), StoreError> {
    refuse(
        examine_schema(conn).await?,
        "The database does not keep tenants apart",
    )
}

fn refuse(findings: Vec<Finding>, what: &str) -> Result<(), StoreError> {
    let mut errors = findings
        .into_iter()
        .filter(|finding| finding.severity == Severity::Error);
    let Some(first) = errors.next() else {
        return Ok(());
    };
    let more = match errors.count() {
        0 => String::new(),
        more => format!(" (and {more} more: run `prowler-operator check`)"),
    };
    Err(StoreError::Refused(format!("{what}: {first}{more}")))
}
