//! Where scan pods may connect: with the chart's `scanner.networkPolicy`, a `NetworkPolicy` for
//! them in each namespace that a tenant claims. Nobody connects to them, ever.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};

use super::error::Error;
use super::{Context, delete, only, takes_objects};
use crate::api::FIELD_MANAGER;
use crate::dispatch::job::POD_LABELS;

/// Namespaces in which no policy of ours is left, as far as this process looked.
#[derive(Debug, Default)]
pub struct Open(Mutex<BTreeSet<String>>);

impl Open {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, namespace: &str) -> bool {
        self.lock().contains(namespace)
    }

    fn add(&self, namespace: &str) {
        self.lock().insert(namespace.to_owned());
    }
}

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Makes the policy of `namespace` what the chart's values say; takes it away where they ask for
/// none. A namespace that is not there yet gets it when it comes.
pub async fn isolate(cx: &Context, namespace: &str) -> Result<(), Error> {
    let wanted = &cx.config.scanner.network_policy;
    if !wanted.enabled {
        // Once is enough: nobody but a program with other values makes one again.
        if !cx.open_namespaces.has(namespace) {
            open(cx, namespace).await?;
            cx.open_namespaces.add(namespace);
        }
        return Ok(());
    }
    let api: Api<NetworkPolicy> = Api::namespaced(cx.client.clone(), namespace);
    let policy = policy(&wanted.name, namespace, &wanted.egress);
    // Reading is cheaper than a server-side apply that changes nothing.
    let found = api.get_opt(&wanted.name).await?;
    if found.is_some_and(|found| found.spec == policy.spec) {
        return Ok(());
    }
    if !takes_objects(cx, namespace).await? {
        return Ok(());
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&wanted.name, &params, &Patch::Apply(&policy))
        .await?;
    Ok(())
}

/// Takes the policy away: the namespace is given back, or the values ask for none any more. One of
/// the same name that somebody else made stays.
pub async fn open(cx: &Context, namespace: &str) -> Result<(), Error> {
    let name = &cx.config.scanner.network_policy.name;
    let api: Api<NetworkPolicy> = Api::namespaced(cx.client.clone(), namespace);
    let found = match api.get_opt(name).await {
        Ok(found) => found,
        // Rights that somebody else wrote need not know of policies that nobody asked for.
        Err(kube::Error::Api(status)) if status.code == 403 => None,
        Err(error) => return Err(error.into()),
    };
    let Some(found) = found.filter(is_ours) else {
        return Ok(());
    };
    delete(&api, name, &only(found.metadata.uid)).await
}

fn is_ours(policy: &NetworkPolicy) -> bool {
    let labels = policy.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY))
        .map(String::as_str)
        == Some(FIELD_MANAGER)
}

fn policy(name: &str, namespace: &str, egress: &[NetworkPolicyEgressRule]) -> NetworkPolicy {
    let text = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let mut egress = egress.to_vec();
    for port in egress
        .iter_mut()
        .flat_map(|rule| rule.ports.iter_mut().flatten())
    {
        // What the API server would fill in: the policy would never look as wished for.
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some([text((MANAGED_BY, FIELD_MANAGER))].into()),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(POD_LABELS.map(text).into()),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: None::<Vec<NetworkPolicyIngressRule>>,
            egress: Some(egress),
        }),
    }
}
