//! The registry, and the name of every metric.
