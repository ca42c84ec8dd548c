//! What `check` reads of the cluster: the installation's two Deployments and its configuration,
//! the disruption budgets beside them, and what their accounts may do to Secrets. No value of a
//! Secret is read. Each part that cannot be read is a finding, and the others go on.

use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client, Resource};

use super::rules;
use crate::config::file::FileConfig;
use crate::store::isolation::Finding;

/// How long the API server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What nobody in the installation may do to the Secrets of the operator's namespace as a whole;
/// single ones are granted by name, and `create` cannot be.
const VERBS: [&str; 6] = ["get", "list", "watch", "update", "patch", "delete"];

/// Which installation is examined.
#[derive(Debug, Clone, Copy)]
pub struct Installation<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// What the names of its resources begin with.
    pub fullname: &'a str,
}

impl Installation<'_> {
    /// The controller's configuration, or why it cannot be had.
    pub async fn config(&self, client: &Client) -> Result<FileConfig, Finding> {
        let name = format!("{}-config", self.fullname);
        let object = format!("ConfigMap {name}");
        let map = self.get::<ConfigMap>(client, &object, &name).await?;
        let text = map.data.unwrap_or_default().remove("config.yaml");
        let text = text.ok_or_else(|| rules::unusable(&object, &"it has no key config.yaml"))?;
        FileConfig::parse(&text).map_err(|error| rules::unusable(&object, &error))
    }

    /// What is wrong with what runs.
    pub async fn examine(&self, client: &Client) -> Vec<Finding> {
        let mut findings = Vec::new();
        let budgets = Api::<PodDisruptionBudget>::namespaced(client.clone(), self.namespace);
        let budgets = answered(budgets.list(&ListParams::default())).await;
        let budgets = match budgets {
            Ok(list) => Some(list.items),
            Err(why) => {
                findings.push(rules::not_examined("PodDisruptionBudgets", &why));
                None
            }
        };
        let mut accounts = Vec::new();
        for part in ["controller", "server"] {
            let name = format!("{}-{part}", self.fullname);
            let object = format!("Deployment {name}");
            let found = match self.get::<Deployment>(client, &object, &name).await {
                Ok(found) => found,
                Err(finding) => {
                    findings.push(finding);
                    continue;
                }
            };
            findings.extend(rules::part(&found, budgets.as_deref()));
            if part == "controller" {
                findings.extend(rules::evaluation(&found));
            }
            accounts.push(rules::account(&found));
        }
        accounts.dedup();
        for account in accounts {
            match self.verbs_on_secrets(client, &account).await {
                Ok(verbs) => {
                    findings.extend(rules::secret_rights(self.namespace, &account, &verbs));
                }
                Err(why) => {
                    let object = format!("ServiceAccount {account}");
                    findings.push(rules::not_examined(&object, &why));
                }
            }
        }
        findings
    }

    async fn get<K>(&self, client: &Client, object: &str, name: &str) -> Result<K, Finding>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api = Api::<K>::namespaced(client.clone(), self.namespace);
        match answered(api.get_opt(name)).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(rules::missing(object, self.namespace)),
            Err(why) => Err(rules::not_examined(object, &why)),
        }
    }

    /// Asked within the operator's own namespace, which no tenant can claim: who has a right to
    /// all Secrets of the cluster has it here too, and the controller's bindings never reach here.
    /// So the question needs no right beyond this namespace.
    async fn verbs_on_secrets(
        &self,
        client: &Client,
        account: &str,
    ) -> Result<Vec<&'static str>, String> {
        let api = Api::<LocalSubjectAccessReview>::namespaced(client.clone(), self.namespace);
        let answers = join_all(VERBS.map(async |verb| {
            let review = review(self.namespace, account, verb);
            let answer = answered(api.create(&PostParams::default(), &review)).await?;
            let allowed = answer.status.is_some_and(|status| status.allowed);
            Ok(allowed.then_some(verb))
        }))
        .await;
        let allowed: Result<Vec<_>, String> = answers.into_iter().collect();
        Ok(allowed?.into_iter().flatten().collect())
    }
}

fn review(namespace: &str, account: &str, verb: &str) -> LocalSubjectAccessReview {
    LocalSubjectAccessReview {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{account}")),
            // What the API server adds to each ServiceAccount, and not to who is asked about.
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some(verb.to_owned()),
                resource: Some("secrets".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        status: None,
    }
}

async fn answered<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|error| brief(&error)),
        Err(_) => Err(format!(
            "the Kubernetes API did not answer within {} s",
            PATIENCE.as_secs()
        )),
    }
}

/// What a person can do something about, in one line.
pub(super) fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::InferConfig(_) => {
            "there is neither a kubeconfig nor a ServiceAccount of a pod".to_owned()
        }
        other => other.to_string(),
    }
}
