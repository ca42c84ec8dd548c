//! ProviderGroup: which providers belong to it, by name and by label.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::dependencies::awaited;
use super::driver::{Cleanup, Outcome, Reconcile};
use super::error::Error;
use super::tenancy::TenantView;
use super::tenant::uid_of;
use super::{Context, placed};
use crate::api::provider_group::{ProviderGroupSpec, ProviderGroupStatus};
use crate::api::{ProviderGroup, Role};
use crate::domain::ids::{ObjectName, ProviderId};
use crate::domain::selector;
use crate::store::admin::ownership::{Mirrored, tenant_of};
use crate::store::providers::Listed;
use crate::store::{Change, groups, providers};

impl Reconcile for ProviderGroup {
    async fn apply(
        &self,
        status: &mut ProviderGroupStatus,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        let (name, tenant) = match placed(self, cx) {
            Ok(found) => found,
            Err(waiting) => {
                (status.group_id, status.providers) = (None, None);
                return Ok(waiting);
            }
        };
        let id = cx.installation.group(&name);
        let mut tx = cx.store.tenant(tenant.id).await?;
        let all = providers::list(&mut tx).await?;
        let plan = plan(&self.spec, &name, &tenant, &all);
        let change = groups::upsert(&mut tx, id, uid_of(self)?, &name, &plan.members).await?;
        tx.commit().await?;
        if change == Change::Created {
            cx.wake.call_all::<Role>(&tenant.namespaces);
        }
        status.group_id = Some(id.to_string());
        status.providers = i64::try_from(plan.members.len()).ok();
        if plan.missing.is_empty() {
            return Ok(Outcome::settled(format!(
                "{} providers.",
                plan.members.len()
            )));
        }
        // The others are members already; this one joins when it comes.
        let (reason, why) = awaited(&name.namespace, &plan.missing, cx).await?;
        Ok(Outcome::progressing(reason, why).again_in(Duration::from_mins(5)))
    }

    async fn cleanup(&self, _: &mut ProviderGroupStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        while let Some(tenant) = tenant_of(&cx.admin, Mirrored::ProviderGroup, object).await? {
            let mut tx = cx.store.tenant(tenant).await?;
            groups::remove(&mut tx, object).await?;
            tx.commit().await?;
        }
        // Roles that name it show one group less.
        cx.wake.call_all::<Role>(&[super::name_of(self).namespace]);
        Ok(Cleanup::Done)
    }
}

struct Plan {
    members: BTreeSet<ProviderId>,
    missing: Vec<String>,
}

/// Named providers come from the group's own namespace; a selector reaches over the whole
/// tenant only from a namespace in which roles count.
fn plan(spec: &ProviderGroupSpec, group: &ObjectName, tenant: &TenantView, all: &[Listed]) -> Plan {
    let mut plan = Plan {
        members: BTreeSet::new(),
        missing: Vec::new(),
    };
    for wanted in &spec.provider_refs {
        match all
            .iter()
            .find(|p| p.name.namespace == group.namespace && p.name.name == wanted.name)
        {
            Some(found) => {
                plan.members.insert(found.id);
            }
            None => plan.missing.push(wanted.name.clone()),
        }
    }
    if let Some(wanted) = &spec.selector {
        let everywhere = tenant.has_roles_in(&group.namespace);
        plan.members.extend(
            all.iter()
                .filter(|p| everywhere || p.name.namespace == group.namespace)
                .filter(|p| selector::matches(wanted, &labels(p)))
                .map(|p| p.id),
        );
    }
    plan
}

/// The stored labels of a provider.
pub(super) fn labels(provider: &Listed) -> BTreeMap<String, String> {
    serde_json::from_value(provider.labels.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::api::common::{LocalRef, Selector};
    use crate::domain::ids::TenantId;

    fn listed(n: u128, namespace: &str, name: &str, env: &str) -> Listed {
        Listed {
            id: ProviderId(Uuid::from_u128(n)),
            name: ObjectName {
                namespace: namespace.into(),
                name: name.into(),
            },
            provider: "aws".into(),
            uid: "123456789012".into(),
            labels: json!({ "env": env }),
            suspend: false,
        }
    }

    fn members(namespace: &str) -> Vec<u128> {
        let all = [
            listed(1, "a", "x", "prod"),
            listed(2, "a", "y", "dev"),
            listed(3, "b", "x", "prod"),
        ];
        let spec = ProviderGroupSpec {
            provider_refs: vec![LocalRef::new("y")],
            selector: Some(Selector {
                match_labels: [("env".to_owned(), "prod".to_owned())].into(),
                ..Selector::default()
            }),
        };
        let tenant = TenantView {
            id: TenantId(Uuid::nil()),
            name: "t".into(),
            spec: crate::api::tenant::TenantSpec {
                namespaces: vec!["a".into(), "b".into()],
                ..Default::default()
            },
            namespaces: vec!["a".into(), "b".into()],
            is_deleted: false,
        };
        let group = ObjectName {
            namespace: namespace.into(),
            name: "g".into(),
        };
        plan(&spec, &group, &tenant, &all)
            .members
            .iter()
            .map(|id| id.0.as_u128())
            .collect()
    }

    #[test]
    fn a_selector_reaches_the_whole_tenant_only_where_roles_count() {
        assert_eq!(members("a"), [1, 2, 3]);
        assert_eq!(members("b"), [3]);
    }
}
