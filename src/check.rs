//! The installation examined: what is unsafe or missing, as a list.

use std::process::ExitCode;

use crate::config::check;

/// Runs the subcommand until it ends or is told to stop.
#[expect(
    clippy::unused_async,
    reason = "filled in by the chapter's first commit"
)]
pub async fn run(_args: check::CheckArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
