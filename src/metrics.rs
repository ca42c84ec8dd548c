//! The registry, and the name of every metric.

pub mod controller;
pub mod server;
