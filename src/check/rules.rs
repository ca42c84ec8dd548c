//! What a production installation may not be, by its objects and its configuration. Pure: objects
//! in, findings out.

use std::collections::BTreeMap;
use std::fmt::Display;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{Selector, SelectorExt as _};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::file::FileConfig;
use crate::store::isolation::{Finding, Severity};

fn error(object: impl Into<String>, sentence: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Error,
        object: object.into(),
        sentence: sentence.into(),
    }
}

fn warning(object: impl Into<String>, sentence: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Warning,
        object: object.into(),
        sentence: sentence.into(),
    }
}

/// What could not be read says nothing, good or bad.
pub fn not_examined(object: &str, why: &str) -> Finding {
    let why = why.trim_end_matches('.');
    warning(
        object,
        format!(
            "It could not be examined: {why}. Run the check with rights to read the \
             installation, for example by `helm test`."
        ),
    )
}

/// A part that is not there.
pub fn missing(object: &str, namespace: &str) -> Finding {
    error(
        object,
        format!(
            "It is not in namespace {namespace}. Name the installation with --pod-namespace and \
             --fullname, or install the chart."
        ),
    )
}

/// A configuration that the controller would not start with.
pub fn unusable(object: &str, why: &dyn Display) -> Finding {
    let why = why.to_string();
    let why = why.trim_end_matches('.');
    error(
        object,
        format!("The controller cannot use it: {why}. Correct the chart's values."),
    )
}

/// A Deployment of the chart: how many pods, spared by which budget, of which images, and how
/// much they log. Budgets that could not be read are not judged.
pub fn part(deployment: &Deployment, budgets: Option<&[PodDisruptionBudget]>) -> Vec<Finding> {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let object = format!("Deployment {name}");
    let spec = &deployment.spec;
    let mut findings = Vec::new();
    let replicas = spec.replicas.unwrap_or(1);
    if replicas < 2 {
        findings.push(warning(
            &object,
            format!(
                "It has {replicas} replicas: while a node is drained or lost, nobody does its \
                 work. Set its replicaCount to 2 or more."
            )
            .replace("1 replicas", "1 replica"),
        ));
    }
    let labels = spec
        .template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.as_ref());
    if let Some(budgets) = budgets
        && !budgets.iter().any(|budget| spares(budget, labels))
    {
        findings.push(warning(
            &object,
            "No PodDisruptionBudget spares its pods: a drain may take all of them at once. Set \
             its podDisruptionBudget.enabled.",
        ));
    }
    for container in containers(spec.template.spec.as_ref()) {
        let image = container.image.as_deref().unwrap_or_default();
        findings.extend(by_tag(image, "image.digest"));
        if let Some(filter) = variable(container, "LOG_LEVEL")
            && logs_debug(filter)
        {
            findings.push(warning(
                format!("{object}, container {}", container.name),
                format!(
                    "It logs at level debug or below ({filter}): many lines, and names of \
                     tenants' objects in them. Set log.level to info."
                ),
            ));
        }
    }
    findings
}

/// What is made for an evaluation, and that findings arrive over TLS; by the controller's
/// Deployment.
pub fn evaluation(controller: &Deployment) -> Vec<Finding> {
    let pod = controller.spec.template.spec.as_ref();
    let mut findings = Vec::new();
    for container in containers(pod) {
        if variable(container, "DATABASE_SECRET").is_some() {
            findings.push(warning(
                "embedded database",
                "One Postgres without backup and without a replica, for evaluation. Name a \
                 database of your own in database.existingSecret.",
            ));
        }
        if let Some(secret) = variable(container, "SERVER_TLS_SECRET") {
            findings.push(warning(
                format!("Secret {secret}"),
                "The server's certificate is made for evaluation, and its CA's key lies beside \
                 it. Use server.tls.certManager, or name a certificate of your own in \
                 server.tls.existingSecret.",
            ));
        }
        if let Some(url) = variable(container, "SERVER_URL")
            && !url.starts_with("https://")
        {
            findings.push(error(
                "SERVER_URL",
                format!(
                    "Scan pods send findings over HTTPS only, and this is {url}. Install the \
                     chart again."
                ),
            ));
        }
    }
    findings
}

/// The `ServiceAccount` a Deployment's pods run as.
pub fn account(deployment: &Deployment) -> String {
    let pod = deployment.spec.template.spec.as_ref();
    pod.and_then(|pod| pod.service_account_name.clone())
        .unwrap_or_else(|| "default".to_owned())
}

/// What a `ServiceAccount` may do to every Secret of the operator's namespace: nothing, unless
/// somebody gave it the Secrets of the whole cluster, or of this namespace.
pub fn secret_rights(namespace: &str, account: &str, verbs: &[&str]) -> Option<Finding> {
    if verbs.is_empty() {
        return None;
    }
    Some(error(
        format!("ServiceAccount {account}"),
        format!(
            "It may {} every Secret of namespace {namespace}, and those of all namespaces if a \
             ClusterRoleBinding says so. The chart grants neither: delete the binding (kubectl \
             get clusterrolebindings,rolebindings -A -o wide | grep {account}).",
            verbs.join(", ")
        ),
    ))
}

/// What the values of the chart say about scans.
pub fn settings(config: &FileConfig) -> Vec<Finding> {
    let scanner = &config.scanner;
    let mut findings: Vec<_> = by_tag(&scanner.image, "scanner.image")
        .into_iter()
        .chain(by_tag(&config.upload.image, "image.digest"))
        .collect();
    for allowed in &scanner.allowed_images {
        if let Some(prefix) = allowed.strip_suffix('*') {
            findings.push(warning(
                "scanner.allowedImages",
                format!(
                    "{allowed} lets every image run with a tenant's credentials whose name begins \
                     with \"{prefix}\". Name the images, best by digest."
                ),
            ));
        } else {
            findings.extend(by_tag(allowed, "scanner.allowedImages"));
        }
    }
    for variable in &scanner.extra_env {
        // A proxy is asked for a tunnel: what goes through it is encrypted all the same.
        let proxy = variable.name.to_ascii_lowercase().ends_with("_proxy");
        let plain = variable
            .value
            .as_deref()
            .is_some_and(|value| value.starts_with("http://"));
        if plain && !proxy {
            findings.push(warning(
                format!("scanner.extraEnv {}", variable.name),
                "Prowler speaks plain HTTP there: whoever is on the way reads and changes what \
                 the scan sees. Use https://.",
            ));
        }
    }
    findings
}

fn containers(pod: Option<&PodSpec>) -> impl Iterator<Item = &Container> {
    pod.into_iter().flat_map(|pod| {
        let init = pod.init_containers.iter().flatten();
        init.chain(&pod.containers)
    })
}

/// The value that a container gets: of several of one name Kubernetes takes the last.
fn variable<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let mut all = container.env.iter().flatten();
    all.rfind(|variable| variable.name == name)?
        .value
        .as_deref()
}

/// As the program itself would read it; what it cannot read is `info` to it.
fn logs_debug(filter: &str) -> bool {
    EnvFilter::try_new(filter)
        .ok()
        .and_then(|filter| filter.max_level_hint())
        .is_some_and(|level| level > LevelFilter::INFO)
}

fn by_tag(image: &str, value: &str) -> Option<Finding> {
    (!image.contains("@sha256:")).then(|| {
        warning(
            format!("image {image}"),
            format!(
                "A tag may mean another image tomorrow. Name the image by its digest, in {value}."
            ),
        )
    })
}

fn spares(budget: &PodDisruptionBudget, labels: Option<&BTreeMap<String, String>>) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    // None selects nothing, an empty one everything.
    selector
        .and_then(|selector| Selector::try_from(selector).ok())
        .is_some_and(|selector| selector.matches(labels.unwrap_or(&BTreeMap::new())))
}

#[cfg(test)]
mod tests;
