//! Who holds accounts and who stands in line for one: what is to be known to say why a scan waits.

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx;
use uuid::Uuid;

use crate::domain::ids::{ObjectName, ProviderId, ScanId, TenantId};
use crate::domain::queue::{Holder, Rests, Waiting};
use crate::store::{AdminStore, StoreError};

/// Everybody who holds an account, the longest first.
pub async fn holders(admin: &AdminStore) -> Result<Vec<Holder>, StoreError> {
    let rows = sqlx::query!(
        r#"select s.tenant_id, s.provider_id, s.name, p.provider as kind,
             s.attempt_started_at as "since: jiff_sqlx::Timestamp",
             (select l.duration from scans l where l.tenant_id = s.tenant_id
                and l.provider_id = s.provider_id and l.state = 'completed'
              order by l.inserted_at desc limit 1) as usual
           from scans s
           join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
           where s.queue_slot is not null and s.holds_account
           order by s.attempt_started_at nulls first, s.id"#,
    )
    .fetch_all(admin.pool())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Holder {
            tenant: TenantId(row.tenant_id),
            provider: ProviderId(row.provider_id),
            kind: row.kind,
            name: row.name,
            since: row.since.map(jiff_sqlx::Timestamp::to_jiff),
            usual: row
                .usual
                .map(|usual| SignedDuration::from_secs(usual.into())),
        })
        .collect())
}

struct Row {
    tenant_id: Uuid,
    id: Uuid,
    namespace: String,
    name: String,
    tenant_name: String,
    concurrent_scans: i32,
    provider_id: Uuid,
    kind: String,
    tenant_rests: bool,
    provider_rests: bool,
    place: i64,
}

impl From<Row> for Waiting {
    fn from(row: Row) -> Self {
        Self {
            tenant: TenantId(row.tenant_id),
            scan: ScanId(row.id),
            name: ObjectName {
                namespace: row.namespace,
                name: row.name,
            },
            tenant_name: row.tenant_name,
            tenant_limit: row.concurrent_scans,
            provider: ProviderId(row.provider_id),
            kind: row.kind,
            rests: if row.tenant_rests {
                Some(Rests::Tenant)
            } else if row.provider_rests {
                Some(Rests::Provider)
            } else {
                None
            },
            place: row.place,
        }
    }
}

/// Everybody who stands in line.
pub async fn in_line(admin: &AdminStore, now: Timestamp) -> Result<Vec<Waiting>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"select s.tenant_id, s.id, s.namespace, s.name, t.name as tenant_name, t.concurrent_scans,
             s.provider_id, p.provider as kind, (t.suspend or t.is_deleted) as "tenant_rests!",
             (p.suspend or p.is_deleted) as "provider_rests!",
             row_number() over (partition by s.tenant_id order by s.priority desc, s.id) as "place!"
           from scans s
           join tenants t on t.id = s.tenant_id
           join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
           where s.state = 'available' and not s.is_deleted and not s.holds_account
             and (s.next_attempt_at is null or s.next_attempt_at <= $1)"#,
        now.to_sqlx() as _,
    )
    .fetch_all(admin.pool())
    .await?;
    Ok(rows.into_iter().map(Waiting::from).collect())
}

/// This scan, if it stands in line. Places beyond `most` are not told apart.
pub async fn place_of(
    admin: &AdminStore,
    tenant: TenantId,
    scan: ScanId,
    most: i64,
    now: Timestamp,
) -> Result<Option<Waiting>, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"select s.tenant_id, s.id, s.namespace, s.name, t.name as tenant_name, t.concurrent_scans,
             s.provider_id, p.provider as kind, (t.suspend or t.is_deleted) as "tenant_rests!",
             (p.suspend or p.is_deleted) as "provider_rests!",
             1 + (select count(*) from (
               select from scans a
               where a.tenant_id = s.tenant_id
                 and a.state = 'available' and not a.is_deleted and not a.holds_account
                 and (a.next_attempt_at is null or a.next_attempt_at <= $3)
                 and (a.priority > s.priority or a.priority = s.priority and a.id < s.id)
               order by a.priority desc, a.id limit $4) ahead) as "place!"
           from scans s
           join tenants t on t.id = s.tenant_id
           join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
           where s.tenant_id = $1 and s.id = $2
             and s.state = 'available' and not s.is_deleted and not s.holds_account
             and (s.next_attempt_at is null or s.next_attempt_at <= $3)"#,
        tenant.0,
        scan.0,
        now.to_sqlx() as _,
        most,
    )
    .fetch_optional(admin.pool())
    .await?;
    Ok(row.map(Waiting::from))
}
