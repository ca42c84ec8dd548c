//! People who read while findings are published: pages of findings of the newest scan, as
//! `prowler_user`, one page every few milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prowler_operator::domain::ids::{ScanId, TenantId};
use prowler_operator::domain::uuid7;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

/// Between two pages.
const PAUSE: Duration = Duration::from_millis(20);
/// How long is read while nothing is published.
const BEFORE: Duration = Duration::from_secs(5);
/// Rows of a page.
const PAGE: i64 = 50;

/// Milliseconds of each page.
pub struct Pages(Vec<f64>);

impl Pages {
    /// The page that this share of all is faster than.
    pub fn quantile(&mut self, share: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index into the list"
        )]
        let index = ((self.0.len() - 1) as f64 * share).round() as usize;
        self.0[index]
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// A reader of a tenant, until it is told to stop.
pub struct Reader {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Pages>,
}

impl Reader {
    pub fn start(url: &str, tenant: TenantId) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, until) = (url.to_owned(), stop.clone());
        let task = tokio::spawn(async move {
            let options: PgConnectOptions = url.parse().unwrap();
            let options = options.options([("search_path", "prowler")]);
            let mut conn = PgConnection::connect_with(&options).await.unwrap();
            let mut pages = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let begun = Instant::now();
                read(&mut conn, tenant).await;
                pages.push(begun.elapsed().as_secs_f64() * 1000.0);
                tokio::time::sleep(PAUSE).await;
            }
            Pages(pages)
        });
        Self { stop, task }
    }

    pub async fn stop(self) -> Pages {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }

    /// As many as there are while nothing is published.
    pub async fn alone(url: &str, tenant: TenantId) -> Pages {
        let reader = Self::start(url, tenant);
        tokio::time::sleep(BEFORE).await;
        reader.stop().await
    }
}

/// One page: the newest completed scan, its failed findings with their resources. Read in the order
/// of the keys and joined row by row, so that it depends on no statistics: of a scan that ended just
/// now there are none, and what the planner believes instead costs from 0.1 s to minutes.
async fn read(conn: &mut PgConnection, tenant: TenantId) {
    let mut tx = conn.begin().await.unwrap();
    sqlx::query(
        "select set_config('api.tenant_id', $1, true),
           set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true)",
    )
    .bind(tenant.to_string())
    .execute(&mut *tx)
    .await
    .unwrap();
    let newest: uuid::Uuid = sqlx::query_scalar(
        "select id from active_scans where tenant_id = $1 and state = 'completed'
         order by id desc limit 1",
    )
    .bind(tenant.0)
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    let (first, last) = uuid7::finding_ids(ScanId(newest));
    let rows = sqlx::query(
        "select f.id, f.uid, f.status_extended, r.uid, r.name
         from (
           select id, uid, status_extended from active_findings
           where tenant_id = $1 and scan_id = $5 and id between $2 and $3 and status = 'FAIL'
           order by id limit $4
         ) f
         cross join lateral (
           select resource_id from resource_finding_mappings
           where tenant_id = $1 and finding_id = f.id offset 0
         ) m
         cross join lateral (
           select uid, name from resources
           where tenant_id = $1 and id = m.resource_id offset 0
         ) r
         order by f.id",
    )
    .bind(tenant.0)
    .bind(first)
    .bind(last)
    .bind(PAGE)
    .bind(newest)
    .fetch_all(&mut *tx)
    .await
    .unwrap();
    assert_eq!(i64::try_from(rows.len()).unwrap(), PAGE);
    tx.commit().await.unwrap();
}
