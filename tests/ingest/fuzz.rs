//! Real files changed at random, through Postgres: whatever a file holds, the database takes what
//! is made of it, and every record is in its tables or set aside. The reading alone is tried far
//! more often by `src/ingest/fuzz.rs`.

use std::collections::BTreeMap;

use prowler_operator::ingest::{Outcome, Published};
use prowler_operator::store::publication::Standing;

use crate::support::mutation::{Run, read};
use crate::world::{LIMITS, World};

#[tokio::test]
async fn whatever_a_file_holds_it_is_stored_or_refused_and_every_record_accounted_for() {
    let world = World::new().await;
    let mut run = Run::new("files published", 4, 25);
    let mut met = BTreeMap::<_, u32>::new();
    while let Some(file) = run.next() {
        let naive = read(&file, false, LIMITS.record);
        let attempt = world.scan().await;
        // An error of the store ends the test here.
        let outcome = world.publish(&attempt, &file).await;
        let context = format!(
            "FUZZ_SEED={}, file {}: {outcome:?}, {naive:?}",
            run.seed, run.files
        );
        let stored: Vec<(String, Option<String>, i64, i64, i32)> = world
            .rows(&format!(
                "select state, reason, (select count(*) from findings f where f.scan_id = s.id),
                   (select count(*) from quarantined_findings q where q.scan_id = s.id),
                   quarantined from scans s where id = '{}'",
                attempt.scan
            ))
            .await;
        let (state, reason, findings, aside, told) = stored.into_iter().next().unwrap();
        assert_eq!(aside, i64::from(told), "{context}");
        match &outcome {
            Outcome::Published(Published {
                findings: published,
                quarantined,
                ..
            }) => {
                assert_eq!(state, "completed", "{context}");
                assert_eq!(findings, *published, "{context}");
                assert_eq!(aside.unsigned_abs(), *quarantined, "{context}");
                let all = u64::try_from(findings + aside).unwrap();
                if let Some(naive) = naive {
                    assert_eq!(naive.records, all, "{context}");
                    assert!(naive.bad <= *quarantined, "{context}");
                    assert!(naive.good <= findings.unsigned_abs(), "{context}");
                }
            }
            Outcome::Closed(Standing::Refused { reason: why, .. }) => {
                // Whether another attempt follows where one may, the controller says.
                let becomes = if why.is_retried_once() {
                    "executing"
                } else {
                    "failed"
                };
                assert_eq!(state, becomes, "{context}");
                assert_eq!(reason.as_deref(), Some(why.as_str()), "{context}");
                assert_eq!(findings, 0, "{context}");
                assert!(why.as_str() == "OutputPoisoned" || aside == 0, "{context}");
            }
            other => panic!("{other:?} {context}"),
        }
        *met.entry(reason.unwrap_or_default()).or_default() += 1;
    }
    println!("{met:?}");
    assert!(met.contains_key("Completed"), "{met:?}");
}
