//! Everything goes wrong at once: two controllers that both believe to lead, 200 schedules that are
//! due every minute, simulated nodes that run the pods; and all the while controllers are killed,
//! connections cut, answers lost and late. Afterwards the rows must add up to the due times computed
//! from nothing but the schedules, no limit may ever have been exceeded, nothing may be stuck, and
//! with the faults off nothing may be written any more.
//!
//! `CHAOS_SEED` takes a run's faults again; `SOAK=1` goes on for an hour, or for `SOAK_MINUTES`.

#[path = "chaos_stage.rs"]
mod stage;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;

use self::stage::{SCHEDULES, Stage};
use crate::support::link::Weather;

/// Faults that befell, by kind.
type Faults = BTreeMap<&'static str, u32>;

/// So long everything may take to come to rest.
const PATIENCE: Duration = Duration::from_mins(6);
/// Nothing may be written for so long.
const QUIET: Duration = Duration::from_secs(8);

async fn rage(stage: &mut Stage, rng: &mut StdRng, time: Duration) -> Faults {
    let mut faults = Faults::new();
    let begun = Instant::now();
    while begun.elapsed() < time {
        sleep(Duration::from_millis(rng.random_range(300..2_500))).await;
        // Whatever befalls them, least of all while they start.
        stage.is_running();
        let which = rng.random_range(0..2);
        let links = &stage.links[which];
        let link = if rng.random_bool(0.5) {
            &links.api
        } else {
            &links.database
        };
        let fault = match rng.random_range(0..10) {
            0..2 => {
                stage.kill(which);
                sleep(Duration::from_millis(rng.random_range(0..3_000))).await;
                stage.start(which);
                "controllers killed"
            }
            2..5 => {
                link.cut();
                "connections cut"
            }
            5..8 => {
                link.weather(Weather::Deaf);
                sleep(Duration::from_millis(rng.random_range(20..400))).await;
                link.cut();
                link.weather(Weather::Fair);
                "answers lost"
            }
            _ => {
                let late = Duration::from_millis(rng.random_range(50..1_500));
                link.weather(Weather::Late(late));
                sleep(Duration::from_millis(rng.random_range(500..4_000))).await;
                link.weather(Weather::Fair);
                "answers late"
            }
        };
        *faults.entry(fault).or_default() += 1;
    }
    faults
}

/// Waits until this holds; what is still wanting otherwise.
async fn until(stage: &mut Stage, what: &str, query: &str) {
    let begun = Instant::now();
    loop {
        stage.is_running();
        let left = stage.count(query).await;
        if left == 0 {
            println!("{what}: {:.0} s", begun.elapsed().as_secs_f64());
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{what}: {left} left of {query}\n{}",
            stage.logs()
        );
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_due_times_add_up_limits_hold_and_all_comes_to_rest() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("CHAOS_SEED").unwrap_or_else(rand::random);
    println!("CHAOS_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let time = match std::env::var_os("SOAK") {
        Some(_) => Duration::from_mins(number("SOAK_MINUTES").unwrap_or(60)),
        None => Duration::from_mins(1),
    };

    let begun = Instant::now();
    let mut stage = Stage::build().await;
    println!("the stage is built: {:.0} s", begun.elapsed().as_secs_f64());
    let armed = format!(
        "(select {SCHEDULES} - count(*) as n from schedules where next_schedule_time is not null) s where n > 0"
    );
    until(&mut stage, "schedules are armed", &armed).await;
    let publisher = stage.publish();
    let auditor = stage.audit();
    let faults = rage(&mut stage, &mut rng, time).await;

    // Fair weather, and no more due times.
    let suspended = stage.suspend().await;
    until(&mut stage, "schedules rest", "schedules where not rests").await;
    until(
        &mut stage,
        "scans end",
        "scans where holds_account or state in ('available', 'executing')",
    )
    .await;
    until(
        &mut stage,
        "claims lead to scans",
        "schedule_slots where state = 'claimed'",
    )
    .await;
    publisher.abort();
    let outcomes = stage.outcomes().await;
    let told = stage.summary(&faults, &outcomes).await;
    println!("{told}");

    assert_eq!(
        stage.unaccounted(suspended).await,
        [""; 0],
        "every due time has one row\n{told}"
    );
    assert_eq!(
        stage.count("audited.violations").await,
        0,
        "limits hold\n{told}"
    );
    assert_eq!(
        auditor.await.unwrap(),
        0,
        "limits held whenever somebody looked\n{told}"
    );
    let created = stage.count("schedule_slots where state = 'created'").await;
    assert_eq!(
        stage.count("scans").await,
        created,
        "one scan for each due time that led to one"
    );
    let named = "(select distinct q.schedule_id, q.provider_id, q.due_at from schedule_slots q
        join scans s on s.tenant_id = q.tenant_id and s.id = q.scan_id and s.due_at = q.due_at
          and s.provider_id = q.provider_id and s.schedule_id = q.schedule_id
        where q.state = 'created') named";
    assert_eq!(stage.count(named).await, created);
    assert!(
        created >= i64::try_from(SCHEDULES).unwrap(),
        "something was done\n{told}"
    );
    let begun = Instant::now();
    stage.is_quiet(QUIET).await;
    println!("all is quiet: {:.0} s", begun.elapsed().as_secs_f64());
}
