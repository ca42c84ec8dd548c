//! Every flag and environment variable, one file per subcommand, and the controller's
//! configuration file.

pub mod bootstrap;
pub mod check;
pub mod compose;
pub mod controller;
pub mod database;
pub mod file;
pub mod migrate;
pub mod server;
pub mod upload;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Declarative, multi-tenant cloud security scanning with Prowler.
#[derive(Debug, Parser)]
#[command(name = "prowler-operator", version, max_term_width = 100)]
pub struct Cli {
    /// Logging, shared by all subcommands.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How and what to log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Log filter: a level, or a list such as `info,prowler_operator=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", global = true)]
    pub log_level: String,
    /// Log lines as JSON for machines or as text for people.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json, global = true)]
    pub log_format: LogFormat,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Readable text.
    Text,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the reconcilers and the scan dispatcher.
    Controller(Box<controller::ControllerArgs>),
    /// Receive findings from scan pods over HTTPS.
    Server(Box<server::ServerArgs>),
    /// Put a file of credentials together from a Secret's keys (runs inside scan pods).
    Compose(compose::ComposeArgs),
    /// Send a scan's findings to the server (runs inside scan pods).
    Upload(upload::UploadArgs),
    /// Bring the database schema to this program's version.
    Migrate(migrate::MigrateArgs),
    /// Create what must exist once in the cluster: passwords, installation id, evaluation certificate.
    Bootstrap(bootstrap::BootstrapArgs),
    /// Print the custom resource definitions as YAML.
    Crds,
    /// Examine the installation and list what is unsafe or missing.
    Check(check::CheckArgs),
}
