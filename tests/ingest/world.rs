//! A tenant with an account, scans that run, and what the tables say afterwards.

use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, TenantId};
use prowler_operator::ingest::spool::{Encoding, Limits, Spool};
use prowler_operator::ingest::{self, Outcome};
use prowler_operator::store::publication::Attempt;
use prowler_operator::store::{Store, partitions};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, FromRow, PgConnection};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::support::db::Db;

pub const LIMITS: Limits = Limits {
    body: 64 << 20,
    spool: 256 << 20,
    file: 1 << 30,
    record: 1 << 20,
};

/// An account of a tenant.
pub struct World {
    pub db: Db,
    pub store: Store,
    pub tenant: TenantId,
    pub provider: ProviderId,
    pub namespace: String,
    spool: Spool,
    /// The schema's owner, kept: to connect takes longer than most of what is asked.
    owner: Mutex<Option<PgConnection>>,
    _dir: tempfile::TempDir,
}

impl World {
    /// An AWS account with the uid of the generated records.
    pub async fn new() -> Self {
        Self::on(Db::new().await, "aws", crate::support::ocsf::ACCOUNT).await
    }

    pub async fn of(kind: &str, uid: &str) -> Self {
        Self::on(Db::new().await, kind, uid).await
    }

    pub async fn on(db: Db, kind: &str, uid: &str) -> Self {
        let store = db.store().await;
        let now = SystemClock.now();
        partitions::ensure_months(&db.admin().await, now, 1)
            .await
            .unwrap();
        let tenant = TenantId(SystemClock.uuid7());
        let mut conn = db.admin_conn().await;
        sqlx::query("insert into tenants (id, name) values ($1, $2)")
            .bind(tenant.0)
            .bind(tenant.to_string())
            .execute(&mut conn)
            .await
            .unwrap();
        let provider = account(&mut conn, tenant, kind, uid).await;
        let dir = tempfile::tempdir().unwrap();
        Self {
            spool: Spool::open(dir.path().to_owned(), LIMITS).unwrap(),
            owner: Mutex::new(Some(conn)),
            _dir: dir,
            db,
            store,
            tenant,
            provider,
            namespace: "team-a".to_owned(),
        }
    }

    /// Goes on with another account of the tenant.
    pub async fn go_on_with(&mut self, kind: &str, uid: &str) {
        let mut owner = self.owner().await;
        let provider = account(owner.as_mut().unwrap(), self.tenant, kind, uid).await;
        drop(owner);
        self.provider = provider;
    }

    /// A scan whose first attempt runs in a Job.
    pub async fn scan(&self) -> Attempt {
        let job = ObjectUid(SystemClock.uuid7());
        let name = format!("job-{job}");
        self.scan_in(ScanId(SystemClock.uuid7()), Some(job), &name)
            .await
    }

    /// A scan whose first attempt runs in this Job; without a uid it is only planned.
    pub async fn scan_in(&self, scan: ScanId, job: Option<ObjectUid>, name: &str) -> Attempt {
        static SLOT: AtomicU32 = AtomicU32::new(0);
        let slot = SLOT.fetch_add(1, Ordering::Relaxed);
        let uid = job.map_or("null".to_owned(), |job| format!("'{job}'"));
        // The account is held by one scan at a time; earlier ones of the test have ended.
        self.admin(&format!(
            "update scans set holds_account = false, slot = null, queue_slot = null
             where tenant_id = '{0}';
             insert into scans (tenant_id, id, provider_id, trigger, state, attempt, holds_account,
               slot, queue_slot, job_namespace, job_name, job_uid, started_at)
             values ('{0}', '{scan}', '{1}', 'manual', 'executing', 1, true,
               {slot}, {slot}, '{2}', '{name}', {uid}, now() - interval '90 seconds')",
            self.tenant, self.provider, self.namespace
        ))
        .await;
        Attempt {
            tenant: self.tenant,
            scan,
            attempt: 1,
            job: job.unwrap_or(ObjectUid(Uuid::nil())),
            job_name: ObjectName {
                namespace: self.namespace.clone(),
                name: name.to_owned(),
            },
        }
    }

    /// Publishes a file, without network.
    pub async fn publish(&self, attempt: &Attempt, file: &[u8]) -> Outcome {
        let body = zstd::encode_all(file, 1).unwrap();
        let body = if file.is_empty() { Vec::new() } else { body };
        self.publish_body(attempt, &body, Encoding::Zstd).await
    }

    /// Publishes a body as it is sent, without network.
    pub async fn publish_body(
        &self,
        attempt: &Attempt,
        body: &[u8],
        encoding: Encoding,
    ) -> Outcome {
        let mut incoming = self.spool.begin(SystemClock.uuid7()).unwrap();
        incoming.write(body).await.unwrap();
        let spooled = incoming.finish(encoding).await.unwrap();
        ingest::publish(&self.store, &SystemClock, attempt, spooled)
            .await
            .unwrap()
    }

    /// Publishes as a scan of its own.
    pub async fn scan_and_publish(&self, file: &[u8]) -> Attempt {
        let attempt = self.scan().await;
        let outcome = self.publish(&attempt, file).await;
        assert!(matches!(outcome, Outcome::Published(_)), "{outcome:?}");
        attempt
    }

    /// Runs SQL as the schema's owner.
    pub async fn admin(&self, sql: &str) {
        let mut owner = self.owner().await;
        crate::support::db::run(owner.as_mut().unwrap(), sql).await;
    }

    /// The owner's connection, made anew if the server went away meanwhile.
    async fn owner(&self) -> MutexGuard<'_, Option<PgConnection>> {
        let mut owner = self.owner.lock().await;
        let alive = match owner.as_mut() {
            Some(conn) => conn.ping().await.is_ok(),
            None => false,
        };
        if !alive {
            *owner = Some(self.conn().await);
        }
        owner
    }

    pub async fn conn(&self) -> PgConnection {
        self.db.admin_conn().await
    }

    /// All rows of a query as the schema's owner, who sees every tenant.
    pub async fn rows<T>(&self, sql: &str) -> Vec<T>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut owner = self.owner().await;
        sqlx::query_as(AssertSqlSafe(sql.to_owned()))
            .fetch_all(owner.as_mut().unwrap())
            .await
            .unwrap_or_else(|error| panic!("{error}\n{sql}"))
    }

    pub async fn count(&self, from: &str) -> i64 {
        let rows: Vec<(i64,)> = self.rows(&format!("select count(*) from {from}")).await;
        rows[0].0
    }

    /// State, reason and message of a scan.
    pub async fn state(&self, attempt: &Attempt) -> (String, Option<String>, Option<String>) {
        self.rows(&format!(
            "select state, reason, message from scans where id = '{}'",
            attempt.scan
        ))
        .await
        .remove(0)
    }

    /// Rows of every table that a publication writes; nothing may be in them after a failure.
    pub async fn stored(&self) -> Vec<(&'static str, i64)> {
        let mut stored = Vec::new();
        for table in [
            "findings",
            "resource_finding_mappings",
            "resources",
            "resource_tags",
            "resource_tag_mappings",
            "check_metadata",
            "provider_finding_states",
            "quarantined_findings",
        ] {
            let rows = self.count(table).await;
            if rows > 0 {
                stored.push((table, rows));
            }
        }
        stored
    }

    /// (uid, status, delta, first seen) of a scan's findings, by uid and status.
    pub async fn findings(
        &self,
        attempt: &Attempt,
    ) -> Vec<(String, String, Option<String>, Timestamp)> {
        let rows: Vec<(String, String, Option<String>, jiff_sqlx::Timestamp)> = self
            .rows(&format!(
                "select uid, status, delta, first_seen_at from findings where scan_id = '{}'
                 order by uid, status, delta",
                attempt.scan
            ))
            .await;
        rows.into_iter()
            .map(|(uid, status, delta, first)| (uid, status, delta, first.to_jiff()))
            .collect()
    }

    /// Deltas of a scan by resource name, the last part of the uid.
    pub async fn deltas(&self, attempt: &Attempt) -> Vec<(String, Option<String>)> {
        self.findings(attempt)
            .await
            .into_iter()
            .map(|(uid, _, delta, _)| (uid.rsplit('-').next().unwrap().to_owned(), delta))
            .collect()
    }

    pub fn id(&self) -> Uuid {
        self.tenant.0
    }
}

async fn account(conn: &mut PgConnection, tenant: TenantId, kind: &str, uid: &str) -> ProviderId {
    let provider = ProviderId(SystemClock.uuid7());
    sqlx::query("insert into providers (tenant_id, id, provider, uid) values ($1, $2, $3, $4)")
        .bind(tenant.0)
        .bind(provider.0)
        .bind(kind)
        .bind(uid)
        .execute(conn)
        .await
        .unwrap();
    provider
}
