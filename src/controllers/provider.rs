//! Provider: an account, checked, stored, and — when it goes — deleted to the last row.

use std::time::Duration;

use jiff::Timestamp;
use k8s_controller::conditions::ConditionStatus;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;

use super::credentials::Seen;
use super::driver::{Cleanup, Outcome, Reconcile};
use super::error::Error;
use super::tenancy::TenantView;
use super::tenant::uid_of;
use super::{Context, HasApi, jobs, launch, placed, status};
use crate::api::common::{DeletionPolicy, Time, condition};
use crate::api::provider::{Deletion, LastScan, ProviderStatus};
use crate::api::{
    Kind as _, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant, annotations,
};
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId, ScanId, TenantId};
use crate::domain::limits::{Ceilings, Images};
use crate::domain::provider::{self as rules, Found, ValidProvider, Violation};
use crate::domain::reason::Reason;
use crate::store::admin::ownership::{Mirror, Mirrored, tenant_of};
use crate::store::providers::{self, ProviderRecord, Stored};
use crate::store::scans::{self, Open};
use crate::store::{Change, deletion};

/// A deletion pass works this long, then lets others have their turn and says how far it is.
const DELETION_SLICE: Duration = Duration::from_secs(5);

impl Reconcile for Provider {
    async fn apply(&self, status: &mut ProviderStatus, cx: &Context) -> Result<Outcome, Error> {
        let (name, tenant) = match placed(self, cx) {
            Ok(found) => found,
            Err(waiting) => {
                (status.tenant, status.provider_id) = (None, None);
                return Ok(waiting);
            }
        };
        let seen = Seen::of(self.spec.credentials.as_ref(), &name, cx).await?;
        let (ceilings, images) = (launch::ceilings(&tenant, cx), launch::images(cx));
        let fingerprint = self.fingerprint(&seen, &ceilings, &images)?;
        let object = uid_of(self)?;
        let settled = cx.mirrors.get(object).filter(|mirror| {
            mirror.tenant == tenant.id
                && mirror.fingerprint == fingerprint
                && self.is_settled(mirror.last_scan)
        });
        if let Some(mirror) = settled {
            // What was checked and stored is what the spec says now: nothing to read or write.
            status.provider_id = Some(mirror.provider.to_string());
            return Ok(self.stored());
        }
        let values = seen
            .values(self.spec.credentials.as_ref(), &name.namespace, cx)
            .await?;
        let named = seen.named(&values);
        let found = Found {
            named,
            ceilings: &ceilings,
            images: &images,
        };
        let valid = match rules::validate(&self.spec, &found) {
            Ok(valid) => valid,
            Err(violations) => {
                // Nothing of such a spec is stored but this: what is to rest must not go on.
                let mut tx = cx.store.tenant(tenant.id).await?;
                providers::set_suspend(&mut tx, object, self.spec.suspend).await?;
                tx.commit().await?;
                return Ok(self.refuse(&violations, status));
            }
        };
        drop(values);
        self.show_credentials(status, &valid);
        let record = self.record(&valid, fingerprint, &name)?;
        let id = match self.store(&record, &tenant, status, cx).await? {
            Ok(id) => id,
            Err(outcome) => return Ok(outcome),
        };
        status.provider_id = Some(id.to_string());
        status.tenant = Some(tenant.name.clone());
        Ok(self.stored())
    }

    async fn cleanup(&self, status: &mut ProviderStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        cx.mirrors.forget(object);
        // More than one only if its namespace changed hands while a pass was under way.
        while let Some(tenant) = tenant_of(&cx.admin, Mirrored::Provider, object).await? {
            if let Some(waiting) = self.remove(tenant, object, status, cx).await? {
                return Ok(waiting);
            }
        }
        Ok(Cleanup::Done)
    }
}

impl Provider {
    /// Removes what a tenant has of this object; says what is waited for while some is left.
    async fn remove(
        &self,
        tenant: TenantId,
        object: ObjectUid,
        status: &mut ProviderStatus,
        cx: &Context,
    ) -> Result<Option<Cleanup>, Error> {
        let mut tx = cx.store.tenant(tenant).await?;
        let Some(id) = providers::retire(&mut tx, object).await? else {
            return Ok(None);
        };
        let why = "Its Provider was deleted.";
        let open = scans::cancel_all(&mut tx, &[id], why, cx.clock.now()).await?;
        tx.commit().await?;
        self.leave(cx);
        if let Some(waiting) = end_jobs(tenant, &open, cx).await? {
            return Ok(Some(waiting));
        }
        if self.spec.deletion_policy == DeletionPolicy::Retain {
            let mut tx = cx.store.tenant(tenant).await?;
            providers::retain(&mut tx, id).await?;
            tx.commit().await?;
            return Ok(None);
        }
        let waiting = delete_rows(tenant, id, cx).await?;
        if waiting.is_some() {
            let mut tx = cx.store.tenant(tenant).await?;
            status.deletion = Some(Deletion {
                rows_left: deletion::rows_left(&mut tx, id).await?,
            });
        }
        Ok(waiting)
    }

    /// Ready for the spec as it is now, and showing the scan that ended last.
    fn is_settled(&self, last_scan: Option<ScanId>) -> bool {
        let Some(status) = &self.status else {
            return false;
        };
        let shown = status.last_scan.as_ref().and_then(|scan| scan.id.clone());
        if shown != last_scan.map(|scan| scan.to_string()) {
            return false;
        }
        status.observed_generation == self.metadata.generation
            && status
                .conditions
                .iter()
                .any(|c| c.type_ == condition::READY && c.status == "True")
    }

    fn stored(&self) -> Outcome {
        Outcome::settled(format!(
            "{} account {} is stored.",
            self.spec.provider,
            self.spec.uid.trim()
        ))
    }

    fn show_credentials(&self, status: &mut ProviderStatus, valid: &ValidProvider) {
        let access = valid.access();
        let (state, reason, message) = match (&access.secret, &access.service_account) {
            (Some(secret), None) => (
                ConditionStatus::True,
                Reason::Succeeded,
                format!("Secret {secret} has the keys needed."),
            ),
            (None, Some(account)) => (
                ConditionStatus::True,
                Reason::Succeeded,
                format!("Scans run as ServiceAccount {account}."),
            ),
            (Some(secret), Some(account)) => (
                ConditionStatus::True,
                Reason::Succeeded,
                format!("Secret {secret}, as ServiceAccount {account}."),
            ),
            (None, None) if valid.can_be_scanned() => (
                ConditionStatus::True,
                Reason::Succeeded,
                "This type needs no credentials.".to_owned(),
            ),
            (None, None) => (
                ConditionStatus::False,
                Reason::CredentialsMissing,
                "No credentials are named; give spec.credentials before a scan.".to_owned(),
            ),
        };
        self.condition(status, state, reason, &message);
    }

    fn show_connection(&self, status: &mut ProviderStatus, connected: bool, at: Timestamp) {
        let at = super::scan_schedule::seconds(at);
        let (state, reason, message) = if connected {
            let message = format!("The account was reached at {at}.");
            (ConditionStatus::True, Reason::Succeeded, message)
        } else {
            let message = format!("The account did not accept the credentials at {at}.");
            (
                ConditionStatus::False,
                Reason::AuthenticationFailed,
                message,
            )
        };
        let generation = self.metadata.generation;
        let kind = condition::CONNECTED;
        status::set(
            &mut status.conditions,
            generation,
            kind,
            state,
            reason,
            &message,
        );
    }

    fn condition(
        &self,
        status: &mut ProviderStatus,
        state: ConditionStatus,
        reason: Reason,
        message: &str,
    ) {
        let generation = self.metadata.generation;
        let kind = condition::CREDENTIALS_RESOLVED;
        status::set(
            &mut status.conditions,
            generation,
            kind,
            state,
            reason,
            message,
        );
    }

    /// What waiting may cure is waited for; what only an edit can is said.
    fn refuse(&self, violations: &[Violation], status: &mut ProviderStatus) -> Outcome {
        let about_credentials = violations
            .iter()
            .find(|violation| violation.field().starts_with("spec.credentials"));
        if let Some(violation) = about_credentials {
            let (reason, message) = (violation.reason(), violation.to_string());
            self.condition(status, ConditionStatus::False, reason, &message);
        }
        if violations
            .iter()
            .any(|violation| violation.reason().is_stalled())
        {
            let mut stalled: Vec<_> = violations.to_vec();
            stalled.sort_by_key(|violation| !violation.reason().is_stalled());
            return Outcome::stalled(stalled[0].reason(), super::error::sentences(&stalled));
        }
        let reason = violations
            .first()
            .map_or(Reason::DependencyNotReady, Violation::reason);
        let message = super::error::sentences(violations);
        Outcome::progressing(reason, message).again_in(Duration::from_mins(1))
    }

    /// A hash over everything a pass depends on. Equal to the stored one: nothing to do.
    fn fingerprint(&self, seen: &Seen, ceilings: &Ceilings, images: &Images) -> Result<i64, Error> {
        let text = serde_json::to_vec(&json!([
            self.metadata.uid,
            self.metadata.namespace,
            self.metadata.name,
            self.metadata.labels,
            self.spec,
            seen.version(),
            [
                &ceilings.memory,
                &ceilings.cpu,
                &ceilings.deadline_seconds.to_string()
            ],
            [std::slice::from_ref(&images.default), &images.allowed],
        ]))
        .map_err(|error| Error::Operator(format!("the spec cannot be encoded: {error}")))?;
        let mut head = [0; 8];
        head.copy_from_slice(&blake3::hash(&text).as_bytes()[..8]);
        // 0 is for rows that a pass is to read again.
        Ok(i64::from_le_bytes(head) | 1)
    }

    fn record(
        &self,
        valid: &ValidProvider,
        fingerprint: i64,
        name: &ObjectName,
    ) -> Result<ProviderRecord, Error> {
        let encode = |error| Error::Operator(format!("the spec cannot be encoded: {error}"));
        Ok(ProviderRecord {
            object: uid_of(self)?,
            name: name.clone(),
            provider: valid.account().provider().as_str().to_owned(),
            uid: valid.account().uid().to_owned(),
            alias: valid.alias().map(str::to_owned),
            labels: serde_json::to_value(self.labels()).map_err(encode)?,
            scanner_args: serde_json::to_value(valid.settings()).map_err(encode)?,
            credentials: serde_json::to_value(valid.access()).map_err(encode)?,
            deletion_policy: match valid.deletion_policy() {
                DeletionPolicy::Delete => "Delete",
                DeletionPolicy::Retain => "Retain",
            }
            .to_owned(),
            suspend: valid.suspend(),
            generation: self.metadata.generation.unwrap_or(0),
            fingerprint,
            adopt: self
                .annotations()
                .get(annotations::ADOPT)
                .is_some_and(|value| value == "true"),
        })
    }

    /// Writes the row, or says who has the account, and reads what the status shows of it.
    async fn store(
        &self,
        record: &ProviderRecord,
        tenant: &TenantView,
        status: &mut ProviderStatus,
        cx: &Context,
    ) -> Result<Result<ProviderId, Outcome>, Error> {
        let mut gone = None;
        // Should the commit's answer be lost, nobody knows what is stored.
        cx.mirrors.forget(record.object);
        // Twice at most: once more after the API server has said that the holder is gone.
        for _ in 0..2 {
            let mut tx = cx.store.tenant(tenant.id).await?;
            let stored =
                providers::upsert(&mut tx, ProviderId(cx.clock.uuid7()), record, gone).await?;
            match stored {
                Stored::Row {
                    id,
                    change,
                    chosen_anew,
                } => {
                    let last = scans::last_of(&mut tx, id).await?;
                    let connection = providers::connection(&mut tx, id).await?;
                    tx.commit().await?;
                    let last_scan = last.as_ref().map(|scan| scan.id);
                    status.last_scan = last.map(shown);
                    if let Some((connected, at)) = connection {
                        self.show_connection(status, connected, at);
                    }
                    cx.mirrors.set(Mirror {
                        object: record.object,
                        tenant: tenant.id,
                        provider: id,
                        fingerprint: record.fingerprint,
                        last_scan,
                    });
                    if change == Change::Created {
                        cx.wake.call(ObjectRef::<Tenant>::new(&tenant.name));
                    }
                    if chosen_anew {
                        cx.wake.call_all::<ProviderGroup>(&tenant.namespaces);
                        cx.wake
                            .call_all::<ScanSchedule>(std::slice::from_ref(&record.name.namespace));
                    }
                    return Ok(Ok(id));
                }
                Stored::Full { count, limit } => {
                    let message = format!(
                        "Tenant {} has {count} of {limit} Providers; delete one, or have spec.limits.providers of the Tenant raised.",
                        tenant.name
                    );
                    return Ok(Err(Outcome::stalled(Reason::TenantLimitReached, message)
                        .again_in(Duration::from_mins(1))));
                }
                Stored::Taken { by, name } => {
                    drop(tx);
                    if self.lives(by, &name, cx).await? {
                        let message = format!(
                            "Provider {name} of this tenant already holds {} {}; delete one of the two.",
                            record.provider, record.uid
                        );
                        return Ok(Err(Outcome::stalled(Reason::DuplicateUID, message)
                            .again_in(Duration::from_mins(1))));
                    }
                    gone = Some(by);
                }
            }
        }
        Err(Error::Outdated)
    }

    /// Whether the object that holds a row is there, read live: only the API server's own
    /// "not found" counts as gone.
    async fn lives(&self, uid: ObjectUid, name: &ObjectName, cx: &Context) -> Result<bool, Error> {
        let api = Provider::api(cx, Some(&name.namespace));
        let found = api.get_metadata_opt(&name.name).await?;
        Ok(found.is_some_and(|found| found.metadata.uid == Some(uid.to_string())))
    }

    /// The account is free: another Provider that was refused it is looked at again, and so is
    /// whatever chose this one.
    fn leave(&self, cx: &Context) {
        if let Some(tenant) = self
            .namespace()
            .and_then(|namespace| cx.tenancy.of(&namespace))
        {
            cx.wake.call(ObjectRef::<Tenant>::new(&tenant.name));
            cx.wake.call_all::<ProviderGroup>(&tenant.namespaces);
            cx.wake.call_all::<ScanSchedule>(&tenant.namespaces);
            cx.wake.call_all::<Scan>(&tenant.namespaces);
            cx.wake.call_where::<Provider>(|other| {
                let refused =
                    [Reason::DuplicateUID, Reason::TenantLimitReached].map(Reason::as_str);
                other
                    .namespace()
                    .is_some_and(|namespace| tenant.namespaces.contains(&namespace))
                    && other.conditions().iter().any(|c| {
                        c.type_ == condition::STALLED && refused.contains(&c.reason.as_str())
                    })
            });
        }
    }
}

fn shown(last: scans::LastScan) -> LastScan {
    LastScan {
        name: Some(last.name),
        id: Some(last.id.to_string()),
        state: Some(last.state),
        completed_at: last
            .completed_at
            .map(super::scan_schedule::seconds)
            .map(Time),
        fail: Some(last.fail),
        total: Some(last.total),
    }
}

/// Deletes the Jobs of cancelled scans; says what is waited for while a pod is left.
pub(super) async fn end_jobs(
    tenant: TenantId,
    open: &[Open],
    cx: &Context,
) -> Result<Option<Cleanup>, Error> {
    let mut left = 0;
    for scan in open {
        if !jobs::end(cx, tenant, scan).await? {
            left += 1;
        }
    }
    Ok((left > 0).then(|| Cleanup::Waiting {
        message: format!("Waiting for the pods of {left} scans to end."),
        again_in: Duration::from_secs(2),
    }))
}

/// Deletes a provider's rows for a while; says so while some are left.
pub(super) async fn delete_rows(
    tenant: TenantId,
    id: ProviderId,
    cx: &Context,
) -> Result<Option<Cleanup>, Error> {
    let started = std::time::Instant::now();
    let mut deleted = 0;
    while started.elapsed() < DELETION_SLICE {
        let batch = deletion::step(&cx.store, tenant, id).await?;
        deleted += batch.deleted;
        if batch.done {
            return Ok(None);
        }
    }
    Ok(Some(Cleanup::Waiting {
        message: format!(
            "Deleting rows; {deleted} in the last {} s.",
            DELETION_SLICE.as_secs()
        ),
        again_in: Duration::ZERO,
    }))
}

/// Reads the claims again and calls every object whose tenant, or its tenant's settings, changed.
pub(super) async fn retell_namespaces(cx: &Context) -> Result<(), Error> {
    let changed = cx.tenancy.reload(&cx.admin).await?;
    if !changed.is_empty() {
        cx.wake.call_all::<Provider>(&changed);
        cx.wake.call_all::<ProviderGroup>(&changed);
        cx.wake.call_all::<Role>(&changed);
        cx.wake.call_all::<ScanSchedule>(&changed);
        cx.wake.call_all::<Scan>(&changed);
        cx.wake.admission.notify_one();
    }
    Ok(())
}
