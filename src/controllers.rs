//! The reconcilers: one loop for all kinds, one file per kind.

use std::process::ExitCode;

use crate::config::controller;

/// Runs the subcommand until it ends or is told to stop.
#[expect(
    clippy::unused_async,
    reason = "filled in by the chapter's first commit"
)]
pub async fn run(_args: Box<controller::ControllerArgs>) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
