//! A file becomes rows: every record is proved to be of the account, understood, compared with
//! the past, counted and added to a batch.

use std::collections::HashSet;
use std::io::Read;

use uuid::Uuid;

use super::check::{Checks, Met};
use super::fault::{Fault, ONE_IN, poisoned};
use super::finding::understand;
use super::mask;
use super::proof::{Proof, prove};
use super::reader::{Element, Place, ReadError, Reader};
use super::record::Record;
use super::spool::Spooled;
use crate::domain::finding::{
    Delta, Finding, Resource, Severity, Status, UID_MAX, resource_id, tag_id,
};
use crate::domain::history::{History, Uid};
use crate::domain::ids::{ScanId, TenantId};
use crate::domain::inventory::{Digest, Inventory};
use crate::domain::reason::Reason;
use crate::domain::redact::redact;
use crate::domain::uuid7;
use crate::store::findings::{Batch, NewFinding};
use crate::store::publication::{Account, Totals};
use crate::store::quarantine::Quarantine;
use crate::store::scans::Counts;

/// Findings of a batch: memory grows with it, and beyond some thousands speed does not.
const BATCH_FINDINGS: usize = 8000;
/// Bytes of a batch; reached first where records are large.
const BATCH_BYTES: usize = 6 * 1024 * 1024;
/// Tags remembered as told: about 1 MiB.
const TAGS_REMEMBERED: usize = 50_000;

/// Whose file it is and when it is read.
#[derive(Debug)]
pub(super) struct Task {
    pub tenant: TenantId,
    pub scan: ScanId,
    pub account: Account,
    /// Microseconds of the Unix epoch.
    pub now: i64,
    /// What the random part of the findings' ids is drawn from.
    pub seed: u64,
}

/// What a whole file came to.
#[derive(Debug)]
pub(super) struct Assembled {
    pub totals: Totals,
    /// Findings that were sent as changed, and are not.
    pub unchanged: Vec<Uuid>,
    pub quarantine: Quarantine,
    pub history: History,
    pub inventory: Inventory,
}

/// Tags that were told; some are told again where there are very many.
#[derive(Default)]
struct Tags(HashSet<Uuid>);

impl Tags {
    /// Whether the tag is to be told.
    fn meet(&mut self, tag: Uuid) -> bool {
        if self.0.len() >= TAGS_REMEMBERED {
            self.0.clear();
        }
        self.0.insert(tag)
    }
}

/// A finding that has changed, unless its uid stays.
struct Unsettled {
    uid: Uid,
    id: Uuid,
    /// It is among those counted as changed.
    counted: bool,
}

/// A file on its way to rows.
pub(super) struct Assembly<S> {
    task: Task,
    scan_at: u32,
    history: History,
    inventory: Inventory,
    checks: Checks,
    tags: Tags,
    batch: Batch,
    counts: Counts,
    counter: u32,
    quarantine: Quarantine,
    unsettled: Vec<Unsettled>,
    /// A record proved the account.
    proven: bool,
    send: S,
}

impl<S: FnMut(Batch) -> bool> Assembly<S> {
    /// Begins; `send` takes batches, and answers false when it takes no more.
    pub(super) fn new(task: Task, history: History, inventory: Inventory, send: S) -> Self {
        let scan_at = uuid7::uuid7_to_datetime(task.scan.0)
            .ok()
            .and_then(|at| u32::try_from(at.as_second()).ok())
            .unwrap_or(0);
        Self {
            task,
            scan_at,
            history,
            inventory,
            checks: Checks::default(),
            tags: Tags::default(),
            batch: Batch::default(),
            counts: Counts::default(),
            counter: 0,
            quarantine: Quarantine::default(),
            unsettled: Vec::new(),
            proven: false,
            send,
        }
    }

    /// Reads the whole file.
    pub(super) fn run(self, spooled: &mut Spooled) -> Result<Assembled, Fault> {
        if spooled.bytes() == 0 {
            return Err(ReadError::Empty.into());
        }
        let max_record = spooled.limits().record;
        let source = spooled
            .reader()
            .map_err(|error| Fault::from(ReadError::Io(error)))?;
        self.read(source, max_record)
    }

    /// Reads the whole file from its source.
    pub(super) fn read(mut self, source: impl Read, max_record: usize) -> Result<Assembled, Fault> {
        let number =
            Reader::new(source, max_record).each(|place, element| self.element(place, &element))?;
        if self.quarantine.count() > number / ONE_IN {
            let sentence = poisoned(&self.quarantine, number);
            return Err(Fault::Poisoned(sentence, Box::new(self.quarantine)));
        }
        self.flush(true)?;
        let unchanged = self.settle();
        Ok(Assembled {
            totals: Totals {
                counts: self.counts,
                resources: i32::try_from(self.inventory.places()).unwrap_or(i32::MAX),
            },
            unchanged,
            quarantine: self.quarantine,
            history: self.history,
            inventory: self.inventory,
        })
    }

    fn element(&mut self, place: Place<'_>, element: &Element<'_>) -> Result<(), Fault> {
        match element {
            Element::Record(record) => self.record(place, record)?,
            Element::Broken(reason) => self.set_aside(place, reason),
        }
        if self.batch.findings() >= BATCH_FINDINGS || self.batch.size() >= BATCH_BYTES {
            self.flush(false)?;
        }
        Ok(())
    }

    fn record(&mut self, place: Place<'_>, record: &Record<'_>) -> Result<(), Fault> {
        let account = &self.task.account;
        match prove(account.kind, &account.uid, record) {
            Proof::Right => self.proven = true,
            Proof::Silent => {}
            Proof::Wrong(found) if !self.proven => {
                let found: String = redact(found).chars().take(250).collect();
                return Err(Fault::File(
                    Reason::WrongAccount,
                    format!(
                        "the file is of account {found:?}, and the Provider's is {:?}",
                        account.uid
                    ),
                ));
            }
            Proof::Wrong(_) => {
                self.set_aside(place, "the record is of another account");
                return Ok(());
            }
        }
        let finding = match understand(account.kind, record) {
            Ok(finding) => finding,
            Err(reason) => {
                self.set_aside(place, &reason);
                return Ok(());
            }
        };
        let resource = finding
            .resource
            .as_ref()
            .map(|resource| self.resource(resource));
        if finding.uid.chars().count() > UID_MAX {
            let reason = format!("finding_info.uid is longer than {UID_MAX} characters");
            self.set_aside(place, &reason);
            return Ok(());
        }
        let check_sha256 = match self.checks.meet(&finding.check_id, record) {
            Met::Before(sha256) => sha256,
            Met::Now(sha256, json) => {
                self.batch.check(&finding.check_id, &sha256, &json);
                sha256
            }
        };
        self.finding(&finding, resource, check_sha256)
    }

    fn finding(
        &mut self,
        finding: &Finding<'_>,
        resource: Option<Uuid>,
        check_sha256: [u8; 32],
    ) -> Result<(), Fault> {
        let past = self
            .history
            .meet(&finding.uid, finding.status, self.scan_at, self.task.now);
        let delta = past.delta;
        if let (Status::Fail, false, Some(resource)) = (finding.status, finding.muted, resource) {
            self.inventory.fail(resource);
        }
        count(&mut self.counts, finding, delta);
        let random = spread(self.task.seed.wrapping_add(u64::from(self.counter)));
        let id = uuid7::finding_id(self.task.scan, self.counter, random)
            .map_err(|error| Fault::Disk(std::io::Error::other(error)))?;
        self.counter = self.counter.wrapping_add(1);
        if let Some(uid) = past.unless {
            self.unsettled.push(Unsettled {
                uid,
                id,
                counted: !finding.muted,
            });
        }
        self.batch.finding(&NewFinding {
            id,
            finding,
            resource,
            check_sha256,
            delta,
            first_seen: past.first_seen,
        });
        Ok(())
    }

    /// The findings that turned out not to have changed, now that all are met.
    fn settle(&mut self) -> Vec<Uuid> {
        let mut unsettled = std::mem::take(&mut self.unsettled);
        unsettled.retain(|finding| self.history.stays(finding.uid));
        let counted = unsettled.iter().filter(|finding| finding.counted).count();
        self.counts.changed -= i64::try_from(counted).unwrap_or(i64::MAX);
        unsettled.into_iter().map(|finding| finding.id).collect()
    }

    /// Notes the resource, and adds its row and tags if they are new or changed.
    fn resource(&mut self, resource: &Resource<'_>) -> Uuid {
        let id = resource_id(self.task.account.provider, &resource.uid);
        let mut content = None;
        let written = self.inventory.meet(id, &resource.region, || {
            let metadata = resource.metadata.map(mask::json);
            let told = mask::resource(resource);
            let digest = digest(&told, metadata.as_deref());
            content = Some((told, metadata, digest));
            digest
        });
        if let (true, Some((told, metadata, digest))) = (written, content) {
            self.batch.resource(id, &told, metadata.as_deref(), digest);
            for (key, value) in &told.tags {
                let tag = tag_id(self.task.tenant.0, key, value);
                if self.tags.meet(tag) {
                    self.batch.tag(tag, key, value);
                }
                self.batch.tag_mapping(id, tag);
            }
        }
        id
    }

    fn set_aside(&mut self, place: Place<'_>, reason: &str) {
        self.quarantine.add(place.number, place.offset, reason, || {
            mask::beginning(place.bytes)
        });
    }

    fn flush(&mut self, at_end: bool) -> Result<(), Fault> {
        if (self.send)(self.batch.take(at_end)) {
            Ok(())
        } else {
            Err(Fault::Stopped)
        }
    }
}

fn count(counts: &mut Counts, finding: &Finding<'_>, delta: Option<Delta>) {
    counts.total += 1;
    if finding.muted {
        counts.muted += 1;
        return;
    }
    match delta {
        Some(Delta::New) => counts.new += 1,
        Some(Delta::Changed) => counts.changed += 1,
        None => {}
    }
    match finding.status {
        Status::Pass => counts.pass += 1,
        Status::Manual => counts.manual += 1,
        Status::Fail => {
            counts.fail += 1;
            match finding.severity {
                Severity::Critical => counts.critical += 1,
                Severity::High => counts.high += 1,
                Severity::Medium => counts.medium += 1,
                Severity::Low => counts.low += 1,
                Severity::Informational => counts.informational += 1,
            }
        }
    }
}

/// A hash over all that a resource's row and its tags hold.
fn digest(resource: &Resource<'_>, metadata: Option<&str>) -> Digest {
    let mut tags: Vec<_> = resource.tags.iter().collect();
    tags.sort();
    let fixed = [
        &*resource.uid,
        &resource.name,
        &resource.region,
        &resource.service,
        &resource.kind,
        resource.partition.as_deref().unwrap_or(""),
        &resource.details,
        metadata.unwrap_or(""),
    ];
    let tags = tags.into_iter().flat_map(|(key, value)| [&**key, &**value]);
    let mut hash = blake3::Hasher::new();
    for part in fixed.into_iter().chain(tags) {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    digest
}

/// An even spread over all 64 bits (`SplitMix64`): distinct inputs, distinct outputs.
fn spread(input: u64) -> u64 {
    let mut z = input.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
