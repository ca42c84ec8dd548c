//! Creating a Secret once, whoever else does so at the same time.

use std::path::PathBuf;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;

/// What a Secret must contain.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Its keys.
    pub keys: &'static [&'static str],
    /// What to do when one is missing.
    pub cure: &'static str,
}

/// A Secret that is there now.
#[derive(Debug)]
pub enum Ensured {
    /// This run created it.
    Created(Secret),
    /// It was there, or another run was faster.
    Found(Secret),
}

impl Ensured {
    /// The Secret as the cluster has it.
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Created(secret) | Self::Found(secret) => secret,
        }
    }
}

/// Why the installation cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// A Secret is there without all it should have; it is left as it is.
    #[error("Secret {name} lacks {missing}: {cure}")]
    Incomplete {
        /// Which Secret.
        name: String,
        /// Its missing keys.
        missing: String,
        /// What to do.
        cure: &'static str,
    },
    /// The installation id is no UUID.
    #[error("Secret {name}: key id is not a UUID: {cure}")]
    NotAnId {
        /// Which Secret.
        name: String,
        /// What to do.
        cure: &'static str,
    },
    /// The API server refused or could not be reached for long.
    #[error("cannot {verb} Secret {name}: {source}")]
    Kube {
        /// What was tried.
        verb: &'static str,
        /// Which Secret.
        name: String,
        /// What the server said.
        source: Box<kube::Error>,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The system has no random numbers.
    #[error("no random numbers from the system: {0}")]
    Random(String),
    /// A file for the other containers could not be written.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The Secret `name`, created by `make` if there is none. What is there is never changed; it is an
/// error if it is not complete.
pub async fn ensure(
    api: &Api<Secret>,
    name: &str,
    shape: &Shape,
    make: impl Fn() -> Result<Secret, BootstrapError>,
) -> Result<Ensured, BootstrapError> {
    let ensured = patiently(async || {
        if let Some(found) = get(api, name).await? {
            return Ok(Ensured::Found(found));
        }
        match api.create(&params(), &make()?).await {
            Ok(created) => Ok(Ensured::Created(created)),
            Err(error) => Err(kube_error("create", name, error)),
        }
    })
    .await?;
    let found = ensured.secret().data.as_ref();
    let missing: Vec<&str> = shape
        .keys
        .iter()
        .copied()
        .filter(|key| {
            found
                .and_then(|d| d.get(*key))
                .is_none_or(|v| v.0.is_empty())
        })
        .collect();
    if missing.is_empty() {
        Ok(ensured)
    } else {
        Err(BootstrapError::Incomplete {
            name: name.to_owned(),
            missing: missing.join(", "),
            cure: shape.cure,
        })
    }
}

/// Replaces the Secret by what `renewed` makes of it, if anything; true if this run did.
/// Of two that renew at the same time, one finds the other's result and leaves it.
pub async fn renew(
    api: &Api<Secret>,
    name: &str,
    renewed: impl Fn(&Secret) -> Result<Option<Secret>, BootstrapError>,
) -> Result<bool, BootstrapError> {
    patiently(async || {
        let Some(found) = get(api, name).await? else {
            return Ok(false);
        };
        // It carries the resource version of what was read: a conflict starts over.
        let Some(next) = renewed(&found)? else {
            return Ok(false);
        };
        match api.replace(name, &params(), &next).await {
            Ok(_) => Ok(true),
            Err(error) => Err(kube_error("renew", name, error)),
        }
    })
    .await
}

async fn get(api: &Api<Secret>, name: &str) -> Result<Option<Secret>, BootstrapError> {
    api.get_opt(name)
        .await
        .map_err(|error| kube_error("read", name, error))
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some("prowler-operator".into()),
        ..PostParams::default()
    }
}

fn kube_error(verb: &'static str, name: &str, source: kube::Error) -> BootstrapError {
    BootstrapError::Kube {
        verb,
        name: name.to_owned(),
        source: Box::new(source),
    }
}

/// Tries again, for about half a minute, what waiting or reading once more can cure. After that
/// the pod's restart goes on with it, which is seen from outside.
async fn patiently<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, BootstrapError>,
) -> Result<T, BootstrapError> {
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(8))
        .with_max_times(8)
        .with_jitter()
        .build();
    loop {
        match attempt().await {
            Err(error) if passing(&error) => match pauses.next() {
                Some(pause) => {
                    tracing::warn!(%error, "trying again");
                    tokio::time::sleep(pause).await;
                }
                None => return Err(error),
            },
            result => return result,
        }
    }
}

/// Whether the next try may end differently. A create whose answer was lost meets its own Secret
/// then, a conflict the other run's.
fn passing(error: &BootstrapError) -> bool {
    match error {
        BootstrapError::Kube { source, .. } => match source.as_ref() {
            kube::Error::Api(status) => matches!(status.code, 409 | 429) || status.code >= 500,
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                true
            }
            _ => false,
        },
        _ => false,
    }
}
