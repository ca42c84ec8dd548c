//! Which namespace belongs to which tenant, as the database says, held in memory: every pass
//! asks, and ten thousand passes must not be ten thousand queries.
//!
//! Only this program writes claims, and it reloads after each; a timer covers another leader.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use crate::api::tenant::TenantSpec;
use crate::domain::ids::TenantId;
use crate::store::admin::claims;
use crate::store::{AdminStore, StoreError};

/// A tenant as reconcilers of other kinds see it.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantView {
    /// The tenant.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// Its spec as stored.
    pub spec: TenantSpec,
    /// Namespaces it holds, in order.
    pub namespaces: Vec<String>,
    /// It is being deleted: nothing new is stored for it.
    pub is_deleted: bool,
}

impl TenantView {
    /// Whether Role objects in this namespace count.
    pub fn has_roles_in(&self, namespace: &str) -> bool {
        match &self.spec.role_namespaces {
            Some(names) => names.iter().any(|name| name == namespace),
            None => self
                .spec
                .namespaces
                .first()
                .or(self.namespaces.first())
                .is_some_and(|n| n == namespace),
        }
    }
}

/// Namespace → tenant.
#[derive(Debug, Default)]
pub struct Tenancy {
    by_namespace: RwLock<HashMap<String, Arc<TenantView>>>,
    /// One reload at a time: an older answer must not replace a newer one.
    reloading: tokio::sync::Mutex<()>,
    change: tokio::sync::Notify,
}

impl Tenancy {
    /// The tenant that holds this namespace.
    pub fn of(&self, namespace: &str) -> Option<Arc<TenantView>> {
        let map = self
            .by_namespace
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        map.get(namespace).cloned()
    }

    /// All claimed namespaces.
    pub fn namespaces(&self) -> Vec<String> {
        let map = self
            .by_namespace
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut names: Vec<_> = map.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Reads the claims again. The namespaces whose tenant, or whose tenant's settings, changed.
    pub async fn reload(&self, admin: &AdminStore) -> Result<Vec<String>, StoreError> {
        let _one = self.reloading.lock().await;
        let mut namespaces: HashMap<TenantId, Vec<String>> = HashMap::new();
        let claims = claims::all(admin).await?;
        for claim in &claims {
            namespaces
                .entry(claim.tenant)
                .or_default()
                .push(claim.namespace.clone());
        }
        let mut fresh = HashMap::with_capacity(claims.len());
        for claim in claims {
            let Ok(mut spec) = serde_json::from_value::<TenantSpec>(claim.spec) else {
                // One row that cannot be read must not take the others their tenants away.
                tracing::warn!(tenant = %claim.tenant, "the stored spec cannot be read; the Tenant's next pass writes it anew");
                continue;
            };
            spec.suspend = claim.suspend;
            let view = TenantView {
                id: claim.tenant,
                name: claim.name,
                spec,
                namespaces: namespaces.get(&claim.tenant).cloned().unwrap_or_default(),
                is_deleted: claim.is_deleted,
            };
            fresh.insert(claim.namespace, Arc::new(view));
        }
        let mut map = self
            .by_namespace
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut changed: Vec<String> = fresh
            .iter()
            .filter(|(name, view)| map.get(*name) != Some(view))
            .map(|(name, _)| name.clone())
            .chain(
                map.keys()
                    .filter(|name| !fresh.contains_key(*name))
                    .cloned(),
            )
            .collect();
        changed.sort_unstable();
        *map = fresh;
        drop(map);
        if !changed.is_empty() {
            self.change.notify_one();
        }
        Ok(changed)
    }

    /// Returns after a reload found something changed. For one listener.
    pub async fn changed(&self) {
        self.change.notified().await;
    }
}
