//! What was decided of schedules, written: a row for every due time and account.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use uuid::Uuid;

use crate::domain::ids::{ProviderId, ScheduleId, TenantId};
use crate::domain::schedule::{Due, Fate, Passed};
use crate::store::StoreError;
use crate::store::admin::AdminTx;
use crate::store::schedules::CLAIMED_GRACE_SECONDS;

/// What was decided of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whose.
    pub tenant: TenantId,
    /// The schedule.
    pub id: ScheduleId,
    /// Up to where all was decided before.
    pub before: Timestamp,
    /// The decision.
    pub due: Due,
    /// The due time that accounts which have just joined are given too.
    pub joined: Option<Timestamp>,
    /// Nothing is to be started: there is no next due time.
    pub rests: bool,
}

impl Verdict {
    /// The next due time.
    pub fn next(&self) -> Option<Timestamp> {
        self.due.next.filter(|_| !self.rests)
    }
}

/// What a claimed due time came to for one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The account.
    pub provider: ProviderId,
    /// Its object.
    pub provider_name: String,
    /// The due time.
    pub due_at: Timestamp,
    /// Left out: the account's last scan of this schedule has not ended.
    pub is_skipped: bool,
}

/// Gives every due time its row, and remembers up to where that is done. What became of those that
/// were claimed, account by account; of accounts that are suspended nothing.
pub async fn record(
    tx: &mut AdminTx,
    verdicts: &[Verdict],
    now: Timestamp,
) -> Result<Vec<Slot>, StoreError> {
    lengthen(tx, verdicts).await?;
    pass_by(tx, verdicts).await?;
    let slots = claim(tx, verdicts, now).await?;
    remember(tx, verdicts, &slots).await?;
    Ok(slots)
}

/// The due times that passed, of those verdicts that have some.
fn passed_by(verdicts: &[Verdict]) -> Vec<(&Verdict, Passed)> {
    verdicts
        .iter()
        .filter_map(|verdict| Some((verdict, verdict.due.passed?)))
        .collect()
}

/// One column of them.
fn column<T>(passed: &[(&Verdict, Passed)], of: impl Fn(&Verdict, &Passed) -> T) -> Vec<T> {
    let values = passed.iter().map(|(verdict, passed)| of(verdict, passed));
    values.collect()
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Due times left out while nothing was to be started lengthen the stretch that ends where they
/// begin: a schedule that rests for years has one row.
async fn lengthen(tx: &mut AdminTx, verdicts: &[Verdict]) -> Result<(), StoreError> {
    let mut resting = passed_by(verdicts);
    resting.retain(|(_, passed)| passed.fate == Fate::Suspended);
    if resting.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update schedule_slots s set last_due_at = v.last, count = s.count + v.count
         from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::bigint[])
           as v (tenant_id, schedule_id, before, last, count)
         where s.tenant_id = v.tenant_id and s.schedule_id = v.schedule_id
           and s.state = 'skipped' and s.reason = 'Suspended'
           and coalesce(s.last_due_at, s.due_at) = v.before
           and exists (select from schedule_providers c where c.tenant_id = s.tenant_id
             and c.schedule_id = s.schedule_id and c.provider_id = s.provider_id)",
        &column(&resting, |verdict, _| verdict.tenant.0),
        &column(&resting, |verdict, _| verdict.id.0),
        &column(&resting, |verdict, _| verdict.before.to_sqlx()) as _,
        &column(&resting, |_, passed| passed.last.to_sqlx()) as _,
        &column(&resting, |_, passed| count(passed.count)),
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// A row for each stretch of due times that led to nothing, and each account.
async fn pass_by(tx: &mut AdminTx, verdicts: &[Verdict]) -> Result<(), StoreError> {
    let passed = passed_by(verdicts);
    if passed.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into schedule_slots (tenant_id, schedule_id, provider_id, due_at, last_due_at, count,
           state, reason)
         select v.tenant_id, v.schedule_id, p.id, v.first, v.last, v.count, v.state, v.reason
         from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::bigint[],
             $6::text[], $7::text[])
           as v (tenant_id, schedule_id, first, last, count, state, reason)
         join schedule_providers c on c.tenant_id = v.tenant_id and c.schedule_id = v.schedule_id
         join providers p on p.tenant_id = c.tenant_id and p.id = c.provider_id and not p.is_deleted
         where coalesce((select coalesce(o.last_due_at, o.due_at) < v.first from schedule_slots o
             where o.tenant_id = v.tenant_id and o.schedule_id = v.schedule_id
               and o.provider_id = p.id and o.due_at <= v.last
             order by o.due_at desc limit 1), true)
         on conflict do nothing",
        &column(&passed, |verdict, _| verdict.tenant.0),
        &column(&passed, |verdict, _| verdict.id.0),
        &column(&passed, |_, passed| passed.first.to_sqlx()) as _,
        &column(&passed, |_, passed| passed.last.to_sqlx()) as _,
        &column(&passed, |_, passed| count(passed.count)),
        &column(&passed, |_, passed| words(passed.fate).0.to_owned()),
        &column(&passed, |_, passed| words(passed.fate)
            .1
            .map(str::to_owned)) as _,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// State and reason of the row.
fn words(fate: Fate) -> (&'static str, Option<&'static str>) {
    match fate {
        Fate::Superseded => ("superseded", None),
        Fate::Missed => ("missed", Some("Deadline")),
        Fate::Suspended => ("skipped", Some("Suspended")),
    }
}

/// Claims the due times, once for each account; those that are suspended are left out, and so are those
/// whose last scan of the schedule stands in the way. Due times that a suspended account is left out of
/// one after the other share a row. An account whose last slot still waits for its `Scan` needs no
/// other: else each due time that passes while none can be made would lead to one more. One that nothing
/// is made of any more, because it came too late, stands in nobody's way.
async fn claim(
    tx: &mut AdminTx,
    verdicts: &[Verdict],
    now: Timestamp,
) -> Result<Vec<Slot>, StoreError> {
    let claims: Vec<_> = verdicts
        .iter()
        .filter_map(|verdict| Some((verdict, verdict.due.claim.or(verdict.joined)?)))
        .collect();
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let tenants: Vec<Uuid> = claims.iter().map(|(one, _)| one.tenant.0).collect();
    let schedules: Vec<Uuid> = claims.iter().map(|(one, _)| one.id.0).collect();
    let slots: Vec<_> = claims.iter().map(|(_, slot)| slot.to_sqlx()).collect();
    // A name is the same whenever it is made, and no other slot's. Names of objects end at 253
    // characters, of which the due time and the hash take 28; the hash is over the schedule too, for
    // what is left of its name may be the beginning of another's.
    let rows = sqlx::query!(
        r#"with wanted as (
             select v.tenant_id, v.schedule_id, v.due_at, d.concurrency_policy, p.id as provider_id,
               p.suspend as rests, d.starting_deadline_seconds + $4 as patience,
               rtrim(left(d.name, 200), '-.') || '-' || extract(epoch from v.due_at)::bigint || '-'
                 || left(encode(sha256(uuid_send(d.id) || uuid_send(p.id)), 'hex'), 16) as scan_name
             from unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
               as v (tenant_id, schedule_id, due_at)
             join schedules d on d.tenant_id = v.tenant_id and d.id = v.schedule_id
             join schedule_providers c on c.tenant_id = d.tenant_id and c.schedule_id = d.id
             join providers p on p.tenant_id = c.tenant_id and p.id = c.provider_id and not p.is_deleted
             where coalesce((select coalesce(o.last_due_at, o.due_at) < v.due_at from schedule_slots o
                 where o.tenant_id = v.tenant_id and o.schedule_id = v.schedule_id
                   and o.provider_id = p.id and o.due_at <= v.due_at
                 order by o.due_at desc limit 1), true)
           ), lengthened as (
             update schedule_slots s set last_due_at = w.due_at, count = s.count + 1
             from wanted w
             where w.rests and s.tenant_id = w.tenant_id and s.schedule_id = w.schedule_id
               and s.provider_id = w.provider_id and s.state = 'skipped' and s.reason = 'Suspended'
               and s.due_at = (select max(o.due_at) from schedule_slots o
                 where o.tenant_id = w.tenant_id and o.schedule_id = w.schedule_id
                   and o.provider_id = w.provider_id and o.due_at <= w.due_at)
             returning s.schedule_id, s.provider_id
           ), judged as (
             select w.*, exists (select from schedule_slots o where o.tenant_id = w.tenant_id
                 and o.schedule_id = w.schedule_id and o.provider_id = w.provider_id
                 and o.state = 'claimed'
                 and (w.patience is null or floor(extract(epoch from $5 - o.due_at)) <= w.patience))
               or w.concurrency_policy <> 'Replace' and exists (select from scans s
                 where s.tenant_id = w.tenant_id and s.schedule_id = w.schedule_id
                   and s.provider_id = w.provider_id
                   and (s.holds_account or s.state in ('available', 'executing'))
                   and (w.concurrency_policy = 'Forbid' or s.state = 'available')) as skipped
             from wanted w
             where not exists (select from lengthened l
               where l.schedule_id = w.schedule_id and l.provider_id = w.provider_id)
           )
           insert into schedule_slots as q (tenant_id, schedule_id, provider_id, due_at, state, reason,
             scan_name)
           select j.tenant_id, j.schedule_id, j.provider_id, j.due_at,
             case when j.rests or j.skipped then 'skipped' else 'claimed' end,
             case when j.rests then 'Suspended' when j.skipped then 'StillActive' end, j.scan_name
           from judged j
           on conflict do nothing
           returning q.schedule_id, q.provider_id, q.state = 'skipped' as "is_skipped!",
             coalesce(q.reason = 'Suspended', false) as "rests!",
             q.due_at as "due_at: jiff_sqlx::Timestamp",
             (select p.name from providers p where p.tenant_id = q.tenant_id
                and p.id = q.provider_id) as "provider_name!""#,
        &tenants,
        &schedules,
        &slots as _,
        CLAIMED_GRACE_SECONDS,
        now.to_sqlx() as _,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .filter(|row| !row.rests)
        .map(|row| Slot {
            schedule: ScheduleId(row.schedule_id),
            provider: ProviderId(row.provider_id),
            provider_name: row.provider_name,
            due_at: row.due_at.to_jiff(),
            is_skipped: row.is_skipped,
        })
        .collect())
}

/// Remembers what was decided, for the next look and for readers of the database.
async fn remember(
    tx: &mut AdminTx,
    verdicts: &[Verdict],
    slots: &[Slot],
) -> Result<(), StoreError> {
    let times = |time: fn(&Verdict) -> Option<Timestamp>| -> Vec<_> {
        let times = verdicts.iter().map(time);
        times.map(|time| time.map(ToSqlx::to_sqlx)).collect()
    };
    let lost = |verdict: &Verdict| {
        let passed = verdict.due.passed;
        passed.filter(|passed| passed.fate != Fate::Suspended)
    };
    let tenants: Vec<Uuid> = verdicts.iter().map(|one| one.tenant.0).collect();
    let ids: Vec<Uuid> = verdicts.iter().map(|one| one.id.0).collect();
    let untils = times(|one| Some(one.due.until));
    let claims = times(|one| one.due.claim);
    let missed: Vec<_> = verdicts
        .iter()
        .map(|one| lost(one).map(|passed| passed.last.to_sqlx()))
        .collect();
    let counts: Vec<i64> = verdicts
        .iter()
        .map(|one| lost(one).map_or(0, |passed| count(passed.count)))
        .collect();
    let mut left_out: HashMap<ScheduleId, i64> = HashMap::new();
    for slot in slots.iter().filter(|slot| slot.is_skipped) {
        *left_out.entry(slot.schedule).or_default() += 1;
    }
    let skipped: Vec<i64> = verdicts
        .iter()
        .map(|one| left_out.get(&one.id).copied().unwrap_or(0))
        .collect();
    let nexts = times(Verdict::next);
    let rests: Vec<bool> = verdicts.iter().map(|one| one.rests).collect();
    sqlx::query!(
        "update schedules d set decided_until = greatest(d.decided_until, v.until),
           last_schedule_time = greatest(d.last_schedule_time, v.claim),
           last_missed_time = greatest(d.last_missed_time, v.missed),
           missed_count = d.missed_count + v.count, skipped_count = d.skipped_count + v.skipped,
           next_schedule_time = v.next, rests = v.rests, updated_at = now()
         from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[],
             $5::timestamptz[], $6::bigint[], $7::bigint[], $8::timestamptz[], $9::boolean[])
           as v (tenant_id, id, until, claim, missed, count, skipped, next, rests)
         where d.tenant_id = v.tenant_id and d.id = v.id",
        &tenants,
        &ids,
        &untils as _,
        &claims as _,
        &missed as _,
        &counts,
        &skipped,
        &nexts as _,
        &rests,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}
