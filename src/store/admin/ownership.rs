//! Whose rows mirror an object: deletion finds its tenant by the object's uid, because by then
//! the namespace may belong to somebody else, or to nobody.

use crate::domain::ids::{ObjectUid, ProviderId, ScanId, TenantId};
use crate::store::{AdminStore, StoreError};

/// A kind whose rows carry the object's uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the kinds")]
pub enum Mirrored {
    Tenant,
    Provider,
    ProviderGroup,
    Role,
    ScanSchedule,
    Scan,
    Integration,
    MuteRule,
}

/// The tenant whose row mirrors this object.
pub async fn tenant_of(
    admin: &AdminStore,
    kind: Mirrored,
    object: ObjectUid,
) -> Result<Option<TenantId>, StoreError> {
    let pool = admin.pool();
    let object = object.0;
    let tenant = match kind {
        Mirrored::Tenant => {
            sqlx::query_scalar!("select id from tenants where object_uid = $1", object)
                .fetch_optional(pool)
                .await?
        }
        Mirrored::Provider => {
            sqlx::query_scalar!(
                "select tenant_id from providers where object_uid = $1",
                object
            )
            .fetch_optional(pool)
            .await?
        }
        Mirrored::ProviderGroup => {
            sqlx::query_scalar!(
                "select tenant_id from provider_groups where object_uid = $1",
                object
            )
            .fetch_optional(pool)
            .await?
        }
        Mirrored::Role => {
            sqlx::query_scalar!("select tenant_id from roles where object_uid = $1", object)
                .fetch_optional(pool)
                .await?
        }
        Mirrored::ScanSchedule => {
            sqlx::query_scalar!(
                "select tenant_id from schedules where object_uid = $1",
                object
            )
            .fetch_optional(pool)
            .await?
        }
        Mirrored::Scan => {
            sqlx::query_scalar!("select tenant_id from scans where object_uid = $1", object)
                .fetch_optional(pool)
                .await?
        }
        Mirrored::Integration => {
            sqlx::query_scalar!(
                "select tenant_id from integrations where object_uid = $1",
                object
            )
            .fetch_optional(pool)
            .await?
        }
        Mirrored::MuteRule => {
            sqlx::query_scalar!(
                "select tenant_id from mute_rules where object_uid = $1",
                object
            )
            .fetch_optional(pool)
            .await?
        }
    };
    Ok(tenant.map(TenantId))
}

/// What the rows say of a stored provider; equal to what the object asks for means that a pass
/// has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirror {
    /// The object.
    pub object: ObjectUid,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its row.
    pub provider: ProviderId,
    /// Hash of what is stored.
    pub fingerprint: i64,
    /// The newest scan that ended: a status that shows another is to be written.
    pub last_scan: Option<ScanId>,
}

/// Every live provider's mirror, read once at start and on a timer, so that ten thousand
/// settled objects cost one query and not ten thousand.
pub async fn mirrors(admin: &AdminStore) -> Result<Vec<Mirror>, StoreError> {
    let rows = sqlx::query!(
        r#"select p.tenant_id, p.id, p.object_uid as "object_uid!", p.fingerprint,
             (select s.id from scans s
              where s.tenant_id = p.tenant_id and s.provider_id = p.id
                and s.state in ('completed', 'failed', 'cancelled')
              order by s.completed_at desc nulls last, s.id desc limit 1) as last_scan
           from providers p
           where not p.is_deleted and p.object_uid is not null
             -- While a check runs each pass looks at it.
             and not exists (select from connection_checks c
               where c.tenant_id = p.tenant_id and c.provider_id = p.id and c.slot is not null)"#,
    )
    .fetch_all(admin.pool())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Mirror {
            object: ObjectUid(row.object_uid),
            tenant: TenantId(row.tenant_id),
            provider: ProviderId(row.id),
            fingerprint: row.fingerprint,
            last_scan: row.last_scan.map(ScanId),
        })
        .collect())
}
