//! Whether tenants are kept apart: the canary by the clock, and what its findings are to the
//! Tenants.
//!
//! A Tenant's `Ready` stays out of it: the spec is carried out, and no edit of it mends a
//! database. `Isolated` is a condition of its own, written when the answer changes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use k8s_controller::conditions::{self, ConditionStatus};
use k8s_controller::events::EventType;

use super::driver::News;
use super::{Context, status};
use crate::api::Tenant;
use crate::api::common::Condition;
use crate::domain::reason::Reason;
use crate::store::isolation::canary::{self, Breach};

const CONDITION: &str = "Isolated";
/// Breaches that a condition names; the log has all of them.
const NAMED: usize = 3;

/// The pause after a run that came to no end: what stood in its way (a lock, a restart) is
/// gone sooner than the next run is due, and until then nobody knows.
const AGAIN: Duration = Duration::from_mins(1);

/// What the canary last found; nothing before its first run.
#[derive(Debug, Default)]
pub struct Isolation(RwLock<Option<Vec<Breach>>>);

impl Isolation {
    /// Whether this is another answer than the one before.
    fn learn(&self, breaches: Vec<Breach>) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = known.as_ref() != Some(&breaches);
        *known = Some(breaches);
        is_new
    }

    /// Shows it among the conditions of a Tenant; what to tell if another answer stood there.
    /// While nothing is known, what stands there stays.
    pub(super) fn show(
        &self,
        conditions: &mut Vec<Condition>,
        generation: Option<i64>,
    ) -> Option<News> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let breaches = known.as_ref()?;
        let before = conditions::find(conditions, CONDITION).map(|shown| shown.status == "True");
        let (holds, reason, message) = if breaches.is_empty() {
            let message = "No row could be reached from outside its tenant.".to_owned();
            (true, Reason::Succeeded, message)
        } else {
            (false, Reason::IsolationBroken, sentence(breaches))
        };
        let shown = if holds {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        };
        status::set(conditions, generation, CONDITION, shown, reason, &message);
        match (before, holds) {
            (Some(true) | None, false) => Some(News(EventType::Warning, reason, message)),
            (Some(false), true) => Some(News(EventType::Normal, reason, message)),
            _ => None,
        }
    }
}

/// Names tables and commands; no tenant, since every Tenant shows it.
fn sentence(breaches: &[Breach]) -> String {
    let named: Vec<_> = breaches
        .iter()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    let more = match breaches.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" (and {more} more: the operator's log has all)"),
    };
    format!(
        "The database lets rows of other tenants be reached: {}{more}. Run prowler-operator check and do as it says.",
        named.join("; ")
    )
}

/// Runs the canary until dropped.
pub(super) async fn run(cx: Arc<Context>) {
    let interval = Duration::from_secs(cx.config.isolation_canary.interval_seconds.get().into());
    loop {
        let pause = if look(&cx).await {
            interval
        } else {
            interval.min(AGAIN)
        };
        tokio::time::sleep(pause).await;
    }
}

/// Runs the canary once, and calls the Tenants if its answer is a new one. Whether it came to
/// an end.
pub async fn look(cx: &Context) -> bool {
    let started = Instant::now();
    let found = match canary::probe(&cx.store, &cx.admin).await {
        Ok(found) => found,
        Err(error) => {
            cx.metrics.canary.failed();
            tracing::warn!(%error, "the isolation canary came to no end; what it found before may be out of date");
            return false;
        }
    };
    let broken = !found.breaches.is_empty();
    let at = cx.clock.now().as_duration().as_secs_f64();
    cx.metrics.canary.ended(broken, at, started.elapsed());
    for breach in &found.breaches {
        tracing::error!(%breach, "tenants are not kept apart: run `prowler-operator check`");
    }
    if cx.isolation.learn(found.breaches) {
        tracing::info!(
            tries = found.tries,
            broken,
            "the isolation canary has a new answer"
        );
        cx.wake.call_where::<Tenant>(|_| true);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::isolation::canary::Setting;

    fn breach(relation: &str) -> Breach {
        Breach {
            relation: relation.to_owned(),
            command: "select",
            setting: Setting::Absent,
        }
    }

    #[test]
    fn a_condition_is_there_from_the_first_answer_on_and_told_when_it_turns() {
        let isolation = Isolation::default();
        let mut conditions = Vec::new();
        assert_eq!(isolation.show(&mut conditions, Some(1)), None);
        assert!(conditions.is_empty(), "nothing is known yet");
        assert!(isolation.learn(Vec::new()));
        assert_eq!(isolation.show(&mut conditions, Some(1)), None);
        assert_eq!(conditions[0].status, "True");
        assert!(!isolation.learn(Vec::new()));
        assert!(isolation.learn(vec![breach("scans")]));
        let told = isolation.show(&mut conditions, Some(1));
        assert!(matches!(
            told,
            Some(News(EventType::Warning, Reason::IsolationBroken, _))
        ));
        assert_eq!(conditions[0].status, "False");
        assert_eq!(isolation.show(&mut conditions, Some(1)), None, "told once");
        assert!(isolation.learn(Vec::new()));
        let told = isolation.show(&mut conditions, Some(1));
        assert!(matches!(told, Some(News(EventType::Normal, ..))));
    }

    #[test]
    fn many_breaches_are_three_and_a_number() {
        let many: Vec<_> = ["a", "b", "c", "d", "e"].map(breach).into();
        let text = sentence(&many);
        assert!(
            text.contains("select on c with no tenant set (and 2 more"),
            "{text}"
        );
        assert!(!text.contains("on d"), "{text}");
    }
}
