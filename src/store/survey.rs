//! Every rule about the database at once, for `check`: what cannot be examined is itself a
//! finding, and the rest goes on.

use sqlx::{ConnectOptions as _, PgConnection};

use super::isolation::{self, Finding, Severity};
use super::{SchemaState, StoreError, pool, schema};
use crate::config::database::{AdminDatabaseArgs, DatabaseUrl, UserDatabaseArgs};

/// The oldest server with `security_invoker` views.
const OLDEST_SERVER: i32 = 15;

/// Connects with each URL and lists what was found, errors first.
///
/// `deploy` adds what only matters in production. Never fails: an unreachable database is the
/// finding.
pub async fn run(
    user: &UserDatabaseArgs,
    admin: Option<&AdminDatabaseArgs>,
    deploy: bool,
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
        match examine(url, duty, deploy).await {
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

async fn examine(url: &DatabaseUrl, duty: Duty, deploy: bool) -> Result<Vec<Finding>, StoreError> {
    let mut conn = pool::options(url, "check", "check")?.connect().await?;
    let mut findings = version(&mut conn).await?;
    match duty {
        Duty::User => {
            findings.extend(isolation::examine_role(&mut conn).await?);
            match schema::state(&mut conn).await? {
                SchemaState::Fits => {}
                other => findings.push(error("schema prowler", other.to_string())),
            }
            findings.extend(isolation::examine_schema(&mut conn).await?);
        }
        Duty::Replica => findings.extend(isolation::examine_role(&mut conn).await?),
        Duty::Admin => findings.extend(isolation::examine_admin(&mut conn).await?),
    }
    if deploy {
        findings.extend(deployment(&mut conn).await?);
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
async fn deployment(conn: &mut PgConnection) -> Result<Vec<Finding>, StoreError> {
    let found = sqlx::query!(
        r#"select coalesce((select s.ssl from pg_stat_ssl s where s.pid = pg_backend_pid()), false)
                      as "encrypted!",
                  inet_client_addr() is null
                      or inet_client_addr() <<= '127.0.0.0/8' or inet_client_addr() = '::1'
                      as "local!",
                  array(select name::text from pg_settings
                        where name in ('fsync', 'full_page_writes', 'synchronous_commit')
                          and setting = 'off' order by name) as "off!""#
    )
    .fetch_one(conn)
    .await?;
    let mut findings = Vec::new();
    let mut warn = |object: &str, sentence: &str| {
        findings.push(Finding {
            severity: Severity::Warning,
            object: object.to_owned(),
            sentence: sentence.to_owned(),
        });
    };
    if !found.encrypted && !found.local {
        warn(
            "connection",
            "Passwords and findings travel unencrypted. Add ?sslmode=verify-full and the \
             server's CA to the database URLs.",
        );
    }
    for setting in found.off {
        warn(
            &setting,
            "It is off: committed findings may be lost when the server crashes. Turn it on.",
        );
    }
    Ok(findings)
}
