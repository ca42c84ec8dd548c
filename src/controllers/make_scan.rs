//! A Scan that another object wants made: once under its name, however often that is tried, and never
//! mistaken for one that somebody else made under it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, PostParams};
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};

use super::error::Error;
use super::{Context, HasApi};
use crate::api::common::{LocalRef, ScanSettings};
use crate::api::scan::{ScanSpec, Trigger};
use crate::api::{FIELD_MANAGER, FINALIZER, Kind, Scan, annotations};
use crate::domain::ids::ObjectUid;

/// The Scan that is wanted.
pub struct Wish<'a> {
    /// Its name, which nothing else is to have.
    pub name: &'a str,
    /// The Provider to scan.
    pub provider: &'a str,
    /// The very object: another may have the name before the Scan has its place in the queue.
    pub provider_object: Option<ObjectUid>,
    /// Who asked for it.
    pub trigger: Trigger,
    /// Scope wishes.
    pub settings: Option<ScanSettings>,
}

impl Wish<'_> {
    /// The Scan, owned by whoever wants it.
    pub fn scan<K: Kind>(&self, owner: &K) -> Scan {
        let spec = ScanSpec {
            provider_ref: LocalRef::new(self.provider),
            trigger: self.trigger,
            scan: self.settings.clone(),
            ..ScanSpec::default()
        };
        let mut scan = Scan::new(self.name, spec);
        scan.metadata = ObjectMeta {
            name: Some(self.name.to_owned()),
            namespace: owner.namespace(),
            // With it from the start: a write and a pass less for each.
            finalizers: Some(vec![FINALIZER.to_owned()]),
            annotations: self.provider_object.map(|object| {
                let annotation = annotations::PROVIDER_UID.to_owned();
                BTreeMap::from([(annotation, object.to_string())])
            }),
            owner_references: owner.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        scan
    }
}

/// What became of making a Scan.
pub enum Made {
    /// It is there now.
    New(Box<Scan>),
    /// An earlier pass made it, whose answer was lost.
    Found(Box<Scan>),
    /// Something else has its name.
    Foreign,
}

/// Makes the Scan, or finds the one that has its name: `is_ours` tells whether that is the one wanted.
pub async fn make<K: Kind>(
    owner: &K,
    wish: &Wish<'_>,
    is_ours: impl Fn(&Scan) -> bool,
    cx: &Context,
) -> Result<Made, Error> {
    let namespace = owner.namespace().unwrap_or_default();
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let api = Scan::api(cx, Some(&namespace));
    match api.create(&params, &wish.scan(owner)).await {
        Ok(scan) => return Ok(Made::New(Box::new(scan))),
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error.into()),
    }
    // Guarded: what cannot be read is not ours either.
    let api: Api<DeserializeGuard<Scan>> = Api::namespaced(cx.client.clone(), &namespace);
    let Some(found) = api.get_opt(wish.name).await? else {
        // Gone meanwhile: the next pass makes it.
        return Err(Error::Outdated);
    };
    let ours = found.0.ok().filter(is_ours);
    Ok(ours.map_or(Made::Foreign, |scan| Made::Found(Box::new(scan))))
}

/// Whether a Scan is of this Provider and under the control of an owner for which `is_it` holds. Its
/// name alone says nothing, for anybody may make one of that name.
pub fn is_made_by(scan: &Scan, provider: &str, is_it: impl Fn(&OwnerReference) -> bool) -> bool {
    let owners = scan.owner_references();
    scan.spec.provider_ref.name == provider
        && owners
            .iter()
            .any(|o| o.controller == Some(true) && is_it(o))
}
