//! The tables against a naive model, over random histories of accounts: whole scans, scans of some
//! checks, files that are cut off, accounts deleted and declared again, months that begin and months
//! that are dropped, several accounts of several tenants in turns.
//!
//! The model is a list of everything ever found, looked through from its end. `MODEL_SEED` takes a
//! history again; `SOAK=1` goes on for two minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::domain::ids::{ObjectUid, ProviderId, ScanId};
use prowler_operator::domain::uuid7;
use prowler_operator::ingest::Outcome;
use prowler_operator::store::partitions;
use prowler_operator::store::publication::Attempt;
use serde_json::{Value, json};

use crate::support::ocsf::{Record, file, record};
use crate::world::World;

/// Histories are made of so many scans.
const SCANS: usize = 20;
const CHECKS: [&str; 4] = ["a", "b", "c", "d"];
const NAMES: [&str; 4] = ["one", "two", "three", "four"];
const SEVERITIES: [&str; 5] = ["Critical", "High", "Medium", "Low", "Informational"];

struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        // As in Steele, Lea and Flood's `SplitMix`.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % most as u64).unwrap()
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A finding as the tables must have it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Expected {
    uid: String,
    status: String,
    delta: Option<String>,
    first_seen: Timestamp,
    muted: bool,
    reason: Option<String>,
    month: String,
}

/// What was published once: of which account's row, of which scan, and what.
struct Past {
    provider: ProviderId,
    scan: ScanId,
    found: Vec<Expected>,
    /// Unmuted failures of every resource that the scan saw.
    failures: BTreeMap<String, i32>,
}

/// Everything ever published, oldest first, and which months are there no more.
#[derive(Default)]
struct Model {
    past: Vec<Past>,
    dropped: BTreeSet<String>,
}

impl Model {
    /// What a scan's findings must be, given everything before it.
    fn expect(&self, provider: ProviderId, scan: ScanId, now: Timestamp, file: &[Record]) -> Past {
        let mut failures = BTreeMap::new();
        let mut found = Vec::new();
        for record in file {
            let uid = record.finding_uid();
            let of_it: Vec<_> = self
                .past
                .iter()
                .filter(|past| past.provider == provider)
                .map(|past| {
                    past.found
                        .iter()
                        .filter(|f| f.uid == uid)
                        .collect::<Vec<_>>()
                })
                .filter(|of_it| !of_it.is_empty())
                .collect();
            // Known as long as any finding of it is there to be looked at.
            let kept = |f: &&Expected| !self.dropped.contains(&f.month);
            let known = of_it.iter().flatten().any(kept);
            let before = of_it.last().filter(|_| known);
            // Resources of one name in a region share the uid: the worst verdict before decides. Of
            // several before, a better one is no change as long as the worst is still met.
            let delta = before.map_or(Some("new"), |before| {
                let worst = before.iter().map(|f| &*f.status).max_by_key(|s| badness(s));
                let worst = worst.unwrap_or_default();
                let several = before.iter().any(|f| f.status != worst);
                let stays = file
                    .iter()
                    .any(|other| other.finding_uid() == uid && other.status == worst);
                let is_better = badness(record.status) < badness(worst);
                let same = record.status == worst || is_better && several && stays;
                (!same).then_some("changed")
            });
            found.push(Expected {
                uid,
                status: record.status.to_owned(),
                delta: delta.map(str::to_owned),
                first_seen: before.map_or(now, |before| before[0].first_seen),
                muted: record.muted,
                reason: record.muted.then(|| "Muted by mutelist".to_owned()),
                month: month(scan),
            });
            let failed = record.status == "FAIL" && !record.muted;
            *failures.entry(record.resource.clone()).or_insert(0) += i32::from(failed);
        }
        found.sort();
        Past {
            provider,
            scan,
            found,
            failures,
        }
    }

    /// Of every resource what the newest scan that saw it says.
    fn failures(&self, provider: ProviderId) -> BTreeMap<String, i32> {
        let own = self.past.iter().filter(|past| past.provider == provider);
        own.flat_map(|past| past.failures.clone()).collect()
    }
}

fn badness(status: &str) -> usize {
    ["PASS", "MANUAL", "FAIL"]
        .iter()
        .position(|known| *known == status)
        .unwrap()
}

fn month(scan: ScanId) -> String {
    let at = uuid7::uuid7_to_datetime(scan.0).unwrap();
    named(&at.to_zoned(TimeZone::UTC))
}

/// `2026_nov`.
fn named(month: &Zoned) -> String {
    month.strftime("%Y_%b").to_string().to_lowercase()
}

fn counts(file: &[Record], found: &[Expected]) -> Value {
    let heard: Vec<_> = file.iter().filter(|record| !record.muted).collect();
    let of = |status: &str| {
        heard
            .iter()
            .filter(|record| record.status == status)
            .count()
    };
    let changed = |delta: &str| {
        let unmuted = found.iter().filter(|f| !f.muted);
        unmuted
            .filter(|f| f.delta.as_deref() == Some(delta))
            .count()
    };
    let mut counts = json!({
        "total": file.len(), "pass": of("PASS"), "fail": of("FAIL"), "manual": of("MANUAL"),
        "muted": file.len() - heard.len(), "new": changed("new"), "changed": changed("changed"),
    });
    for severity in SEVERITIES {
        let bad = |record: &&&Record| record.status == "FAIL" && record.severity == severity;
        counts[severity.to_lowercase()] = json!(heard.iter().filter(bad).count());
    }
    counts
}

/// An account of a tenant, and when its next scan begins.
struct Account {
    world: World,
    /// The tenant's accounts differ by this.
    uid: String,
}

/// What some checks find in a small account. Now and then two resources share a name.
fn scanned(dice: &mut Dice, account: &str) -> Vec<Record> {
    let checks: Vec<_> = match dice.below(3) {
        0 => CHECKS.into_iter().filter(|_| dice.once_in(2)).collect(),
        _ => CHECKS.to_vec(),
    };
    let mut records = Vec::new();
    for check in checks {
        for name in NAMES {
            for twin in 0..=usize::from(dice.once_in(6)) {
                if dice.once_in(5) {
                    continue;
                }
                let mut one = record(check, name)
                    .account(account)
                    .resource(&format!("arn:aws:s3:::{name}-{twin}"))
                    .status(dice.one(&["FAIL", "FAIL", "PASS", "MANUAL"]))
                    .severity(dice.one(&SEVERITIES));
                one.muted = dice.once_in(5);
                records.push(one);
            }
        }
    }
    records
}

/// Two tenants on one database, one of them with two accounts.
async fn accounts() -> Vec<Account> {
    let first = World::new().await;
    let db = first.db.clone();
    let uid = "000000000001".to_owned();
    let second = World::on(db.clone(), "aws", &uid).await;
    let mut accounts = vec![
        Account {
            world: first,
            uid: crate::support::ocsf::ACCOUNT.to_owned(),
        },
        Account { world: second, uid },
    ];
    // A second account of the last tenant.
    let uid = "777777777777".to_owned();
    let mut world = World::on(db, "aws", &uid).await;
    let (own, shared) = (world.tenant, accounts[1].world.tenant);
    world
        .admin(&format!(
            "update providers set tenant_id = '{shared}' where tenant_id = '{own}'"
        ))
        .await;
    world.tenant = shared;
    accounts.push(Account { world, uid });
    accounts
}

impl Account {
    /// Deleted and declared again: another row.
    async fn declare_again(&mut self) {
        let world = &mut self.world;
        let new = ProviderId(SystemClock.uuid7());
        world
            .admin(&format!(
                "update scans set holds_account = false, slot = null, queue_slot = null
                 where provider_id = '{old}';
                 update providers set is_deleted = true, deleted_at = now() where id = '{old}';
                 insert into providers (tenant_id, id, provider, uid) values ('{}', '{new}', 'aws', '{}')",
                world.tenant,
                self.uid,
                old = world.provider,
            ))
            .await;
        world.provider = new;
    }

    async fn scan(&self, at: Timestamp, dice: &mut Dice) -> Attempt {
        let random = (dice.below(usize::MAX) as u128) << 20 | dice.below(1 << 20) as u128;
        let scan = ScanId(uuid7::datetime_to_uuid7(at, random).unwrap());
        let job = ObjectUid(SystemClock.uuid7());
        self.world
            .scan_in(scan, Some(job), &format!("job-{job}"))
            .await
    }

    /// Compares what the tables have of a scan that was published.
    async fn compare(
        &self,
        model: &mut Model,
        attempt: &Attempt,
        file: &[Record],
        story: &[String],
    ) {
        let world = &self.world;
        let (now, stored): (jiff_sqlx::Timestamp, Value) = world
            .rows(&format!(
                "select completed_at, counts from scans where id = '{}'",
                attempt.scan
            ))
            .await
            .remove(0);
        let expected = model.expect(world.provider, attempt.scan, now.to_jiff(), file);
        assert_eq!(
            found(world, attempt.scan).await,
            expected.found,
            "{story:#?}"
        );
        assert_eq!(stored, counts(file, &expected.found), "{story:#?}");
        model.past.push(expected);
        let failures: Vec<(String, i32)> = world
            .rows(&format!(
                "select uid, failed_findings_count from resources where provider_id = '{}'",
                world.provider
            ))
            .await;
        let failures: BTreeMap<_, _> = failures.into_iter().collect();
        assert_eq!(failures, model.failures(world.provider), "{story:#?}");
    }

    /// What every scan found is still to be read, by the scan and by its months.
    async fn read_all(&self, model: &Model, story: &[String]) {
        let world = &self.world;
        let own = |past: &&Past| {
            past.provider == world.provider && !model.dropped.contains(&month(past.scan))
        };
        let kept: Vec<_> = model.past.iter().filter(own).collect();
        for past in &kept {
            assert_eq!(found(world, past.scan).await, past.found, "{story:#?}");
            let (first, last) = uuid7::finding_ids(past.scan);
            let by_ids = format!(
                "findings where scan_id = '{}' and id between '{first}' and '{last}'",
                past.scan
            );
            assert_eq!(
                world.count(&by_ids).await,
                i64::try_from(past.found.len()).unwrap(),
                "{story:#?}"
            );
        }
        let ids: Vec<_> = kept.iter().map(|past| past.scan.0).collect();
        if let Some((from, to)) = uuid7::uuid7_range(&ids).unwrap() {
            let (from, to) = (
                uuid7::floor(from).unwrap(),
                uuid7::floor(to + 1.microsecond()).unwrap(),
            );
            let by_months = format!(
                "findings where provider_id = '{}' and id >= '{from}' and id < '{to}'",
                world.provider
            );
            let all: usize = kept.iter().map(|past| past.found.len()).sum();
            assert_eq!(
                world.count(&by_months).await,
                i64::try_from(all).unwrap(),
                "{story:#?}"
            );
        }
    }
}

async fn found(world: &World, scan: ScanId) -> Vec<Expected> {
    type Row = (
        String,
        String,
        Option<String>,
        jiff_sqlx::Timestamp,
        bool,
        Option<String>,
        String,
    );
    let rows: Vec<Row> = world
        .rows(&format!(
            "select uid, status, delta, first_seen_at, muted, muted_reason, tableoid::regclass::text
             from findings where scan_id = '{scan}'"
        ))
        .await;
    let mut found: Vec<_> = rows
        .into_iter()
        .map(
            |(uid, status, delta, first_seen, muted, reason, table)| Expected {
                uid,
                status,
                delta,
                first_seen: first_seen.to_jiff(),
                muted,
                reason,
                month: table.rsplit("findings_").next().unwrap().to_owned(),
            },
        )
        .collect();
    found.sort();
    found
}

/// One history, from the first scan of three accounts to the last.
async fn history(accounts: &mut [Account], seed: u64) -> usize {
    let mut dice = Dice(seed);
    for account in accounts.iter_mut() {
        account.declare_again().await;
    }
    let mut model = Model::default();
    // Some hours before a month's end.
    let this_month = SystemClock
        .now()
        .to_zoned(TimeZone::UTC)
        .first_of_month()
        .unwrap();
    let this_month = this_month.start_of_day().unwrap();
    let mut oldest = this_month.clone();
    let admin = accounts[0].world.db.admin().await;
    // A history before may have dropped it.
    partitions::ensure_months(&admin, this_month.timestamp(), 1)
        .await
        .unwrap();
    let mut month_end = this_month.checked_add(1.month()).unwrap();
    let mut at = month_end.timestamp() - 10.hours();
    let mut story = vec![format!("MODEL_SEED={seed}")];
    let (mut compared, mut number) = (0, 0);
    for _ in 0..SCANS {
        // Mostly the same one: what scans have to do with one another is what goes wrong.
        if dice.once_in(3) {
            number = dice.below(accounts.len());
        }
        at += match dice.below(6) {
            // The last and the first moment of a month.
            0 => (month_end.timestamp() - 1.millisecond()).duration_since(at),
            1 => month_end.timestamp().duration_since(at),
            _ => jiff::SignedDuration::from_mins(i64::try_from(dice.below(300)).unwrap()),
        }
        .max(jiff::SignedDuration::ZERO);
        if at >= month_end.timestamp() {
            partitions::ensure_months(&admin, at, 1).await.unwrap();
            month_end = month_end.checked_add(1.month()).unwrap();
        }
        if dice.once_in(12) {
            accounts[number].declare_again().await;
            story.push(format!("{number} is declared again"));
        }
        if dice.once_in(3) {
            drop_old(&accounts[0].world, &mut model, &mut oldest, at).await;
            story.push(format!("{:?} are dropped", model.dropped));
        }
        let account = &accounts[number];
        let file_of = scanned(&mut dice, &account.uid);
        // Made long before it ran.
        let made = if dice.once_in(8) { at - 8.hours() } else { at };
        let oldest = this_month.timestamp();
        let made = if model.dropped.is_empty() {
            made.max(oldest)
        } else {
            at
        };
        let attempt = account.scan(made, &mut dice).await;
        let bytes = file(&file_of);
        story.push(format!("{number} at {made}: {} records", file_of.len()));
        if dice.once_in(6) {
            let cut = dice.below(bytes.len());
            story.push("cut off".to_owned());
            let outcome = account.world.publish(&attempt, &bytes[..cut]).await;
            assert!(
                matches!(outcome, Outcome::Closed(_)),
                "{outcome:?}\n{story:#?}"
            );
            assert_eq!(found(&account.world, attempt.scan).await, [], "{story:#?}");
        } else {
            let outcome = account.world.publish(&attempt, &bytes).await;
            assert!(
                matches!(outcome, Outcome::Published(_)),
                "{outcome:?}\n{story:#?}"
            );
            account
                .compare(&mut model, &attempt, &file_of, &story)
                .await;
            compared += file_of.len();
        }
    }
    for account in &*accounts {
        account.read_all(&model, &story).await;
    }
    compared
}

/// The months that are over go.
async fn drop_old(world: &World, model: &mut Model, oldest: &mut Zoned, now: Timestamp) {
    loop {
        let next = oldest.checked_add(1.month()).unwrap();
        if next.timestamp() > now {
            return;
        }
        let month = named(oldest);
        for table in partitions::PARTITIONED {
            world
                .admin(&format!("drop table if exists {table}_{month}"))
                .await;
        }
        model.dropped.insert(month);
        *oldest = next;
    }
}

#[tokio::test]
async fn every_history_is_as_a_naive_model_has_it() {
    let given = std::env::var("MODEL_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let budget = if std::env::var_os("SOAK").is_some() {
        120
    } else {
        8
    };
    let mut accounts = accounts().await;
    let begun = Instant::now();
    let (mut histories, mut findings) = (0, 0);
    while histories == 0 || given.is_none() && begun.elapsed() < Duration::from_secs(budget) {
        let seed = given.unwrap_or_else(|| SystemClock.uuid7().as_u64_pair().1);
        findings += history(&mut accounts, seed).await;
        histories += 1;
    }
    eprintln!("{histories} histories, {findings} findings");
    assert!(findings > 50, "{histories} histories, {findings} findings");
}
