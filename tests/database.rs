//! The database as the program finds it: isolation, migrations, start-up, partitions.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod support;

#[path = "database/admission.rs"]
mod admission;
#[path = "database/canary.rs"]
mod canary;
#[path = "database/check.rs"]
mod check;
#[path = "database/closed_lists.rs"]
mod closed_lists;
#[path = "database/documents.rs"]
mod documents;
#[path = "database/isolation.rs"]
mod isolation;
#[path = "database/migrate.rs"]
mod migrate;
#[path = "database/partitions.rs"]
mod partitions;
#[path = "database/rules.rs"]
mod rules;
#[path = "database/seed.rs"]
mod seed;
#[path = "database/slot_names.rs"]
mod slot_names;
#[path = "database/start.rs"]
mod start;
#[path = "database/store.rs"]
mod store;
#[path = "database/take_over.rs"]
mod take_over;
#[path = "database/views.rs"]
mod views;
