//! `UUIDv7`: ids that carry a time, and the ranges of ids that a time means.
//!
//! Milliseconds of the Unix epoch in the first 48 bits. Findings carry the time of their
//! scan's id, so that all of a scan lie in one month.

use jiff::{Timestamp, ToSpan as _, civil, tz::TimeZone};
use uuid::{Builder, Uuid};

use super::ids::ScanId;

/// Why an id or a time cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not version 7.
    #[error("Invalid UUIDv7 value.")]
    NotVersion7,
    /// Before 1970, or beyond the calendar.
    #[error("The time cannot be put into a UUIDv7.")]
    Time,
}

/// An id of this moment; the last 74 of the `random` bits fill it.
pub fn datetime_to_uuid7(at: Timestamp, random: u128) -> Result<Uuid, Invalid> {
    let bytes = random.to_be_bytes();
    let mut rest = [0_u8; 10];
    rest.copy_from_slice(&bytes[6..]);
    Ok(Builder::from_unix_timestamp_millis(millis(at)?, &rest).into_uuid())
}

/// The moment of an id, to the millisecond.
pub fn uuid7_to_datetime(id: Uuid) -> Result<Timestamp, Invalid> {
    if id.get_version_num() != 7 {
        return Err(Invalid::NotVersion7);
    }
    let millis = i64::try_from(id.as_u128() >> 80).map_err(|_| Invalid::Time)?;
    Timestamp::from_millisecond(millis).map_err(|_| Invalid::Time)
}

/// Midnight (UTC) of the id's day.
pub fn uuid7_start(id: Uuid) -> Result<Timestamp, Invalid> {
    let day = uuid7_to_datetime(id)?.to_zoned(TimeZone::UTC).date();
    midnight(day)
}

/// The last microsecond before the month that is `offset_months` after the id's: 1 is the end
/// of the id's own month, 0 the end of the one before.
pub fn uuid7_end(id: Uuid, offset_months: i32) -> Result<Timestamp, Invalid> {
    let month = uuid7_to_datetime(id)?
        .to_zoned(TimeZone::UTC)
        .date()
        .first_of_month();
    let after = month
        .checked_add(offset_months.months())
        .map_err(|_| Invalid::Time)?;
    midnight(after)?
        .checked_sub(1.microsecond())
        .map_err(|_| Invalid::Time)
}

/// From midnight of the earliest id's day to the end of the latest id's month; `None` of none.
pub fn uuid7_range(ids: &[Uuid]) -> Result<Option<(Timestamp, Timestamp)>, Invalid> {
    for id in ids {
        uuid7_to_datetime(*id)?;
    }
    // Ids order as their times do.
    match (ids.iter().min(), ids.iter().max()) {
        (Some(first), Some(last)) => Ok(Some((uuid7_start(*first)?, uuid7_end(*last, 1)?))),
        _ => Ok(None),
    }
}

/// The smallest value of this moment, below or at every id of it: a bound, not an id.
pub fn floor(at: Timestamp) -> Result<Uuid, Invalid> {
    Ok(Uuid::from_u128(u128::from(millis(at)?) << 80))
}

/// The id of a scan's finding: the scan's time, then `counter` (32 bits), then 42 `random` bits.
///
/// Within a scan ids ascend with the counter, which keeps inserts at the right edge of the index.
pub fn finding_id(scan: ScanId, counter: u32, random: u64) -> Result<Uuid, Invalid> {
    let at = uuid7_to_datetime(scan.0)?;
    let below = (u128::from(counter) << 42) | u128::from(random & ((1 << 42) - 1));
    // 74 bits in order: 12 of them go before the variant, 62 after it.
    let high = (below >> 62) & 0xfff;
    let low = below & ((1 << 62) - 1);
    let id = (u128::from(millis(at)?) << 80) | (7 << 76) | (high << 64) | (2 << 62) | low;
    Ok(Uuid::from_u128(id))
}

fn millis(at: Timestamp) -> Result<u64, Invalid> {
    let millis = u64::try_from(at.as_millisecond()).map_err(|_| Invalid::Time)?;
    if millis < 1 << 48 {
        Ok(millis)
    } else {
        Err(Invalid::Time)
    }
}

fn midnight(day: civil::Date) -> Result<Timestamp, Invalid> {
    TimeZone::UTC
        .to_timestamp(day.to_datetime(civil::Time::midnight()))
        .map_err(|_| Invalid::Time)
}
