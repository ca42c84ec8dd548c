//! A Provider's row: what is written of the spec, and whose account it is when two want it.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use serde_json::{Value, json};

use super::show::shown;
use crate::api::provider::ProviderStatus;
use crate::api::{Integration, Provider, ProviderGroup, ScanSchedule, Tenant, annotations};
use crate::controllers::credentials::Seen;
use crate::controllers::driver::Outcome;
use crate::controllers::error::{Error, encoded};
use crate::controllers::tenancy::TenantView;
use crate::controllers::tenant::uid_of;
use crate::controllers::{Context, is_there};
use crate::domain::credentials::{Expiry, Source};
use crate::domain::ids::{ObjectName, ObjectUid, ProviderId};
use crate::domain::limits::{Ceilings, Images};
use crate::domain::provider::ValidProvider;
use crate::domain::reason::Reason;
use crate::store::admin::ownership::Mirror;
use crate::store::checks::{self, Running, Standing, Wish};
use crate::store::providers::{self, ProviderRecord, Stored};
use crate::store::{Change, scans};

const SPEC: &str = "the spec";

/// A Provider that has a row.
pub(super) struct Kept {
    /// The row's id.
    pub(super) id: ProviderId,
    /// The check of its connection that runs.
    pub(super) running: Option<Running>,
    /// When its credentials end.
    pub(super) expiry: Option<Expiry>,
}

impl Provider {
    /// A hash over everything a pass depends on. Equal to the stored one: nothing to do.
    pub(super) fn fingerprint(
        &self,
        seen: &Seen,
        ceilings: &Ceilings,
        images: &Images,
        checks: [i64; 2],
    ) -> i64 {
        let all = json!([
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
            checks,
        ]);
        // 0 is for rows that a pass is to read again.
        hash(&all) | 1
    }

    pub(super) fn record(
        &self,
        valid: &ValidProvider,
        fingerprint: i64,
        name: &ObjectName,
    ) -> Result<ProviderRecord, Error> {
        Ok(ProviderRecord {
            object: uid_of(self)?,
            name: name.clone(),
            provider: valid.account().provider().as_str().to_owned(),
            uid: valid.account().uid().to_owned(),
            alias: valid.alias().map(str::to_owned),
            labels: encoded(SPEC, self.labels())?,
            scanner_args: encoded(SPEC, valid.settings())?,
            credentials: encoded(SPEC, valid.access())?,
            deletion_policy: valid.deletion_policy().as_str().to_owned(),
            suspend: valid.suspend(),
            generation: self.metadata.generation.unwrap_or(0),
            fingerprint,
            adopt: self
                .annotations()
                .get(annotations::ADOPT)
                .is_some_and(|value| value == "true"),
        })
    }

    /// Stores of a refused spec what needs no check: what is to rest must not go on, what is to be
    /// kept must not be deleted, and what no selector chooses any more must not be seen.
    pub(super) async fn store_unchecked(
        &self,
        object: ObjectUid,
        name: &ObjectName,
        tenant: &TenantView,
        cx: &Context,
    ) -> Result<(), Error> {
        let labels = encoded(SPEC, self.labels())?;
        let policy = self.spec.deletion_policy.as_str();
        // As in `store`; and labels change without a new generation.
        cx.mirrors.forget(object);
        let mut tx = cx.store.tenant(tenant.id).await?;
        let relabelled =
            providers::set_unchecked(&mut tx, object, self.spec.suspend, policy, &labels).await?;
        tx.commit().await?;
        if relabelled {
            call_choosers(name, tenant, cx);
        }
        Ok(())
    }

    /// Writes the row, or says who has the account, and reads what the status shows of it.
    pub(super) async fn store(
        &self,
        record: &ProviderRecord,
        valid: &ValidProvider,
        wish: Wish,
        tenant: &TenantView,
        status: &mut ProviderStatus,
        cx: &Context,
    ) -> Result<Result<Kept, Outcome>, Error> {
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
                    let urgent = checks::expect(&mut tx, id, wish, cx.clock.now()).await?;
                    // A row just made has neither scans nor a connection.
                    let (last, connection) = if change == Change::Created {
                        (None, None)
                    } else {
                        let last = scans::last_of(&mut tx, id).await?;
                        (last, checks::connection(&mut tx, id).await?)
                    };
                    let standing = if change == Change::Created {
                        Standing::new(wish)
                    } else {
                        checks::standing(&mut tx, id).await?
                    };
                    tx.commit().await?;
                    if urgent {
                        cx.wake.checks.notify_one();
                    }
                    let last_scan = last.as_ref().map(|scan| scan.id);
                    status.last_scan = last.map(shown);
                    self.show_standing(status, connection.as_ref(), &standing, valid);
                    let expiry = ends(valid, standing.expires);
                    let secret = valid.access().secret.as_deref();
                    self.show_life(status, secret, expiry.as_ref(), cx.clock.now());
                    // While a check runs each pass looks at it.
                    if standing.running.is_none() {
                        cx.mirrors.set(Mirror {
                            object: record.object,
                            tenant: tenant.id,
                            provider: id,
                            fingerprint: record.fingerprint,
                            last_scan,
                        });
                    }
                    if urgent && change != Change::Created {
                        let note = "The account or its credentials changed: the connection is checked again.";
                        cx.tell(
                            self,
                            EventType::Normal,
                            Reason::CredentialsChanged,
                            "Check",
                            note,
                        )
                        .await;
                    }
                    if change == Change::Created {
                        cx.wake.call(ObjectRef::<Tenant>::new(&tenant.name));
                    }
                    if chosen_anew {
                        call_choosers(&record.name, tenant, cx);
                    }
                    let running = standing.running;
                    return Ok(Ok(Kept {
                        id,
                        running,
                        expiry,
                    }));
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
                    // Read live: only the API server knows whether it is gone.
                    let holder = Some(&*name.namespace);
                    if is_there::<Self>(cx, holder, &name.name, &by.to_string()).await? {
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
}

/// When the credentials end: by what the Secret tells, or by what only a check can open.
fn ends(valid: &ValidProvider, checked: Option<Timestamp>) -> Option<Expiry> {
    let of = || Source::Key("certificate_content".to_owned());
    let checked = checked.map(|at| Expiry { at, of: of() });
    Expiry::earlier(valid.access().expiry.clone(), checked)
}

/// Half of a hash, which is what a column takes: enough to tell that something changed.
pub(super) fn hash(value: &Value) -> i64 {
    let mut head = [0; 8];
    head.copy_from_slice(&blake3::hash(value.to_string().as_bytes()).as_bytes()[..8]);
    i64::from_le_bytes(head)
}

/// Groups, schedules and integrations may choose the Provider of this name now, or not any more.
fn call_choosers(name: &ObjectName, tenant: &TenantView, cx: &Context) {
    let here = std::slice::from_ref(&name.namespace);
    cx.wake.call_all::<ProviderGroup>(&tenant.namespaces);
    cx.wake.call_all::<ScanSchedule>(here);
    cx.wake.call_all::<Integration>(here);
}
