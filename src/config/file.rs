//! The controller's configuration file: what the chart's values decide about scans.
//!
//! Unknown fields are refused, so that a misspelt value is seen at start and not ignored.

mod pods;
mod queues;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub use self::pods::{GKE_METADATA_SERVER, NetworkPolicy, Scanner, Upload};
pub use self::queues::{Kueue, Queue, Queues};
use crate::domain::quantity;
use crate::domain::schedule::duration;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileConfig {
    /// Prowler's container and the pods it runs in.
    pub scanner: Scanner,
    /// The container that sends the findings.
    pub upload: Upload,
    /// Tenant limits: what a tenant gets when it asks for nothing, and the most it may ask for.
    #[serde(default)]
    pub limits: Limits,
    /// Limits of the queues, over all tenants.
    #[serde(default)]
    pub queues: Queues,
    /// Another queue that lets Jobs start.
    #[serde(default)]
    pub kueue: Kueue,
    /// Which namespaces can never belong to a tenant.
    #[serde(default)]
    pub tenancy: Tenancy,
    /// Where the controller has rights.
    #[serde(default)]
    pub rbac: Rbac,
    /// How connections are checked.
    #[serde(default)]
    pub connection_checks: ConnectionChecks,
    /// How failed scans are tried again.
    #[serde(default)]
    pub retry: Retry,
    /// Seconds after which a finished Job goes at the latest.
    #[serde(default = "job_ttl")]
    pub job_ttl_seconds: i32,
    /// What schedules may say.
    #[serde(default)]
    pub schedules: Schedules,
    /// Findings partitions made ahead.
    #[serde(default)]
    pub partitions: Partitions,
    /// Attempts to cross from one tenant to another, which must fail.
    #[serde(default)]
    pub isolation_canary: IsolationCanary,
}

/// A limit's default and ceiling.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Limit<T> {
    /// For a tenant that names none.
    pub default: T,
    /// The most a tenant may name.
    pub ceiling: T,
}

/// Limits of a tenant.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Scans that hold an account at once.
    pub concurrent_scans: Limit<i32>,
    /// Providers not deleted.
    pub providers: Limit<i32>,
    /// Memory of a scan (quantity).
    pub scan_memory: Limit<String>,
    /// CPU of a scan (quantity).
    #[serde(rename = "scanCPU")]
    pub scan_cpu: Limit<String>,
    /// Longest run of a scan in seconds.
    pub scan_deadline_seconds: Limit<i64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_scans: Limit {
                default: 5,
                ceiling: 50,
            },
            providers: Limit {
                default: 100,
                ceiling: 20_000,
            },
            scan_memory: Limit {
                default: "2Gi".into(),
                ceiling: "16Gi".into(),
            },
            scan_cpu: Limit {
                default: "1".into(),
                ceiling: "8".into(),
            },
            scan_deadline_seconds: Limit {
                default: 6 * 3600,
                ceiling: 48 * 3600,
            },
        }
    }
}

impl Limits {
    /// Refuses a default that no tenant could ask for.
    fn check(&self) -> Result<(), String> {
        let numbers = [
            (
                "concurrentScans",
                i64::from(self.concurrent_scans.default),
                i64::from(self.concurrent_scans.ceiling),
            ),
            (
                "providers",
                i64::from(self.providers.default),
                i64::from(self.providers.ceiling),
            ),
            (
                "scanDeadlineSeconds",
                self.scan_deadline_seconds.default,
                self.scan_deadline_seconds.ceiling,
            ),
        ]
        .map(|(field, default, ceiling)| {
            (
                field,
                default > ceiling,
                default.to_string(),
                ceiling.to_string(),
            )
        });
        let quantities = [
            ("scanMemory", &self.scan_memory),
            ("scanCPU", &self.scan_cpu),
        ]
        .map(|(field, limit)| {
            let above = quantity::exceeds(&limit.default, &limit.ceiling);
            (field, above, limit.default.clone(), limit.ceiling.clone())
        });
        for (field, above, default, ceiling) in numbers.into_iter().chain(quantities) {
            if above {
                return Err(format!(
                    "limits.{field}.default {default} is above limits.{field}.ceiling {ceiling}"
                ));
            }
        }
        Ok(())
    }
}

/// Which namespaces can never belong to a tenant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tenancy {
    /// Names, or prefixes that end in `*`. `kube-*` and the operator's own are always denied.
    #[serde(default)]
    pub denied_namespaces: Vec<String>,
}

/// Where the controller has rights beyond those over its own kinds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rbac {
    /// Namespaces in which it may run Jobs and read what Providers name; all when empty.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// How connections are checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConnectionChecks {
    /// Checks at once, over all tenants; 0: none are made.
    pub parallelism: i32,
    /// Seconds between two checks of an account that says nothing of it.
    pub interval_seconds: i64,
}

impl Default for ConnectionChecks {
    fn default() -> Self {
        Self {
            parallelism: 4,
            interval_seconds: 86_400,
        }
    }
}

/// How failed scans are tried again.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all.
    pub max_attempts: i32,
    /// Pause before the second attempt, in seconds; doubles each time.
    pub backoff_seconds: i64,
    /// Longest pause in seconds.
    pub backoff_cap_seconds: i64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff_seconds: 30,
            backoff_cap_seconds: 1800,
        }
    }
}

/// What schedules may say.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Schedules {
    /// Least time between two due times of a schedule, such as `5m`.
    #[serde(deserialize_with = "a_duration")]
    pub minimum_interval: SignedDuration,
}

impl Default for Schedules {
    fn default() -> Self {
        Self {
            minimum_interval: SignedDuration::from_mins(5),
        }
    }
}

fn a_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SignedDuration, D::Error> {
    let text = String::deserialize(deserializer)?;
    duration(&text).ok_or_else(|| {
        D::Error::custom(format!(
            "{text:?} is no time: give hours, minutes and seconds, such as 5m or 1h30m"
        ))
    })
}

/// Findings partitions made ahead.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Partitions {
    /// Months beyond the present one.
    pub months_ahead: i32,
}

impl Default for Partitions {
    fn default() -> Self {
        Self { months_ahead: 3 }
    }
}

/// Attempts to cross from one tenant to another, which must fail.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IsolationCanary {
    /// Seconds between two runs, at least 1.
    pub interval_seconds: NonZeroU32,
}

impl Default for IsolationCanary {
    fn default() -> Self {
        Self {
            interval_seconds: const { NonZeroU32::new(300).unwrap() },
        }
    }
}

fn job_ttl() -> i32 {
    600
}

/// Why the configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what the program expects.
    #[error("the configuration file {} is not valid: {message}; check the chart's values", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where in it and why.
        message: String,
    },
}

impl FileConfig {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, FileConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| FileConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|message| FileConfigError::Parse {
            path: path.to_owned(),
            message,
        })
    }

    /// Checks the file's text; an error says where in it and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        config.limits.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_interval_of_schedules_is_a_duration() {
        let parse = |schedules: &str| {
            let text = format!("{{scanner: {{image: x}}, upload: {{image: y}}{schedules}}}");
            FileConfig::parse(&text).map(|config| config.schedules.minimum_interval.as_secs())
        };
        assert_eq!(parse(""), Ok(300));
        assert_eq!(parse(", schedules: {minimumInterval: 1h30m}"), Ok(5400));
        let told = parse(", schedules: {minimumInterval: soon}").unwrap_err();
        assert!(told.contains("\"soon\" is no time"), "{told}");
    }

    #[test]
    fn a_default_above_its_ceiling_is_refused_with_both() {
        let parse = |limits: &str| {
            let text =
                format!("{{scanner: {{image: x}}, upload: {{image: y}}, limits: {{{limits}}}}}");
            FileConfig::parse(&text).map(drop)
        };
        for (limits, told) in [
            (
                "concurrentScans: {default: 6, ceiling: 5}",
                "limits.concurrentScans.default 6 is above limits.concurrentScans.ceiling 5",
            ),
            (
                "providers: {default: 3, ceiling: 2}",
                "limits.providers.default 3 is above limits.providers.ceiling 2",
            ),
            (
                "scanDeadlineSeconds: {default: 61, ceiling: 60}",
                "limits.scanDeadlineSeconds.default 61 is above limits.scanDeadlineSeconds.ceiling 60",
            ),
            (
                "scanMemory: {default: 1025Mi, ceiling: 1Gi}",
                "limits.scanMemory.default 1025Mi is above limits.scanMemory.ceiling 1Gi",
            ),
            (
                "scanCPU: {default: \"1001m\", ceiling: \"1\"}",
                "limits.scanCPU.default 1001m is above limits.scanCPU.ceiling 1",
            ),
        ] {
            assert_eq!(parse(limits), Err(told.to_owned()));
        }
        assert_eq!(parse("scanMemory: {default: 1024Mi, ceiling: 1Gi}"), Ok(()));
        assert_eq!(parse(""), Ok(()));
    }
}
