//! The canary: tries, as `prowler_user`, to reach rows that it must not, in every tenant table,
//! partition and view there is.
//!
//! [`rules`](super::rules) judge what the catalogue says; this asks Postgres itself, while the
//! program runs. It does no harm, not even where a wall is down: each try is a transaction of
//! its own that is rolled back, and fails at the first row that a policy lets it have, by a
//! division by zero or a null where none may be, before that row is locked. Nothing waits long
//! for a lock.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use super::catalogue::{self, Target};
use crate::store::{AdminStore, Store, StoreError};

/// A tenant that there can never be: the ids of tenants are of version 5.
const NOBODY: Uuid = Uuid::max();
/// Another one, for rows that must go nowhere.
const NOBODY_ELSE: Uuid = Uuid::from_u128(u128::MAX - 1);

/// All tries together take less than a second; a database that takes this long has a trouble of
/// its own.
const PATIENCE: Duration = Duration::from_mins(1);

/// Limits of each try. Without sequential scans the tenant's index answers that there is
/// nothing, however many rows there are.
const LIMITS: &str = "set statement_timeout = '2s'; set lock_timeout = '100ms'; \
                      set idle_in_transaction_session_timeout = '10s'; set enable_seqscan = off";

/// True of no row, because it fails at the first one. Random, so that it is not computed before.
const TRIPWIRE: &str = "1 / (random() * 0)::integer > 0";

/// How a session stood when it tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// It has never named a tenant.
    Absent,
    /// It names the empty string, as a pooled connection does after a transaction.
    Empty,
    /// It names a tenant that does not exist: every row is somebody else's.
    Nobody,
    /// It names a tenant, and aims at a row of another.
    Another,
    /// It names the owner of a row, and makes the row another tenant's.
    Owner,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "with no tenant set",
            Self::Empty => "with an empty tenant set",
            Self::Nobody => "as a tenant that does not exist",
            Self::Another => "as another tenant",
            Self::Owner => "to make a row another tenant's",
        })
    }
}

/// A way past the wall. Names neither tenants nor rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// Table, partition or view.
    pub relation: String,
    /// `select`, `insert`, `update` or `delete`.
    pub command: &'static str,
    /// What was set.
    pub setting: Setting,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} {}", self.command, self.relation, self.setting)
    }
}

/// What the tries found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many tries came to an end.
    pub tries: usize,
    /// Those that reached a row, in the order of the tables' names.
    pub breaches: Vec<Breach>,
}

/// Tries everything once. An error means that nobody knows: something could not be tried, and
/// what could be held.
pub async fn probe(store: &Store, admin: &AdminStore) -> Result<Findings, StoreError> {
    // Dropped half way, the connection closes, and the server rolls back.
    tokio::time::timeout(PATIENCE, try_everything(store, admin))
        .await
        .unwrap_or_else(|_| {
            let seconds = PATIENCE.as_secs();
            let message = format!("the isolation canary was not done after {seconds} s");
            Err(StoreError::Unavailable(message))
        })
}

async fn try_everything(store: &Store, admin: &AdminStore) -> Result<Findings, StoreError> {
    // A connection of its own: only one that has never named a tenant has no setting at all.
    let mut conn = PgConnection::connect_with(&store.pool.connect_options()).await?;
    let targets = catalogue::targets(&mut conn).await?;
    let aims = aims(admin, &targets).await?;
    run(&mut conn, LIMITS).await?;
    let mut tries = Tries {
        conn,
        found: Findings::default(),
        failed: None,
    };
    let nobody = NOBODY;
    for (setting, statement) in [
        (Setting::Absent, None),
        (Setting::Empty, Some("set api.tenant_id = ''".to_owned())),
        (
            Setting::Nobody,
            Some(format!("set api.tenant_id = '{nobody}'")),
        ),
    ] {
        if let Some(statement) = statement {
            run(&mut tries.conn, &statement).await?;
        }
        for target in &targets {
            for (command, statement) in unaimed(target) {
                tries.make(target, setting, command, "", &statement).await?;
            }
        }
    }
    for (target, aim) in targets
        .iter()
        .filter_map(|target| Some((target, aims.get(&target.place)?)))
    {
        for (setting, command, statement) in aimed(target, aim) {
            let of = match setting {
                Setting::Owner => aim.owner,
                _ => aim.other,
            };
            let set = format!("set local api.tenant_id = '{of}';");
            tries
                .make(target, setting, command, &set, &statement)
                .await?;
        }
    }
    let Tries {
        conn,
        mut found,
        failed,
    } = tries;
    // Whatever becomes of it: the answer is there.
    let _ = conn.close().await;
    found.breaches.sort_by(|a, b| a.relation.cmp(&b.relation));
    match failed {
        Some(error) if found.breaches.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// Whose rows to aim at, and a tenant whose they are not.
struct Aim {
    owner: Uuid,
    other: Uuid,
}

/// Somebody who has rows, for each table that has any. As the owner of the schema: nobody else
/// can see what there is to aim at.
async fn aims(admin: &AdminStore, targets: &[Target]) -> Result<HashMap<String, Aim>, StoreError> {
    let mut tx = admin.begin().await?;
    run(
        tx.conn(),
        "set local statement_timeout = '10s'; set local lock_timeout = '1s'",
    )
    .await?;
    let tenants: Vec<Uuid> =
        sqlx::query_scalar!("select id from tenants order by random() limit 2")
            .fetch_all(tx.conn())
            .await?;
    let queries: Vec<_> = targets
        .iter()
        .filter_map(|target| {
            let (place, key) = (&target.place, target.key.as_ref()?);
            Some(format!(
                "(select '{}' as place, {key} as owner from {place} limit 1)",
                place.replace('\'', "''")
            ))
        })
        .collect();
    if queries.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(String, Uuid)> = sqlx::query_as(AssertSqlSafe(queries.join(" union all ")))
        .fetch_all(tx.conn())
        .await?;
    Ok(rows
        .into_iter()
        .map(|(place, owner)| {
            let other = tenants.iter().find(|tenant| **tenant != owner);
            // Where there is but one tenant, one that might come.
            let other = other.copied().unwrap_or(NOBODY_ELSE);
            (place, Aim { owner, other })
        })
        .collect())
}

/// What must find or change nothing where every row is somebody else's.
fn unaimed(target: &Target) -> Vec<(&'static str, String)> {
    let place = &target.place;
    let mut statements = vec![("select", format!("select 1 from {place} limit 1"))];
    let Some(key) = &target.key else {
        return statements;
    };
    let fresh = NOBODY_ELSE;
    // No column is named in the condition, so that the policies for select do not help.
    statements.extend([
        (
            "update",
            format!("update {place} set {key} = '{fresh}' where {TRIPWIRE}"),
        ),
        ("delete", format!("delete from {place} where {TRIPWIRE}")),
    ]);
    statements.extend(insert(target, key, fresh));
    statements
}

/// What must not reach a row of another tenant, for a tenant that exists.
fn aimed(target: &Target, aim: &Aim) -> Vec<(Setting, &'static str, String)> {
    let Some(key) = &target.key else {
        return Vec::new();
    };
    let place = &target.place;
    let Aim { owner, other } = aim;
    // The tenant's own rows must not trip: the order of two conditions is the planner's to
    // choose, that of a case is not.
    let theirs =
        format!("{key} = '{owner}' and case when {key} = '{owner}' then {TRIPWIRE} else false end");
    let mut statements = vec![
        (
            Setting::Another,
            "select",
            format!("select 1 from {place} where {key} = '{owner}' limit 1"),
        ),
        (
            Setting::Another,
            "update",
            format!("update {place} set {key} = '{other}' where {theirs}"),
        ),
        (
            Setting::Another,
            "delete",
            format!("delete from {place} where {theirs}"),
        ),
    ];
    if let Some(required) = &target.required {
        // Without a condition: one that names a column has the policies for select look at the
        // new row too.
        statements.push((
            Setting::Owner,
            "update",
            format!("update {place} set {key} = '{other}', {required} = null"),
        ));
    }
    statements.extend(
        insert(target, key, *owner)
            .into_iter()
            .map(|(command, statement)| (Setting::Another, command, statement)),
    );
    statements
}

/// A row of nothing but its tenant: policies are asked before all constraints, and where they
/// say yes the constraints say no. A partitioned table wants to know the partition first.
fn insert(target: &Target, key: &str, tenant: Uuid) -> Option<(&'static str, String)> {
    let place = &target.place;
    let statement = match (target.kind.as_str(), &target.route, &target.bound) {
        ("p", Some(route), Some(bound)) => {
            format!("insert into {place} ({key}, {route}) values ('{tenant}', '{bound}')")
        }
        // Without a partition there is nowhere to insert to.
        ("p", ..) => return None,
        _ => format!("insert into {place} ({key}) values ('{tenant}')"),
    };
    Some(("insert", statement))
}

struct Tries {
    conn: PgConnection,
    found: Findings,
    /// The first try that came to no end.
    failed: Option<StoreError>,
}

impl Tries {
    /// Makes one try. An error means that no further one can be made.
    async fn make(
        &mut self,
        target: &Target,
        setting: Setting,
        command: &'static str,
        set: &str,
        statement: &str,
    ) -> Result<(), StoreError> {
        // One round trip. Rows and counts add up over the statements, and only one has any.
        let tried = run(
            &mut self.conn,
            &format!("begin; {set} {statement}; rollback"),
        )
        .await;
        if tried.is_err() {
            // Fails too if the connection is gone, and then nothing is left to roll back.
            run(&mut self.conn, "rollback").await?;
        }
        match reached(command, tried) {
            Ok(reached) => {
                self.found.tries += 1;
                if reached {
                    self.found.breaches.push(Breach {
                        relation: target.name.clone(),
                        command,
                        setting,
                    });
                }
            }
            // Others go on: one table that is locked must not hide what is wrong with another.
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
        Ok(())
    }
}

/// Whether a try reached a row that it must not reach.
fn reached(command: &str, tried: Result<u64, sqlx::Error>) -> Result<bool, StoreError> {
    let error = match tried {
        Ok(rows) => return Ok(rows > 0),
        Err(error) => error,
    };
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .unwrap_or_default();
    match (&*code, command) {
        // A policy or a privilege refused; or the table went meanwhile.
        ("42501" | "42P01", _) => Ok(false),
        ("22012", "update" | "delete") => Ok(true),
        // No policy refused: constraints are looked at later.
        (code, "insert" | "update") if code.starts_with("23") => Ok(true),
        _ => Err(error.into()),
    }
}

/// Runs statements made here; answers the rows they found or changed.
async fn run(conn: &mut PgConnection, statements: &str) -> Result<u64, sqlx::Error> {
    let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}
