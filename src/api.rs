//! What users write: the custom resources of group `prowler-operator.dev`.

use std::process::ExitCode;

/// Prints all custom resource definitions as a YAML stream.
pub fn print_crds() -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
