//! The volumes: the output that passes from `scan` to `upload`, the Secret's files and the
//! cluster's token for `scan`, parts of such files for `compose`, the token of our server for
//! `upload`.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, EmptyDirVolumeSource,
    KeyToPath, ObjectFieldSelector, ProjectedVolumeSource, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{AUDIENCE, Attempt};

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
        let scratch = |name: &str, size: &str| Volume {
            name: name.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(size.to_owned())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        };
        let projected = |name: &str, sources: Vec<VolumeProjection>| Volume {
            name: name.to_owned(),
            projected: Some(ProjectedVolumeSource {
                sources: Some(sources),
                ..Default::default()
            }),
            ..Volume::default()
        };
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

fn token(audience: Option<&str>, seconds: i64) -> VolumeProjection {
    VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: audience.map(str::to_owned),
            expiration_seconds: Some(seconds),
            path: "token".to_owned(),
            ..ServiceAccountTokenProjection::default()
        }),
        ..VolumeProjection::default()
    }
}

/// What a pod finds below the usual path when its token is mounted the usual way.
fn cluster_access() -> Vec<VolumeProjection> {
    vec![
        token(None, 3607),
        VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: "kube-root-ca.crt".to_owned(),
                items: Some(vec![KeyToPath {
                    key: "ca.crt".to_owned(),
                    path: "ca.crt".to_owned(),
                    ..KeyToPath::default()
                }]),
                ..ConfigMapProjection::default()
            }),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: "namespace".to_owned(),
                    field_ref: Some(ObjectFieldSelector {
                        field_path: "metadata.namespace".to_owned(),
                        ..ObjectFieldSelector::default()
                    }),
                    ..DownwardAPIVolumeFile::default()
                }]),
            }),
            ..VolumeProjection::default()
        },
    ]
}
