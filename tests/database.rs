//! The database as the program finds it: isolation, migrations, start-up, partitions.

mod support;

#[path = "database/documents.rs"]
mod documents;
#[path = "database/isolation.rs"]
mod isolation;
#[path = "database/migrate.rs"]
mod migrate;
#[path = "database/rules.rs"]
mod rules;
#[path = "database/seed.rs"]
mod seed;
#[path = "database/start.rs"]
mod start;
