//! HTTPS for scan pods; health and metrics.

pub mod health;

use std::process::ExitCode;

use crate::config::server;

/// Runs the subcommand until it ends or is told to stop.
#[expect(
    clippy::unused_async,
    reason = "filled in by the chapter's first commit"
)]
pub async fn run(_args: Box<server::ServerArgs>) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
