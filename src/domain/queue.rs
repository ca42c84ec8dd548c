//! Why a scan waits, in one sentence: its place in its tenant's line, and what stands in its way. The
//! words change when that matters: a place far behind is told roughly, and who holds what only to
//! those who are next.

use std::collections::{BTreeMap, HashMap};

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};

use super::ids::{ObjectName, ProviderId, ScanId, TenantId};
use super::schedule::whole_seconds;
use super::wording::{some_of, span};

/// Places beyond this are not told apart.
pub const FAR: i64 = 100;
/// From here on a place is told roughly.
const NEAR: i64 = 10;
/// Those in front are told who runs.
const NEXT: i64 = 3;

/// The limits of the queue, over all tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Scans at once; none where another queue counts them.
    pub all: Option<i32>,
    /// Scans at once of a provider type, for those that have a limit.
    pub kinds: BTreeMap<String, i32>,
}

/// A scan that holds an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Whose.
    pub tenant: TenantId,
    /// The account.
    pub provider: ProviderId,
    /// Type of the account.
    pub kind: String,
    /// Name of its object.
    pub name: String,
    /// When its attempt was let in.
    pub since: Option<Timestamp>,
    /// How long the account's last scan took that completed.
    pub usual: Option<SignedDuration>,
}

impl Holder {
    /// When it ends, if it takes as long as the last; whole minutes.
    fn ends(&self) -> Option<Timestamp> {
        let end = self.since?.checked_add(self.usual?).ok()?;
        let up = TimestampRound::new()
            .smallest(Unit::Minute)
            .mode(RoundMode::Ceil);
        end.round(up).ok()
    }
}

/// Who is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rests {
    /// The scan's Tenant.
    Tenant,
    /// The scan's Provider.
    Provider,
}

/// A scan that stands in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Whose.
    pub tenant: TenantId,
    /// The scan.
    pub scan: ScanId,
    /// Its object.
    pub name: ObjectName,
    /// Name of the tenant.
    pub tenant_name: String,
    /// Scans the tenant may run at once.
    pub tenant_limit: i32,
    /// The account.
    pub provider: ProviderId,
    /// Type of the account.
    pub kind: String,
    /// Nothing of it is started.
    pub rests: Option<Rests>,
    /// Place in the tenant's line, from 1 on.
    pub place: i64,
}

/// Who runs, to be asked for each who waits.
#[derive(Debug)]
pub struct Running {
    limits: Limits,
    /// Those of each tenant, the longest first.
    tenants: HashMap<TenantId, Vec<Holder>>,
    kinds: HashMap<String, usize>,
    all: usize,
}

impl Running {
    /// Of these holders, the longest first, under these limits.
    pub fn of(holders: Vec<Holder>, limits: Limits) -> Self {
        let mut running = Self {
            limits,
            tenants: HashMap::new(),
            kinds: HashMap::new(),
            all: holders.len(),
        };
        for holder in holders {
            *running.kinds.entry(holder.kind.clone()).or_default() += 1;
            running
                .tenants
                .entry(holder.tenant)
                .or_default()
                .push(holder);
        }
        running
    }

    /// Why a scan waits. None: nothing stands in its way, it starts in a moment.
    pub fn why(&self, waiting: &Waiting) -> Option<String> {
        match waiting.rests {
            Some(Rests::Tenant) => return Some("Its Tenant is suspended.".to_owned()),
            Some(Rests::Provider) => return Some("Its Provider is suspended.".to_owned()),
            None => {}
        }
        let obstacle = self.obstacle(waiting)?;
        let place = place(waiting.place);
        Some(format!(
            "{place} in line of Tenant {}{obstacle}.",
            waiting.tenant_name
        ))
    }

    fn obstacle(&self, waiting: &Waiting) -> Option<String> {
        let ours = self
            .tenants
            .get(&waiting.tenant)
            .map_or(&[][..], Vec::as_slice);
        let of_account = ours.iter().find(|o| o.provider == waiting.provider);
        if let Some(holder) = of_account {
            let since = holder.since.map_or_else(String::new, |since| {
                format!(" since {}", whole_seconds(since))
            });
            let until = about(holder.ends(), holder.usual);
            return Some(format!(
                "; Scan {} holds the account{since}{until}",
                holder.name
            ));
        }
        let limit = waiting.tenant_limit;
        if reached(ours.len(), limit) {
            let who = if waiting.place <= NEXT {
                format!(": {}", names(ours))
            } else {
                String::new()
            };
            let first = ours
                .iter()
                .filter_map(|holder| Some((holder.ends()?, holder.usual)))
                .min();
            let until = match first {
                Some((ends, usual)) if waiting.place == 1 => about(Some(ends), usual),
                _ => String::new(),
            };
            return Some(format!(
                ", which runs {} of {limit} scans{who}{until}",
                ours.len()
            ));
        }
        let of_kind = self.kinds.get(&*waiting.kind).copied().unwrap_or(0);
        if let Some(limit) = self.limits.kinds.get(&waiting.kind)
            && reached(of_kind, *limit)
        {
            return Some(format!(
                "; {of_kind} of {limit} scans of {} accounts run in this installation",
                waiting.kind
            ));
        }
        let limit = self.limits.all?;
        reached(self.all, limit)
            .then(|| format!("; {} of {limit} scans run in this installation", self.all))
    }
}

fn reached(count: usize, limit: i32) -> bool {
    i64::try_from(count).unwrap_or(i64::MAX) >= i64::from(limit)
}

fn place(place: i64) -> String {
    match place {
        ..2 => "First".to_owned(),
        2 => "Second".to_owned(),
        NEXT => "Third".to_owned(),
        4..=NEAR => format!("Among the first {NEAR}"),
        11..=FAR => format!("Among the first {FAR}"),
        _ => format!("Behind {FAR} others"),
    }
}

/// When something ends, if it takes as long as the last time.
fn about(ends: Option<Timestamp>, usual: Option<SignedDuration>) -> String {
    match (ends, usual) {
        (Some(ends), Some(usual)) => {
            format!(", about until {ends} if it takes {} again", span(usual))
        }
        _ => String::new(),
    }
}

fn names(holders: &[Holder]) -> String {
    let names: Vec<_> = holders.iter().map(|holder| holder.name.as_str()).collect();
    some_of(&names, usize::try_from(NEXT).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenant(n: u128) -> TenantId {
        TenantId(Uuid::from_u128(n))
    }

    fn holder(of: u128, provider: u128, since: &str, minutes: Option<i64>) -> Holder {
        Holder {
            tenant: tenant(of),
            provider: ProviderId(Uuid::from_u128(provider)),
            kind: if provider < 10 { "aws" } else { "gcp" }.to_owned(),
            name: format!("s{provider}"),
            since: Some(since.parse().unwrap()),
            usual: minutes.map(SignedDuration::from_mins),
        }
    }

    fn waiting(of: u128, provider: u128, place: i64) -> Waiting {
        Waiting {
            tenant: tenant(of),
            scan: ScanId(Uuid::from_u128(99)),
            name: ObjectName {
                namespace: "n".into(),
                name: "w".into(),
            },
            tenant_name: "acme".into(),
            tenant_limit: 2,
            provider: ProviderId(Uuid::from_u128(provider)),
            kind: if provider < 10 { "aws" } else { "gcp" }.to_owned(),
            rests: None,
            place,
        }
    }

    #[test]
    fn each_obstacle_has_its_sentence_and_the_nearest_is_told() {
        let limits = Limits {
            all: Some(4),
            kinds: [("gcp".to_owned(), 1)].into(),
        };
        let at = "2026-03-01T02:00:00.4Z";
        let holders = vec![
            holder(1, 1, at, Some(12)),
            holder(1, 2, at, Some(5)),
            holder(2, 10, at, None),
        ];
        let running = Running::of(holders.clone(), limits);
        let why = |waiting: &Waiting| running.why(waiting).unwrap_or_default();
        assert_eq!(
            why(&waiting(1, 1, 1)),
            "First in line of Tenant acme; Scan s1 holds the account since 2026-03-01T02:00:00Z, about until 2026-03-01T02:13:00Z if it takes 12m again."
        );
        assert_eq!(
            why(&waiting(2, 10, 2)),
            "Second in line of Tenant acme; Scan s10 holds the account since 2026-03-01T02:00:00Z."
        );
        assert_eq!(
            why(&waiting(1, 3, 1)),
            "First in line of Tenant acme, which runs 2 of 2 scans: s1, s2, about until 2026-03-01T02:06:00Z if it takes 5m again."
        );
        assert_eq!(
            why(&waiting(1, 3, 3)),
            "Third in line of Tenant acme, which runs 2 of 2 scans: s1, s2."
        );
        assert_eq!(
            why(&waiting(1, 3, 4)),
            "Among the first 10 in line of Tenant acme, which runs 2 of 2 scans."
        );
        assert_eq!(
            why(&waiting(2, 11, 11)),
            "Among the first 100 in line of Tenant acme; 1 of 1 scans of gcp accounts run in this installation."
        );
        assert_eq!(why(&waiting(2, 3, 1)), "", "it starts in a moment");
        for (rests, told) in [
            (Rests::Tenant, "Its Tenant is suspended."),
            (Rests::Provider, "Its Provider is suspended."),
        ] {
            let mut waiting = waiting(1, 1, 1);
            waiting.rests = Some(rests);
            assert_eq!(why(&waiting), told);
        }
        let full = Limits {
            all: Some(3),
            ..Limits::default()
        };
        assert_eq!(
            Running::of(holders.clone(), full)
                .why(&waiting(3, 3, 101))
                .unwrap(),
            "Behind 100 others in line of Tenant acme; 3 of 3 scans run in this installation."
        );
        let none = Limits::default();
        assert_eq!(Running::of(holders, none).why(&waiting(3, 3, 1)), None);
    }

    #[test]
    fn a_scan_that_comes_nearer_says_so_seldom() {
        let limits = Limits {
            all: Some(0),
            ..Limits::default()
        };
        let running = Running::of(Vec::new(), limits);
        let mut told: Vec<_> = (1..10_000)
            .map(|place| running.why(&waiting(1, 1, place)).unwrap())
            .collect();
        told.dedup();
        assert_eq!(told.len(), 6);
    }

    #[test]
    fn of_many_who_run_a_few_are_named() {
        let holders: Vec<_> = (1..=5)
            .map(|n| holder(1, n, "2026-03-01T02:00:00Z", None))
            .collect();
        assert_eq!(names(&holders), "s1, s2, s3 and 2 more");
        assert_eq!(names(&holders[..3]), "s1, s2, s3");
    }
}
