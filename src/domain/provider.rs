//! Which Providers make sense.

pub use super::violation::Violation;
