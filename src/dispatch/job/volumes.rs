//! The volumes: the output that passes from `scan` to `upload`, the Secret's files and the
//! cluster's token for `scan`, parts of such files for `compose`, the token of our server for
//! `upload`.

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, KeyToPath, SecretVolumeSource, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{AUDIENCE, Attempt};
use crate::dispatch::pod::{cluster_access, projected, scratch, token};

/// Where Prowler writes and `upload` reads.
pub(super) const OUTPUT: &str = "output";
/// A writable `/tmp` for `scan`, whose root is read-only.
pub(super) const SCAN_TMP: &str = "tmp";
/// Files of credentials: keys of the Secret, or what `compose` made of some; for `scan`.
pub(super) const CREDENTIALS: &str = "credentials";
/// Keys of the Secret that become one file; for `compose` alone.
pub(super) const PARTS: &str = "parts";
/// The token for our server; for `upload` alone.
pub(super) const TOKEN: &str = "upload-token";
/// The ServiceAccount's token for a scan of the cluster itself; for `scan` alone.
pub(super) const CLUSTER: &str = "cluster-access";

impl Attempt {
    pub(super) fn volumes(&self) -> Vec<Volume> {
        let mut volumes = vec![
            scratch(OUTPUT, "4Gi"),
            scratch(SCAN_TMP, "2Gi"),
            projected(TOKEN, vec![token(Some(AUDIENCE), 600)]),
        ];
        if let Some(name) = &self.secret {
            volumes.extend(self.secret_volumes(name));
        }
        if self.in_cluster {
            volumes.push(projected(CLUSTER, cluster_access()));
        }
        volumes
    }

    /// Only the keys that are used, each in the one container that needs it.
    fn secret_volumes(&self, name: &str) -> Vec<Volume> {
        let of_secret = |volume: &str, items: Vec<KeyToPath>| Volume {
            name: volume.to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(name.to_owned()),
                items: Some(items),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        };
        let item = |key: &str, path: &str| KeyToPath {
            key: key.to_owned(),
            path: path.to_owned(),
            ..KeyToPath::default()
        };
        let mut volumes = Vec::new();
        if !self.run.files.is_empty() {
            let files = self.run.files.iter();
            let items = files.map(|file| item(&file.key, &file.name)).collect();
            volumes.push(of_secret(CREDENTIALS, items));
        }
        if let Some(composed) = &self.run.composed {
            let items = composed.keys.iter().map(|key| item(key, key)).collect();
            volumes.push(of_secret(PARTS, items));
            volumes.push(Volume {
                name: CREDENTIALS.to_owned(),
                // Like a Secret's volume, it never touches a disk.
                empty_dir: Some(EmptyDirVolumeSource {
                    medium: Some("Memory".to_owned()),
                    size_limit: Some(Quantity("1Mi".to_owned())),
                    ..EmptyDirVolumeSource::default()
                }),
                ..Volume::default()
            });
        }
        volumes
    }
}
