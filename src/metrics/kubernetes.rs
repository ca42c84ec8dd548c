//! What every part counts of its calls to the Kubernetes API.

use http::{Response, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tower::util::MapResultLayer;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    class: &'static str,
}

/// Calls to the Kubernetes API. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct KubernetesMetrics {
    requests: Family<Answered, Counter>,
}

impl KubernetesMetrics {
    /// Adds all of them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "prowler_operator_kubernetes_requests",
            "Requests to the Kubernetes API, by class of the answer",
            self.requests.clone(),
        );
    }

    /// A layer of a client that counts every answer, and every one that did not come.
    #[expect(clippy::type_complexity, reason = "a closure's type has no name")]
    pub fn layer<B, E>(
        &self,
    ) -> MapResultLayer<
        impl FnOnce(Result<Response<B>, E>) -> Result<Response<B>, E> + Clone + use<B, E>,
    > {
        let metrics = self.clone();
        MapResultLayer::new(move |result: Result<Response<B>, E>| {
            metrics.answered(result.as_ref().ok().map(Response::status));
            result
        })
    }

    /// The API answered so; `None`: it did not.
    pub fn answered(&self, status: Option<StatusCode>) {
        let class = class(status);
        self.requests.get_or_create(&Answered { class }).inc();
    }
}

/// What an answer means to the caller; `None`: there was none.
fn class(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16()) {
        None => "unanswered",
        Some(..400) => "ok",
        Some(401 | 403) => "forbidden",
        Some(404 | 410) => "not_found",
        Some(409) => "conflict",
        Some(429) => "throttled",
        Some(400..500) => "refused",
        Some(_) => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_fall_into_the_classes_of_the_page() {
        let of = |code| class(Some(StatusCode::from_u16(code).unwrap()));
        for (code, expected) in [
            (200, "ok"),
            (201, "ok"),
            (403, "forbidden"),
            (404, "not_found"),
            (409, "conflict"),
            (422, "refused"),
            (429, "throttled"),
            (500, "unavailable"),
            (503, "unavailable"),
        ] {
            assert_eq!(of(code), expected, "{code}");
        }
        assert_eq!(class(None), "unanswered");
    }
}
