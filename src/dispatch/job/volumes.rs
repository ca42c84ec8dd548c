//! The volumes: the output that passes from `scan` to `upload`, the Secret's files and the
//! cluster's token for `scan`, the token of our server for `upload`.

use k8s_openapi::api::core::v1::{KeyToPath, SecretVolumeSource, Volume};

use super::{AUDIENCE, Attempt};
use crate::dispatch::pod::{cluster_access, projected, scratch, token};
use crate::domain::scanner::SecretFile;

/// Where Prowler writes and `upload` reads.
pub(super) const OUTPUT: &str = "output";
/// A writable `/tmp` for `scan`, whose root is read-only.
pub(super) const SCAN_TMP: &str = "tmp";
/// Keys of the Secret as files; for `scan` alone.
pub(super) const CREDENTIALS: &str = "credentials";
/// The token for our server; for `upload` alone.
pub(super) const TOKEN: &str = "upload-token";
/// The ServiceAccount's token for a scan of the cluster itself; for `scan` alone.
pub(super) const CLUSTER: &str = "cluster-access";

impl Attempt {
    pub(super) fn secret_files(&self) -> Vec<KeyToPath> {
        let item = |file: &SecretFile| KeyToPath {
            key: file.key.clone(),
            path: file.name.clone(),
            ..KeyToPath::default()
        };
        self.run.files.iter().map(item).collect()
    }

    pub(super) fn volumes(&self) -> Vec<Volume> {
        let mut volumes = vec![
            scratch(OUTPUT, "4Gi"),
            scratch(SCAN_TMP, "2Gi"),
            projected(TOKEN, vec![token(Some(AUDIENCE), 600)]),
        ];
        let files = self.secret_files();
        if let Some(secret) = &self.secret
            && !files.is_empty()
        {
            volumes.push(Volume {
                name: CREDENTIALS.to_owned(),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(secret.clone()),
                    items: Some(files),
                    default_mode: Some(0o440),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            });
        }
        if self.in_cluster {
            volumes.push(projected(CLUSTER, cluster_access()));
        }
        volumes
    }
}
