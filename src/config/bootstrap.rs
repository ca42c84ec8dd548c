//! Arguments of `bootstrap`.

use clap::Args;

/// Arguments of `bootstrap`.
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// Namespace of the installation.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: String,
}
