//! The kinds and the controller against a real API server.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod support;

#[path = "apiserver/bootstrap.rs"]
mod bootstrap;
#[path = "apiserver/crds.rs"]
mod crds;
#[path = "apiserver/faults.rs"]
mod faults;
#[path = "apiserver/harness.rs"]
mod harness;
#[path = "apiserver/kubectl.rs"]
mod kubectl;
#[path = "apiserver/laws.rs"]
mod laws;
