//! What a Role permits, as the flags that are stored.

use crate::api::role::{Permission, RoleSpec};

/// What a role permits. Made by [`compile`] alone, so that what is implied is never forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "seven independent permissions, each a column"
)]
pub struct Permissions {
    /// Give and change roles.
    pub manage_users: bool,
    /// Change the tenant.
    pub manage_account: bool,
    /// Kept for parity.
    pub manage_billing: bool,
    /// Write Providers and groups.
    pub manage_providers: bool,
    /// Write integrations.
    pub manage_integrations: bool,
    /// Write schedules, scans and mute rules.
    pub manage_scans: bool,
    /// See every Provider of the tenant.
    pub unlimited_visibility: bool,
}

/// The flags of a role. Who manages Providers sees them all.
pub fn compile(spec: &RoleSpec) -> Permissions {
    let mut flags = Permissions::default();
    for permission in &spec.permissions {
        *flags.flag(*permission) = true;
    }
    flags.unlimited_visibility |= flags.manage_providers;
    flags
}

impl Permissions {
    /// How many permissions are given, implied ones too.
    pub fn count(&self) -> i64 {
        let Self {
            manage_users,
            manage_account,
            manage_billing,
            manage_providers,
            manage_integrations,
            manage_scans,
            unlimited_visibility,
        } = *self;
        [
            manage_users,
            manage_account,
            manage_billing,
            manage_providers,
            manage_integrations,
            manage_scans,
            unlimited_visibility,
        ]
        .into_iter()
        .map(i64::from)
        .sum()
    }

    fn flag(&mut self, permission: Permission) -> &mut bool {
        match permission {
            Permission::ManageUsers => &mut self.manage_users,
            Permission::ManageAccount => &mut self.manage_account,
            Permission::ManageBilling => &mut self.manage_billing,
            Permission::ManageProviders => &mut self.manage_providers,
            Permission::ManageIntegrations => &mut self.manage_integrations,
            Permission::ManageScans => &mut self.manage_scans,
            Permission::UnlimitedVisibility => &mut self.unlimited_visibility,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Permission; 7] = [
        Permission::ManageUsers,
        Permission::ManageAccount,
        Permission::ManageBilling,
        Permission::ManageProviders,
        Permission::ManageIntegrations,
        Permission::ManageScans,
        Permission::UnlimitedVisibility,
    ];

    fn role(permissions: Vec<Permission>) -> RoleSpec {
        RoleSpec {
            permissions,
            ..RoleSpec::default()
        }
    }

    #[test]
    fn who_manages_providers_sees_them_all() {
        let flags = compile(&role(vec![Permission::ManageProviders]));
        assert!(flags.manage_providers && flags.unlimited_visibility);
        assert_eq!(flags.count(), 2);
    }

    #[test]
    fn no_other_permission_implies_anything() {
        for permission in ALL {
            if permission != Permission::ManageProviders {
                assert_eq!(
                    compile(&role(vec![permission])).count(),
                    1,
                    "{permission:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(
            mut given in proptest::collection::vec(proptest::sample::select(&ALL[..]), 0..14),
        ) {
            let one = compile(&role(given.clone()));
            given.reverse();
            given.extend(given.clone());
            prop_assert_eq!(one, compile(&role(given)));
        }
    }
}
