//! Findings from a scan pod to the tables: real Postgres, real TLS, a real API server.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

#[path = "ingest/faults.rs"]
mod faults;
#[path = "ingest/fuzz.rs"]
mod fuzz;
#[path = "ingest/hostile.rs"]
mod hostile;
#[path = "ingest/memory.rs"]
mod memory;
#[path = "ingest/model.rs"]
mod model;
#[path = "ingest/outcomes.rs"]
mod outcomes;
#[path = "ingest/owners.rs"]
mod owners;
#[path = "ingest/publication.rs"]
mod publication;
#[path = "ingest/random_requests.rs"]
mod random_requests;
#[path = "ingest/reading.rs"]
mod reading;
#[path = "ingest/real.rs"]
mod real;
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
