//! The server's certificate, taken up anew when its files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Why a pair of files is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, std::io::Error),
    #[error("{0} is no PEM of the expected kind: {1}")]
    NoPem(String, rustls_pki_types::pem::Error),
    #[error("certificate and key cannot be used: {0}")]
    NoPair(#[from] rustls::Error),
}

/// The present certificate.
#[derive(Clone)]
pub(super) struct Certificate {
    files: Files,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// Both files' bytes: what a change is known by. A Secret's volume is replaced by a symbolic
/// link, so neither names nor times of the files can be relied on.
#[derive(PartialEq, Eq)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Certificate {
    /// Reads the files; waits for them as long as they cannot be used.
    pub(super) async fn wait(certificate: PathBuf, key: PathBuf, poll: Duration) -> Self {
        let files = Files { certificate, key };
        loop {
            match files
                .read()
                .and_then(|pair| files.config(&pair).map(|config| (pair, config)))
            {
                Ok((pair, config)) => {
                    let this = Self {
                        files,
                        config: Arc::new(RwLock::new(config)),
                    };
                    tokio::spawn(this.clone().watch(pair, poll));
                    return this;
                }
                Err(reason) => {
                    tracing::warn!(%reason, "no certificate to serve with yet");
                    tokio::time::sleep(poll.min(Duration::from_secs(2))).await;
                }
            }
        }
    }

    /// What the next connection is accepted with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let config = self
            .config
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }

    /// Follows the files for as long as the process lives. What cannot be used is told once, and
    /// the old certificate stays.
    async fn watch(self, mut current: Pair, poll: Duration) {
        loop {
            tokio::time::sleep(poll).await;
            let pair = match self.files.read() {
                Ok(pair) if pair == current => continue,
                Ok(pair) => pair,
                Err(reason) => {
                    tracing::warn!(%reason, "the certificate's files cannot be read");
                    continue;
                }
            };
            match self.files.config(&pair) {
                Ok(config) => {
                    *self
                        .config
                        .write()
                        .unwrap_or_else(std::sync::PoisonError::into_inner) = config;
                    tracing::info!("took up a new certificate");
                    current = pair;
                }
                Err(reason) => {
                    tracing::warn!(%reason, "the new certificate is not used");
                    // Half a change: the other file follows.
                }
            }
        }
    }
}

impl Files {
    fn read(&self) -> Result<Pair, Unusable> {
        let read = |path: &Path| {
            std::fs::read(path)
                .map_err(|error| Unusable::Unreadable(path.display().to_string(), error))
        };
        Ok(Pair {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
        })
    }

    fn config(&self, pair: &Pair) -> Result<Arc<ServerConfig>, Unusable> {
        let no_pem = |path: &Path| {
            let path = path.display().to_string();
            move |error| Unusable::NoPem(path, error)
        };
        let chain = CertificateDer::pem_slice_iter(&pair.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(no_pem(&self.certificate))?;
        let key = PrivateKeyDer::from_pem_slice(&pair.key).map_err(no_pem(&self.key))?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
