//! Scans that are asked for by an annotation on a ScanSchedule or a Provider: now, and once for each
//! token, whoever reads it and however often.

use k8s_controller::events::EventType;
use kube::Api;
use kube::ResourceExt;
use kube::api::{ObjectMeta, PostParams};
use kube::core::DeserializeGuard;

use super::error::Error;
use super::tenancy::TenantView;
use super::tenant::uid_of;
use super::{Context, HasApi};
use crate::api::asked::CanBeAsked;
use crate::api::common::{LocalRef, ScanSettings};
use crate::api::scan::ScanSpec;
use crate::api::{FIELD_MANAGER, Kind, Scan, annotations};
use crate::domain::ids::{ObjectUid, ProviderId, ScheduleId};
use crate::domain::reason::Reason;
use crate::store::requests::{self, Wanted};

/// Characters of a token that count.
const TOKEN: usize = 256;

/// What an object's annotations ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// `reconcile.fluxcd.io/requestedAt`: a pass, which this is.
    pub reconcile: Option<String>,
    /// `reconcile.fluxcd.io/forceAt`, as long as it says the same as `requestedAt`: a scan.
    pub force: Option<String>,
    /// `prowler-operator.dev/scan-now`: a scan.
    pub scan_now: Option<String>,
}

impl Asked {
    /// Whether the status says that all of it has been seen to, or that nothing new can be now.
    pub fn is_handled(&self, status: &mut impl CanBeAsked, rests: bool) -> bool {
        let handled = status.handled();
        let same =
            |asked: &Option<String>, handled: &Option<String>| asked.is_none() || asked == handled;
        same(&self.reconcile, handled.reconcile)
            && (rests || same(&self.force, handled.force) && same(&self.scan_now, handled.scan_now))
    }

    /// What this object asks for.
    pub fn by(object: &impl ResourceExt) -> Self {
        let token = |annotation| {
            let value = object.annotations().get(annotation)?;
            let token: String = value.chars().take(TOKEN).collect();
            (!token.is_empty()).then_some(token)
        };
        let reconcile = token(annotations::REQUESTED_AT);
        Self {
            force: token(annotations::FORCE_AT).filter(|force| Some(force) == reconcile.as_ref()),
            scan_now: token(annotations::SCAN_NOW),
            reconcile,
        }
    }
}

/// Sees to what the object's annotations ask for and its status does not yet say is done. Not for
/// scans while it `rests`: that is waited for.
pub async fn answer<K>(
    asking: &Asking<'_, K>,
    providers: &[ProviderId],
    rests: bool,
    status: &mut impl CanBeAsked,
    cx: &Context,
) -> Result<(), Error>
where
    K: Kind + HasApi,
{
    let asked = Asked::by(asking.object);
    let handled = status.handled();
    if asked.reconcile.is_some() {
        *handled.reconcile = asked.reconcile;
    }
    let tokens = [
        (asked.force, handled.force),
        (asked.scan_now, handled.scan_now),
    ];
    for (token, handled) in tokens {
        let Some(token) = token.filter(|token| !rests && handled.as_ref() != Some(token)) else {
            continue;
        };
        asking.take(&token, providers, cx).await?;
        asking.make(cx).await?;
        *handled = Some(token);
    }
    Ok(())
}

/// Who is asked, and what the Scans are to be.
pub struct Asking<'a, K> {
    /// The object with the annotations; the Scans' owner.
    pub object: &'a K,
    /// Its tenant.
    pub tenant: &'a TenantView,
    /// The schedule whose history the Scans count in.
    pub schedule: Option<ScheduleId>,
    /// Scope wishes of the Scans.
    pub settings: Option<ScanSettings>,
}

impl<K: Kind + HasApi> Asking<'_, K> {
    /// Takes a token and writes down a Scan for each account, unless it was taken before.
    async fn take(&self, token: &str, providers: &[ProviderId], cx: &Context) -> Result<(), Error> {
        let object = uid_of(self.object)?;
        let scans: Vec<_> = providers
            .iter()
            .map(|provider| (*provider, self.scan_name(object, *provider, token)))
            .collect();
        let mut tx = cx.store.tenant(self.tenant.id).await?;
        let is_new = requests::take(&mut tx, object, token, self.schedule, &scans).await?;
        tx.commit().await?;
        if is_new {
            tracing::info!(token, scans = scans.len(), "scans were asked for");
        }
        Ok(())
    }

    /// The same whenever it is made, and that of no other token, account or object.
    fn scan_name(&self, object: ObjectUid, provider: ProviderId, token: &str) -> String {
        let hash = blake3::Hasher::new()
            .update(object.0.as_bytes())
            .update(provider.0.as_bytes())
            .update(token.as_bytes())
            .finalize()
            .to_hex();
        let head: String = self.object.name_any().chars().take(200).collect();
        format!("{}-now-{}", head.trim_end_matches(['-', '.']), &hash[..16])
    }

    /// Makes the Scans that were asked for and are not there yet.
    async fn make(&self, cx: &Context) -> Result<(), Error> {
        let mut tx = cx.store.tenant(self.tenant.id).await?;
        let wanted = requests::unmade(&mut tx, uid_of(self.object)?).await?;
        drop(tx);
        for wanted in wanted {
            let made = self.make_one(&wanted, cx).await?;
            let mut tx = cx.store.tenant(self.tenant.id).await?;
            requests::made(&mut tx, &wanted.scan_name, made).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Makes a Scan, or finds the one that an earlier pass made. None: its name is taken.
    async fn make_one(&self, wanted: &Wanted, cx: &Context) -> Result<Option<ObjectUid>, Error> {
        let namespace = self.object.namespace().unwrap_or_default();
        let api = Scan::api(cx, Some(&namespace));
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let note = match api.create(&params, &self.scan(wanted, &namespace)).await {
            Ok(scan) => {
                let note = format!(
                    "Made Scan {} for Provider {}, as an annotation asks.",
                    wanted.scan_name, wanted.provider_name
                );
                let reason = Reason::Queued;
                cx.tell(self.object, EventType::Normal, reason, "ScanNow", &note)
                    .await;
                return Ok(Some(uid_of(&scan)?));
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                // Guarded: what cannot be read is not ours either.
                let api: Api<DeserializeGuard<Scan>> =
                    Api::namespaced(cx.client.clone(), &namespace);
                let Some(found) = api.get_opt(&wanted.scan_name).await? else {
                    // Gone meanwhile: the next pass makes it.
                    return Err(Error::Outdated);
                };
                let owner = self.object.uid().unwrap_or_default();
                let is_ours = |scan: &Scan| is_asked_for(scan, &owner, &wanted.provider_name);
                if let Some(scan) = found.0.ok().filter(is_ours) {
                    return Ok(Some(uid_of(&scan)?));
                }
                format!(
                    "No Scan of Provider {} was made: its name, {}, is that of a Scan which nobody asked for here.",
                    wanted.provider_name, wanted.scan_name
                )
            }
            Err(error) => return Err(error.into()),
        };
        let reason = Reason::MissedSchedule;
        cx.tell(self.object, EventType::Warning, reason, "ScanNow", &note)
            .await;
        Ok(None)
    }

    fn scan(&self, wanted: &Wanted, namespace: &str) -> Scan {
        let spec = ScanSpec {
            provider_ref: LocalRef::new(&wanted.provider_name),
            scan: self.settings.clone(),
            ..ScanSpec::default()
        };
        let mut scan = Scan::new(&wanted.scan_name, spec);
        scan.metadata = ObjectMeta {
            name: Some(wanted.scan_name.clone()),
            namespace: Some(namespace.to_owned()),
            owner_references: self
                .object
                .controller_owner_ref(&())
                .map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        scan
    }
}

/// Whether a Scan is what the object of this uid asked for: its name alone says nothing, for anybody
/// may make one of that name.
pub fn is_asked_for(scan: &Scan, owner: &str, provider: &str) -> bool {
    let is_owned = scan
        .owner_references()
        .iter()
        .any(|o| o.controller == Some(true) && o.uid == owner);
    is_owned && scan.spec.provider_ref.name == provider
}
