//! Identities as types, and how the derived ones are made.
//!
//! Tenants, groups, roles, schedules, integrations and mute rules have ids derived from the
//! installation and their name, so that a re-created object finds its row. Providers and scans have `UUIDv7`s made
//! once (`domain::clock`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

id!(/// This installation: cluster and database share one; every derived id hangs on it.
    InstallationId);
id!(/// A tenant.
    TenantId);
id!(/// A provider: one row of one account of one tenant (`UUIDv7`, survives the object).
    ProviderId);
id!(/// A provider group.
    GroupId);
id!(/// A role.
    RoleId);
id!(/// A scan schedule.
    ScheduleId);
id!(/// An integration.
    IntegrationId);
id!(/// A mute rule.
    MuteRuleId);
id!(/// One scan (`UUIDv7`; its time decides the month its findings lie in).
    ScanId);
id!(/// `metadata.uid` of a Kubernetes object: which object, not which name, a row mirrors.
    ObjectUid);

/// `namespace` and `name` of an object, as a value that can be compared and shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl InstallationId {
    /// The id of the tenant of this name.
    pub fn tenant(self, name: &str) -> TenantId {
        TenantId(self.derive("Tenant", "", name))
    }

    /// The id of the provider group of this name.
    pub fn group(self, object: &ObjectName) -> GroupId {
        GroupId(self.derive("ProviderGroup", &object.namespace, &object.name))
    }

    /// The id of the role of this name.
    pub fn role(self, object: &ObjectName) -> RoleId {
        RoleId(self.derive("Role", &object.namespace, &object.name))
    }

    /// The id of the schedule of this name.
    pub fn schedule(self, object: &ObjectName) -> ScheduleId {
        ScheduleId(self.derive("ScanSchedule", &object.namespace, &object.name))
    }

    /// The id of the integration of this name.
    pub fn integration(self, object: &ObjectName) -> IntegrationId {
        IntegrationId(self.derive("Integration", &object.namespace, &object.name))
    }

    /// The id of the mute rule of this name.
    pub fn mute_rule(self, object: &ObjectName) -> MuteRuleId {
        MuteRuleId(self.derive("MuteRule", &object.namespace, &object.name))
    }

    fn derive(self, kind: &str, namespace: &str, name: &str) -> Uuid {
        // Neither part can hold a slash, so no two objects share a text.
        Uuid::new_v5(&self.0, format!("{kind}/{namespace}/{name}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_depend_on_installation_kind_namespace_and_name() {
        let one = InstallationId(Uuid::from_u128(1));
        let two = InstallationId(Uuid::from_u128(2));
        let a = ObjectName {
            namespace: "a".into(),
            name: "x".into(),
        };
        let b = ObjectName {
            namespace: "b".into(),
            name: "x".into(),
        };
        assert_eq!(one.group(&a), one.group(&a));
        assert_ne!(one.group(&a).0, one.role(&a).0);
        assert_ne!(one.group(&a), one.group(&b));
        assert_ne!(one.group(&a), two.group(&a));
    }
}
