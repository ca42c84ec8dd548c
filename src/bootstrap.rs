//! What must exist once in the cluster before anything else starts.

use std::process::ExitCode;

use crate::config::bootstrap;

/// Runs the subcommand until it ends or is told to stop.
#[expect(
    clippy::unused_async,
    reason = "filled in by the chapter's first commit"
)]
pub async fn run(_args: bootstrap::BootstrapArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
