//! Mute rules: which findings a tenant does not want to hear of, and why.

use super::{Change, StoreError, TenantTx};
use crate::domain::ids::{MuteRuleId, ObjectName, ObjectUid};

/// What is stored of a `MuteRule` object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuteRuleRecord {
    /// The object.
    pub object: ObjectUid,
    /// Where it is.
    pub name: ObjectName,
    /// Why the findings are muted: 3 to 500 characters.
    pub reason: String,
    /// Whether it counts.
    pub enabled: bool,
    /// Uids of the findings.
    pub finding_uids: Vec<String>,
}

/// Writes the rule.
pub async fn upsert(
    tx: &mut TenantTx,
    id: MuteRuleId,
    rule: &MuteRuleRecord,
) -> Result<Change, StoreError> {
    let created = sqlx::query_scalar!(
        r#"insert into mute_rules as m
             (tenant_id, id, namespace, name, object_uid, reason, enabled, finding_uids)
           values ($1, $2, $3, $4, $5, $6, $7, $8)
           on conflict (tenant_id, id) do update set
             object_uid = excluded.object_uid, reason = excluded.reason,
             enabled = excluded.enabled, finding_uids = excluded.finding_uids, updated_at = now()
           where (m.object_uid, m.reason, m.enabled, m.finding_uids) is distinct from
                 (excluded.object_uid, excluded.reason, excluded.enabled, excluded.finding_uids)
           returning (xmax = 0) as "created!""#,
        tx.tenant().0,
        id.0,
        rule.name.namespace,
        rule.name.name,
        rule.object.0,
        rule.reason,
        rule.enabled,
        &rule.finding_uids,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(Change::from_created(created))
}

/// Removes the rule of this object.
pub async fn remove(tx: &mut TenantTx, object: ObjectUid) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "delete from mute_rules where tenant_id = $1 and object_uid = $2",
        tx.tenant().0,
        object.0,
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() > 0)
}
