//! Accounts, each of a tenant of its own, their scans, and what the tables must hold of them.

use std::sync::atomic::{AtomicU32, Ordering};

use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, TenantId};
use prowler_operator::store::publication::Attempt;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::db::run;
use crate::ocsf::{ACCOUNT, Shape};

/// An account of a tenant.
pub struct Account {
    tenant: TenantId,
    provider: ProviderId,
}

impl Account {
    /// An aws account.
    pub async fn new(conn: &mut PgConnection) -> Self {
        Self::of("aws", ACCOUNT, conn).await
    }

    /// An account of this type and uid.
    pub async fn of(kind: &str, uid: &str, conn: &mut PgConnection) -> Self {
        let account = Self {
            tenant: TenantId(SystemClock.uuid7()),
            provider: ProviderId(SystemClock.uuid7()),
        };
        let Self { tenant, provider } = &account;
        run(
            conn,
            &format!(
                "insert into tenants (id, name) values ('{tenant}', '{tenant}');
                 insert into providers (tenant_id, id, provider, uid)
                 values ('{tenant}', '{provider}', '{kind}', '{uid}')"
            ),
        )
        .await;
        account
    }

    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// A scan whose first attempt runs in a Job.
    pub async fn scan(&self, conn: &mut PgConnection) -> Attempt {
        static SLOT: AtomicU32 = AtomicU32::new(0);
        let slot = SLOT.fetch_add(1, Ordering::Relaxed);
        let Self { tenant, provider } = self;
        let scan = ScanId(SystemClock.uuid7());
        let job = ObjectUid(SystemClock.uuid7());
        let job_name = ObjectName {
            namespace: "bench".to_owned(),
            name: format!("job-{job}"),
        };
        // The account is held by one scan at a time; the earlier one has ended.
        run(
            conn,
            &format!(
                "update scans set holds_account = false, slot = null, queue_slot = null
                 where tenant_id = '{tenant}';
                 insert into scans (tenant_id, id, provider_id, trigger, state, attempt,
                   holds_account, slot, queue_slot, job_namespace, job_name, job_uid, started_at)
                 values ('{tenant}', '{scan}', '{provider}', 'manual', 'executing', 1,
                   true, {slot}, {slot}, '{}', '{}', '{job}', now())",
                job_name.namespace, job_name.name
            ),
        )
        .await;
        Attempt {
            tenant: self.tenant,
            scan,
            attempt: 1,
            job,
            job_name,
        }
    }

    /// Looks whether the tables hold all that a file of this shape says, as the account's scan
    /// number `scan`.
    pub async fn assert_published(
        &self,
        conn: &mut PgConnection,
        attempt: &Attempt,
        shape: Shape,
        scan: usize,
    ) {
        let (state, counts, resources): (String, Value, i32) = sqlx::query_as(
            "select state, counts, unique_resource_count from scans where tenant_id = $1 and id = $2",
        )
        .bind(attempt.tenant.0)
        .bind(attempt.scan.0)
        .fetch_one(&mut *conn)
        .await
        .unwrap();
        assert_eq!(state, "completed");
        let all = shape.findings;
        let flipped = (0..all).filter(|number| number % 50 == 7).count();
        let (new, changed) = if scan == 0 { (all, 0) } else { (0, flipped) };
        for (name, expected) in [("total", all), ("new", new), ("changed", changed)] {
            assert_eq!(counts[name], json!(expected), "{name}");
        }

        let checks = all.div_ceil(all.div_ceil(shape.checks));
        let all = i64::try_from(all).unwrap();
        let resources = i64::from(resources);
        assert_eq!(resources.unsigned_abs(), shape.resources as u64);
        let findings = if scan == 0 { all } else { 2 * all };
        let expected = [
            ("findings", findings),
            ("resource_finding_mappings", findings),
            ("resources", resources),
            ("resource_tag_mappings", 2 * resources),
            ("check_metadata", i64::try_from(checks).unwrap()),
            ("quarantined_findings", 0),
        ];
        for (table, expected) in expected {
            let rows = count(conn, &format!("prowler.{table}"), attempt.tenant).await;
            assert_eq!(rows, expected, "rows of {table}");
        }
    }
}

/// The tenant's rows in a table.
pub async fn count(conn: &mut PgConnection, table: &str, tenant: TenantId) -> i64 {
    let sql = format!("select count(*) from {table} where tenant_id = $1");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(tenant.0)
        .fetch_one(conn)
        .await
        .unwrap()
}
