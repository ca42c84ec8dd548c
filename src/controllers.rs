//! The reconcilers: one loop for all kinds ([`driver`]), one file per kind.
//!
//! Only this chapter has both a Kubernetes client and the store. A kind's file reads as the
//! five steps: resolve (reads), validate and plan (pure, mostly in `domain`), commit (one
//! transaction, then owned objects), report (done by the driver).

pub mod access;
pub mod admission;
pub mod checks;
mod clock;
pub mod credentials;
mod dependencies;
pub mod driver;
pub mod due;
pub mod echoes;
pub mod error;
mod installation;
pub mod integration;
pub mod isolation;
pub mod jobs;
pub mod kueue;
pub mod launch;
pub mod ledger;
pub mod make_scan;
pub mod malformed;
pub mod mirrors;
pub mod multiplex;
pub mod mute_rule;
pub mod network;
mod patience;
pub mod provider;
pub mod provider_group;
pub mod references;
pub mod role;
pub mod run;
pub mod run_now;
pub mod scan;
pub mod scan_schedule;
pub mod status;
pub mod tenancy;
pub mod tenant;
pub mod wake;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_controller::events::EventRecorder;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

pub use self::run::run;
use crate::api;
use crate::config::file::FileConfig;
use crate::domain::clock::Clock;
use crate::domain::ids::{InstallationId, ObjectName};
use crate::domain::reason::Reason;
use crate::metrics::controller::ControllerMetrics;
use crate::store::{AdminStore, Store};

/// What every pass has at hand. One per process.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The API server, for watches of which there is one for each namespace.
    pub multiplex: multiplex::Multiplex,
    /// The database as `prowler_user`.
    pub store: Store,
    /// The database as `prowler_admin`, for the named acts across tenants.
    pub admin: AdminStore,
    /// Time, fresh ids and jitter.
    pub clock: Arc<dyn Clock>,
    /// What derived ids hang on.
    pub installation: InstallationId,
    /// The chart's values about scans.
    pub config: FileConfig,
    /// Where this installation lives and what its parts are called.
    pub settings: Settings,
    /// Events, aggregated.
    pub events: EventRecorder,
    /// What is counted.
    pub metrics: Arc<ControllerMetrics>,
    /// Failed passes in a row.
    pub attempts: driver::Attempts,
    /// Which namespace belongs to which tenant.
    pub tenancy: tenancy::Tenancy,
    /// Secrets and service accounts of claimed namespaces, by metadata.
    pub references: references::References,
    /// What is stored of each provider, so that a settled pass costs no query.
    pub mirrors: mirrors::Mirrors,
    /// Whether tenants are kept apart, as the canary last found.
    pub isolation: isolation::Isolation,
    /// Which changes are our own.
    pub echoes: echoes::Echoes,
    /// Namespaces known to have no network policy of ours.
    pub open_namespaces: network::Open,
    /// How Workloads of Kueue are served.
    pub workloads: kueue::Workloads,
    /// What scans that wait were told.
    pub line: admission::Line,
    /// Calls for passes that no watch would bring.
    pub wake: wake::Wake,
}

/// Where this installation lives and what its parts are called.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The operator's namespace; never a tenant's.
    pub namespace: String,
    /// Where scan pods send their findings.
    pub server_url: String,
    /// PEM file with the CA of the server's certificate.
    pub server_ca_file: PathBuf,
    /// `ClusterRole` that grants reading Secrets.
    pub secret_reader_role: String,
    /// The controller's `ServiceAccount`.
    pub service_account: String,
}

impl Context {
    /// The APIs through which objects of tenants' namespaces are read: that of all namespaces,
    /// or one for each that the chart's `rbac.namespaces` lists.
    fn reach<K>(&self) -> Vec<Api<PartialObjectMeta<K>>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let listed = &self.config.rbac.namespaces;
        if listed.is_empty() {
            return vec![Api::all(self.client.clone())];
        }
        listed
            .iter()
            .map(|namespace| Api::namespaced(self.client.clone(), namespace))
            .collect()
    }
}

/// The object of this name, if it is there; where no namespace is given, those of all. A list is asked,
/// not the object: where the kind itself is not served for a moment it fails, and does not look empty.
async fn named<K>(
    cx: &Context,
    namespace: Option<&str>,
    name: &str,
) -> Result<Vec<PartialObjectMeta<K>>, kube::Error>
where
    K: HasApi + Clone + DeserializeOwned + Debug,
{
    let named = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = K::api(cx, namespace).list_metadata(&named).await?;
    Ok(found.items)
}

/// Whether the very object of this name and uid is there.
async fn is_there<K>(
    cx: &Context,
    namespace: Option<&str>,
    name: &str,
    uid: &str,
) -> Result<bool, kube::Error>
where
    K: HasApi + Clone + DeserializeOwned + Debug,
{
    let found = named::<K>(cx, namespace, name).await?;
    Ok(found
        .iter()
        .any(|object| object.metadata.uid.as_deref() == Some(uid)))
}

/// Deletes the object of this uid, and none that has its name by now.
fn only(uid: Option<String>) -> DeleteParams {
    DeleteParams::default().preconditions(Preconditions {
        uid,
        resource_version: None,
    })
}

/// Deletes an object; that it is gone already is what was wanted.
async fn delete<K>(api: &Api<K>, name: &str, params: &DeleteParams) -> Result<(), error::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    match api.delete(name, params).await {
        Ok(_) => Ok(()),
        Err(error) if driver::is_not_found(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The namespace as it is at this moment, without what is in it.
async fn namespace_meta(
    cx: &Context,
    name: &str,
) -> Result<Option<PartialObjectMeta<Namespace>>, error::Error> {
    Ok(Api::<Namespace>::all(cx.client.clone())
        .get_metadata_opt(name)
        .await?)
}

/// Whether objects can be made in the namespace: it is there, and not going.
async fn takes_objects(cx: &Context, namespace: &str) -> Result<bool, error::Error> {
    let found = namespace_meta(cx, namespace).await?;
    Ok(found.is_some_and(|found| found.metadata.deletion_timestamp.is_none()))
}

macro_rules! api_of {
    ($($kind:ident),*) => {$(
        impl HasApi for api::$kind {
            fn api(cx: &Context, namespace: Option<&str>) -> Api<Self> {
                match namespace {
                    Some(namespace) => Api::namespaced(cx.client.clone(), namespace),
                    None => Api::all(cx.client.clone()),
                }
            }
        }
    )*};
}

/// A kind whose objects live in a namespace each.
pub trait HasApi: Sized {
    /// The API of one namespace, or of all.
    fn api(cx: &Context, namespace: Option<&str>) -> Api<Self>;
}

api_of!(
    Provider,
    ProviderGroup,
    Role,
    ScanSchedule,
    Scan,
    Integration,
    MuteRule
);

impl HasApi for api::Tenant {
    fn api(cx: &Context, _: Option<&str>) -> Api<Self> {
        Api::all(cx.client.clone())
    }
}

impl HasApi for Namespace {
    fn api(cx: &Context, _: Option<&str>) -> Api<Self> {
        Api::all(cx.client.clone())
    }
}

/// Where a namespaced object is.
fn name_of<K: kube::Resource>(object: &K) -> ObjectName {
    ObjectName {
        namespace: object.meta().namespace.clone().unwrap_or_default(),
        name: object.meta().name.clone().unwrap_or_default(),
    }
}

/// Where a namespaced object is and whose it is, or what to say while nobody holds its
/// namespace.
fn placed<K: kube::Resource>(
    object: &K,
    cx: &Context,
) -> Result<(ObjectName, Arc<tenancy::TenantView>), driver::Outcome> {
    let name = name_of(object);
    match cx.tenancy.of(&name.namespace) {
        Some(tenant) if !tenant.is_deleted && tenant.spec.namespaces.contains(&name.namespace) => {
            Ok((name, tenant))
        }
        Some(tenant) if !tenant.is_deleted => {
            // Storing more while the rows of this namespace are being removed would never end.
            let message = format!(
                "Tenant {} is giving namespace {} back.",
                tenant.name, name.namespace
            );
            Err(driver::Outcome::progressing(
                Reason::TenantNotFound,
                message,
            ))
        }
        Some(tenant) => {
            let message = format!(
                "Tenant {} is being deleted; nothing new is stored for it.",
                tenant.name
            );
            Err(driver::Outcome::progressing(
                Reason::TenantNotFound,
                message,
            ))
        }
        None => {
            let message = format!(
                "No Tenant holds namespace {}; name it in the spec.namespaces of one.",
                name.namespace
            );
            Err(driver::Outcome::progressing(
                Reason::TenantNotFound,
                message,
            ))
        }
    }
}
