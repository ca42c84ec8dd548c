//! The database as the program finds it: isolation, migrations, start-up, partitions.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

#[path = "database/isolation.rs"]
mod isolation;
#[path = "database/migrate.rs"]
mod migrate;
