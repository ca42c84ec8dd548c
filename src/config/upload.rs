//! Arguments of `upload`.

use clap::Args;

/// Arguments of `upload`.
#[derive(Debug, Args)]
pub struct UploadArgs {
    /// Where to send the findings.
    #[arg(long, env = "SERVER_URL")]
    pub server_url: String,
}
