//! The clock of all schedules: claims what is due in the database, thousands in few statements, and
//! only then calls the passes that make Scans of it. A pass decides by the same act, for its schedule
//! alone; whoever comes second finds all decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_controller::events::EventType;

use super::{Context, clock};
use crate::api::ScanSchedule;
use crate::api::scan_schedule::ScanScheduleSpec;
use crate::domain::ids::{ObjectName, ScheduleId, TenantId};
use crate::domain::reason::Reason;
use crate::domain::schedule::{Due, Fate, Passed, Schedule};
use crate::domain::wording::some_of;
use crate::store::StoreError;
use crate::store::admin::AdminTx;
use crate::store::admin::due::{self, Armed, Slot, Verdict};

/// Looks at least this often: whoever armed a schedule may have died before he rang.
const INTERVAL: Duration = Duration::from_secs(5);
/// What is due and was not decided is locked by somebody who decides it.
const LOCKED: Duration = Duration::from_millis(100);
/// Schedules decided in one transaction.
const BATCH: i64 = 1_000;
/// Names that an event gives.
const NAMED: usize = 5;

/// Claims due times until dropped.
pub async fn run(cx: Arc<Context>) {
    loop {
        if let Err(error) = claim(&cx).await {
            tracing::warn!(%error, "what is due was not claimed; trying again");
        }
        let pause = match due::next(&cx.admin).await {
            Ok(Some(next)) => Duration::try_from(next.duration_since(cx.clock.now()))
                .map_or(LOCKED, |pause| {
                    pause.clamp(Duration::from_millis(1), INTERVAL)
                }),
            Ok(None) | Err(_) => INTERVAL,
        };
        let _ = tokio::time::timeout(pause, cx.wake.due.notified()).await;
    }
}

/// Decides about every schedule that is due, and has Scans made of what it claimed; how many
/// schedules there were.
pub async fn claim(cx: &Arc<Context>) -> Result<usize, StoreError> {
    let mut news = Vec::new();
    let claimed = loop {
        match batch(cx).await {
            Ok(more) if more.is_empty() => break Ok(()),
            Ok(more) => news.extend(more),
            Err(error) => break Err(error),
        }
    };
    // After all claims: passes and claims would compete for the same cores.
    for one in &news {
        cx.wake.call_named::<ScanSchedule>(&one.name);
    }
    let decided = news.len();
    news.retain(News::is_worth_telling);
    if !news.is_empty() {
        // Thousands of events take their time; what is due next is not to wait for them.
        let cx = cx.clone();
        tokio::spawn(async move {
            for one in news {
                one.tell(&cx).await;
            }
        });
    }
    claimed.map(|()| decided)
}

/// Decides about some of those that are due; what is to be told of them, nothing where there are none.
async fn batch(cx: &Context) -> Result<Vec<News>, StoreError> {
    let mut tx = cx.admin.begin().await?;
    let now = clock::agreed(cx, tx.time()).await?;
    let armed = due::due(&mut tx, now, BATCH).await?;
    if armed.is_empty() {
        return Ok(Vec::new());
    }
    match decide(tx, &armed, false, now, cx).await {
        Ok((_, news)) => Ok(news),
        Err(error) => {
            // What is lost may be the answer: whatever is claimed, their passes make.
            for one in &armed {
                cx.wake.call_named::<ScanSchedule>(&one.name);
            }
            Err(error)
        }
    }
}

/// Decides about this schedule; its next due time. `rests`: nothing is to be started.
pub(super) async fn settle(
    cx: &Context,
    tenant: TenantId,
    id: ScheduleId,
    rests: bool,
) -> Result<Option<Timestamp>, StoreError> {
    let mut tx = cx.admin.begin().await?;
    let Some(armed) = due::lock(&mut tx, tenant, id).await? else {
        return Ok(None);
    };
    let now = clock::agreed(cx, tx.time()).await?;
    let (verdicts, news) = decide(tx, &[armed], rests, now, cx).await?;
    let next = verdicts.first().and_then(Verdict::next);
    if next.is_some() {
        cx.wake.due.notify_one();
    }
    for one in news {
        one.tell(cx).await;
    }
    Ok(next)
}

/// Decides about schedules that the transaction has locked, and commits it.
async fn decide(
    mut tx: AdminTx,
    armed: &[Armed],
    rests: bool,
    now: Timestamp,
    cx: &Context,
) -> Result<(Vec<Verdict>, Vec<News>), StoreError> {
    let verdicts: Vec<_> = armed.iter().map(|one| judge(one, rests, now)).collect();
    let slots = due::record(&mut tx, &verdicts, now).await?;
    tx.commit().await?;
    let news = News::of(armed, &verdicts, slots, cx);
    Ok((verdicts, news))
}

/// What is to be done about a schedule now. One that rested when it was last looked at may have done
/// so until now: nothing that fell due since is made up for.
fn judge(armed: &Armed, rests: bool, now: Timestamp) -> Verdict {
    let decided = |due| Verdict {
        tenant: armed.tenant,
        id: armed.id,
        before: armed.decided_until,
        due,
        joined: None,
        rests,
    };
    let Some(schedule) = Schedule::stored(
        armed.schedule.as_deref(),
        armed.interval_seconds,
        armed.time_zone.as_deref(),
        armed.id,
        armed.anchor,
    ) else {
        // Stored by a release that read it otherwise: the next pass says what is wrong with it.
        tracing::warn!(schedule = %armed.name, "the stored schedule cannot be read");
        return decided(Due {
            claim: None,
            passed: None,
            until: armed.decided_until,
            next: None,
        });
    };
    let deadline = armed.starting_deadline_seconds;
    let due =
        schedule
            .with_deadline(deadline)
            .decide(armed.decided_until, rests || armed.rests, now);
    // An account that joins a schedule of intervals does not wait for the next one: the due time
    // that came last is its own too, as long as it may still start.
    let joined = armed.last_slot.filter(|slot| {
        let late = now.duration_since(*slot).as_secs();
        armed.interval_seconds.is_some()
            && !rests
            && *slot == due.until
            && deadline.is_none_or(|deadline| late <= deadline)
    });
    Verdict {
        joined,
        ..decided(due)
    }
}

/// A schedule as events name it.
pub(super) fn reference(name: &ObjectName, uid: Option<String>) -> ScanSchedule {
    let mut schedule = ScanSchedule::new(&name.name, ScanScheduleSpec::default());
    schedule.metadata.namespace = Some(name.namespace.clone());
    schedule.metadata.uid = uid;
    schedule
}

/// What is to be told of a schedule about which something was decided.
struct News {
    id: ScheduleId,
    name: ObjectName,
    object: String,
    passed: Option<Passed>,
    skipped: Vec<String>,
    due_at: Option<Timestamp>,
}

impl News {
    /// Counts what was decided, and gathers what is to be told of it.
    fn of(armed: &[Armed], verdicts: &[Verdict], slots: Vec<Slot>, cx: &Context) -> Vec<Self> {
        let now = cx.clock.now();
        let mut skipped: HashMap<ScheduleId, Vec<String>> = HashMap::new();
        let (mut claimed, mut left_out) = (0_u64, 0_u64);
        let claims: HashMap<_, _> = verdicts
            .iter()
            .map(|verdict| (verdict.id, verdict.due.claim))
            .collect();
        for slot in slots {
            if slot.is_skipped {
                left_out += 1;
                skipped
                    .entry(slot.schedule)
                    .or_default()
                    .push(slot.provider_name);
            } else {
                claimed += 1;
                // That of an account which has only now joined was not late: it was not there.
                if claims.get(&slot.schedule) == Some(&Some(slot.due_at)) {
                    let late = now.duration_since(slot.due_at);
                    cx.metrics.schedules.claimed(late);
                }
            }
        }
        cx.metrics.schedules.skipped(left_out);
        if claimed > 0 {
            tracing::info!(
                schedules = armed.len(),
                claimed,
                skipped = left_out,
                "claimed due times"
            );
        }
        let decided = armed.iter().zip(verdicts);
        decided
            .map(|(armed, verdict)| {
                let passed = verdict.due.passed;
                let passed = passed.filter(|passed| passed.fate != Fate::Suspended);
                if let Some(passed) = passed {
                    cx.metrics.schedules.missed(passed.count);
                }
                Self {
                    id: armed.id,
                    name: armed.name.clone(),
                    object: armed.object.to_string(),
                    passed,
                    skipped: skipped.remove(&armed.id).unwrap_or_default(),
                    due_at: verdict.due.claim.or(verdict.joined),
                }
            })
            .collect()
    }

    fn is_worth_telling(&self) -> bool {
        self.passed.is_some() || !self.skipped.is_empty()
    }

    async fn tell(self, cx: &Context) {
        let schedule = reference(&self.name, Some(self.object.clone()));
        if let Some(passed) = self.passed {
            let note = format!(
                "{} due times up to {} passed without a scan.",
                passed.count, passed.last
            );
            let reason = Reason::MissedSchedule;
            cx.tell(&schedule, EventType::Warning, reason, "Schedule", &note)
                .await;
        }
        if let Some(note) = self.left_out() {
            tracing::info!(schedule = %self.id, note, "left a due time out");
            let reason = Reason::ScanStillActive;
            cx.tell(&schedule, EventType::Normal, reason, "Schedule", &note)
                .await;
        }
    }

    /// Which Providers a due time was left out for.
    fn left_out(&self) -> Option<String> {
        let due_at = self.due_at.filter(|_| !self.skipped.is_empty())?;
        let mut names: Vec<_> = self.skipped.iter().map(String::as_str).collect();
        names.sort_unstable();
        let names = some_of(&names, NAMED);
        Some(format!(
            "Left out the due time {due_at}, for the last scan has not ended of: {names}."
        ))
    }
}
