//! Integration: where findings are sent, checked and stored for whoever sends them.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_controller::conditions::ConditionStatus;
use kube::ResourceExt;

use super::credentials::Seen;
use super::dependencies::awaited;
use super::driver::{Cleanup, Outcome, Reconcile};
use super::error::{Error, encoded, refused};
use super::references::User;
use super::tenancy::TenantView;
use super::tenant::uid_of;
use super::{Context, is_there, placed, status as shown};
use crate::api::common::condition;
use crate::api::integration::{IntegrationStatus, IntegrationType};
use crate::api::provider::Credentials;
use crate::api::{Integration, Kind as _, account::ProviderType};
use crate::domain::credentials::Access;
use crate::domain::ids::{ObjectName, ProviderId};
use crate::domain::integration as rules;
use crate::domain::reason::Reason;
use crate::domain::violation::Violation;
use crate::store::admin::ownership::{Mirrored, tenant_of};
use crate::store::integrations::{self, IntegrationRecord, Stored};
use crate::store::providers::{self, Listed};

impl Reconcile for Integration {
    async fn apply(&self, status: &mut IntegrationStatus, cx: &Context) -> Result<Outcome, Error> {
        let (name, tenant) = match placed(self, cx) {
            Ok(found) => found,
            Err(waiting) => {
                (status.integration_id, status.providers) = (None, None);
                return Ok(waiting);
            }
        };
        let object = uid_of(self)?;
        let named = self.named();
        let user = User::Integration(name.name.clone());
        let seen = Seen::of(named.as_ref(), &name.namespace, user, cx).await?;
        let values = seen.values(named.as_ref(), &name.namespace, cx).await?;
        let valid = rules::validate(&self.spec, seen.named(&values, cx.clock.now()).secret);
        drop(values);

        let mut tx = cx.store.tenant(tenant.id).await?;
        let all = providers::list(&mut tx).await?;
        let chosen = self.chosen(&name.namespace, &all);
        let valid = match (valid, chosen.wrong.is_empty()) {
            (Ok(valid), true) => valid,
            (valid, _) => {
                let mut violations = valid.err().unwrap_or_default();
                violations.extend(chosen.wrong);
                // Nothing of such a spec is stored but this: what is to rest must not go on.
                integrations::set_enabled(&mut tx, object, self.spec.enabled).await?;
                tx.commit().await?;
                self.show_credentials(status, Err(&violations));
                return Ok(refused(&violations));
            }
        };
        drop(tx);
        let record = IntegrationRecord {
            object,
            name,
            kind: self.spec.kind.as_str(),
            enabled: self.spec.enabled,
            configuration: valid.configuration,
            credentials: valid
                .access
                .as_ref()
                .map(|access| encoded("the credentials", access))
                .transpose()?,
            providers: chosen.ids,
        };
        self.show_credentials(status, Ok(valid.access.as_ref()));
        if let Some(outcome) = self.store(&record, &tenant, cx).await? {
            return Ok(outcome);
        }
        let count = record.providers.len();
        status.integration_id = Some(cx.installation.integration(&record.name).to_string());
        status.providers = i64::try_from(count).ok();
        if !chosen.missing.is_empty() {
            // The others are stored already; this one joins when it comes.
            let (reason, why) = awaited(&record.name.namespace, &chosen.missing, cx).await?;
            return Ok(Outcome::progressing(reason, why).again_in(Duration::from_mins(5)));
        }
        Ok(Outcome::settled(self.stored(count)))
    }

    async fn cleanup(&self, _: &mut IntegrationStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        while let Some(tenant) = tenant_of(&cx.admin, Mirrored::Integration, object).await? {
            let mut tx = cx.store.tenant(tenant).await?;
            integrations::remove(&mut tx, object).await?;
            tx.commit().await?;
        }
        self.leave(cx);
        Ok(Cleanup::Done)
    }
}

/// Whose findings are sent.
struct Chosen {
    ids: BTreeSet<ProviderId>,
    missing: Vec<String>,
    wrong: Vec<Violation>,
}

impl Integration {
    /// The Secret, as the other kinds name theirs.
    fn named(&self) -> Option<Credentials> {
        self.spec.credentials.as_ref().map(|named| Credentials {
            secret_ref: Some(named.secret_ref.clone()),
            ..Credentials::default()
        })
    }

    fn chosen(&self, namespace: &str, all: &[Listed]) -> Chosen {
        let mut chosen = Chosen {
            ids: BTreeSet::new(),
            missing: Vec::new(),
            wrong: Vec::new(),
        };
        for wanted in &self.spec.provider_refs {
            let found = all
                .iter()
                .find(|p| p.name.namespace == namespace && p.name.name == wanted.name);
            match found {
                None => chosen.missing.push(wanted.name.clone()),
                Some(provider)
                    if self.spec.kind == IntegrationType::AwsSecurityHub
                        && provider.provider != ProviderType::Aws.as_str() =>
                {
                    chosen.wrong.push(Violation::new(
                        Reason::InvalidSpec,
                        "spec.providerRefs",
                        format!(
                            "Provider '{}' is of type {}: Security Hub takes the findings of aws accounts",
                            wanted.name, provider.provider
                        ),
                    ));
                }
                Some(provider) => {
                    chosen.ids.insert(provider.id);
                }
            }
        }
        chosen
    }

    /// Writes the row, or says who sends the Provider's findings already.
    async fn store(
        &self,
        record: &IntegrationRecord,
        tenant: &TenantView,
        cx: &Context,
    ) -> Result<Option<Outcome>, Error> {
        let id = cx.installation.integration(&record.name);
        let mut gone = None;
        // Twice at most: once more after the API server has said that the other is gone.
        for _ in 0..2 {
            let mut tx = cx.store.tenant(tenant.id).await?;
            let (by, name) = match integrations::upsert(&mut tx, id, record, gone).await? {
                Stored::Row(_) => {
                    tx.commit().await?;
                    return Ok(None);
                }
                Stored::Taken { by, name } => (by, name),
            };
            drop(tx);
            let there = Some(&*name.namespace);
            if is_there::<Self>(cx, there, &name.name, &by.to_string()).await? {
                let mut tx = cx.store.tenant(tenant.id).await?;
                integrations::set_enabled(&mut tx, record.object, record.enabled).await?;
                tx.commit().await?;
                return Ok(Some(taken(&name)));
            }
            gone = Some(by);
        }
        Err(Error::Outdated)
    }

    fn stored(&self, providers: usize) -> String {
        let of = match self.spec.kind {
            IntegrationType::Jira => "the tenant".to_owned(),
            _ if providers == 1 => "1 provider".to_owned(),
            _ => format!("{providers} providers"),
        };
        let kind = self.spec.kind;
        if self.spec.enabled {
            format!("{kind} for {of} is stored.")
        } else {
            format!("{kind} for {of} is stored; nothing is sent while spec.enabled is false.")
        }
    }

    fn show_credentials(
        &self,
        status: &mut IntegrationStatus,
        found: Result<Option<&Access>, &[Violation]>,
    ) {
        let (state, reason, message) = match found {
            Ok(access) => {
                let secret = access.and_then(|access| access.secret.as_deref());
                let message = match secret {
                    Some(secret) => format!("Secret {secret} has the keys needed."),
                    None => "The Provider's own credentials are used.".to_owned(),
                };
                (ConditionStatus::True, Reason::Succeeded, message)
            }
            Err(violations) => {
                let about = violations
                    .iter()
                    .find(|violation| violation.field().starts_with("spec.credentials"));
                let Some(violation) = about else { return };
                (
                    ConditionStatus::False,
                    violation.reason(),
                    violation.to_string(),
                )
            }
        };
        shown::set(
            &mut status.conditions,
            self.metadata.generation,
            condition::CREDENTIALS_RESOLVED,
            state,
            reason,
            &message,
        );
    }

    /// Another that was refused because of this one is looked at again.
    fn leave(&self, cx: &Context) {
        let tenant = self
            .namespace()
            .and_then(|namespace| cx.tenancy.of(&namespace));
        let Some(tenant) = tenant else { return };
        cx.wake.call_where::<Self>(|other| {
            other
                .namespace()
                .is_some_and(|namespace| tenant.namespaces.contains(&namespace))
                && other
                    .conditions()
                    .iter()
                    .any(|c| c.reason == Reason::DuplicateIntegration.as_str())
        });
    }
}

fn taken(by: &ObjectName) -> Outcome {
    let message = format!(
        "Integration {by} already sends the findings of this Provider to Security Hub; delete one of the two."
    );
    Outcome::stalled(Reason::DuplicateIntegration, message).again_in(Duration::from_mins(1))
}
