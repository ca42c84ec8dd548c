//! Arguments of `upload`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `upload`.
#[derive(Debug, Clone, Args)]
pub struct UploadArgs {
    /// Where to send the findings, for example `https://prowler-operator-server.prowler-operator-system.svc:8443`.
    #[arg(long, env = "SERVER_URL")]
    pub server_url: String,
    /// The CA of that address, as PEM.
    #[arg(long, env = "PROWLER_OPERATOR_SERVER_CA", hide_env_values = true)]
    pub server_ca: String,
    /// The file to send; when it is missing, that is what is told.
    #[arg(
        long = "file",
        env = "UPLOAD_FILE",
        default_value = "/prowler/output/scan.ocsf.json"
    )]
    pub file: PathBuf,
    /// The token that says which pod this is; read again for each try.
    #[arg(
        long = "token-file",
        env = "UPLOAD_TOKEN_FILE",
        default_value = "/var/run/secrets/prowler-operator.dev/token"
    )]
    pub token_file: PathBuf,
    /// Seconds after which to give up.
    #[arg(
        long = "deadline-seconds",
        env = "UPLOAD_DEADLINE_SECONDS",
        default_value_t = 3600
    )]
    pub deadline_seconds: u64,
    /// Seconds that one try may take, answer included.
    #[arg(
        long = "try-seconds",
        env = "UPLOAD_TRY_SECONDS",
        default_value_t = 900
    )]
    pub try_seconds: u64,
    /// Where to leave the outcome as one line of JSON.
    #[arg(
        long = "termination-log",
        env = "TERMINATION_LOG",
        default_value = "/dev/termination-log"
    )]
    pub termination_log: PathBuf,
}
