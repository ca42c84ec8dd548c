//! Records of a file that could not be kept: stored with why, for whoever has to find out what
//! wrote them. They are stored whether their file is published or refused.

use std::borrow::Cow;

use super::{StoreError, TenantTx};
use crate::domain::ids::ScanId;

/// Records whose beginnings are stored; of further ones only the number is known.
pub const STORED_MAX: usize = 1000;
/// Bytes of a record that are stored.
pub const HEAD_MAX: usize = 1024;

/// A record that is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// Its number in the file, from 0.
    pub position: u64,
    /// Its first byte.
    pub offset: u64,
    /// Why, without quoting it.
    pub reason: String,
    /// Its beginning, as it stands in the file.
    pub head: Vec<u8>,
}

/// The records of a file that are set aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quarantine {
    count: u64,
    first: Vec<Aside>,
}

impl Quarantine {
    /// Adds a record, by its beginning; that is asked for only where it will be stored.
    pub fn add<'r>(
        &mut self,
        position: u64,
        offset: u64,
        reason: &str,
        record: impl FnOnce() -> Cow<'r, [u8]>,
    ) {
        self.count += 1;
        if self.first.len() < STORED_MAX {
            let record = record();
            self.first.push(Aside {
                position,
                offset,
                reason: reason.to_owned(),
                head: record[..record.len().min(HEAD_MAX)].to_vec(),
            });
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first of them, which are stored.
    pub fn first(&self) -> &[Aside] {
        &self.first
    }

    /// The number, as the scan's row has it.
    fn in_row(&self) -> i32 {
        i32::try_from(self.count).unwrap_or(i32::MAX)
    }
}

/// Stores what an attempt set aside, and the number in its scan's row.
pub(super) async fn store(
    tx: &mut TenantTx,
    scan: ScanId,
    attempt: i32,
    quarantine: &Quarantine,
) -> Result<(), StoreError> {
    if quarantine.count == 0 {
        return Ok(());
    }
    let tenant = tx.tenant().0;
    sqlx::query!(
        "update scans set quarantined = $4 where tenant_id = $1 and id = $2 and attempt = $3",
        tenant,
        scan.0,
        attempt,
        quarantine.in_row(),
    )
    .execute(tx.conn())
    .await?;
    let stored = &quarantine.first;
    let positions: Vec<_> = stored.iter().map(|a| a.position.cast_signed()).collect();
    let offsets: Vec<_> = stored.iter().map(|a| a.offset.cast_signed()).collect();
    let reasons: Vec<_> = stored.iter().map(|a| a.reason.clone()).collect();
    let heads: Vec<_> = stored.iter().map(|a| a.head.clone()).collect();
    sqlx::query!(
        "insert into quarantined_findings
           (tenant_id, scan_id, attempt, position, byte_offset, reason, head)
         select $1, $2, $3, position, byte_offset, reason, head
         from unnest($4::bigint[], $5::bigint[], $6::text[], $7::bytea[])
           as aside (position, byte_offset, reason, head)",
        tenant,
        scan.0,
        attempt,
        &positions,
        &offsets,
        &reasons,
        &heads,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}
