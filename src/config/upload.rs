//! Arguments of `upload`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `upload`.
#[derive(Debug, Args)]
pub struct UploadArgs {
    /// Where to send the findings, for example `https://prowler-operator-server.prowler-operator-system.svc:8443`.
    #[arg(long, env = "SERVER_URL")]
    pub server_url: String,
    /// The CA of the server's certificate, as PEM text.
    #[arg(long, env = "PROWLER_OPERATOR_SERVER_CA", hide_env_values = true)]
    pub server_ca: String,
    /// The file Prowler wrote; one that is not there is reported as such.
    #[arg(
        long,
        env = "UPLOAD_FILE",
        default_value = "/prowler/output/scan.ocsf.json"
    )]
    pub file: PathBuf,
    /// Projected `ServiceAccount` token, read again for each try.
    #[arg(
        long,
        env = "UPLOAD_TOKEN_FILE",
        default_value = "/var/run/secrets/prowler-operator.dev/token"
    )]
    pub token_file: PathBuf,
    /// Seconds after which to give up.
    #[arg(long, env = "UPLOAD_DEADLINE_SECONDS", default_value_t = 3600)]
    pub deadline_seconds: u64,
    /// Where the kubelet looks for this container's last words.
    #[arg(long, env = "TERMINATION_LOG", default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
}
