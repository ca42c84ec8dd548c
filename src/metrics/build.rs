//! What runs here.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    commit: &'static str,
}

/// Adds version and commit. The commit is what `PROWLER_OPERATOR_COMMIT` said when the program was
/// compiled.
pub fn register(registry: &mut Registry) {
    let info = Family::<Build, Gauge>::default();
    let build = Build {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("PROWLER_OPERATOR_COMMIT").unwrap_or("unknown"),
    };
    info.get_or_create(&build).set(1);
    registry.register(
        "prowler_operator_build_info",
        "Always 1; the labels say which version runs, and of which commit",
        info,
    );
}
