//! The closed lists of what may differ from the rules. `tests/database/closed_lists.rs` has
//! them a second time: a name that is added must be meant.

/// Tables that are no tenant tables, with what `prowler_user` may do there.
pub(super) const OPEN_TABLES: [(&str, &[&str]); 4] = [
    ("_sqlx_migrations", &["select"]),
    ("installation", &["select"]),
    ("leases", &[]),
    ("tenant_namespaces", &[]),
];
/// Global tables about frameworks and checks: read-only for everyone.
pub(super) const CATALOGUE_PREFIX: &str = "catalogue_";
/// The tenant table that is keyed by its id.
pub(super) const TENANTS: &str = "tenants";

/// `SECURITY DEFINER` functions: what crosses tenants, each answering ids and states only.
pub(super) const DEFINER_FUNCTIONS: [&str; 1] = ["scan_of_job"];
/// What a definer function must not inherit from its caller.
pub(super) const DEFINER_SETTING: &str = "search_path=pg_catalog, pg_temp";

/// Indexes of tenant tables that do not begin with the tenant: they serve acts across tenants.
pub(super) const CROSSING_INDEXES: [&str; 14] = [
    "connection_check_slots",
    "connection_checks_due",
    "integrations_object_uid",
    "mute_rules_object_uid",
    "provider_groups_object_uid",
    "providers_object_uid",
    "queue_slots",
    "roles_object_uid",
    "scans_admission",
    "scans_job_uid",
    "scans_object_uid",
    "schedules_due",
    "schedules_object_uid",
    "type_slots",
];

/// Predefined roles with which files of the server, and so all rows, can be read.
pub(super) const SERVER_ROLES: [&str; 3] = [
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
];

/// Privileges of `prowler_user` on a table that is no tenant table; `None` for a tenant table.
pub(super) fn open_table(table: &str) -> Option<&'static [&'static str]> {
    if table.starts_with(CATALOGUE_PREFIX) {
        return Some(&["select"]);
    }
    OPEN_TABLES
        .iter()
        .find(|(name, _)| *name == table)
        .map(|(_, privileges)| *privileges)
}
