//! The rules; what may differ from them is in [`lists`](super::lists). Pure: facts in, findings
//! out.

use super::catalogue::{Function, Grant, Index, Policy, Reference, Relation, Role};
use super::lists::{
    CROSSING_INDEXES, DEFINER_FUNCTIONS, DEFINER_SETTING, SERVER_ROLES, TENANTS, open_table,
};
use super::{ADMIN, Finding, Severity, USER};

fn finding(severity: Severity, object: &str, sentence: impl Into<String>) -> Finding {
    Finding {
        severity,
        object: object.to_owned(),
        sentence: sentence.into(),
    }
}

fn error(object: &str, sentence: impl Into<String>) -> Finding {
    finding(Severity::Error, object, sentence)
}

fn warning(object: &str, sentence: impl Into<String>) -> Finding {
    finding(Severity::Warning, object, sentence)
}

/// The column that names the tenant.
fn key(table: &str) -> &'static str {
    if table == TENANTS { "id" } else { "tenant_id" }
}

/// What brings a tenant table back to the state that the rules ask for.
fn protect(table: &str) -> String {
    let column = match key(table) {
        "tenant_id" => String::new(),
        other => format!(", key_column => '{other}'"),
    };
    format!("Run as prowler_admin: select prowler.protect('prowler.{table}'{column});")
}

fn current(roles: &[Role]) -> &str {
    roles
        .iter()
        .find(|role| role.is_current)
        .map_or("the role", |role| &role.name)
}

/// Row security holds for no role that can step around it.
pub(super) fn role(roles: &[Role]) -> Vec<Finding> {
    let current = current(roles);
    // A superuser is a member of everything; the rest of the list would only repeat that.
    if let Some(own) = roles
        .iter()
        .find(|role| role.has("superuser") && (role.is_current || role.is_session))
    {
        return vec![error(
            &own.name,
            format!(
                "Row-level security does not bind a superuser. \
                 Connect as the plain role {USER} (docs/install.md)."
            ),
        )];
    }
    let mut findings = Vec::new();
    for role in roles {
        let who = if role.is_current {
            format!("The role {}", role.name)
        } else {
            format!("The role {current} is a member of {}, which", role.name)
        };
        let mut refuse = |why: &str, cure: String| {
            findings.push(error(current, format!("{who} {why}. {cure}")));
        };
        let revoke = || {
            if role.is_current {
                format!("Connect as the plain role {USER} (docs/install.md).")
            } else {
                format!(
                    "Run as an administrator: revoke {} from {current};",
                    role.name
                )
            }
        };
        if role.has("superuser") {
            refuse(
                "is a superuser, whom row-level security does not bind",
                revoke(),
            );
        }
        if role.has("bypassrls") {
            refuse("has BYPASSRLS: no policy binds it", revoke());
        }
        if role.has("createrole") {
            refuse(
                "has CREATEROLE and can make itself a member of others",
                revoke(),
            );
        }
        if role.has("replication") {
            refuse("has REPLICATION and can copy every row", revoke());
        }
        if role.has("owner") || role.name == ADMIN {
            refuse(
                "owns the schema and can switch row-level security off",
                revoke(),
            );
        }
        if SERVER_ROLES.contains(&role.name.as_str()) {
            refuse("can read the server's files", revoke());
        }
    }
    if !roles.iter().any(|role| role.name == USER) {
        findings.push(error(
            current,
            format!(
                "The policies are made for {USER}, and {current} is neither that role nor a \
                 member of it. Connect as {USER} (docs/install.md)."
            ),
        ));
    }
    findings
}

/// Everything must be owned by the one role that has a policy for it.
pub(super) fn admin(roles: &[Role]) -> Vec<Finding> {
    let current = current(roles);
    if current != ADMIN {
        return vec![error(
            current,
            format!(
                "The schema belongs to {ADMIN}, and the policies across tenants are made for it. \
                 Connect as {ADMIN} (docs/install.md)."
            ),
        )];
    }
    if roles
        .iter()
        .any(|role| role.has("superuser") || role.has("bypassrls"))
    {
        return vec![warning(
            current,
            "It needs neither SUPERUSER nor BYPASSRLS: the fewer rights the better. \
             Run as an administrator: alter role prowler_admin nosuperuser nobypassrls;",
        )];
    }
    Vec::new()
}

/// Tables have forced row security and a tenant in front; views read as their caller.
pub(super) fn relations(relations: &[Relation]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for relation in relations {
        let name = relation.name.as_str();
        match relation.kind.as_str() {
            "r" | "p" if open_table(name).is_none() => {
                if !relation.row_security || !relation.forced {
                    findings.push(error(
                        name,
                        format!(
                            "Row-level security is not enabled and forced. {}",
                            protect(name)
                        ),
                    ));
                }
                if relation.tenant_column.as_deref() != Some("uuid") {
                    findings.push(error(
                        name,
                        "A tenant table needs a column tenant_id of type uuid that is not null.",
                    ));
                }
                let first = key(name);
                if relation.key_begins.as_deref() != Some(first) {
                    findings.push(warning(
                        name,
                        format!("Its primary key must begin with {first}."),
                    ));
                }
            }
            "v" => {
                let invoker = relation.options.iter().any(|option| {
                    matches!(
                        option.as_str(),
                        "security_invoker=true" | "security_invoker=on" | "security_invoker=1"
                    )
                });
                if !invoker {
                    findings.push(error(
                        name,
                        format!(
                            "The view is read with its owner's rights, past the caller's \
                             policies. Run as prowler_admin: \
                             alter view prowler.{name} set (security_invoker = true);"
                        ),
                    ));
                }
            }
            "f" => findings.push(error(
                name,
                "A foreign table has no policies. Drop it or move it to another schema.",
            )),
            _ => {}
        }
    }
    findings
}

/// What `prowler_user` may be granted on a table, with the command's name in `pg_policy.polcmd`.
const COMMANDS: [(&str, &str); 4] = [
    ("select", "r"),
    ("insert", "a"),
    ("update", "w"),
    ("delete", "d"),
];

/// Exactly the policies that `protect` makes, on every tenant table and partition: one for each
/// command that is granted there. A granted update or delete without its policy is no error to
/// Postgres: it changes no row and says so to nobody.
pub(super) fn policies(
    relations: &[Relation],
    policies: &[Policy],
    grants: &[Grant],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for relation in relations {
        if !matches!(relation.kind.as_str(), "r" | "p") || open_table(&relation.name).is_some() {
            continue;
        }
        let own: Vec<_> = policies
            .iter()
            .filter(|policy| policy.table == relation.name)
            .collect();
        let cure = protect(&relation.name);
        for policy in &own {
            if !is_ours(policy) {
                findings.push(error(
                    &relation.name,
                    format!(
                        "Policy {} is not one the program makes. {cure}",
                        policy.name
                    ),
                ));
            }
        }
        let granted = |command: &str| {
            grants.iter().any(|grant| {
                grant.kind == relation.kind
                    && grant.object == relation.name
                    && grant.grantee == USER
                    && grant.privilege == command
            })
        };
        let lacks = |role: &str, letter: &str| {
            !own.iter()
                .any(|policy| policy.command == letter && policy.roles == [role])
        };
        for (command, letter) in COMMANDS {
            // There is no tenant table that its tenant may not read.
            if (command == "select" || granted(command)) && lacks(USER, letter) {
                findings.push(error(
                    &relation.name,
                    format!("It has no policy for {USER} to {command}. {cure}"),
                ));
            }
        }
        if lacks(ADMIN, "*") {
            findings.push(error(
                &relation.name,
                format!("It has no policy for {ADMIN}. {cure}"),
            ));
        }
    }
    findings
}

fn is_ours(policy: &Policy) -> bool {
    if !policy.permissive {
        return false;
    }
    let own_rows = |text: &Option<String>| {
        text.as_deref()
            .is_some_and(|text| is_own_rows(text, key(&policy.table)))
    };
    let all = |text: &Option<String>| text.as_deref() == Some("true");
    match (policy.command.as_str(), policy.roles.as_slice()) {
        ("*", [role]) => role == ADMIN && all(&policy.using) && all(&policy.check),
        ("r" | "d", [role]) => role == USER && own_rows(&policy.using) && policy.check.is_none(),
        ("a", [role]) => role == USER && policy.using.is_none() && own_rows(&policy.check),
        ("w", [role]) => role == USER && own_rows(&policy.using) && own_rows(&policy.check),
        _ => false,
    }
}

/// The one expression, however this version of Postgres prints parentheses and aliases.
fn is_own_rows(text: &str, key: &str) -> bool {
    let bare: String = text
        .replace(r#" AS "nullif""#, "")
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '(' | ')'))
        .collect();
    bare == format!("{key}=SELECTNULLIFcurrent_setting'api.tenant_id'::text,true,''::text::uuid")
}

/// Only the stated privileges, and none for everyone.
pub(super) fn grants(grants: &[Grant]) -> Vec<Finding> {
    let allowed = |grant: &Grant| match (grant.kind.as_str(), grant.privilege.as_str()) {
        ("schema", "usage") | ("v", "select") => true,
        ("function", "execute") => DEFINER_FUNCTIONS.contains(&grant.object.as_str()),
        ("r" | "p", privilege) => open_table(&grant.object)
            .unwrap_or(&["select", "insert", "update", "delete"])
            .contains(&privilege),
        _ => false,
    };
    grants
        .iter()
        .filter(|grant| grant.grantee != USER || !allowed(grant))
        .map(|grant| {
            let sentence = format!(
                "{} has {} on it, which the program does not grant. Revoke it as prowler_admin.",
                grant.grantee, grant.privilege
            );
            if grant.grantee == USER || grant.grantee == "public" {
                error(&grant.object, sentence)
            } else {
                // Another role is bound by row security too, and no policy is made for it.
                warning(&grant.object, sentence)
            }
        })
        .collect()
}

/// Definer functions are a closed list, and take no search path from their caller.
pub(super) fn functions(functions: &[Function]) -> Vec<Finding> {
    functions
        .iter()
        .filter(|function| function.definer)
        .filter_map(|function| {
            if !DEFINER_FUNCTIONS.contains(&function.name.as_str()) {
                return Some(error(
                    &function.name,
                    "It runs with its owner's rights and is none of the program's. Drop it.",
                ));
            }
            if !function.settings.iter().any(|set| set == DEFINER_SETTING) {
                return Some(error(
                    &function.name,
                    "It runs with its owner's rights on its caller's search_path. Run as \
                     prowler_admin: alter function … set search_path = pg_catalog, pg_temp;",
                ));
            }
            None
        })
        .collect()
}

/// Every index for tenant reads begins with the tenant.
pub(super) fn indexes(indexes: &[Index]) -> Vec<Finding> {
    indexes
        .iter()
        .filter(|index| open_table(&index.table).is_none())
        .filter(|index| {
            index.begins.as_deref() != Some(key(&index.table))
                && !CROSSING_INDEXES.contains(&index.name.as_str())
        })
        .map(|index| {
            warning(
                &index.name,
                format!(
                    "The index on {} does not begin with the tenant.",
                    index.table
                ),
            )
        })
        .collect()
}

/// References carry the tenant: Postgres checks them without policies.
pub(super) fn references(references: &[Reference]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for reference in references {
        if reference.from != "tenant_id" || reference.to != key(&reference.target) {
            findings.push(error(
                &reference.name,
                format!(
                    "The reference from {} to {} accepts another tenant's row: \
                     it does not begin with the tenant.",
                    reference.table, reference.target
                ),
            ));
        }
        if reference.target_partitioned {
            findings.push(warning(
                &reference.name,
                format!("It points at the partitioned table {}.", reference.target),
            ));
        }
    }
    findings
}
