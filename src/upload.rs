//! Sends a scan's findings to the server; runs inside scan pods.

use std::process::ExitCode;

use crate::config::upload;

/// Runs the subcommand until it ends or is told to stop.
#[expect(
    clippy::unused_async,
    reason = "filled in by the chapter's first commit"
)]
pub async fn run(_args: upload::UploadArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
