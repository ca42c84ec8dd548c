//! Puts a file of credentials together from a Secret's keys; runs in scan pods, before Prowler,
//! where Prowler wants a whole file of what the Secret holds in parts.
//!
//! No value is printed, and none leaves the pod: the folder that is written to is in memory, and
//! `scan` mounts it alone.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};

use crate::config::compose::ComposeArgs;

/// Runs the subcommand.
pub fn run(args: &ComposeArgs) -> anyhow::Result<ExitCode> {
    let parts =
        parts(&args.parts).with_context(|| format!("{} cannot be read", args.parts.display()))?;
    let files = args
        .file
        .files(&parts)
        .map_err(|faults| anyhow!(faults.join(", ")))?;
    for file in files {
        let path = args.to.join(file.name);
        write(&path, &file.contents)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The keys, as the kubelet shows them: a link each, beside links of its own with two dots.
fn parts(folder: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut parts = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") {
            parts.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(parts)
}

/// Writes a file that nobody else can read. One that is there already is of a run of the same
/// container before: a pod whose sandbox was lost starts its containers again.
fn write(path: &Path, contents: &str) -> std::io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(contents.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::domain::credentials::Composition;

    /// A folder as the kubelet mounts a Secret.
    fn mounted(pairs: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("..2026_11_26");
        fs::create_dir(&data).unwrap();
        symlink("..2026_11_26", folder.path().join("..data")).unwrap();
        for (key, value) in pairs {
            fs::write(data.join(key), value).unwrap();
            symlink(Path::new("..data").join(key), folder.path().join(key)).unwrap();
        }
        folder
    }

    fn args(parts: &Path, to: &Path) -> ComposeArgs {
        ComposeArgs {
            file: Composition::GcpUser,
            parts: parts.to_owned(),
            to: to.to_owned(),
        }
    }

    #[test]
    fn the_file_is_made_of_the_mounted_keys_for_its_owner_alone_and_made_again() {
        let to = tempfile::tempdir().unwrap();
        for token in ["first-and-longer", "second"] {
            let parts = mounted(&[
                ("client_id", "a"),
                ("client_secret", "b"),
                ("refresh_token", token),
            ]);
            run(&args(parts.path(), to.path())).unwrap();
            let path = to.path().join("application-default.json");
            let made: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            assert_eq!(made["refresh_token"], token);
            let bits = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(bits & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_without_a_value() {
        let to = tempfile::tempdir().unwrap();
        let parts = mounted(&[("client_id", "hunter2\n"), ("client_secret", "hunter2")]);
        let error = run(&args(parts.path(), to.path())).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "client_id has a line break or another control character; one at the end comes from echo or an editor"
        );
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
        let error = run(&args(Path::new("/nowhere"), to.path())).unwrap_err();
        assert!(format!("{error:#}").starts_with("/nowhere cannot be read"));
    }
}
