//! prowler-operator: declarative, multi-tenant cloud security scanning with Prowler.
//!
//! Modules in reading order, each with the arrows it may follow
//! (`tests/architecture.rs` holds them):
//!
//! * [`api`] — what users write: the custom resources. Depends on nothing of ours.
//! * [`domain`] — pure decisions over those words. No client, no SQL, no clock of its own.
//! * [`store`] — the only place with SQL; a tenant's rows only through a `TenantTx`.
//! * [`controllers`] — one loop for all kinds, one file per kind; writes Kubernetes objects.
//! * [`dispatch`] — which scan may start now, its Job, and how its pod ended.
//! * [`ingest`] — OCSF as a stream of findings, and the rows they become.
//! * [`server`] — HTTPS for uploads, health and metrics.
//! * [`upload`], [`compose`], [`bootstrap`], [`check`] — the remaining subcommands.

pub mod api;
pub mod bootstrap;
pub mod check;
pub mod compose;
pub mod config;
pub mod controllers;
pub mod dispatch;
pub mod domain;
pub mod ingest;
pub mod metrics;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod upload;
