//! Every rule about the database at once, for `check`: what cannot be examined is itself a
//! finding, and the rest goes on.

use jiff::Timestamp;
use sqlx::postgres::PgSslMode;
use sqlx::{ConnectOptions as _, PgConnection};

use super::isolation::{self, Finding, Severity};
use super::{SchemaState, StoreError, partitions, pool, schema};
use crate::config::database::{AdminDatabaseArgs, DatabaseUrl, UserDatabaseArgs};

/// The oldest server with `security_invoker` views.
const OLDEST_SERVER: i32 = 15;

/// What a database in production is measured by.
#[derive(Debug, Clone, Copy)]
pub struct Production {
    /// The present time, which decides the present month.
    pub now: Timestamp,
    /// Months of partitions that must be there beyond the present one.
    pub months_ahead: u32,
}

/// Connects with each URL and lists what was found, errors first.
///
/// `production` adds what only matters there. Never fails: an unreachable database is the
/// finding.
pub async fn run(
    user: &UserDatabaseArgs,
    admin: Option<&AdminDatabaseArgs>,
    production: Option<&Production>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let urls = [
        ("DATABASE_URL", Some(&user.database_url), Duty::User),
        (
            "DATABASE_REPLICA_URL",
            user.database_replica_url.as_ref(),
            Duty::Replica,
        ),
        (
            "DATABASE_ADMIN_URL",
            admin.map(|admin| &admin.database_admin_url),
            Duty::Admin,
        ),
        (
            "DATABASE_ADMIN_REPLICA_URL",
            admin.and_then(|admin| admin.database_admin_replica_url.as_ref()),
            Duty::Admin,
        ),
    ];
    for (variable, url, duty) in urls {
        let Some(url) = url else { continue };
        if production.is_some() {
            findings.extend(unverified(url, variable));
        }
        match examine(url, duty, production).await {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(Finding {
                severity: Severity::Error,
                object: variable.to_owned(),
                sentence: format!("It could not be examined: {error}."),
            }),
        }
    }
    findings.sort_by(|a, b| (b.severity, &a.object).cmp(&(a.severity, &b.object)));
    findings.dedup();
    findings
}

/// What a URL is for, and so what is examined through it.
#[derive(Clone, Copy)]
enum Duty {
    User,
    Replica,
    Admin,
}

async fn examine(
    url: &DatabaseUrl,
    duty: Duty,
    production: Option<&Production>,
) -> Result<Vec<Finding>, StoreError> {
    let mut conn = pool::options(url, "check", "check")?.connect().await?;
    let mut findings = version(&mut conn).await?;
    match duty {
        Duty::User => {
            findings.extend(isolation::examine_role(&mut conn).await?);
            match schema::state(&mut conn).await? {
                SchemaState::Fits => {
                    if let Some(production) = production {
                        findings.extend(months(&mut conn, production).await?);
                    }
                }
                other => findings.push(error("schema prowler", other.to_string())),
            }
            findings.extend(isolation::examine_schema(&mut conn).await?);
        }
        Duty::Replica => findings.extend(isolation::examine_role(&mut conn).await?),
        Duty::Admin => findings.extend(isolation::examine_admin(&mut conn).await?),
    }
    if production.is_some() {
        findings.extend(durability(&mut conn).await?);
    }
    Ok(findings)
}

fn error(object: &str, sentence: String) -> Finding {
    Finding {
        severity: Severity::Error,
        object: object.to_owned(),
        sentence,
    }
}

fn warning(object: &str, sentence: String) -> Finding {
    Finding {
        severity: Severity::Warning,
        object: object.to_owned(),
        sentence,
    }
}

/// That whoever is on the way can read what travels, or be taken for the database. A connection
/// that stays on the machine has nobody on the way: a proxy there has the encryption to see to.
fn unverified(url: &DatabaseUrl, variable: &str) -> Option<Finding> {
    // A URL that cannot be read is told by who connects with it.
    let options = pool::options(url, "check", "check").ok()?;
    let host = options.get_host();
    let local = host == "localhost" || host == "::1" || host.starts_with("127.");
    if local || host.starts_with('/') || options.get_socket().is_some() {
        return None;
    }
    let (mode, risk) = match options.get_ssl_mode() {
        PgSslMode::Disable => ("disable", "passwords and findings travel unencrypted"),
        PgSslMode::Allow => ("allow", "passwords and findings may travel unencrypted"),
        PgSslMode::Prefer => ("prefer", "passwords and findings may travel unencrypted"),
        PgSslMode::Require => ("require", "whoever is on the way can pose as the database"),
        PgSslMode::VerifyCa => (
            "verify-ca",
            "every host with a certificate of that CA can pose as the database",
        ),
        PgSslMode::VerifyFull => return None,
    };
    Some(warning(
        variable,
        format!(
            "With sslmode={mode} {risk}. Put sslmode=verify-full and, for a CA of your own, \
             sslrootcert=<its file> into the URL."
        ),
    ))
}

/// That findings have a month to go to, now and when the month turns.
async fn months(
    conn: &mut PgConnection,
    production: &Production,
) -> Result<Vec<Finding>, StoreError> {
    let wanted = production.months_ahead;
    let there = partitions::months_from(conn, production.now, wanted + 1).await?;
    let cure = "The controller makes them once an hour: look into its log, for one that cannot \
                reach the database as prowler_admin.";
    Ok(match there {
        0 => vec![error(
            "partitions",
            format!("There is no month for findings of today: uploads wait. {cure}"),
        )],
        there if there <= wanted => vec![warning(
            "partitions",
            format!(
                "Months for findings beyond the present one: {}, where partitions.monthsAhead \
                 asks for {wanted}. {cure}",
                there - 1
            ),
        )],
        _ => Vec::new(),
    })
}

async fn version(conn: &mut PgConnection) -> Result<Vec<Finding>, StoreError> {
    let version = sqlx::query_scalar!(
        r#"select current_setting('server_version_num')::integer / 10000 as "version!""#
    )
    .fetch_one(conn)
    .await?;
    if version >= OLDEST_SERVER {
        return Ok(Vec::new());
    }
    Ok(vec![error(
        "server",
        format!(
            "PostgreSQL {version} has no security_invoker views, without which views would show \
             every tenant's rows. Use PostgreSQL {OLDEST_SERVER} or newer."
        ),
    )])
}

/// What a throwaway database may lack and a production one may not.
async fn durability(conn: &mut PgConnection) -> Result<Vec<Finding>, StoreError> {
    let off = sqlx::query_scalar!(
        r#"select name::text as "name!" from pg_settings
           where name in ('fsync', 'full_page_writes', 'synchronous_commit') and setting = 'off'
           order by name"#
    )
    .fetch_all(conn)
    .await?;
    let sentence = "It is off: committed findings may be lost when the server crashes. Turn it on.";
    Ok(off
        .iter()
        .map(|setting| warning(setting, sentence.to_owned()))
        .collect())
}
