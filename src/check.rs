//! The installation examined: what is unsafe or missing, as a list.
//!
//! The same rules that stop a start ([`crate::store::isolation`]), all at once and with the
//! warnings; with `--deploy` also what only matters in production: the database's encryption and
//! durability ([`crate::store::survey`]), and what runs in the cluster ([`cluster`] reads it,
//! [`rules`] judge it). Exit codes: 0 nothing found, 1 warnings only, 2 errors.

pub mod cluster;
pub mod rules;

use std::io::Write as _;
use std::process::ExitCode;

use kube::Client;
use serde_json::json;

use crate::config::check::{CheckArgs, FailOn, Output};
use crate::config::file::{FileConfig, Partitions};
use crate::domain::clock::{Clock as _, SystemClock};
use crate::store::isolation::{Finding, Severity};
use crate::store::survey::{self, Production};

use cluster::Installation;

/// Runs the subcommand.
pub async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let findings = examine(&args).await;
    let text = match args.output {
        Output::Text => as_text(&findings),
        Output::Json => as_json(&findings),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::from(exit_code(&findings, args.fail_on)))
}

/// Everything that can be examined from here, errors first. Never fails: what cannot be examined
/// is a finding.
pub async fn examine(args: &CheckArgs) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut production = None;
    if args.deploy {
        let (found, config) = deployment(args).await;
        findings = found;
        let partitions = config.map_or_else(Partitions::default, |config| config.partitions);
        production = Some(Production {
            now: SystemClock.now(),
            months_ahead: u32::try_from(partitions.months_ahead).unwrap_or(0),
        });
    }
    let admin = args.admin();
    findings.extend(survey::run(&args.user, admin.as_ref(), production.as_ref()).await);
    findings.sort_by(|a, b| (b.severity, &a.object).cmp(&(a.severity, &b.object)));
    findings.dedup();
    findings
}

/// What runs in the cluster, and the configuration it runs with.
async fn deployment(args: &CheckArgs) -> (Vec<Finding>, Option<FileConfig>) {
    let installation = Installation {
        namespace: &args.pod_namespace,
        fullname: &args.fullname,
    };
    let mut findings = Vec::new();
    let client = match Client::try_default().await {
        Ok(client) => Some(client),
        Err(error) => {
            findings.push(rules::not_examined("cluster", &cluster::brief(&error)));
            None
        }
    };
    let mut config = None;
    match (&args.config_file, &client) {
        (Some(path), _) => match FileConfig::load(path) {
            Ok(loaded) => config = Some(loaded),
            Err(error) => findings.push(rules::unusable(&path.display().to_string(), &error)),
        },
        (None, Some(client)) => match installation.config(client).await {
            Ok(loaded) => config = Some(loaded),
            Err(finding) => findings.push(finding),
        },
        (None, None) => {}
    }
    if let Some(client) = &client {
        findings.extend(installation.examine(client).await);
    }
    if let Some(config) = &config {
        findings.extend(rules::settings(config));
    }
    (findings, config)
}

/// 0 for none, 1 for warnings only, 2 for errors; 0 too where the worst is less than what the
/// caller counts as a failure.
pub fn exit_code(findings: &[Finding], fail_on: FailOn) -> u8 {
    match (
        findings.iter().map(|finding| finding.severity).max(),
        fail_on,
    ) {
        (None, _) | (Some(Severity::Warning), FailOn::Error) => 0,
        (Some(Severity::Warning), FailOn::Warning) => 1,
        (Some(Severity::Error), _) => 2,
    }
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn as_text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing found\n".to_owned();
    }
    findings.iter().fold(String::new(), |text, finding| {
        text + name(finding.severity) + ": " + &finding.to_string() + "\n"
    })
}

fn as_json(findings: &[Finding]) -> String {
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "severity": name(finding.severity),
                "object": finding.object,
                "message": finding.sentence,
            })
        })
        .collect();
    format!("{}\n", json!({ "findings": list }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity) -> Finding {
        Finding {
            severity,
            object: "scans".to_owned(),
            sentence: "It is \"so\".".to_owned(),
        }
    }

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        let (warning, error) = (finding(Severity::Warning), finding(Severity::Error));
        assert_eq!(exit_code(&[], FailOn::Warning), 0);
        let warned = std::slice::from_ref(&warning);
        assert_eq!(exit_code(warned, FailOn::Warning), 1);
        assert_eq!(exit_code(warned, FailOn::Error), 0);
        let both = [error, warning];
        assert_eq!(exit_code(&both, FailOn::Warning), 2);
        assert_eq!(exit_code(&both, FailOn::Error), 2);
    }

    #[test]
    fn a_finding_is_a_line_for_people_and_an_object_for_tools() {
        let findings = [finding(Severity::Error)];
        assert_eq!(as_text(&findings), "error: scans: It is \"so\".\n");
        assert_eq!(as_text(&[]), "nothing found\n");
        let json: serde_json::Value = serde_json::from_str(&as_json(&findings)).unwrap();
        // The whole document: what tools read must not change by accident.
        assert_eq!(
            json,
            json!({ "findings": [
                { "severity": "error", "object": "scans", "message": "It is \"so\"." },
            ]})
        );
        assert_eq!(as_json(&[]), "{\"findings\":[]}\n");
    }
}
