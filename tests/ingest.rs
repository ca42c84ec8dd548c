//! Findings from a scan pod to the tables: real Postgres, real TLS, a real API server.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

#[path = "ingest/faults.rs"]
mod faults;
#[path = "ingest/model.rs"]
mod model;
#[path = "ingest/publication.rs"]
mod publication;
#[path = "ingest/secrets.rs"]
mod secrets;
#[path = "ingest/site.rs"]
mod site;
#[path = "ingest/strangers.rs"]
mod strangers;
#[path = "ingest/uploads.rs"]
mod uploads;
#[path = "ingest/world.rs"]
mod world;
