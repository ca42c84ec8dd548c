//! The kinds and the controller against a real API server.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod support;

#[path = "apiserver/accounts.rs"]
mod accounts;
#[path = "apiserver/attempts.rs"]
mod attempts;
#[path = "apiserver/bindings.rs"]
mod bindings;
#[path = "apiserver/bootstrap.rs"]
mod bootstrap;
#[path = "apiserver/calls.rs"]
mod calls;
#[path = "apiserver/chaos.rs"]
mod chaos;
#[path = "apiserver/chart.rs"]
mod chart;
#[path = "apiserver/check.rs"]
mod check;
#[path = "apiserver/checks.rs"]
mod checks;
#[path = "apiserver/claims.rs"]
mod claims;
#[path = "apiserver/crds.rs"]
mod crds;
#[path = "apiserver/credentials.rs"]
mod credentials;
#[path = "apiserver/credentials_life.rs"]
mod credentials_life;
#[path = "apiserver/deletion.rs"]
mod deletion;
#[path = "apiserver/deletion_batches.rs"]
mod deletion_batches;
#[path = "apiserver/doors.rs"]
mod doors;
#[path = "apiserver/ends.rs"]
mod ends;
#[path = "apiserver/examples.rs"]
mod examples;
#[path = "apiserver/faults.rs"]
mod faults;
#[path = "apiserver/fields.rs"]
mod fields;
#[path = "apiserver/groups_and_roles.rs"]
mod groups_and_roles;
#[path = "apiserver/harness.rs"]
mod harness;
#[path = "apiserver/integrations.rs"]
mod integrations;
#[path = "apiserver/isolation.rs"]
mod isolation;
#[path = "apiserver/kubectl.rs"]
mod kubectl;
#[path = "apiserver/kueue.rs"]
mod kueue;
#[path = "apiserver/laws.rs"]
mod laws;
#[path = "apiserver/ledger.rs"]
mod ledger;
#[path = "apiserver/malformed.rs"]
mod malformed;
#[path = "apiserver/metrics.rs"]
mod metrics;
#[path = "apiserver/multiplex.rs"]
mod multiplex;
#[path = "apiserver/mute_rules.rs"]
mod mute_rules;
#[path = "apiserver/outage.rs"]
mod outage;
#[path = "apiserver/providers.rs"]
mod providers;
#[path = "apiserver/queue.rs"]
mod queue;
#[path = "apiserver/restore.rs"]
mod restore;
#[path = "apiserver/retention.rs"]
mod retention;
#[path = "apiserver/run_now.rs"]
mod run_now;
#[path = "apiserver/scan_names.rs"]
mod scan_names;
#[path = "apiserver/scans.rs"]
mod scans;
#[path = "apiserver/schedule_policies.rs"]
mod schedule_policies;
#[path = "apiserver/schedules.rs"]
mod schedules;
#[path = "apiserver/slots.rs"]
mod slots;
#[path = "apiserver/stale.rs"]
mod stale;
#[path = "apiserver/start.rs"]
mod start;
#[path = "apiserver/tenant_limits.rs"]
mod tenant_limits;
#[path = "apiserver/tenants.rs"]
mod tenants;
#[path = "apiserver/unwanted.rs"]
mod unwanted;
#[path = "apiserver/watching.rs"]
mod watching;
