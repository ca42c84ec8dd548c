//! Due times of all tenants' schedules: which are due, and what was decided of them. A schedule's row
//! is locked from the question to the answer, so that two controllers decide one after the other and
//! the second finds nothing left to decide.

mod record;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use uuid::Uuid;

pub use self::record::{Slot, Verdict, record};
use crate::domain::ids::{ObjectName, ObjectUid, ScheduleId, TenantId};
use crate::store::admin::AdminTx;
use crate::store::{AdminStore, StoreError};

/// A schedule as it is stored, locked.
#[derive(Debug, Clone, PartialEq)]
pub struct Armed {
    /// Whose.
    pub tenant: TenantId,
    /// The schedule.
    pub id: ScheduleId,
    /// Where its object is.
    pub name: ObjectName,
    /// Its object.
    pub object: ObjectUid,
    /// Cron expression, unless there is an interval.
    pub schedule: Option<String>,
    /// Interval in seconds, unless there is a cron expression.
    pub interval_seconds: Option<i64>,
    /// Time zone of the cron expression.
    pub time_zone: Option<String>,
    /// Seconds after which a due time is missed for good.
    pub starting_deadline_seconds: Option<i64>,
    /// When the schedule was first stored: the anchor of an interval.
    pub anchor: Timestamp,
    /// Every due time up to this one is decided.
    pub decided_until: Timestamp,
    /// The last due time that was claimed.
    pub last_slot: Option<Timestamp>,
    /// It was suspended when it was last looked at.
    pub rests: bool,
}

struct Row {
    tenant_id: Uuid,
    id: Uuid,
    namespace: String,
    name: String,
    object_uid: Uuid,
    schedule: Option<String>,
    interval_seconds: Option<i64>,
    time_zone: Option<String>,
    starting_deadline_seconds: Option<i64>,
    anchor: jiff_sqlx::Timestamp,
    decided_until: jiff_sqlx::Timestamp,
    last_slot: Option<jiff_sqlx::Timestamp>,
    rests: bool,
}

impl From<Row> for Armed {
    fn from(row: Row) -> Self {
        Self {
            tenant: TenantId(row.tenant_id),
            id: ScheduleId(row.id),
            name: ObjectName {
                namespace: row.namespace,
                name: row.name,
            },
            object: ObjectUid(row.object_uid),
            schedule: row.schedule,
            interval_seconds: row.interval_seconds,
            time_zone: row.time_zone,
            starting_deadline_seconds: row.starting_deadline_seconds,
            anchor: row.anchor.to_jiff(),
            decided_until: row.decided_until.to_jiff(),
            last_slot: row.last_slot.map(jiff_sqlx::Timestamp::to_jiff),
            rests: row.rests,
        }
    }
}

/// At most `most` schedules that are due at `now`, the longest due first, and locked until the end of
/// the transaction. Those that somebody else has locked are being seen to.
pub async fn due(tx: &mut AdminTx, now: Timestamp, most: i64) -> Result<Vec<Armed>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"select d.tenant_id, d.id, d.namespace, d.name, d.object_uid as "object_uid!", d.schedule,
             d.interval_seconds, d.time_zone, d.starting_deadline_seconds,
             d.inserted_at as "anchor: jiff_sqlx::Timestamp",
             d.decided_until as "decided_until: jiff_sqlx::Timestamp",
             d.last_schedule_time as "last_slot: jiff_sqlx::Timestamp", d.rests
           from schedules d
           join tenants t on t.id = d.tenant_id and not t.suspend and not t.is_deleted
           join tenant_namespaces n on n.namespace = d.namespace and n.tenant_id = d.tenant_id
           where d.next_schedule_time <= $1 and not d.suspend and not d.is_deleted
             and d.object_uid is not null and not d.rests
           order by d.next_schedule_time limit $2
           for update of d skip locked"#,
        now.to_sqlx() as _,
        most,
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows.into_iter().map(Armed::from).collect())
}

/// This schedule, locked until the end of the transaction.
pub async fn lock(
    tx: &mut AdminTx,
    tenant: TenantId,
    id: ScheduleId,
) -> Result<Option<Armed>, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"select tenant_id, id, namespace, name, object_uid as "object_uid!", schedule,
             interval_seconds, time_zone, starting_deadline_seconds,
             inserted_at as "anchor: jiff_sqlx::Timestamp",
             decided_until as "decided_until: jiff_sqlx::Timestamp",
             last_schedule_time as "last_slot: jiff_sqlx::Timestamp", rests
           from schedules
           where tenant_id = $1 and id = $2 and not is_deleted and object_uid is not null
           for update"#,
        tenant.0,
        id.0,
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(Armed::from))
}

/// When the next schedule is due, over all tenants.
pub async fn next(admin: &AdminStore) -> Result<Option<Timestamp>, StoreError> {
    let next = sqlx::query_scalar!(
        r#"select d.next_schedule_time as "next: jiff_sqlx::Timestamp" from schedules d
           where d.next_schedule_time is not null and not d.suspend and not d.is_deleted
             and d.tenant_id is not null
           order by d.next_schedule_time limit 1"#,
    )
    .fetch_optional(admin.pool())
    .await?;
    Ok(next.flatten().map(jiff_sqlx::Timestamp::to_jiff))
}
