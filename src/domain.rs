//! Pure decisions. Nothing here opens a connection, reads a clock or draws a random number:
//! what a function needs it is given, so that each can be tested with a table.

pub mod account;
pub mod clock;
pub mod credentials;
pub mod finding;
pub mod history;
pub mod ids;
pub mod integration;
pub mod inventory;
pub mod limits;
pub mod permission;
pub mod provider;
pub mod quantity;
pub mod queue;
pub mod reason;
pub mod redact;
pub mod scanner;
pub mod schedule;
pub mod scope;
pub mod selector;
pub mod uuid7;
pub mod violation;
pub mod wording;
