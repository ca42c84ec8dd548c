//! What Providers and Integrations point at: labelled Secrets and annotated service accounts,
//! watched by metadata only, so that one that appears, changes or goes wakes those that name it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt as _, reflector::ObjectRef};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Context;
use super::error::Error;
use crate::api::{Integration, Provider, annotations, labels};

/// What is known of an object that credentials name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is there and its owner allows its use.
    Allowed {
        /// Its uid and resource version: another text means that it changed.
        version: String,
    },
    /// It is there, but its owner has not allowed its use.
    NotAllowed,
    /// It is not there.
    Missing,
}

/// An object whose credentials name something of its own namespace, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// A Provider.
    Provider(String),
    /// An Integration.
    Integration(String),
}

/// What may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Secret,
    Account,
}

impl Of {
    fn kind(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::Account => "ServiceAccount",
        }
    }
}

/// An object that is there and may be used, or is named by somebody. There are as many as
/// Providers, nearly all with one user.
#[derive(Debug, Default)]
struct Known {
    version: Option<Box<str>>,
    users: Vec<User>,
}

/// Namespace → name → what is known.
type Objects = HashMap<String, HashMap<Box<str>, Known>>;

#[derive(Debug, Default)]
struct State {
    secrets: Objects,
    accounts: Objects,
}

impl State {
    fn of(&mut self, of: Of) -> &mut Objects {
        match of {
            Of::Secret => &mut self.secrets,
            Of::Account => &mut self.accounts,
        }
    }

    fn known(&mut self, of: Of, namespace: &str, name: &str) -> &mut Known {
        let known = self.of(of).entry(namespace.to_owned()).or_default();
        known.entry(name.into()).or_default()
    }
}

/// Labelled Secrets and annotated service accounts of claimed namespaces.
#[derive(Debug, Default)]
pub struct References {
    state: Mutex<State>,
}

impl References {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A Secret; its user is woken when that changes.
    pub async fn secret(
        &self,
        cx: &Context,
        namespace: &str,
        name: &str,
        user: &User,
    ) -> Result<Found, Error> {
        if let Some(version) = self.note(Of::Secret, namespace, name, user) {
            return Ok(Found::Allowed { version });
        }
        // Not in the watch: not there, not labelled, or not seen yet. Only the API server knows.
        live_secret(cx, namespace, name).await
    }

    /// A `ServiceAccount`; its user is woken when that changes.
    pub async fn service_account(
        &self,
        cx: &Context,
        namespace: &str,
        name: &str,
        user: &User,
    ) -> Result<Found, Error> {
        if let Some(version) = self.note(Of::Account, namespace, name, user) {
            return Ok(Found::Allowed { version });
        }
        live_service_account(cx, namespace, name).await
    }

    fn note(&self, of: Of, namespace: &str, name: &str, user: &User) -> Option<String> {
        let mut state = self.lock();
        let known = state.known(of, namespace, name);
        if !known.users.contains(user) {
            known.users.push(user.clone());
        }
        known.version.as_deref().map(str::to_owned)
    }

    /// Takes in what the watch says; wakes who names the object.
    fn seen(&self, cx: &Context, of: Of, namespace: &str, name: &str, version: Option<&str>) {
        let mut state = self.lock();
        let noted = state.of(of).get(namespace);
        if version.is_none() && !noted.is_some_and(|all| all.contains_key(name)) {
            // Most accounts are neither allowed nor named: nothing is kept of them.
            return;
        }
        let known = state.known(of, namespace, name);
        if known.version.as_deref() == version {
            return;
        }
        known.version = version.map(Into::into);
        for user in &known.users {
            match user {
                User::Provider(user) => cx
                    .wake
                    .call(ObjectRef::<Provider>::new(user).within(namespace)),
                User::Integration(user) => cx
                    .wake
                    .call(ObjectRef::<Integration>::new(user).within(namespace)),
            }
        }
    }

    /// Forgets what is no longer there after the watch of a namespace, or of all, began anew.
    fn keep_only(
        &self,
        cx: &Context,
        of: Of,
        namespace: Option<&str>,
        seen: &BTreeSet<(String, String)>,
    ) {
        let gone: Vec<_> = {
            let mut state = self.lock();
            let objects = state.of(of).iter();
            let watched = objects.filter(|(of, _)| namespace.is_none_or(|n| *of == n));
            let allowed = watched.flat_map(|(namespace, all)| {
                let allowed = all.iter().filter(|(_, known)| known.version.is_some());
                allowed.map(|(name, _)| (namespace.clone(), name.to_string()))
            });
            allowed.filter(|key| !seen.contains(key)).collect()
        };
        for (namespace, name) in gone {
            self.seen(cx, of, &namespace, &name, None);
        }
    }
}

/// The Secret as it is at this moment.
pub async fn live_secret(cx: &Context, namespace: &str, name: &str) -> Result<Found, Error> {
    let api: Api<Secret> = Api::namespaced(cx.client.clone(), namespace);
    let meta = api.get_metadata_opt(name).await?;
    Ok(found(meta, |meta| {
        meta.labels().get(labels::CREDENTIALS).cloned()
    }))
}

/// The `ServiceAccount` as it is at this moment.
pub async fn live_service_account(
    cx: &Context,
    namespace: &str,
    name: &str,
) -> Result<Found, Error> {
    let api: Api<ServiceAccount> = Api::namespaced(cx.client.clone(), namespace);
    let meta = api.get_metadata_opt(name).await?;
    Ok(found(meta, |meta| {
        meta.annotations().get(annotations::SCANNER).cloned()
    }))
}

fn found<K>(
    meta: Option<PartialObjectMeta<K>>,
    mark: impl Fn(&PartialObjectMeta<K>) -> Option<String>,
) -> Found {
    match meta {
        None => Found::Missing,
        Some(meta) if mark(&meta).as_deref() == Some("true") => Found::Allowed {
            version: version(&meta),
        },
        Some(_) => Found::NotAllowed,
    }
}

fn version<K>(meta: &PartialObjectMeta<K>) -> String {
    let uid = meta.metadata.uid.as_deref().unwrap_or_default();
    let resource_version = meta
        .metadata
        .resource_version
        .as_deref()
        .unwrap_or_default();
    format!("{uid}/{resource_version}")
}

/// Watches service accounts wherever the operator may read them, and labelled Secrets in every
/// claimed namespace, until dropped. `claimed` carries the claimed namespaces, `ready` turns
/// true after the first lists.
pub async fn watch_all(
    cx: Arc<Context>,
    mut claimed: watch::Receiver<Vec<String>>,
    ready: watch::Sender<bool>,
) {
    let mut accounts: Vec<_> = cx
        .reach::<ServiceAccount>()
        .into_iter()
        .map(|api| listed(|listed| watch_accounts(cx.clone(), api, listed)))
        .collect();
    let mut secrets: BTreeMap<String, Watched> = BTreeMap::new();
    let mut announced = false;
    loop {
        let namespaces: BTreeSet<String> = claimed.borrow_and_update().iter().cloned().collect();
        secrets.retain(|namespace, _| namespaces.contains(namespace));
        for namespace in namespaces {
            secrets
                .entry(namespace.clone())
                .or_insert_with(|| listed(|listed| watch_secrets(cx.clone(), namespace, listed)));
        }
        if !announced {
            let all = async {
                for watched in accounts.iter_mut().chain(secrets.values_mut()) {
                    let _ = watched.listed.wait_for(|listed| *listed).await;
                }
            };
            // A namespace whose binding was removed must not keep the controller from starting.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(15), all).await;
            announced = true;
            let _ = ready.send(true);
        }
        if claimed.changed().await.is_err() {
            return;
        }
    }
}

/// A watch that ends with its owner, and whether its first list is in.
struct Watched {
    _running: Running,
    listed: watch::Receiver<bool>,
}

fn listed<F>(watching: impl FnOnce(watch::Sender<bool>) -> F) -> Watched
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, listed) = watch::channel(false);
    Watched {
        _running: Running(tokio::spawn(watching(sender))),
        listed,
    }
}

/// A task that ends with its owner.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch_secrets(cx: Arc<Context>, namespace: String, listed: watch::Sender<bool>) {
    let place = cx.multiplex.place();
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(place.client.clone(), &namespace);
    let config = watcher::Config::default().labels(&format!("{}=true", labels::CREDENTIALS));
    follow(
        &cx,
        Of::Secret,
        Some(&namespace),
        // In pages: to stream the list of one namespace the API server goes through the Secrets of
        // all, a thousand times for a thousand of them.
        watcher(api, config).default_backoff(),
        listed,
        |_| true,
    )
    .await;
}

async fn watch_accounts(
    cx: Arc<Context>,
    api: Api<PartialObjectMeta<ServiceAccount>>,
    listed: watch::Sender<bool>,
) {
    let namespace = api.namespace().map(str::to_owned);
    let allowed = |meta: &PartialObjectMeta<ServiceAccount>| {
        meta.metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(annotations::SCANNER))
            .is_some_and(|value| value == "true")
    };
    let config = watcher::Config::default();
    follow(
        &cx,
        Of::Account,
        namespace.as_deref(),
        watcher(api, config).default_backoff(),
        listed,
        allowed,
    )
    .await;
}

async fn follow<K>(
    cx: &Context,
    of: Of,
    namespace: Option<&str>,
    stream: impl futures::Stream<Item = Result<Event<PartialObjectMeta<K>>, watcher::Error>> + Send,
    listed: watch::Sender<bool>,
    allowed: impl Fn(&PartialObjectMeta<K>) -> bool,
) where
    K: Send,
{
    let tell = |meta: &PartialObjectMeta<K>, version: Option<&str>| {
        let namespace = meta.metadata.namespace.as_deref().unwrap_or_default();
        let name = meta.metadata.name.as_deref().unwrap_or_default();
        cx.references.seen(cx, of, namespace, name, version);
    };
    let mut listing = BTreeSet::new();
    let mut stream = std::pin::pin!(stream.into_stream());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => listing.clear(),
            Ok(Event::InitApply(meta)) => {
                let state = allowed(&meta).then(|| version(&meta));
                tell(&meta, state.as_deref());
                if state.is_some() {
                    let (namespace, name) = (meta.metadata.namespace, meta.metadata.name);
                    listing.insert((namespace.unwrap_or_default(), name.unwrap_or_default()));
                }
            }
            Ok(Event::InitDone) => {
                let seen = std::mem::take(&mut listing);
                cx.references.keep_only(cx, of, namespace, &seen);
                let _ = listed.send(true);
            }
            Ok(Event::Apply(meta)) => {
                let state = allowed(&meta).then(|| version(&meta));
                tell(&meta, state.as_deref());
            }
            Ok(Event::Delete(meta)) => tell(&meta, None),
            Err(error) => {
                let kind = of.kind();
                cx.metrics.watch_failed(kind);
                tracing::warn!(kind, namespace, %error, "a watch failed; beginning it anew");
            }
        }
    }
}
