//! The two text formats: `OpenMetrics`, and the older one of Prometheus, which `promtool` and
//! whoever asks with a plain `curl` read.

use std::collections::HashSet;
use std::fmt;

use prometheus_client::registry::Registry;

/// The type of `OpenMetrics`.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The type of the older format.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics as a client that accepts these types can read them, and the type they have.
pub fn encode(registry: &Registry, accept: &str) -> Result<(&'static str, String), fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    if accept.contains("application/openmetrics-text") {
        return Ok((OPEN_METRICS, text));
    }
    Ok((CLASSIC, classic(&text)))
}

/// The same in the older format, in which a counter's description has the name of its samples,
/// and units and the end are not marked.
fn classic(text: &str) -> String {
    let counters: HashSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut classic = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) => {
                let suffix = if counters.contains(name) {
                    "_total"
                } else {
                    ""
                };
                classic.extend(["# ", what, " ", name, suffix, " ", rest, "\n"]);
            }
            (Some("#"), ..) => {}
            _ => classic.extend([line, "\n"]),
        }
    }
    classic
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::registry::Unit;

    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        registry.register("a", "Of a", Counter::<u64>::default());
        registry.register_with_unit("b", "Of b", Unit::Seconds, Gauge::<i64>::default());
        registry
    }

    #[test]
    fn whoever_asks_for_open_metrics_gets_it() {
        let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        let (kind, text) = encode(&registry(), accept).unwrap();
        assert_eq!(kind, OPEN_METRICS);
        assert!(text.contains("# TYPE a counter\n") && text.ends_with("# EOF\n"));
    }

    #[test]
    fn anybody_else_gets_the_format_that_promtool_reads() {
        let (kind, text) = encode(&registry(), "*/*").unwrap();
        assert_eq!(kind, CLASSIC);
        assert_eq!(
            text,
            "# HELP a_total Of a.\n# TYPE a_total counter\na_total 0\n\
             # HELP b_seconds Of b.\n# TYPE b_seconds gauge\nb_seconds 0\n"
        );
    }
}
