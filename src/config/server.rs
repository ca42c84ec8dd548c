//! Arguments of `server`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::database::UserDatabaseArgs;
use crate::domain::quantity;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// Arguments of `server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The database as `prowler_user`.
    #[command(flatten)]
    pub user: UserDatabaseArgs,
    /// Address of HTTPS.
    #[arg(long, env = "LISTEN_ADDR", default_value = "0.0.0.0:8443")]
    pub listen_addr: SocketAddr,
    /// Address of /livez, /readyz and /metrics (plain HTTP).
    #[arg(long, env = "HEALTH_ADDR", default_value = "0.0.0.0:8080")]
    pub health_addr: SocketAddr,
    /// PEM file with the server's certificate and its chain; a changed file is taken up without a restart.
    #[arg(
        long,
        env = "TLS_CERT_FILE",
        default_value = "/var/run/prowler-operator/server/tls.crt"
    )]
    pub tls_cert_file: PathBuf,
    /// PEM file with the key of that certificate.
    #[arg(
        long,
        env = "TLS_KEY_FILE",
        default_value = "/var/run/prowler-operator/server/tls.key"
    )]
    pub tls_key_file: PathBuf,
    /// How often the two files are looked at, in seconds.
    #[arg(long, env = "TLS_POLL_SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub tls_poll_seconds: u64,
    /// Audience that a scan pod's token must be for.
    #[arg(long, env = "TOKEN_AUDIENCE", default_value = "prowler-operator")]
    pub token_audience: String,
    /// Directory for bodies until they are published.
    #[arg(long, env = "SPOOL_DIR", default_value = "/var/spool/prowler-operator")]
    pub spool_dir: PathBuf,
    /// Most bytes of all bodies in the spool; beyond, uploads are asked to come again.
    #[arg(long, env = "MAX_SPOOL_BYTES", default_value_t = 3 * GIB)]
    pub max_spool_bytes: u64,
    /// Most bytes of one body, as sent (compressed).
    #[arg(long, env = "MAX_UPLOAD_BYTES", default_value_t = GIB)]
    pub max_upload_bytes: u64,
    /// Bytes that a file, decompressed, must stay below, also as a quantity (4Gi).
    #[arg(long, env = "MAX_FILE_BYTES", default_value = "4Gi", value_parser = bytes)]
    pub max_file_bytes: u64,
    /// Most bytes of one record; a larger one is set aside.
    #[arg(long, env = "MAX_RECORD_BYTES", default_value_t = 4 * 1024 * 1024)]
    pub max_record_bytes: usize,
    /// Bodies received at once.
    #[arg(long, env = "MAX_UPLOADS", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub max_uploads: u16,
    /// Files published at once; each holds a database connection. Others wait in the spool.
    #[arg(long, env = "MAX_PUBLICATIONS", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub max_publications: u16,
    /// Connections open at once; further ones are closed.
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 512,
          value_parser = clap::value_parser!(u16).range(1..=50_000))]
    pub max_connections: u16,
    /// Seconds a client may stay silent: in the handshake, before its headers, between two parts
    /// of a body; and over which a body must bring a KiB a second.
    #[arg(long, env = "IDLE_SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub idle_seconds: u64,
    /// Seconds the receiving of one body may take.
    #[arg(long, env = "UPLOAD_SECONDS", default_value_t = 1800,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub upload_seconds: u64,
    /// Seconds that publications under way may take to finish once the program is told to stop.
    #[arg(long, env = "SHUTDOWN_SECONDS", default_value_t = 50,
          value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub shutdown_seconds: u64,
}

/// A size as Kubernetes writes it.
fn bytes(text: &str) -> Result<u64, String> {
    quantity::units(text)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "it must be a number of bytes, such as 4Gi or 4294967296".to_owned())
}

impl ServerArgs {
    /// Refuses settings that defeat each other, in a sentence that names both.
    pub fn check(&self) -> Result<(), String> {
        self.user.leaves_room(
            "max-publications",
            "MAX_PUBLICATIONS",
            self.max_publications,
        )?;
        let (body, spool) = (self.max_upload_bytes, self.max_spool_bytes);
        if body > spool {
            return Err(format!(
                "--max-upload-bytes {body} is more than the whole spool may hold, {spool}: such a body would \
                 never be taken; lower MAX_UPLOAD_BYTES or raise MAX_SPOOL_BYTES"
            ));
        }
        Ok(())
    }

    /// [`Self::idle_seconds`].
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    /// [`Self::upload_seconds`].
    pub fn upload(&self) -> Duration {
        Duration::from_secs(self.upload_seconds)
    }

    /// [`Self::shutdown_seconds`].
    pub fn shutdown(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ServerArgs,
    }

    fn check(more: &[&str]) -> Result<(), String> {
        let needed = ["server", "--database-url", "postgres://u@h/d"];
        let words = needed.iter().chain(more);
        Command::try_parse_from(words).unwrap().args.check()
    }

    #[test]
    fn the_size_of_a_file_is_a_quantity() {
        let needed = ["server", "--database-url", "postgres://u@h/d"];
        let args = Command::try_parse_from(needed).unwrap().args;
        assert_eq!(args.max_file_bytes, 4 * GIB);
        for (text, read) in [
            ("4Gi", Some(4 * GIB)),
            ("4294967296", Some(4 * GIB)),
            ("2G", Some(2_000_000_000)),
            ("0", None),
            ("-1", None),
            ("much", None),
        ] {
            assert_eq!(bytes(text).ok(), read, "{text}");
        }
    }

    #[test]
    fn settings_that_defeat_each_other_are_refused_with_both_numbers() {
        check(&[]).unwrap();
        check(&["--max-publications", "9"]).unwrap();
        let told = check(&["--max-publications", "10"]).unwrap_err();
        assert!(told.contains("--max-publications 10") && told.contains("not 10"));
        check(&["--max-publications", "10", "--database-pool-size", "11"]).unwrap();
        let told = check(&["--max-upload-bytes", "100", "--max-spool-bytes", "99"]).unwrap_err();
        assert!(told.contains("--max-upload-bytes 100") && told.contains("99"));
        check(&["--max-upload-bytes", "100", "--max-spool-bytes", "100"]).unwrap();
    }
}
