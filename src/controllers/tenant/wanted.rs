//! Which namespaces a Tenant asks for: those it lists, and those its selector chooses and whose
//! own label says that they are to be chosen.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::api::{Tenant, labels};
use crate::controllers::error::Error;
use crate::controllers::{Context, namespace_meta};
use crate::domain::selector;

/// The longest value of a label (Kubernetes: syntax and character set of labels).
const LABEL_MAX: usize = 63;

/// Namespaces a Tenant asks for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    listed: BTreeSet<String>,
    chosen: BTreeSet<String>,
}

impl Wanted {
    /// What the Tenant asks for now. The label is looked up on every pass: on the word of a
    /// cache that lags nothing must be given back.
    pub(super) async fn by(tenant: &Tenant, cx: &Context) -> Result<Self, Error> {
        let mut wanted = Self {
            listed: tenant.spec.namespaces.iter().cloned().collect(),
            chosen: BTreeSet::new(),
        };
        if tenant.spec.namespace_selector.is_none() {
            return Ok(wanted);
        }
        let name = tenant.name_any();
        // No namespace can name such a Tenant, and to ask for its name is an error; see `astray`.
        if name.len() > LABEL_MAX {
            return Ok(wanted);
        }
        let api: Api<Namespace> = Api::all(cx.client.clone());
        let labelled = ListParams::default().labels(&format!("{}={name}", labels::TENANT));
        for namespace in api.list_metadata(&labelled).await? {
            if chooses(tenant, namespace.labels()) {
                wanted.chosen.insert(namespace.name_any());
            }
        }
        Ok(wanted)
    }

    /// In order.
    pub(super) fn names(&self) -> BTreeSet<&String> {
        self.listed.union(&self.chosen).collect()
    }

    pub(super) fn contains(&self, namespace: &str) -> bool {
        self.listed.contains(namespace) || self.chosen.contains(namespace)
    }

    /// What ends the wish for a namespace.
    pub(super) fn cure(&self, namespace: &str) -> String {
        if self.listed.contains(namespace) {
            "remove it from spec.namespaces".to_owned()
        } else {
            format!("remove its label {}", labels::TENANT)
        }
    }
}

/// Whether the Tenant chooses a namespace with these labels: both must want it.
pub(super) fn chooses(tenant: &Tenant, found: &BTreeMap<String, String>) -> bool {
    let named = found.get(labels::TENANT) == Some(&tenant.name_any());
    let wanted = tenant.spec.namespace_selector.as_ref();
    named && wanted.is_some_and(|wanted| selector::matches(wanted, found))
}

/// Whether there is no such namespace. While it is away nobody has taken its label off: a cluster
/// that is built up again from manifests may have the Tenant before the namespace.
pub(super) async fn is_away(namespace: &str, cx: &Context) -> Result<bool, Error> {
    Ok(namespace_meta(cx, namespace).await?.is_none())
}

/// What the spec says of namespaces the tenant does not, or cannot, hold.
pub(super) fn astray(tenant: &Tenant, held: &BTreeSet<String>) -> Option<String> {
    let spec = &tenant.spec;
    if spec.namespace_selector.is_some() && tenant.name_any().len() > LABEL_MAX {
        return Some(format!(
            "spec.namespaceSelector: the name of this Tenant is longer than the value of a label ({LABEL_MAX} characters), so that no namespace can carry it in its label {}; list the namespaces, or make a Tenant of a shorter name.",
            labels::TENANT
        ));
    }
    let cure = "name one that the tenant holds, or have it hold this one";
    let mutelist = spec.mutelist.iter().map(|list| {
        (
            "spec.mutelist.configMapRef.namespace",
            &list.config_map_ref.namespace,
        )
    });
    let roles = spec
        .role_namespaces
        .iter()
        .flatten()
        .map(|name| ("spec.roleNamespaces", name));
    let sentences: Vec<_> = mutelist
        .chain(roles)
        .filter(|(_, name)| !held.contains(*name))
        .map(|(field, name)| format!("{field}: {name} is no namespace of this tenant; {cure}."))
        .collect();
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_is_chosen_only_if_both_want_it() {
        let tenant: Tenant = serde_json::from_value(json!({
            "apiVersion": "prowler-operator.dev/v1alpha1", "kind": "Tenant",
            "metadata": { "name": "team-a" },
            "spec": { "namespaceSelector": { "matchLabels": { "team": "a" } } },
        }))
        .unwrap();
        let labels = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let both = labels(&[("team", "a"), (labels::TENANT, "team-a")]);
        assert!(chooses(&tenant, &both));
        for one in [
            labels(&[("team", "a")]),
            labels(&[("team", "a"), (labels::TENANT, "team-b")]),
            labels(&[("team", "b"), (labels::TENANT, "team-a")]),
            labels(&[(labels::TENANT, "team-a")]),
        ] {
            assert!(!chooses(&tenant, &one), "{one:?}");
        }
    }
}
