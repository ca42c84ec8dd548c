//! A Provider's connection, checked by a Job when its turn comes: made, found again, read, and
//! taken away. `Ready` never waits for it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_controller::conditions::{self, ConditionStatus};
use k8s_openapi::api::batch::v1::Job;
use kube::Resource as _;
use kube::runtime::events::EventType;
use serde_json::json;

use super::row::hash;
use crate::api::Provider;
use crate::api::common::condition;
use crate::api::provider::ProviderStatus;
use crate::controllers::driver::News;
use crate::controllers::error::Error;
use crate::controllers::jobs::{self, Made};
use crate::controllers::tenancy::TenantView;
use crate::controllers::{Context, scan_schedule::seconds, status};
use crate::dispatch::check::{Check, Verdict, judge};
use crate::domain::ids::{ObjectName, ProviderId};
use crate::domain::provider::ValidProvider;
use crate::domain::reason::Reason;
use crate::domain::redact::redact;
use crate::domain::scanner;
use crate::domain::schedule::duration;
use crate::store::checks::{self, Connection, Running, Standing, Wish};
use crate::store::scans::JobRef;

/// The net under events of Jobs and pods that were missed.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// A check that came to nothing is made again after this.
const AFTER_NOTHING: SignedDuration = SignedDuration::from_mins(10);
/// A Job without a pod is waited for so long before the API server is asked why.
const POD_PATIENCE: SignedDuration = SignedDuration::from_secs(15);

/// What the checks of an account look at and whose they are.
pub(super) struct Subject<'a> {
    pub(super) tenant: &'a TenantView,
    pub(super) provider: ProviderId,
    pub(super) name: &'a ObjectName,
    pub(super) valid: &'a ValidProvider,
    pub(super) interval_seconds: i64,
}

impl Provider {
    /// What is to be checked, and how often. `version` is another one once the Secret or the
    /// ServiceAccount changed.
    pub(super) fn wish(&self, valid: &ValidProvider, version: &str, cx: &Context) -> Wish {
        let config = &cx.config.connection_checks;
        let own = self
            .spec
            .connection_check
            .as_ref()
            .and_then(|check| check.interval.as_deref())
            .and_then(duration);
        let off = config.parallelism < 1 || !valid.can_be_scanned();
        let subject = json!([
            self.spec.provider.as_str(),
            valid.account().uid(),
            valid.access(),
            version,
            image(valid, cx),
        ]);
        Wish {
            interval_seconds: if off {
                0
            } else {
                own.map_or(config.interval_seconds, |interval| interval.as_secs())
            },
            subject: hash(&subject),
        }
    }

    /// Takes the check that was let in a step further. When to look again; `None`: none runs.
    pub(super) async fn follow_check(
        &self,
        running: &Running,
        subject: &Subject<'_>,
        status: &mut ProviderStatus,
        cx: &Context,
    ) -> Result<Option<Duration>, Error> {
        let now = cx.clock.now();
        if !running.current {
            // What it looks at is not what the spec says any more: the next one is due at once.
            self.end_check(running, subject, None, now, cx).await?;
            return Ok(None);
        }
        let Some(job) = self.made(running, subject, cx).await? else {
            let verdict = Verdict::none(
                Reason::CheckFailed,
                "Something else has the name of the check's Job.",
            );
            return self.conclude(running, subject, verdict, status, cx).await;
        };
        match self.found(running, &job, cx).await? {
            Some(verdict) => {
                let running = Running {
                    job: Some(job),
                    ..running.clone()
                };
                self.conclude(&running, subject, verdict, status, cx).await
            }
            None => Ok(Some(LOOK_AGAIN)),
        }
    }

    async fn conclude(
        &self,
        running: &Running,
        subject: &Subject<'_>,
        verdict: Verdict,
        status: &mut ProviderStatus,
        cx: &Context,
    ) -> Result<Option<Duration>, Error> {
        let now = cx.clock.now();
        if self
            .end_check(running, subject, Some(&verdict), now, cx)
            .await?
        {
            self.show_connection(
                status,
                &Connection {
                    connected: verdict.connected,
                    reason: Some(verdict.reason.as_str().to_owned()),
                    message: Some(verdict.message),
                    at: now,
                },
            );
        }
        Ok(None)
    }

    fn planned(
        &self,
        running: &Running,
        subject: &Subject<'_>,
        cx: &Context,
    ) -> Result<Job, Error> {
        let check = Check {
            tenant: subject.tenant.id,
            provider: subject.provider,
            number: running.number,
            object: subject.name.clone(),
            owner: self.controller_owner_ref(&()).ok_or(Error::Outdated)?,
            kind: self.spec.provider,
            uid: subject.valid.account().uid().to_owned(),
            access: subject.valid.access().clone(),
            run: scanner::invocation(
                subject.valid.account(),
                subject.valid.settings(),
                subject.valid.access(),
            ),
            image: image(subject.valid, cx),
        };
        Ok(check.job(&cx.config))
    }

    /// The check's Job, made if it is not yet; its name is written down before and its uid after.
    /// `None`: something else has its name.
    async fn made(
        &self,
        running: &Running,
        subject: &Subject<'_>,
        cx: &Context,
    ) -> Result<Option<JobRef>, Error> {
        if let Some(job @ JobRef { uid: Some(_), .. }) = &running.job {
            return Ok(Some(job.clone()));
        }
        let wanted = self.planned(running, subject, cx)?;
        let mut job = JobRef {
            name: ObjectName {
                namespace: subject.name.namespace.clone(),
                name: wanted.metadata.name.clone().unwrap_or_default(),
            },
            uid: None,
        };
        self.write_down(running, subject, &job, cx).await?;
        let Made::Ours(uid) = jobs::make(cx, &wanted).await? else {
            return Ok(None);
        };
        job.uid = Some(uid);
        self.write_down(running, subject, &job, cx).await?;
        Ok(Some(job))
    }

    async fn write_down(
        &self,
        running: &Running,
        subject: &Subject<'_>,
        job: &JobRef,
        cx: &Context,
    ) -> Result<(), Error> {
        let mut tx = cx.store.tenant(subject.tenant.id).await?;
        let ours = checks::set_job(&mut tx, subject.provider, running.number, job).await?;
        tx.commit().await?;
        // Given up meanwhile, or the account is going.
        if ours { Ok(()) } else { Err(Error::Outdated) }
    }

    /// What the Job's pod says; `None`: nothing yet.
    async fn found(
        &self,
        running: &Running,
        job: &JobRef,
        cx: &Context,
    ) -> Result<Option<Verdict>, Error> {
        let Some(uid) = job.uid else { return Ok(None) };
        let now = cx.clock.now();
        let pods = jobs::pods(cx, &job.name.namespace, uid).await?;
        if let Some(verdict) = pods.iter().find_map(|pod| judge(pod, running.since, now)) {
            return Ok(Some(verdict));
        }
        let Some(live) = jobs::get(cx, job).await? else {
            return Ok(Some(Verdict::none(
                Reason::PodLost,
                "The check's Job was deleted before it answered.",
            )));
        };
        if let Some(reason) = failure(&live) {
            return Ok(Some(reason));
        }
        if pods.is_empty()
            && now.duration_since(running.since) > POD_PATIENCE
            && let Some(said) =
                jobs::told(cx, &job.name.namespace, &uid.to_string(), "FailedCreate").await?
        {
            return Ok(Some(Verdict::none(
                Reason::PodRefused,
                format!(
                    "The cluster refused to make the check's pod: {}",
                    redact(&said)
                ),
            )));
        }
        Ok(None)
    }

    /// Writes down what was found, frees the check's place and deletes its Job. Whether the check
    /// was still the one that ran.
    async fn end_check(
        &self,
        running: &Running,
        subject: &Subject<'_>,
        verdict: Option<&Verdict>,
        now: Timestamp,
        cx: &Context,
    ) -> Result<bool, Error> {
        let next = match verdict {
            Some(Verdict {
                connected: Some(_), ..
            }) => now + spread(subject.interval_seconds, cx),
            _ => now + AFTER_NOTHING,
        };
        let mut tx = cx.store.tenant(subject.tenant.id).await?;
        let expires = verdict.and_then(|verdict| verdict.expires);
        let ours = checks::finish(&mut tx, subject.provider, running.number, next, expires).await?;
        if let (true, Some(verdict)) = (ours, verdict) {
            let message = status::bounded(&verdict.message);
            checks::set_connection(
                &mut tx,
                subject.provider,
                verdict.connected,
                verdict.reason,
                &message,
                now,
            )
            .await?;
        }
        tx.commit().await?;
        cx.wake.checks.notify_one();
        // A pass that dies here leaves a Job that has ended, or ends by its deadline; its time to
        // live takes it away.
        if let Some(job) = &running.job
            && let Some(uid) = job.uid
        {
            jobs::delete(cx, job, uid).await?;
        }
        Ok(ours)
    }

    /// What is known of the connection.
    pub(super) fn show_standing(
        &self,
        status: &mut ProviderStatus,
        connection: Option<&Connection>,
        standing: &Standing,
        valid: &ValidProvider,
    ) {
        if let Some(connection) = connection {
            self.show_connection(status, connection);
        } else if !valid.can_be_scanned() {
            self.condition(
                status,
                condition::CONNECTED,
                ConditionStatus::False,
                Reason::CredentialsMissing,
                "Without credentials the account cannot be reached.",
            );
        } else if standing.awaited {
            self.condition(
                status,
                condition::CONNECTED,
                ConditionStatus::Unknown,
                Reason::Progressing,
                "The connection is checked when its turn comes.",
            );
        } else {
            // What an earlier row of the account said of it.
            conditions::remove(&mut status.conditions, condition::CONNECTED);
        }
    }

    /// What to tell when an account lets Prowler in no more, or again.
    pub(super) fn connection_turned(&self, status: &ProviderStatus) -> Option<News> {
        let of = |status: &ProviderStatus| {
            conditions::find(&status.conditions, condition::CONNECTED).cloned()
        };
        let now = of(status)?;
        let before = self.status.as_ref().and_then(of);
        let before = before.map(|before| (before.status, before.reason));
        // That there are no credentials is no news of the account.
        let reason = Reason::from_name(&now.reason).filter(|r| *r != Reason::CredentialsMissing)?;
        match (&*now.status, before) {
            // In other words than before, it is another thing to mend.
            ("False", before) if before.as_ref() != Some(&(now.status.clone(), now.reason)) => {
                Some(News(EventType::Warning, reason, now.message))
            }
            ("True", Some((before, _))) if before == "False" => {
                Some(News(EventType::Normal, reason, now.message))
            }
            _ => None,
        }
    }

    fn show_connection(&self, status: &mut ProviderStatus, found: &Connection) {
        let at = seconds(found.at);
        let reason = found.reason.as_deref().and_then(Reason::from_name);
        let (state, reason, message) = match found.connected {
            Some(true) => (
                ConditionStatus::True,
                Reason::Succeeded,
                format!("The account was reached at {at}."),
            ),
            Some(false) => {
                let why = found.message.as_deref();
                let why = why.unwrap_or("The account did not accept the credentials");
                (
                    ConditionStatus::False,
                    reason.unwrap_or(Reason::AuthenticationFailed),
                    format!("{} ({at})", why.trim_end_matches('.')),
                )
            }
            None => {
                let why = found.message.as_deref().unwrap_or("No check has answered");
                (
                    ConditionStatus::Unknown,
                    reason.unwrap_or(Reason::CheckFailed),
                    format!("{} ({at})", why.trim_end_matches('.')),
                )
            }
        };
        self.condition(status, condition::CONNECTED, state, reason, &message);
    }
}

/// The interval, spread by a tenth either way: accounts that were checked together do not stay
/// together.
fn spread(interval_seconds: i64, cx: &Context) -> SignedDuration {
    let spread = 0.9 + 0.2 * cx.clock.jitter();
    let pause = Duration::from_secs(interval_seconds.unsigned_abs()).mul_f64(spread);
    SignedDuration::try_from(pause).unwrap_or(AFTER_NOTHING)
}

fn image(valid: &ValidProvider, cx: &Context) -> String {
    let own = valid.settings().image.clone();
    own.unwrap_or_else(|| cx.config.scanner.image.clone())
}

/// A Job that ended as a whole.
fn failure(job: &Job) -> Option<Verdict> {
    let failed = job
        .status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "Failed" && c.status == "True")?;
    Some(match failed.reason.as_deref() {
        Some("DeadlineExceeded") => Verdict::none(
            Reason::DeadlineExceeded,
            "The check did not begin within 10 minutes; look at the pod's image and at the nodes.",
        ),
        _ => Verdict::none(Reason::PodLost, "The check's pod ended before it answered."),
    })
}
