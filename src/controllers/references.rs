//! What Providers and Integrations point at: labelled Secrets and annotated service accounts,
//! watched by metadata only, so that one that appears, changes or goes wakes those that name it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// A Provider.
    Provider(String),
    /// An Integration.
    Integration(String),
}

#[derive(Debug, Default)]
struct State {
    secrets: HashMap<(String, String), String>,
    accounts: HashMap<(String, String), String>,
    /// Who names what: (kind, namespace, name) → those who do.
    users: HashMap<(&'static str, String, String), BTreeSet<User>>,
}

/// Labelled Secrets and annotated service accounts of claimed namespaces.
#[derive(Debug, Default)]
pub struct References {
    state: Mutex<State>,
}

const SECRET: &str = "Secret";
const ACCOUNT: &str = "ServiceAccount";

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
        if let Some(version) = self.note(SECRET, namespace, name, user) {
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
        if let Some(version) = self.note(ACCOUNT, namespace, name, user) {
            return Ok(Found::Allowed { version });
        }
        live_service_account(cx, namespace, name).await
    }

    fn note(&self, kind: &'static str, namespace: &str, name: &str, user: &User) -> Option<String> {
        let mut state = self.lock();
        let key = (namespace.to_owned(), name.to_owned());
        state
            .users
            .entry((kind, key.0.clone(), key.1.clone()))
            .or_default()
            .insert(user.clone());
        let known = if kind == SECRET {
            &state.secrets
        } else {
            &state.accounts
        };
        known.get(&key).cloned()
    }

    /// Takes in what the watch says; wakes who names the object.
    fn seen(&self, cx: &Context, kind: &'static str, key: (String, String), version: Option<&str>) {
        let mut state = self.lock();
        let known = if kind == SECRET {
            &mut state.secrets
        } else {
            &mut state.accounts
        };
        let before = match version {
            Some(new) => known.insert(key.clone(), new.to_owned()),
            None => known.remove(&key),
        };
        if before.as_deref() == version {
            return;
        }
        let (namespace, name) = key;
        for user in state
            .users
            .get(&(kind, namespace.clone(), name))
            .into_iter()
            .flatten()
        {
            match user {
                User::Provider(user) => cx
                    .wake
                    .call(ObjectRef::<Provider>::new(user).within(&namespace)),
                User::Integration(user) => cx
                    .wake
                    .call(ObjectRef::<Integration>::new(user).within(&namespace)),
            }
        }
    }

    /// Forgets what is no longer there after the watch of a namespace began anew.
    fn keep_only(
        &self,
        cx: &Context,
        kind: &'static str,
        namespace: Option<&str>,
        seen: &BTreeSet<(String, String)>,
    ) {
        let gone: Vec<_> = {
            let state = self.lock();
            let known = if kind == SECRET {
                &state.secrets
            } else {
                &state.accounts
            };
            known
                .keys()
                .filter(|key| namespace.is_none_or(|n| key.0 == n) && !seen.contains(*key))
                .cloned()
                .collect()
        };
        for key in gone {
            self.seen(cx, kind, key, None);
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
        SECRET,
        Some(&namespace),
        cx.lists.watch(api, config).default_backoff(),
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
        ACCOUNT,
        namespace.as_deref(),
        cx.lists.watch(api, config).default_backoff(),
        listed,
        allowed,
    )
    .await;
}

async fn follow<K>(
    cx: &Context,
    kind: &'static str,
    namespace: Option<&str>,
    stream: impl futures::Stream<Item = Result<Event<PartialObjectMeta<K>>, watcher::Error>> + Send,
    listed: watch::Sender<bool>,
    allowed: impl Fn(&PartialObjectMeta<K>) -> bool,
) where
    K: Send,
{
    let key = |meta: &PartialObjectMeta<K>| {
        let namespace = meta.metadata.namespace.clone().unwrap_or_default();
        (namespace, meta.metadata.name.clone().unwrap_or_default())
    };
    let mut listing = BTreeSet::new();
    let mut stream = std::pin::pin!(stream.into_stream());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => listing.clear(),
            Ok(Event::InitApply(meta)) => {
                let state = allowed(&meta).then(|| version(&meta));
                if state.is_some() {
                    listing.insert(key(&meta));
                }
                cx.references.seen(cx, kind, key(&meta), state.as_deref());
            }
            Ok(Event::InitDone) => {
                cx.references.keep_only(cx, kind, namespace, &listing);
                let _ = listed.send(true);
            }
            Ok(Event::Apply(meta)) => {
                let state = allowed(&meta).then(|| version(&meta));
                cx.references.seen(cx, kind, key(&meta), state.as_deref());
            }
            Ok(Event::Delete(meta)) => cx.references.seen(cx, kind, key(&meta), None),
            Err(error) => {
                cx.metrics.watch_failed(kind);
                tracing::warn!(kind, namespace, %error, "a watch failed; beginning it anew");
            }
        }
    }
}
