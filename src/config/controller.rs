//! Arguments of `controller`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::database::{AdminDatabaseArgs, UserDatabaseArgs};

/// Arguments of `controller`.
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// The database as `prowler_user`.
    #[command(flatten)]
    pub user: UserDatabaseArgs,
    /// The database as `prowler_admin`.
    #[command(flatten)]
    pub admin: AdminDatabaseArgs,
    /// Configuration file (scanner, limits, tenancy, retry).
    #[arg(
        long = "config",
        env = "CONFIG_FILE",
        default_value = "/etc/prowler-operator/config.yaml"
    )]
    pub config_file: PathBuf,
    /// Namespace this program runs in; never claimed by a tenant.
    #[arg(long, env = "POD_NAMESPACE", default_value = "prowler-operator-system")]
    pub pod_namespace: String,
    /// Name of this pod: the holder in the leader-election Lease.
    #[arg(long, env = "POD_NAME", default_value = "prowler-operator-local")]
    pub pod_name: String,
    /// Name of the leader-election Lease.
    #[arg(
        long,
        env = "LEASE_NAME",
        default_value = "prowler-operator-controller"
    )]
    pub lease_name: String,
    /// Secret with the installation id (key `id`).
    #[arg(
        long,
        env = "INSTALLATION_SECRET",
        default_value = "prowler-operator-installation"
    )]
    pub installation_secret: String,
    /// Where scan pods send their findings, for example `https://prowler-operator-server.prowler-operator-system.svc:8443`.
    #[arg(long, env = "SERVER_URL")]
    pub server_url: String,
    /// PEM file with the CA of the server's certificate, put into scan pods; re-read for each Job.
    #[arg(long, env = "SERVER_CA_FILE")]
    pub server_ca_file: PathBuf,
    /// `ClusterRole` that grants reading Secrets, bound to this controller per claimed namespace.
    #[arg(
        long,
        env = "SECRET_READER_ROLE",
        default_value = "prowler-operator-secret-reader"
    )]
    pub secret_reader_role: String,
    /// `ServiceAccount` this controller runs as, the subject of those bindings.
    #[arg(
        long,
        env = "SERVICE_ACCOUNT",
        default_value = "prowler-operator-controller"
    )]
    pub service_account: String,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "HEALTH_ADDR", default_value = "0.0.0.0:8080")]
    pub health_addr: SocketAddr,
    /// Objects of one kind reconciled at once; below the size of the database pool.
    #[arg(long, env = "CONCURRENCY", default_value_t = 8)]
    pub concurrency: u16,
    /// Run without leader election (one controller, for development).
    #[arg(long, env = "NO_LEADER_ELECTION")]
    pub no_leader_election: bool,
}

impl ControllerArgs {
    /// Whether passes would find a connection: those that wait longer than the pool's patience
    /// fail as if the database were away, all at once and again and again.
    pub fn check(&self) -> Result<(), String> {
        self.user
            .leaves_room("concurrency", "CONCURRENCY", self.concurrency)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ControllerArgs,
    }

    fn args(more: &[&str]) -> ControllerArgs {
        let needed = [
            "controller",
            "--database-url=postgres://u@h/d",
            "--database-admin-url=postgres://a@h/d",
            "--server-url=https://server",
            "--server-ca-file=ca.crt",
        ];
        Command::parse_from(needed.iter().chain(more)).args
    }

    #[test]
    fn more_passes_than_connections_are_refused_with_both_numbers() {
        assert_eq!(args(&[]).check(), Ok(()));
        let refused = args(&["--concurrency=10"]).check().unwrap_err();
        assert!(refused.contains("--concurrency 10") && refused.contains("not 10"));
        assert_eq!(
            args(&["--concurrency=10", "--database-pool-size=11"]).check(),
            Ok(())
        );
    }
}
