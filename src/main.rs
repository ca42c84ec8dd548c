//! Parses the command line, installs the TLS provider and hands over to the subcommand.

use clap::Parser;
use prowler_operator::config::{Cli, Command};
use prowler_operator::{bootstrap, check, compose, controllers, server, store, telemetry, upload};

fn main() -> anyhow::Result<std::process::ExitCode> {
    // One provider for every TLS user in the process; rustls panics at first use without it.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed before main"))?;
    let cli = Cli::parse();
    telemetry::init(&cli.log);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(cli.command))
}

async fn run(command: Command) -> anyhow::Result<std::process::ExitCode> {
    match command {
        Command::Controller(args) => controllers::run(args).await,
        Command::Server(args) => server::run(args).await,
        Command::Compose(args) => compose::run(&args),
        Command::Upload(args) => upload::run(args).await,
        Command::Migrate(args) if args.take_over => bootstrap::take_over::run(args).await,
        Command::Migrate(args) => store::migrate::run(args).await,
        Command::Bootstrap(args) => bootstrap::run(args).await,
        Command::Check(args) => check::run(args).await,
        Command::Crds => prowler_operator::api::print_crds(),
    }
}
