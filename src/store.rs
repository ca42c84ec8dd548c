//! The pools, and the only way to rows: a transaction that names its tenant.

pub mod migrate;
