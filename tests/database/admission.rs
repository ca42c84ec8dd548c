//! Admission against a naive model: random tenants, accounts, priorities and limits, scans that come
//! and end in any order. `ADMISSION_SEED` takes a run again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prowler_operator::domain::queue::Limits;
use prowler_operator::store::AdminStore;
use prowler_operator::store::admin::admission::{self, admit};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::support::db::{Db, run};

/// Fails the transaction that lets more in than a limit allows, whoever runs it.
const AUDIT: &str = "
    create function audit() returns trigger language plpgsql as $$ begin
      if exists (select from scans where holds_account group by tenant_id, provider_id
                 having count(*) > 1)
        or exists (select from scans s join tenants t on t.id = s.tenant_id where s.holds_account
                   group by t.id, t.concurrent_scans having count(*) > t.concurrent_scans)
        or (select count(*) from scans where holds_account) > (select scans from audited)
        or exists (select from scans s join providers p on p.id = s.provider_id, audited a
                   where s.holds_account group by p.provider, a.kinds
                   having count(*) > coalesce((a.kinds ->> p.provider)::integer, 1000000))
      then raise exception 'a limit was exceeded'; end if;
      return null;
    end $$;
    create table audited (scans integer, kinds jsonb);
    create trigger audit after update on scans for each statement execute function audit();";

struct Queue {
    db: Db,
    conn: PgConnection,
    admin: AdminStore,
    limits: Limits,
    now: Timestamp,
}

/// A scan as the model has it: its row as it was stored.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Scan {
    tenant: Uuid,
    id: Uuid,
    provider: Uuid,
    kind: String,
    priority: i32,
    concurrent: i32,
    waits: bool,
    holds: bool,
}

impl Queue {
    async fn new(limits: Limits) -> Self {
        let db = Db::new().await;
        let mut conn = db.admin_conn().await;
        run(&mut conn, AUDIT).await;
        let kinds = serde_json::to_string(&limits.kinds).unwrap();
        let all = limits.all.unwrap_or(i32::MAX);
        run(
            &mut conn,
            &format!("insert into audited values ({all}, '{kinds}')"),
        )
        .await;
        Self {
            admin: db.admin().await,
            conn,
            db,
            limits,
            now: "2026-11-27T02:00:00Z".parse().unwrap(),
        }
    }

    /// A tenant with so many accounts, which may run so many scans.
    async fn tenant(&mut self, n: u128, kinds: &[&str], concurrent: i32) -> Uuid {
        let tenant = Uuid::from_u128(n << 64);
        let providers = (1..).zip(kinds).map(|(number, kind)| {
            let provider = Uuid::from_u128((n << 64) + number);
            format!("('{tenant}', '{provider}', '{kind}', 'account-{number}')")
        });
        let providers: Vec<_> = providers.collect();
        let sql = format!(
            "insert into tenants (id, name, concurrent_scans) values ('{tenant}', 't{n}', {concurrent});
             insert into providers (tenant_id, id, provider, uid) values {}",
            providers.join(", ")
        );
        run(&mut self.conn, &sql).await;
        tenant
    }

    async fn queue(&mut self, tenant: Uuid, provider: u128, priority: i32, id: u128) {
        let provider = Uuid::from_u128(tenant.as_u128() + provider);
        let id = Uuid::from_u128(id);
        let sql = format!(
            "insert into scans (tenant_id, id, provider_id, trigger, priority)
             values ('{tenant}', '{id}', '{provider}', 'manual', {priority})"
        );
        run(&mut self.conn, &sql).await;
    }

    async fn end(&mut self, scan: Uuid) {
        let sql = format!(
            "update scans set state = 'completed', holds_account = false, slot = null,
               queue_slot = null, limited_type = null, type_slot = null where id = '{scan}'"
        );
        run(&mut self.conn, &sql).await;
    }

    async fn scans(&mut self) -> Vec<Scan> {
        sqlx::query_as(AssertSqlSafe(
            "select s.tenant_id as tenant, s.id, s.provider_id as provider, p.provider as kind,
               s.priority, t.concurrent_scans as concurrent, s.state = 'available' as waits,
               s.holds_account as holds
             from scans s join tenants t on t.id = s.tenant_id
             join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id order by s.id",
        ))
        .fetch_all(&mut self.conn)
        .await
        .unwrap()
    }

    async fn admitted(&self) -> Vec<Uuid> {
        let admitted = admit(&self.admin, &self.limits, self.now).await.unwrap();
        let mut ids: Vec<_> = admitted.iter().map(|one| one.scan.0).collect();
        ids.sort();
        ids
    }
}

/// Those that would be let in one after the other: always the next of the tenant that runs least, of
/// equals the one that came first.
fn model(scans: &[Scan], limits: &Limits) -> Vec<Uuid> {
    let mut scans = scans.to_vec();
    let mut admitted = Vec::new();
    loop {
        let holds: Vec<_> = scans.iter().filter(|scan| scan.holds).cloned().collect();
        if limits
            .all
            .is_some_and(|all| holds.len() >= usize::try_from(all).unwrap())
        {
            break;
        }
        let of = |wanted: &dyn Fn(&Scan) -> bool| holds.iter().filter(|scan| wanted(scan)).count();
        let mut heads: BTreeMap<Uuid, &Scan> = BTreeMap::new();
        for scan in scans.iter().filter(|scan| scan.waits) {
            let used = of(&|other| other.tenant == scan.tenant);
            let limit = limits.kinds.get(&scan.kind).copied().unwrap_or(i32::MAX);
            if of(&|other| other.provider == scan.provider) > 0
                || used >= usize::try_from(scan.concurrent).unwrap()
                || of(&|other| other.kind == scan.kind) >= usize::try_from(limit).unwrap()
            {
                continue;
            }
            let head = heads.entry(scan.tenant).or_insert(scan);
            if (-scan.priority, scan.id) < (-head.priority, head.id) {
                *head = scan;
            }
        }
        let turn = |scan: &&Scan| (of(&|other| other.tenant == scan.tenant), scan.id);
        let Some(next) = heads.into_values().min_by_key(turn).map(|scan| scan.id) else {
            break;
        };
        let scan = scans.iter_mut().find(|scan| scan.id == next).unwrap();
        (scan.waits, scan.holds) = (false, true);
        admitted.push(next);
    }
    admitted.sort();
    admitted
}

fn limits(all: i32, kinds: &[(&str, i32)]) -> Limits {
    Limits {
        all: Some(all),
        kinds: kinds
            .iter()
            .map(|(kind, most)| ((*kind).to_owned(), *most))
            .collect(),
    }
}

#[tokio::test]
async fn whatever_comes_and_ends_the_right_ones_are_let_in_and_no_more() {
    let seed = std::env::var("ADMISSION_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    println!("ADMISSION_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    let (mut steps, mut let_in) = (0, 0);
    let mut is_enough = false;
    // A busy machine takes longer to look at enough.
    while begun.elapsed() < Duration::from_secs(if is_enough { 10 } else { 120 }) {
        let with_kinds = rng.random_bool(0.5);
        let kinds: &[_] = if with_kinds {
            &[("aws", 2), ("gcp", 1)]
        } else {
            &[]
        };
        let mut queue = Queue::new(limits(rng.random_range(1..8), kinds)).await;
        let mut tenants = Vec::new();
        for n in 1..=rng.random_range(1..5_u128) {
            let kinds = ["aws", "gcp", "azure", "aws", "gcp"];
            let kinds = &kinds[..rng.random_range(1..=5)];
            let tenant = queue.tenant(n, kinds, rng.random_range(1..4)).await;
            tenants.push((tenant, kinds.len() as u128));
        }
        let mut id = 0;
        for _ in 0..30 {
            steps += 1;
            for _ in 0..rng.random_range(0..6) {
                let (tenant, accounts) = tenants[rng.random_range(0..tenants.len())];
                id += 1;
                let account = rng.random_range(1..=accounts);
                let priority = rng.random_range(-1..=1);
                queue.queue(tenant, account, priority, id).await;
            }
            for scan in queue.scans().await {
                if scan.holds && rng.random_bool(0.3) {
                    queue.end(scan.id).await;
                }
            }
            let expected = model(&queue.scans().await, &queue.limits);
            if with_kinds {
                // Those that a type's limit keeps back let others in: in the passes that follow.
                while !queue.admitted().await.is_empty() {}
                let left = model(&queue.scans().await, &queue.limits);
                assert_eq!(left, [] as [Uuid; 0], "room was left, step {steps}");
            } else {
                let admitted = queue.admitted().await;
                let_in += admitted.len();
                assert_eq!(admitted, expected, "step {steps}");
            }
            assert_eq!(queue.admitted().await, [] as [Uuid; 0]);
        }
        drop(queue.db);
        is_enough = steps > 100 && let_in > 50;
    }
    assert!(is_enough, "{steps} steps, {let_in} let in");
}

#[tokio::test]
async fn a_tenant_with_a_thousand_in_line_keeps_another_s_first_for_one_turn_at_most() {
    let mut queue = Queue::new(limits(3, &[])).await;
    let many = queue.tenant(1, &["aws"; 40], 40).await;
    let few = queue.tenant(2, &["aws"], 40).await;
    for id in 1..=1_000 {
        queue.queue(many, 1 + id % 40, 0, id).await;
    }
    let running = queue.admitted().await;
    assert_eq!(running.len(), 3);
    queue.queue(few, 1, -1000, 2_000).await;
    assert_eq!(queue.admitted().await, [] as [Uuid; 0], "no place is free");
    queue.end(running[0]).await;
    assert_eq!(queue.admitted().await, [Uuid::from_u128(2_000)]);
}

#[tokio::test]
async fn however_many_let_in_at_once_no_limit_is_exceeded() {
    let mut queue = Queue::new(limits(5, &[("gcp", 1)])).await;
    for n in 1..=4 {
        let tenant = queue.tenant(n, &["aws", "gcp", "aws", "aws"], 2).await;
        for id in 0..12 {
            queue.queue(tenant, 1 + id % 4, 0, n * 100 + id).await;
        }
    }
    let mut let_in = BTreeSet::new();
    for _ in 0..200 {
        let all = futures::future::join_all((0..6).map(|_| queue.admitted())).await;
        for id in all.into_iter().flatten() {
            assert!(let_in.insert(id), "{id} was let in twice");
        }
        let holds: Vec<_> = queue
            .scans()
            .await
            .into_iter()
            .filter(|scan| scan.holds)
            .collect();
        assert!(holds.len() <= 5);
        let Some(scan) = holds.first() else { break };
        queue.end(scan.id).await;
    }
    assert_eq!(let_in.len(), 48, "all had their turn");
    let waiting = admission::count(&queue.admin).await.unwrap();
    assert_eq!(waiting, (0, 0));
}

#[tokio::test]
async fn a_limit_of_a_type_counts_those_that_run_already() {
    let mut queue = Queue::new(limits(10, &[])).await;
    let tenant = queue.tenant(1, &["aws", "aws", "aws", "gcp"], 10).await;
    for account in 1..=2 {
        queue.queue(tenant, account, 0, account).await;
    }
    assert_eq!(queue.admitted().await.len(), 2);
    for account in 3..=4 {
        queue.queue(tenant, account, 0, account).await;
    }
    queue.limits = limits(10, &[("aws", 2)]);
    assert_eq!(queue.admitted().await, [Uuid::from_u128(4)]);
    queue.end(Uuid::from_u128(1)).await;
    assert_eq!(queue.admitted().await, [Uuid::from_u128(3)]);
}
