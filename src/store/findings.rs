//! Findings and what hangs on them on their way into their tables: encoded in batches,
//! staged in `pg_temp`, inserted under the policies.
//!
//! Findings and mappings are inserted batch by batch. Rows that other publications of the
//! tenant may write too (checks, tags) and resources wait in `pg_temp` for the end, and are
//! written in the order of their keys: so publications wait for one another for moments only,
//! and never in a circle.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use uuid::Uuid;

use super::copy::Rows;
use super::spent::{Part, Spent};
use super::{StoreError, TenantTx, tags};
use crate::domain::finding::{Delta, Finding, MUTED_BY_MUTELIST, Resource};
use crate::domain::ids::{ProviderId, ScanId};
use crate::domain::inventory::{Digest, Tally};

/// What is staged is sorted in memory, and more than that, which is rare, on disk. Each statement
/// runs over some thousand rows that have no statistics: compiling it takes longer than it saves.
const STAGES: &str = "
set local work_mem = '32MB';
set local jit = off;
create temporary table staged_findings (
    id uuid, resource_id uuid, uid text, check_id text, check_sha256 bytea, status text,
    status_extended text, severity text, delta text, muted boolean, first_seen_at timestamptz,
    region text, service text, type text, categories text[]) on commit drop;
create temporary table staged_resources (
    id uuid, uid text, name text, region text, service text, type text, metadata text,
    details text, partition text, digest bytea) on commit drop;
create temporary table staged_tags (id uuid, key text, value text) on commit drop;
create temporary table staged_tag_mappings (resource_id uuid, tag_id uuid) on commit drop;
create temporary table staged_tallies (id uuid, failed integer) on commit drop;
create temporary table staged_checks (
    check_id text, sha256 bytea, metadata text) on commit drop;
";

/// Bytes from which on rows are sent. A COPY of a few costs 40 ms of waiting on some networks:
/// its end is a packet of its own, which the sender's kernel holds back until the receiver's has
/// confirmed the rows, and that one waits for more of them.
const WORTH_A_COPY: usize = 256 * 1024;

/// A finding with what only the whole file and its past could tell.
#[derive(Debug)]
pub struct NewFinding<'a> {
    /// Its id.
    pub id: Uuid,
    /// What the record says.
    pub finding: &'a Finding<'a>,
    /// Id of its resource.
    pub resource: Option<Uuid>,
    /// Hash of the check's constants.
    pub check_sha256: [u8; 32],
    /// What changed.
    pub delta: Option<Delta>,
    /// Since when it is known: microseconds of the Unix epoch.
    pub first_seen: i64,
}

/// Rows on their way, encoded; built without a connection.
#[derive(Debug)]
pub struct Batch {
    findings: Rows,
    resources: Rows,
    tags: Rows,
    tag_mappings: Rows,
    checks: Rows,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            findings: Rows::new(15),
            resources: Rows::new(10),
            tags: Rows::new(3),
            tag_mappings: Rows::new(2),
            checks: Rows::new(3),
        }
    }
}

impl Batch {
    /// Findings in it.
    pub fn findings(&self) -> usize {
        self.findings.count()
    }

    /// Bytes of all its rows.
    pub fn size(&self) -> usize {
        [
            &self.findings,
            &self.resources,
            &self.tags,
            &self.tag_mappings,
            &self.checks,
        ]
        .iter()
        .map(|rows| rows.size())
        .sum()
    }

    /// Takes the findings away, and of what waits for the end of the file what has become worth
    /// a COPY, or all of it.
    #[must_use]
    pub fn take(&mut self, at_end: bool) -> Self {
        let due = |rows: &mut Rows| {
            if at_end || rows.size() >= WORTH_A_COPY {
                rows.take()
            } else {
                rows.none()
            }
        };
        Self {
            findings: self.findings.take(),
            resources: due(&mut self.resources),
            tags: due(&mut self.tags),
            tag_mappings: due(&mut self.tag_mappings),
            checks: due(&mut self.checks),
        }
    }

    /// Adds a finding.
    pub fn finding(&mut self, new: &NewFinding<'_>) {
        let finding = new.finding;
        let rows = self.findings.row();
        rows.uuid(new.id)
            .maybe_uuid(new.resource)
            .text(&finding.uid)
            .text(&finding.check_id)
            .bytes(&new.check_sha256)
            .text(finding.status.as_str())
            .text(&finding.status_extended)
            .text(finding.severity.as_str())
            .maybe_text(new.delta.map(Delta::as_str))
            .bool(finding.muted)
            .timestamp(new.first_seen);
        match &finding.resource {
            Some(resource) => rows
                .text(&resource.region)
                .text(&resource.service)
                .text(&resource.kind),
            None => rows.null().null().null(),
        };
        rows.texts(finding.categories.iter().map(AsRef::as_ref));
    }

    /// Adds a resource whose row is to be written; `metadata` is its JSON text.
    pub fn resource(
        &mut self,
        id: Uuid,
        resource: &Resource<'_>,
        metadata: Option<&str>,
        digest: Digest,
    ) {
        self.resources
            .row()
            .uuid(id)
            .text(&resource.uid)
            .text(&resource.name)
            .text(&resource.region)
            .text(&resource.service)
            .text(&resource.kind)
            .maybe_text(metadata)
            .text(&resource.details)
            .maybe_text(resource.partition.as_deref())
            .bytes(&digest);
    }

    /// Adds a tag; adding it again does no harm.
    pub fn tag(&mut self, id: Uuid, key: &str, value: &str) {
        self.tags.row().uuid(id).text(key).text(value);
    }

    /// Adds that such a resource carries a tag.
    pub fn tag_mapping(&mut self, resource: Uuid, tag: Uuid) {
        self.tag_mappings.row().uuid(resource).uuid(tag);
    }

    /// Adds the constants of a check, as JSON.
    pub fn check(&mut self, check_id: &str, sha256: &[u8; 32], json: &str) {
        self.checks.row().text(check_id).bytes(sha256).text(json);
    }
}

/// Whose rows, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub scan: ScanId,
    pub provider: ProviderId,
    pub now: Timestamp,
}

/// Makes the tables of `pg_temp`; they go with the transaction.
pub(super) async fn stage(tx: &mut TenantTx) -> Result<(), StoreError> {
    sqlx::raw_sql(STAGES).execute(tx.conn()).await?;
    Ok(())
}

/// Inserts the batch's findings and mappings, and stages the rest.
pub(super) async fn insert_batch(
    tx: &mut TenantTx,
    owner: &Owner,
    batch: Batch,
    spent: &mut Spent,
) -> Result<(), StoreError> {
    let Batch {
        findings,
        resources,
        tags,
        tag_mappings,
        checks,
    } = batch;
    resources.send(tx, "staged_resources").await?;
    tags.send(tx, "staged_tags").await?;
    tag_mappings.send(tx, "staged_tag_mappings").await?;
    checks.send(tx, "staged_checks").await?;
    if findings.count() == 0 {
        spent.end(Part::Copy);
        return Ok(());
    }
    findings.send(tx, "staged_findings").await?;
    spent.end(Part::Copy);
    let tenant = tx.tenant().0;
    sqlx::query(
        "insert into findings (tenant_id, id, scan_id, provider_id, uid, check_id, check_sha256,
           status, status_extended, severity, delta, muted, muted_reason, muted_at, first_seen_at,
           resource_regions, resource_services, resource_types, categories, inserted_at, updated_at)
         select $1, id, $2, $3, uid, check_id, check_sha256,
           status, status_extended, severity, delta, muted, case when muted then $5 end,
           case when muted then $4 end, first_seen_at,
           array_remove(array[region], null), array_remove(array[service], null),
           array_remove(array[type], null), categories, $4, $4
         from pg_temp.staged_findings",
    )
    .bind(tenant)
    .bind(owner.scan.0)
    .bind(owner.provider.0)
    .bind(owner.now.to_sqlx())
    .bind(MUTED_BY_MUTELIST)
    .execute(tx.conn())
    .await?;
    spent.end(Part::Findings);
    sqlx::query(
        "insert into resource_finding_mappings (tenant_id, resource_id, finding_id)
         select $1, resource_id, id from pg_temp.staged_findings where resource_id is not null",
    )
    .bind(tenant)
    .execute(tx.conn())
    .await?;
    spent.end(Part::Mappings);
    // Made in this transaction, so emptied in place, without a trace in the catalogue.
    sqlx::raw_sql("truncate pg_temp.staged_findings")
        .execute(tx.conn())
        .await?;
    spent.end(Part::Copy);
    Ok(())
}

/// Takes back that these findings changed.
pub(super) async fn set_unchanged(tx: &mut TenantTx, ids: &[Uuid]) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update findings set delta = null where tenant_id = $1 and id = any($2)",
        tx.tenant().0,
        ids,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Writes what was staged for the end.
pub(super) async fn insert_staged(
    tx: &mut TenantTx,
    owner: &Owner,
    tallies: impl Iterator<Item = Tally>,
) -> Result<(), StoreError> {
    let mut rows = Rows::new(2);
    for tally in tallies {
        rows.row().uuid(tally.id).i32(tally.failed);
    }
    rows.send(tx, "staged_tallies").await?;
    checks(tx).await?;
    resources(tx, owner).await?;
    tags::write_staged(tx).await
}

async fn checks(tx: &mut TenantTx) -> Result<(), StoreError> {
    sqlx::query(
        "insert into check_metadata (tenant_id, check_id, sha256, metadata)
         select distinct on (check_id, sha256) $1, check_id, sha256, metadata::jsonb
         from pg_temp.staged_checks order by check_id, sha256
         on conflict do nothing",
    )
    .bind(tx.tenant().0)
    .execute(tx.conn())
    .await?;
    Ok(())
}

async fn resources(tx: &mut TenantTx, owner: &Owner) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    let staged: i64 = sqlx::query_scalar("select count(*) from pg_temp.staged_resources")
        .fetch_one(tx.conn())
        .await?;
    // A name or region that a check does not tell is kept as another told it.
    let written = sqlx::query(
        "insert into resources as r (tenant_id, id, provider_id, uid, name, region, service, type,
           metadata, details, partition, digest, failed_findings_count, inserted_at, updated_at)
         select $1, s.id, $2, s.uid, s.name, s.region, s.service, s.type,
           s.metadata, s.details, s.partition, s.digest, coalesce(t.failed, 0), $3, $3
         from pg_temp.staged_resources s left join pg_temp.staged_tallies t on t.id = s.id
         order by s.id
         on conflict (tenant_id, id) do update set
           name = coalesce(nullif(excluded.name, ''), r.name),
           region = coalesce(nullif(excluded.region, ''), r.region),
           service = excluded.service, type = excluded.type, metadata = excluded.metadata,
           details = excluded.details, partition = excluded.partition, digest = excluded.digest,
           failed_findings_count = excluded.failed_findings_count, updated_at = excluded.updated_at
         where r.uid = excluded.uid",
    )
    .bind(tenant)
    .bind(owner.provider.0)
    .bind(owner.now.to_sqlx())
    .execute(tx.conn())
    .await?
    .rows_affected();
    if written != staged.cast_unsigned() {
        // Two uids with one id: never seen, and never to be passed over.
        return Err(StoreError::inconsistent("resources", "uid", owner.provider));
    }
    sqlx::query(
        "update resources r set failed_findings_count = t.failed
         from pg_temp.staged_tallies t
         where r.tenant_id = $1 and r.id = t.id and r.failed_findings_count <> t.failed",
    )
    .bind(tenant)
    .execute(tx.conn())
    .await?;
    Ok(())
}
