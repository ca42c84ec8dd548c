//! Admission: which queued scans start now. Slots and attempt are taken in one transaction, and
//! unique keys hold every limit whatever two controllers believe. Why the others wait is in `line`.

mod line;

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx;
use uuid::Uuid;

pub use self::line::{holders, in_line, place_of};
use crate::domain::ids::{ObjectName, ScanId, TenantId};
use crate::domain::queue::Limits;
use crate::domain::uuid7::uuid7_to_datetime;
use crate::store::admin::AdminTx;
use crate::store::{AdminStore, StoreError};

/// Scans let in by one transaction.
const BATCH: i64 = 500;

/// A scan that may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its tenant.
    pub tenant: TenantId,
    /// The scan.
    pub scan: ScanId,
    /// Its object.
    pub name: ObjectName,
    /// The attempt that starts.
    pub attempt: i32,
    /// How long it waited since it was queued, or since its retry came due.
    pub waited: SignedDuration,
}

/// A scan that the limits leave room for.
struct Candidate {
    tenant: Uuid,
    id: Uuid,
    kind: String,
    /// How many its tenant will run, with it.
    turn: i64,
    /// When its retry, or its start that was put off, came due.
    since: Option<Timestamp>,
}

struct CandidateRow {
    tenant_id: Uuid,
    id: Uuid,
    kind: String,
    turn: i64,
    since: Option<jiff_sqlx::Timestamp>,
}

impl From<CandidateRow> for Candidate {
    fn from(row: CandidateRow) -> Self {
        Self {
            tenant: row.tenant_id,
            id: row.id,
            kind: row.kind,
            turn: row.turn,
            since: row.since.map(jiff_sqlx::Timestamp::to_jiff),
        }
    }
}

/// Admits scans as the limits leave room for them, at most [`BATCH`]: one per account, each tenant's
/// `concurrent_scans`, those of each provider type, and those over all; fair between tenants, then by
/// priority, then first come. With room left there may be more of other types: until none is
/// admitted, ask again.
pub async fn admit(
    admin: &AdminStore,
    limits: &Limits,
    now: Timestamp,
) -> Result<Vec<Admitted>, StoreError> {
    let mut tx = admin.begin().await?;
    // Admissions queue up here instead of colliding on the keys.
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('prowler.admission', 0))")
        .execute(tx.conn())
        .await?;
    // The estimates are high and the rows few: compiling the plan would take longer than all of it.
    sqlx::query!("set local jit = off")
        .execute(tx.conn())
        .await?;
    let mut taken = Taken::now(&mut tx).await?;
    let room = limits
        .all
        .map_or(BATCH, |all| i64::from(all) - taken.count)
        .min(BATCH);
    if room <= 0 {
        return Ok(Vec::new());
    }
    let full = taken.full(limits);
    let mut candidates = firsts(&mut tx, &full, room, now).await?;
    let turn = candidates.first().map(|first| first.turn);
    let are_enough = i64::try_from(candidates.len()) == Ok(room)
        && candidates.last().map(|last| last.turn) == turn;
    if !are_enough && !candidates.is_empty() {
        // Not all of the same turn: a tenant's second may come before another's first.
        candidates = in_turns(&mut tx, &full, room, now).await?;
    }
    let mut lets = Lets::default();
    for candidate in candidates {
        let limit = limits.kinds.get(&candidate.kind);
        let kind = candidate.kind.as_str();
        let of_kind = taken.kinds.entry(kind.to_owned()).or_default();
        if limit.is_some_and(|limit| of_kind.count >= *limit) {
            continue;
        }
        of_kind.count += 1;
        lets.kinds.push(limit.map(|_| kind.to_owned()));
        lets.kind_slots
            .push(limit.map(|_| lowest_free(&mut of_kind.slots)));
        lets.slots.push(lowest_free(
            taken.tenants.entry(candidate.tenant).or_default(),
        ));
        lets.queue_slots.push(lowest_free(&mut taken.queue));
        lets.since.push(candidate.since.map(ToSqlx::to_sqlx));
        lets.tenants.push(candidate.tenant);
        lets.ids.push(candidate.id);
    }
    let admitted = lets.write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(admitted)
}

/// The slots that scans hold.
#[derive(Default)]
struct Taken {
    count: i64,
    tenants: HashMap<Uuid, HashSet<i32>>,
    kinds: BTreeMap<String, OfKind>,
    queue: HashSet<i32>,
}

/// Of one provider type.
#[derive(Default)]
struct OfKind {
    /// All that run, also those let in before the type had a limit.
    count: i32,
    slots: HashSet<i32>,
}

impl Taken {
    async fn now(tx: &mut AdminTx) -> Result<Self, StoreError> {
        let rows = sqlx::query!(
            "select tenant_id, slot, queue_slot, type_slot, admitted ->> 'provider' as kind
             from scans where queue_slot is not null",
        )
        .fetch_all(tx.conn())
        .await?;
        let mut taken = Self::default();
        for row in rows {
            taken.count += 1;
            taken.queue.extend(row.queue_slot);
            let of_tenant = taken.tenants.entry(row.tenant_id).or_default();
            of_tenant.extend(row.slot);
            if let Some(kind) = row.kind {
                let of_kind = taken.kinds.entry(kind).or_default();
                of_kind.count += 1;
                of_kind.slots.extend(row.type_slot);
            }
        }
        Ok(taken)
    }

    /// The provider types of which no more may run.
    fn full(&self, limits: &Limits) -> Vec<String> {
        let used = |kind| self.kinds.get(kind).map_or(0, |of_kind| of_kind.count);
        limits
            .kinds
            .iter()
            .filter(|(kind, limit)| used(*kind) >= **limit)
            .map(|(kind, _)| kind.clone())
            .collect()
    }
}

/// Takes the lowest number from 1 on that nobody has.
fn lowest_free(taken: &mut HashSet<i32>) -> i32 {
    let mut number = 1;
    while !taken.insert(number) {
        number += 1;
    }
    number
}

/// Of each tenant that may run one more, the one that would start next; in turns, so that who runs
/// least comes first. The first of a tenant is the first of its account too.
async fn firsts(
    tx: &mut AdminTx,
    full: &[String],
    room: i64,
    now: Timestamp,
) -> Result<Vec<Candidate>, StoreError> {
    // A thousand tenants are asked: no more than one row of each is to be touched. A window would
    // have the planner read all accounts of each tenant first.
    let rows = sqlx::query_as!(
        CandidateRow,
        r#"with held as (
             select tenant_id, count(*) as used from scans where holds_account group by tenant_id
           )
           select t.id as tenant_id, next.id as "id!", next.kind as "kind!",
             coalesce(h.used, 0) + 1 as "turn!",
             next.next_attempt_at as "since: jiff_sqlx::Timestamp"
           from tenants t
           left join held h on h.tenant_id = t.id
           cross join lateral (
             select s.id, p.provider as kind, s.next_attempt_at
             from scans s
             join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
             where s.tenant_id = t.id
               and s.state = 'available' and not s.is_deleted and not s.holds_account
               and (s.next_attempt_at is null or s.next_attempt_at <= $1)
               and not p.is_deleted and not p.suspend and p.provider <> all ($3)
               and (s.tenant_id, s.provider_id) not in
                 (select o.tenant_id, o.provider_id from scans o where o.holds_account)
             order by s.priority desc, s.id
             limit 1
           ) next
           where not t.suspend and not t.is_deleted and t.concurrent_scans > coalesce(h.used, 0)
           order by coalesce(h.used, 0), next.id
           limit $2"#,
        now.to_sqlx() as _,
        room,
        full,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows.into_iter().map(Candidate::from).collect())
}

/// Of each tenant as many as it may still run, the first of each account; in turns, so that who runs
/// least comes first.
async fn in_turns(
    tx: &mut AdminTx,
    full: &[String],
    room: i64,
    now: Timestamp,
) -> Result<Vec<Candidate>, StoreError> {
    let rows = sqlx::query_as!(
        CandidateRow,
        r#"with held as (
             select tenant_id, count(*) as used from scans where holds_account group by tenant_id
           )
           select t.id as tenant_id, next.id as "id!", next.kind as "kind!",
             coalesce(h.used, 0) + next.rank as "turn!",
             next.next_attempt_at as "since: jiff_sqlx::Timestamp"
           from tenants t
           left join held h on h.tenant_id = t.id
           cross join lateral (
             select s.id, p.provider as kind, s.next_attempt_at,
               row_number() over (order by s.priority desc, s.id) as rank
             from scans s
             join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
             where s.tenant_id = t.id
               and s.state = 'available' and not s.is_deleted and not s.holds_account
               and (s.next_attempt_at is null or s.next_attempt_at <= $1)
               and not p.is_deleted and not p.suspend and p.provider <> all ($3)
               and not exists (select from scans o where o.tenant_id = t.id
                 and o.provider_id = s.provider_id and o.holds_account)
               and not exists (select from scans o where o.tenant_id = t.id
                 and o.provider_id = s.provider_id
                 and o.state = 'available' and not o.is_deleted and not o.holds_account
                 and (o.next_attempt_at is null or o.next_attempt_at <= $1)
                 and (o.priority > s.priority or o.priority = s.priority and o.id < s.id))
             order by s.priority desc, s.id
             limit greatest(0, least(t.concurrent_scans - coalesce(h.used, 0), $2))
           ) next
           where not t.suspend and not t.is_deleted
           order by coalesce(h.used, 0) + next.rank, next.id
           limit $2"#,
        now.to_sqlx() as _,
        room,
        full,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows.into_iter().map(Candidate::from).collect())
}

/// The scans that are let in, column by column.
#[derive(Default)]
struct Lets {
    tenants: Vec<Uuid>,
    ids: Vec<Uuid>,
    slots: Vec<i32>,
    queue_slots: Vec<i32>,
    kinds: Vec<Option<String>>,
    kind_slots: Vec<Option<i32>>,
    since: Vec<Option<jiff_sqlx::Timestamp>>,
}

impl Lets {
    async fn write(&self, tx: &mut AdminTx, now: Timestamp) -> Result<Vec<Admitted>, StoreError> {
        if self.ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query!(
            r#"update scans s set
               state = 'executing', attempt = s.attempt + 1, holds_account = true,
               slot = l.slot, queue_slot = l.queue_slot, limited_type = l.kind,
               type_slot = l.kind_slot,
               job_namespace = null, job_name = null, job_uid = null, next_attempt_at = null,
               started_at = coalesce(s.started_at, $7), attempt_started_at = $7,
               admitted = jsonb_build_object('provider', p.provider, 'uid', p.uid,
                 'scan', p.scanner_args, 'credentials', p.credentials),
               credentials = p.credentials, updated_at = now()
             from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::integer[], $5::text[],
                 $6::integer[], $8::timestamptz[])
               as l (tenant_id, id, slot, queue_slot, kind, kind_slot, since)
             join providers p on p.tenant_id = l.tenant_id
             where s.tenant_id = l.tenant_id and s.id = l.id and p.id = s.provider_id
               and s.state = 'available' and not s.holds_account
             returning s.tenant_id, s.id, s.namespace, s.name, s.attempt, 
               l.since as "since?: jiff_sqlx::Timestamp""#,
            &self.tenants,
            &self.ids,
            &self.slots,
            &self.queue_slots,
            &self.kinds as _,
            &self.kind_slots as _,
            now.to_sqlx() as _,
            &self.since as _,
        )
        .fetch_all(tx.conn())
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Admitted {
                tenant: TenantId(row.tenant_id),
                scan: ScanId(row.id),
                name: ObjectName {
                    namespace: row.namespace,
                    name: row.name,
                },
                attempt: row.attempt,
                waited: now.duration_since(
                    row.since
                        .map_or_else(|| queued_at(row.id), jiff_sqlx::Timestamp::to_jiff),
                ),
            })
            .collect())
    }
}

/// When a scan was queued: its id says so.
fn queued_at(id: Uuid) -> Timestamp {
    uuid7_to_datetime(id).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Scans of all tenants that wait, and those that hold an account and a place in the queue.
pub async fn count(admin: &AdminStore) -> Result<(i64, i64), StoreError> {
    // Of all tenants, by the indexes of those that are open.
    let row = sqlx::query!(
        r#"select
             (select count(*) from scans where state = 'available' and not is_deleted
                and tenant_id is not null) as "waiting!",
             (select count(*) from scans where queue_slot is not null) as "active!""#
    )
    .fetch_one(admin.pool())
    .await?;
    Ok((row.waiting, row.active))
}
