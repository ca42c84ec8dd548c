//! Scans that are asked for by an annotation on a ScanSchedule or a Provider: now, and once for each
//! token, whoever reads it and however often.

use k8s_controller::events::EventType;
use kube::ResourceExt;

use super::error::Error;
use super::make_scan::{Made, Wish, is_made_by, make};
use super::tenancy::TenantView;
use super::tenant::uid_of;
use super::{Context, HasApi};
use crate::api::asked::CanBeAsked;
use crate::api::common::ScanSettings;
use crate::api::scan::Trigger;
use crate::api::{Kind, Scan, annotations};
use crate::domain::ids::{ObjectUid, ProviderId, ScheduleId};
use crate::domain::reason::Reason;
use crate::store::requests::{self, Taken, Wanted};

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
        if asking.take(&token, providers, cx).await? {
            asking.make(cx).await?;
            *handled = Some(token);
        }
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
    /// Takes a token and writes down a Scan for each account, unless it was taken before. False: there
    /// is no account any more, and the token waits.
    async fn take(
        &self,
        token: &str,
        providers: &[ProviderId],
        cx: &Context,
    ) -> Result<bool, Error> {
        let object = uid_of(self.object)?;
        let scans: Vec<_> = providers
            .iter()
            .map(|provider| (*provider, self.scan_name(object, *provider, token)))
            .collect();
        let mut tx = cx.store.tenant(self.tenant.id).await?;
        match requests::take(&mut tx, object, token, self.schedule, &scans).await? {
            Taken::ForNobody => return Ok(false),
            Taken::Before => {}
            Taken::Now(scans) => {
                tx.commit().await?;
                tracing::info!(token, scans, "scans were asked for");
            }
        }
        Ok(true)
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
        let wish = Wish {
            name: &wanted.scan_name,
            provider: &wanted.provider_name,
            provider_object: wanted.provider_object,
            trigger: Trigger::Manual,
            settings: self.settings.clone(),
        };
        let owner = self.object.uid().unwrap_or_default();
        let is_ours = |scan: &Scan| is_asked_for(scan, &owner, &wanted.provider_name);
        let (scan, type_, reason, note) = match make(self.object, &wish, is_ours, cx).await? {
            Made::Found(scan) => return Ok(Some(uid_of(&*scan)?)),
            Made::New(scan) => (
                Some(uid_of(&*scan)?),
                EventType::Normal,
                Reason::Queued,
                format!(
                    "Made Scan {} for Provider {}, as an annotation asks.",
                    wanted.scan_name, wanted.provider_name
                ),
            ),
            Made::Foreign => (
                None,
                EventType::Warning,
                Reason::MissedSchedule,
                format!(
                    "No Scan of Provider {} was made: its name, {}, is that of a Scan which nobody asked for here.",
                    wanted.provider_name, wanted.scan_name
                ),
            ),
        };
        cx.tell(self.object, type_, reason, "ScanNow", &note).await;
        Ok(scan)
    }
}

/// Whether a Scan is what the object of this uid asked for.
pub fn is_asked_for(scan: &Scan, owner: &str, provider: &str) -> bool {
    is_made_by(scan, provider, |o| o.uid == owner)
}
