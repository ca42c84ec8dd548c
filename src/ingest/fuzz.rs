//! Real files changed at random, thousands of them, read as the server does it: whatever they hold,
//! the outcome is one of those that there are, and every record is accounted for.

use uuid::Uuid;

use super::assembly::{Assembly, Task};
use super::fault::Fault;
use crate::api::account::ProviderType;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::history::History;
use crate::domain::ids::{ProviderId, ScanId, TenantId};
use crate::domain::inventory::Inventory;
use crate::domain::reason::Reason;
use crate::store::publication::Account;

#[path = "../../tests/support/mutation.rs"]
mod mutation;

use mutation::{Naive, Run, read};

/// Most bytes of a record: some of these files have longer ones.
const MAX_RECORD: usize = 32 * 1024;

/// Findings and records set aside, or why nothing is published and how much was set aside.
type Outcome = Result<(u64, u64), (Reason, u64)>;

fn outcome(file: &[u8], cluster: bool) -> Outcome {
    let (kind, uid) = if cluster {
        (ProviderType::Kubernetes, "in-cluster")
    } else {
        (ProviderType::Aws, "123456789012")
    };
    let task = Task {
        tenant: TenantId(Uuid::from_u128(1)),
        scan: ScanId(SystemClock.uuid7()),
        account: Account {
            provider: ProviderId(Uuid::from_u128(2)),
            kind,
            uid: uid.to_owned(),
        },
        now: 0,
        seed: 0,
    };
    let mut sent = 0;
    let assembly = Assembly::new(task, History::default(), Inventory::default(), |batch| {
        sent += batch.findings() as u64;
        true
    });
    match assembly.read(file, MAX_RECORD) {
        Ok(whole) => {
            assert_eq!(sent, whole.totals.counts.total.unsigned_abs());
            Ok((sent, whole.quarantine.count()))
        }
        Err(Fault::File(reason, _)) => Err((reason, 0)),
        Err(Fault::Poisoned(_, aside)) => Err((Reason::OutputPoisoned, aside.count())),
        Err(other) => panic!("{other}"),
    }
}

/// Whether the outcome agrees with what the naive reader counted.
fn agrees(outcome: Outcome, naive: Option<Naive>) -> bool {
    use Reason::{NoOutput, OutputPoisoned, OutputTruncated, OutputUnreadable, WrongAccount};
    match (outcome, naive) {
        (Ok((findings, aside)), Some(Naive { records, good, bad })) => {
            findings + aside == records && findings >= good && aside >= bad && aside * 10 <= records
        }
        (Err((OutputPoisoned, aside)), Some(Naive { records, good, bad })) => {
            aside * 10 > records && aside >= bad && aside <= records - good
        }
        (Err((WrongAccount, _)), Some(Naive { records, good, .. })) => good < records,
        (Err(_), Some(_)) => false,
        (Err((reason, _)), None) => [
            NoOutput,
            OutputTruncated,
            OutputUnreadable,
            OutputPoisoned,
            WrongAccount,
        ]
        .contains(&reason),
        // A record that is no JSON is set aside, and then the file is none; or its last comma is
        // forgiven.
        (Ok(_), None) => true,
    }
}

#[test]
fn whatever_a_file_holds_its_outcome_is_known_and_every_record_counted() {
    let mut run = Run::new("files read", 4, 100);
    let mut met = std::collections::BTreeMap::<_, u32>::new();
    while let Some(file) = run.next() {
        let cluster = run.files.is_multiple_of(3);
        let naive = read(&file, cluster, MAX_RECORD);
        let outcome = outcome(&file, cluster);
        *met.entry(outcome.map_or_else(|(reason, _)| reason, |_| Reason::Completed))
            .or_default() += 1;
        if !agrees(outcome, naive) {
            let kept = std::env::temp_dir().join(format!("fuzz-{}-{}.json", run.seed, run.files));
            let _ = std::fs::write(&kept, &file);
            panic!(
                "{outcome:?} of {naive:?}: FUZZ_SEED={}, file {} is in {}",
                run.seed,
                run.files,
                kept.display()
            );
        }
    }
    println!("{met:?}");
    // It has seen all kinds, or it has seen nothing.
    for reason in [
        Reason::Completed,
        Reason::OutputTruncated,
        Reason::OutputUnreadable,
        Reason::OutputPoisoned,
    ] {
        assert!(
            met.contains_key(&reason),
            "{reason} never came of it: {met:?}"
        );
    }
}
