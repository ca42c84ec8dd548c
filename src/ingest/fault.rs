//! Why a file is not published, in a word and a sentence.

use std::fmt::Write as _;

use super::reader::ReadError;
use super::spool::DiskFault;
use crate::domain::reason::Reason;
use crate::store::quarantine::Quarantine;

/// Of so many records one may be set aside; a file with more such is not published. What is left of
/// it would pass for the whole, and what is missing for mended.
pub(super) const ONE_IN: u64 = 10;
/// Records set aside that the message of such a file names.
const NAMED: usize = 3;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It cannot be published; the scan fails for this reason.
    #[error("{1}")]
    File(Reason, String),
    /// Too much of it could not be kept.
    #[error("{0}")]
    Poisoned(String, Box<Quarantine>),
    /// The spool failed; another try may succeed.
    #[error("{0}")]
    Disk(std::io::Error),
    /// Nobody takes the batches any more.
    #[error("the publication ended")]
    Stopped,
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        let sentence = error.to_string();
        match error {
            ReadError::Empty => Self::File(Reason::NoOutput, sentence),
            ReadError::Truncated(_) => Self::File(Reason::OutputTruncated, sentence),
            ReadError::NotAnArray(_)
            | ReadError::Malformed(_)
            | ReadError::TooDeep(_)
            | ReadError::Trailing(_) => Self::File(Reason::OutputUnreadable, sentence),
            ReadError::Io(error) => match error.kind() {
                std::io::ErrorKind::FileTooLarge => {
                    Self::File(Reason::OutputTooLarge, error.to_string())
                }
                _ if is_disk_fault(&error) => Self::Disk(error),
                // The compressed body ends in the middle.
                std::io::ErrorKind::UnexpectedEof => Self::File(Reason::OutputTruncated, sentence),
                // The decompressor's words: what was sent is not what was compressed.
                _ => Self::File(Reason::OutputUnreadable, sentence),
            },
        }
    }
}

fn is_disk_fault(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<DiskFault>)
}

/// What is told of a file of which too much was set aside: how much, and why the first of it.
pub(super) fn poisoned(quarantine: &Quarantine, records: u64) -> String {
    let count = quarantine.count();
    let mut sentence = format!(
        "{count} of {records} records of the file cannot be kept, more than one in {ONE_IN}"
    );
    for (n, aside) in quarantine.first().iter().take(NAMED).enumerate() {
        let sign = if n == 0 { ':' } else { ';' };
        let (position, offset, reason) = (aside.position, aside.offset, &aside.reason);
        // Writing to a text does not fail.
        let _ = write!(
            sentence,
            "{sign} record {position} at byte {offset}: {reason}"
        );
    }
    sentence
}
