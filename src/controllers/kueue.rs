//! Jobs that [Kueue](https://kueue.sigs.k8s.io) lets start: what it says of one, as its users read it.
//! It makes a Workload for each Job that carries the name of a queue, keeps the Job suspended until
//! there is room, and says in the Workload's conditions what is missing.

use std::sync::OnceLock;

use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, discovery};
use serde_json::Value;

use super::Context;
use super::error::Error;
use crate::domain::ids::ObjectUid;
use crate::domain::redact::redact;

/// Group of its kinds.
const GROUP: &str = "kueue.x-k8s.io";
/// Label of a Workload with the uid of its Job.
const JOB_UID: &str = "kueue.x-k8s.io/job-uid";

/// What Scans say where the cluster has no Kueue.
pub const MISSING: &str = "This installation lets Kueue start scans (kueue.enabled), and the cluster has no Workloads of it: install Kueue, or set kueue.enabled to false.";

/// How the API server serves Workloads, once that is known.
#[derive(Debug, Default)]
pub struct Workloads(OnceLock<ApiResource>);

impl Workloads {
    /// How the API server serves them. None: Kueue is not installed.
    pub async fn served(&self, client: &Client) -> Result<Option<ApiResource>, Error> {
        if let Some(known) = self.0.get() {
            return Ok(Some(known.clone()));
        }
        let group = match discovery::group(client, GROUP).await {
            Ok(group) => group,
            Err(kube::Error::Discovery(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let kind = group.recommended_kind("Workload");
        Ok(kind.map(|(resource, _)| self.0.get_or_init(|| resource).clone()))
    }
}

/// Why Kueue keeps the Job of this uid suspended.
pub async fn why(cx: &Context, namespace: &str, job: ObjectUid) -> Result<String, Error> {
    let queue = &cx.config.kueue.local_queue;
    let Some(resource) = cx.workloads.served(&cx.client).await? else {
        return Ok(MISSING.to_owned());
    };
    let api: Api<DynamicObject> = Api::namespaced_with(cx.client.clone(), namespace, &resource);
    let params = ListParams::default().labels(&format!("{JOB_UID}={job}"));
    let found = api.list(&params).await?;
    let says = found.items.first().map(|workload| says(&workload.data));
    let says = says.unwrap_or_else(|| "It has not seen the Job yet.".to_owned());
    Ok(format!("Waits for Kueue, LocalQueue {queue}: {says}"))
}

/// What the conditions of a Workload say. Only one of them tells what stands in the way; those that
/// hold tell how far it has come.
fn says(workload: &Value) -> String {
    let conditions = workload["status"]["conditions"].as_array();
    let find = |kind: &str, status: &str| {
        let mut all = conditions.into_iter().flatten();
        let found = all.find(|c| c["type"] == kind && c["status"] == status)?;
        found["message"].as_str().filter(|text| !text.is_empty())
    };
    let reserved = find("QuotaReserved", "True");
    let told = match reserved {
        // Other checks than that of quota come after it.
        Some(_) => find("Admitted", "False").or(reserved),
        None => find("QuotaReserved", "False").or_else(|| find("Evicted", "True")),
    };
    match told {
        Some(text) => redact(text),
        None => "It has not looked at it yet.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_condition_that_stands_in_the_way_is_told() {
        let of = |conditions: &[(&str, &str, &str)]| {
            let conditions: Vec<_> = conditions
                .iter()
                .map(|(kind, status, message)| json!({ "type": kind, "status": status, "message": message }))
                .collect();
            says(&json!({ "status": { "conditions": conditions } }))
        };
        assert_eq!(says(&json!({})), "It has not looked at it yet.");
        let full = (
            "QuotaReserved",
            "False",
            "couldn't assign flavors: insufficient cpu",
        );
        assert_eq!(of(&[full]), full.2);
        let evicted = (
            "Evicted",
            "True",
            "Preempted to accommodate a higher priority Workload",
        );
        assert_eq!(of(&[evicted, full]), full.2);
        assert_eq!(of(&[evicted]), evicted.2);
        let reserved = (
            "QuotaReserved",
            "True",
            "Quota reserved in ClusterQueue audits",
        );
        assert_eq!(of(&[reserved]), reserved.2);
        let checks = ("Admitted", "False", "The workload waits for its checks");
        assert_eq!(of(&[reserved, checks]), checks.2);
        let secret = ("QuotaReserved", "False", "password=hunter2hunter2");
        assert!(!of(&[secret]).contains("hunter2"), "{}", of(&[secret]));
    }
}
