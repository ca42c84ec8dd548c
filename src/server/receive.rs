//! `POST /v1/upload`: who is it, may it still publish, take the body, publish.
//!
//! A publication runs in a task of its own: a client that goes away does not stop it, and asks
//! again for what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::BodyDataStream;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use kube::Client;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::answer::Answer;
use super::body::{Incoming, Interrupted, bearer, encoding};
use super::identity::{Refusal, identify};
use super::turns::{Ticket, Tickets, Turns};
use crate::domain::clock::Clock;
use crate::domain::reason::Reason;
use crate::ingest::spool::{Encoding, Spool, SpoolError, Spooled};
use crate::ingest::{self, Outcome, Published};
use crate::metrics::server::ServerMetrics;
use crate::store::publication::{self, Attempt, Part, Standing};
use crate::store::{Store, StoreError};

/// What is thrown away of a body nobody asked for, so that its sender reads the answer.
const UNASKED: u64 = 1024 * 1024;
/// How long a body may wait to be received before its sender is asked to come again.
const ROOM: Duration = Duration::from_secs(10);
/// How long a publication may wait for its turn before its sender is asked to come again.
const TURN: Duration = Duration::from_mins(1);

/// What uploads share.
pub(super) struct App {
    pub client: Client,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub spool: Spool,
    pub metrics: ServerMetrics,
    pub audience: String,
    pub tickets: Tickets,
    pub receiving: Turns,
    pub publishing: Turns,
    pub tasks: TaskTracker,
    pub max_body: u64,
    pub idle: Duration,
    pub upload: Duration,
}

/// Takes an upload and answers it.
pub(super) async fn upload(State(app): State<Arc<App>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut body = body.into_data_stream();
    let answer = match app.take(&head.headers, &mut body).await {
        Ok(answer) => answer,
        Err(refused) => {
            let rest = Incoming::new(&mut body, app.idle).discard(refused.unread);
            let _ = timeout(app.upload, rest).await;
            refused.answer
        }
    };
    app.metrics.answered(answer.reason);
    app.metrics.spool_bytes.set(app.spool.used().cast_signed());
    answer.into_response()
}

/// What is neither an upload nor anything else that is served here.
pub(super) async fn not_found() -> Answer {
    Answer::new(StatusCode::NOT_FOUND, "NotFound", "Nothing is served here.")
}

/// Counts a body as being received; also of a sender who leaves in the middle, whose request is
/// dropped where it waits.
struct Receiving<'a>(&'a App);

impl<'a> Receiving<'a> {
    fn of(app: &'a App) -> Self {
        app.metrics.receiving.inc();
        Self(app)
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        let app = self.0;
        app.metrics.receiving.dec();
        app.metrics.spool_bytes.set(app.spool.used().cast_signed());
    }
}

/// An answer given before the body was read, and how much of it to read all the same.
struct Refused {
    answer: Answer,
    unread: u64,
}

impl From<Answer> for Refused {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            unread: UNASKED,
        }
    }
}

impl App {
    async fn take(
        self: &Arc<Self>,
        headers: &HeaderMap,
        body: &mut BodyDataStream,
    ) -> Result<Answer, Refused> {
        let encoding = encoding(headers)?;
        let token = bearer(headers)?;
        let attempt = identify(&self.client, &self.store, &self.audience, &token)
            .await
            .map_err(|refusal| match refusal {
                Refusal::Answer(answer) => Refused::from(answer),
                Refusal::Store(error) => store_failed(&error, None).into(),
            })?;
        // From here on it is one of our pods: it may finish sending, and will read the answer.
        let known = |answer| Refused {
            answer,
            unread: self.max_body,
        };
        if let Some(answer) = self.closed(&attempt).await {
            return Err(known(answer));
        }
        let Some(ticket) = self.tickets.take((attempt.scan, attempt.attempt)) else {
            return Err(known(Answer::later(
                3,
                "UploadRunning",
                "The findings of this attempt are being received already.",
            )));
        };
        let Some(_receiving) = self.receiving.wait(&ticket, ROOM).await else {
            return Err(known(Answer::later(
                5,
                "TooManyUploads",
                "As many uploads as possible are being received.",
            )));
        };
        let counted = Receiving::of(self);
        let received = timeout(self.upload, self.receive(body, encoding))
            .await
            .unwrap_or_else(|_| Err(Interrupted::TooSlow));
        drop(counted);
        let answer = match received {
            Ok(spooled) => Ok(self.publish(attempt, &ticket, spooled).await),
            Err(interrupted) => Err(known(self.interrupted(&attempt, interrupted).await)),
        };
        let (Ok(told) | Err(Refused { answer: told, .. })) = &answer;
        if told.is_final() {
            ticket.over();
        }
        answer
    }

    /// The answer to an attempt that may not publish, or not now.
    async fn closed(&self, attempt: &Attempt) -> Option<Answer> {
        let standing = async {
            let mut tx = self.store.tenant(attempt.tenant).await?;
            let standing = publication::standing(&mut tx, attempt).await?;
            drop(tx);
            if standing == Standing::ProviderDeleted {
                publication::cancel_deleted(&self.store, attempt, self.clock.now()).await?;
            }
            Ok(standing)
        };
        match standing.await {
            Ok(Standing::Open(_)) => None,
            Ok(standing) => Some(standing.into()),
            Err(error) => Some(store_failed(&error, Some(attempt))),
        }
    }

    async fn receive(
        &self,
        body: &mut BodyDataStream,
        encoding: Encoding,
    ) -> Result<Spooled, Interrupted> {
        let mut spooled = self.spool.begin(self.clock.uuid7())?;
        let mut incoming = Incoming::new(body, self.idle);
        while let Some(part) = incoming.next().await? {
            spooled.write(&part).await?;
            self.metrics
                .spool_bytes
                .set(self.spool.used().cast_signed());
        }
        Ok(spooled.finish(encoding).await?)
    }

    async fn interrupted(&self, attempt: &Attempt, interrupted: Interrupted) -> Answer {
        match interrupted {
            Interrupted::Spool(SpoolError::TooLarge(limit)) => {
                let message = format!("the compressed file is larger than {limit} bytes");
                let reason = Reason::OutputTooLarge;
                let now = self.clock.now();
                match ingest::refuse(&self.store, attempt, reason, &message, now).await {
                    Ok(outcome) => outcome.into(),
                    Err(error) => store_failed(&error, Some(attempt)),
                }
            }
            Interrupted::Spool(SpoolError::Full) => {
                Answer::later(15, "SpoolFull", "There is no room for the file at present.")
            }
            Interrupted::Spool(SpoolError::Io(error)) => {
                tracing::error!(%error, "the spool cannot be written");
                Answer::later(15, "SpoolUnavailable", "The spool cannot be written.")
            }
            Interrupted::TooSlow => Answer::new(
                StatusCode::REQUEST_TIMEOUT,
                "TooSlow",
                "The file was not received in time.",
            ),
            // Nobody is there to read it.
            Interrupted::Broken => Answer::new(
                StatusCode::BAD_REQUEST,
                "Interrupted",
                "The connection broke before the end of the file.",
            ),
        }
    }

    async fn publish(
        self: &Arc<Self>,
        attempt: Attempt,
        ticket: &Ticket,
        spooled: Spooled,
    ) -> Answer {
        let Some(turn) = self.publishing.wait(ticket, TURN).await else {
            return Answer::later(
                15,
                "TooManyPublications",
                "As many files as possible are being published.",
            );
        };
        let app = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            app.metrics.publishing.inc();
            let answer = app.publish_now(&attempt, spooled).await;
            app.metrics.publishing.dec();
            app.metrics.spool_bytes.set(app.spool.used().cast_signed());
            drop(turn);
            answer
        });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a publication broke off");
            Answer::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "The publication broke off; the server's log says why.",
            )
        })
    }

    async fn publish_now(&self, attempt: &Attempt, spooled: Spooled) -> Answer {
        let begun = Instant::now();
        let bytes = spooled.bytes();
        let outcome = ingest::publish(&self.store, &*self.clock, attempt, spooled).await;
        let seconds = begun.elapsed().as_secs_f64();
        let Attempt {
            tenant,
            scan,
            attempt: number,
            ..
        } = attempt;
        match outcome {
            Ok(outcome) => {
                if let Outcome::Published(published) = &outcome {
                    let Published {
                        findings,
                        quarantined,
                        ..
                    } = *published;
                    self.count(published, seconds);
                    tracing::info!(
                        %tenant, %scan, attempt = number, findings, quarantined, bytes, seconds,
                        "published"
                    );
                    return outcome.into();
                }
                if let Outcome::Closed(Standing::ProviderDeleted) = outcome
                    && let Err(error) =
                        publication::cancel_deleted(&self.store, attempt, self.clock.now()).await
                {
                    return store_failed(&error, Some(attempt));
                }
                let answer = Answer::from(outcome);
                tracing::info!(
                    %tenant, %scan, attempt = number, bytes, seconds, reason = answer.reason,
                    message = answer.message, "not published"
                );
                answer
            }
            Err(error) => store_failed(&error, Some(attempt)),
        }
    }

    fn count(&self, published: &Published, seconds: f64) {
        let metrics = &self.metrics;
        metrics.findings.inc_by(published.findings.unsigned_abs());
        metrics.set_aside.inc_by(published.quarantined);
        metrics.publication_seconds.observe(seconds);
        metrics
            .reading_seconds
            .inc_by(published.reading.as_secs_f64());
        for part in Part::ALL {
            metrics.spent(part.as_str(), published.spent.on(part));
        }
    }
}

fn store_failed(error: &StoreError, attempt: Option<&Attempt>) -> Answer {
    if let Some(Attempt { tenant, scan, .. }) = attempt {
        tracing::warn!(%tenant, %scan, %error, "the database failed an upload");
    } else {
        tracing::warn!(%error, "the database failed an upload");
    }
    error.into()
}
