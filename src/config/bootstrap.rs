//! Arguments of `bootstrap`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `bootstrap`.
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// Namespace of the installation.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: String,
    /// Name of the Helm release, put on the Secrets as label `app.kubernetes.io/instance`.
    #[arg(long, env = "RELEASE", default_value = "prowler-operator")]
    pub release: String,
    /// Secret with the installation id (key `id`).
    #[arg(
        long,
        env = "INSTALLATION_SECRET",
        default_value = "prowler-operator-installation"
    )]
    pub installation_secret: String,
    /// Secret with passwords, URLs and certificate of the embedded database; none is made when
    /// absent.
    #[arg(long, env = "DATABASE_SECRET", requires = "database_host")]
    pub database_secret: Option<String>,
    /// Host name of the embedded database, for its URLs and its certificate.
    #[arg(long, env = "DATABASE_HOST")]
    pub database_host: Option<String>,
    /// Where all pods find the embedded database's CA; written here for the other containers of
    /// this pod, and named in the URLs.
    #[arg(
        long,
        env = "DATABASE_CA_FILE",
        default_value = "/var/run/prowler-operator/database/ca.crt"
    )]
    pub database_ca_file: PathBuf,
    /// Secret with the server's certificate and its CA; none is made when absent.
    #[arg(long, env = "SERVER_TLS_SECRET", requires = "server_names")]
    pub server_tls_secret: Option<String>,
    /// DNS names of the server, separated by commas.
    #[arg(long, env = "SERVER_NAMES", value_delimiter = ',')]
    pub server_names: Vec<String>,
}
