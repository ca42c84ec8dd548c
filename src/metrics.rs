//! The name of every metric. `docs/metrics.md` lists them all, and no label ever names an
//! object, a namespace or a tenant.

pub mod build;
pub mod canary;
pub mod controller;
pub mod database;
pub mod kubernetes;
pub mod queue;
pub mod schedules;
pub mod server;
pub mod text;
