//! Arguments of `compose`.

use std::path::PathBuf;

use clap::Args;

use crate::domain::credentials::{Composition, DIRECTORY, PARTS_DIRECTORY};

/// Arguments of `compose`.
#[derive(Debug, Clone, Args)]
pub struct ComposeArgs {
    /// What to make: `gcp-user` or `oci-config`.
    #[arg(long = "file", env = "COMPOSE_FILE", value_parser = composition)]
    pub file: Composition,
    /// Folder with the Secret's keys as files.
    #[arg(long = "parts", env = "COMPOSE_PARTS", default_value = PARTS_DIRECTORY)]
    pub parts: PathBuf,
    /// Folder to write to.
    #[arg(long = "to", env = "COMPOSE_TO", default_value = DIRECTORY)]
    pub to: PathBuf,
}

fn composition(name: &str) -> Result<Composition, String> {
    Composition::ALL
        .into_iter()
        .find(|composition| composition.as_str() == name)
        .ok_or_else(|| {
            let known = Composition::ALL.map(Composition::as_str);
            format!("known: {}", known.join(", "))
        })
}
