//! The last result of each Provider that a schedule scans, as its status shows them.

use std::collections::BTreeMap;

use crate::api::common::Time;
use crate::api::scan_schedule::LastResult;
use crate::controllers::scan_schedule::seconds;
use crate::domain::ids::ProviderId;
use crate::store::providers::Listed;
use crate::store::schedules::Ended;

/// Most results that a status shows.
const SHOWN: usize = 50;
/// Most bytes of their names: a status stays below 8 KiB.
const NAMES: usize = 2 * 1024;

/// The results that are shown, and how many are not: first those that did not end well, and each of
/// both by name.
pub(super) fn shown(
    chosen: &[&Listed],
    ended: &BTreeMap<ProviderId, Ended>,
) -> (Vec<LastResult>, usize) {
    let mut results: Vec<_> = chosen
        .iter()
        .filter_map(|provider| Some((&provider.name.name, ended.get(&provider.id)?)))
        .collect();
    results.sort_by_key(|(name, ended)| (ended.state == "completed", *name));
    let all = results.len();
    let mut bytes = 0;
    let shown: Vec<_> = results
        .into_iter()
        .take(SHOWN)
        .take_while(|(name, _)| {
            bytes += name.len();
            bytes <= NAMES
        })
        .map(|(name, ended)| LastResult {
            provider: name.clone(),
            state: ended.state.clone(),
            reason: ended.reason.clone(),
            completed_at: ended.at.map(seconds).map(Time),
        })
        .collect();
    let hidden = all - shown.len();
    (shown, hidden)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::controllers::scan_schedule::made::tests::provider;

    fn ended(state: &str) -> Ended {
        Ended {
            state: state.to_owned(),
            reason: Some("Why".to_owned()),
            at: "2026-11-26T02:00:00.7Z".parse().ok(),
        }
    }

    fn results(names: &[String], failed: u128) -> (Vec<LastResult>, usize) {
        let mut all = Vec::new();
        let mut known = BTreeMap::new();
        for (number, name) in (1..).zip(names) {
            let mut one = provider(number);
            one.name.name.clone_from(name);
            all.push(one);
            let state = if number == failed {
                "failed"
            } else {
                "completed"
            };
            known.insert(ProviderId(Uuid::from_u128(number)), ended(state));
        }
        // One that has no result yet.
        all.push(provider(9999));
        shown(&all.iter().collect::<Vec<_>>(), &known)
    }

    #[test]
    fn those_that_did_not_end_well_come_first_and_each_of_both_by_name() {
        let names = ["b", "c", "a"].map(str::to_owned);
        let (shown, hidden) = results(&names, 2);
        let order: Vec<_> = shown.iter().map(|one| &*one.provider).collect();
        assert_eq!((order, hidden), (vec!["c", "a", "b"], 0));
        assert_eq!(shown[0].state, "failed");
        let at = shown[0].completed_at.as_ref().unwrap().0;
        assert_eq!(at.to_string(), "2026-11-26T02:00:00Z");
    }

    #[test]
    fn there_are_no_more_than_fifty_and_no_more_than_a_status_holds() {
        let names: Vec<_> = (0..120).map(|n| format!("account-{n:03}")).collect();
        let (shown, hidden) = results(&names, 120);
        assert_eq!((shown.len(), hidden), (50, 70));
        assert_eq!(shown[0].provider, "account-119");
        let long: Vec<_> = (0..60).map(|n| format!("{n:0253}")).collect();
        let (shown, hidden) = results(&long, 0);
        assert_eq!((shown.len(), hidden), (8, 52));
        assert!(serde_json::to_vec(&shown).unwrap().len() < 6 * 1024);
    }
}
