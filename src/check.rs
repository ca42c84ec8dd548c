//! The installation examined: what is unsafe or missing, as a list.
//!
//! The same rules that stop a start ([`crate::store::isolation`]), all at once and with the
//! warnings. Exit codes: 0 nothing found, 1 warnings only, 2 errors.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;

use crate::config::check::{CheckArgs, Output};
use crate::store::isolation::{Finding, Severity};
use crate::store::survey;

/// Runs the subcommand.
pub async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let findings = survey::run(&args.user, args.admin().as_ref(), args.deploy).await;
    let text = match args.output {
        Output::Text => as_text(&findings),
        Output::Json => as_json(&findings),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::from(exit_code(&findings)))
}

/// 0 for none, 1 for warnings only, 2 for errors.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.severity).max() {
        None => 0,
        Some(Severity::Warning) => 1,
        Some(Severity::Error) => 2,
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
        assert_eq!(exit_code(&[]), 0);
        assert_eq!(exit_code(std::slice::from_ref(&warning)), 1);
        assert_eq!(exit_code(&[error, warning]), 2);
    }

    #[test]
    fn a_finding_is_a_line_for_people_and_an_object_for_tools() {
        let findings = [finding(Severity::Error)];
        assert_eq!(as_text(&findings), "error: scans: It is \"so\".\n");
        let json: serde_json::Value = serde_json::from_str(&as_json(&findings)).unwrap();
        assert_eq!(json["findings"][0]["severity"], "error");
        assert_eq!(json["findings"][0]["message"], "It is \"so\".");
    }
}
