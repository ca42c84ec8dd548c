//! Role: its permissions, subjects and provider groups, mirrored for whoever asks the database
//! what a caller may see.

use std::time::Duration;

use super::driver::{Cleanup, Outcome, Reconcile};
use super::error::Error;
use super::tenant::uid_of;
use super::{Context, placed};
use crate::api::Role;
use crate::api::role::{RoleStatus, SubjectKind};
use crate::domain::permission;
use crate::domain::reason::Reason;
use crate::store::admin::ownership::{Mirrored, tenant_of};
use crate::store::groups;
use crate::store::roles::{self, RoleRecord, Subject};

impl Reconcile for Role {
    async fn apply(&self, status: &mut RoleStatus, cx: &Context) -> Result<Outcome, Error> {
        let (name, tenant) = match placed(self, cx) {
            Ok(found) => found,
            Err(waiting) => {
                (status.role_id, status.permissions, status.provider_groups) = (None, None, None);
                return Ok(waiting);
            }
        };
        let object = uid_of(self)?;
        if !tenant.has_roles_in(&name.namespace) {
            // It may have counted before roleNamespaces changed.
            let mut tx = cx.store.tenant(tenant.id).await?;
            roles::remove(&mut tx, object).await?;
            tx.commit().await?;
            (status.role_id, status.permissions, status.provider_groups) = (None, None, None);
            let message = format!(
                "Roles of Tenant {} do not count in namespace {}; put this Role into one of its spec.roleNamespaces.",
                tenant.name, name.namespace
            );
            return Ok(Outcome::stalled(Reason::RoleNotAllowedHere, message));
        }
        let permissions = permission::compile(&self.spec);
        let names: Vec<String> = self
            .spec
            .provider_group_refs
            .iter()
            .map(|group| group.name.clone())
            .collect();
        let id = cx.installation.role(&name);
        let mut tx = cx.store.tenant(tenant.id).await?;
        let found = groups::by_names(&mut tx, &name.namespace, &names).await?;
        let record = RoleRecord {
            object,
            name: name.clone(),
            permissions,
            groups: found.iter().map(|(_, id)| *id).collect(),
            subjects: self.subjects(),
        };
        roles::upsert(&mut tx, id, &record).await?;
        tx.commit().await?;

        status.role_id = Some(id.to_string());
        status.permissions = Some(permissions.count());
        status.provider_groups = i64::try_from(found.len()).ok();
        let missing: Vec<_> = names
            .iter()
            .filter(|name| found.iter().all(|(have, _)| have != *name))
            .cloned()
            .collect();
        if missing.is_empty() {
            return Ok(Outcome::settled(format!(
                "{} permissions.",
                permissions.count()
            )));
        }
        let message = format!(
            "No stored ProviderGroup here is named {}.",
            missing.join(", ")
        );
        Ok(Outcome::progressing(Reason::ProviderGroupNotFound, message)
            .again_in(Duration::from_mins(5)))
    }

    async fn cleanup(&self, _: &mut RoleStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        while let Some(tenant) = tenant_of(&cx.admin, Mirrored::Role, object).await? {
            let mut tx = cx.store.tenant(tenant).await?;
            roles::remove(&mut tx, object).await?;
            tx.commit().await?;
        }
        Ok(Cleanup::Done)
    }
}

impl Role {
    fn subjects(&self) -> Vec<Subject> {
        let kind = |kind| match kind {
            SubjectKind::User => "User",
            SubjectKind::Group => "Group",
            SubjectKind::ServiceAccount => "ServiceAccount",
        };
        let mut subjects: Vec<_> = self
            .spec
            .subjects
            .iter()
            .map(|subject| Subject {
                kind: kind(subject.kind).to_owned(),
                namespace: subject.namespace.clone().unwrap_or_default(),
                name: subject.name.clone(),
            })
            .collect();
        subjects.sort();
        subjects.dedup();
        subjects
    }
}
