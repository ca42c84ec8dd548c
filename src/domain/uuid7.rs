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

/// An id of this moment, filled from the last 80 bits of `random` (version and variant are
/// written over six of them).
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

/// The ids that findings of a scan can have, first and last: all ids of its millisecond. Other
/// scans may share it, so compare the scan too.
pub fn finding_ids(scan: ScanId) -> (Uuid, Uuid) {
    let low_bits = (1_u128 << 80) - 1;
    let first = scan.0.as_u128() & !low_bits;
    (Uuid::from_u128(first), Uuid::from_u128(first | low_bits))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn id_at(text: &str) -> Uuid {
        datetime_to_uuid7(at(text), u128::MAX).unwrap()
    }

    #[test]
    fn an_id_is_laid_out_as_the_standard_says() {
        // The example of RFC 9562, appendix A.6.
        let moment = at("2022-02-22T19:22:22Z");
        let random = (0xCC3_u128 << 64) | 0x18C4_DC0C_0C07_398F;
        let id = datetime_to_uuid7(moment, random).unwrap();
        assert_eq!(id.to_string(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn the_findings_of_a_scan_lie_within_its_range_of_ids() {
        let scan = ScanId(id_at("2026-11-05T13:14:15.678Z"));
        let next = id_at("2026-11-05T13:14:15.679Z");
        let (first, last) = finding_ids(scan);
        for (counter, random) in [(0, 0), (u32::MAX, u64::MAX)] {
            let id = finding_id(scan, counter, random).unwrap();
            assert!(first <= id && id <= last);
        }
        assert!(last < next);
    }

    #[test]
    fn starts_and_ends_of_days_and_months() {
        for (id, start, offset, end) in [
            (
                "2026-11-05T13:14:15.678Z",
                "2026-11-05T00:00:00Z",
                1,
                "2026-11-30T23:59:59.999999Z",
            ),
            (
                "2026-11-05T13:14:15.678Z",
                "2026-11-05T00:00:00Z",
                0,
                "2026-10-31T23:59:59.999999Z",
            ),
            (
                "2026-12-31T23:59:59.999Z",
                "2026-12-31T00:00:00Z",
                1,
                "2026-12-31T23:59:59.999999Z",
            ),
            (
                "2026-12-31T23:59:59.999Z",
                "2026-12-31T00:00:00Z",
                2,
                "2027-01-31T23:59:59.999999Z",
            ),
            (
                "2024-02-01T00:00:00Z",
                "2024-02-01T00:00:00Z",
                1,
                "2024-02-29T23:59:59.999999Z",
            ),
            (
                "1970-01-01T00:00:00Z",
                "1970-01-01T00:00:00Z",
                1,
                "1970-01-31T23:59:59.999999Z",
            ),
        ] {
            assert_eq!(uuid7_start(id_at(id)), Ok(at(start)), "{id}");
            assert_eq!(uuid7_end(id_at(id), offset), Ok(at(end)), "{id} + {offset}");
        }
    }

    #[test]
    fn a_range_goes_from_the_first_day_to_the_end_of_the_last_month() {
        let ids = [id_at("2026-12-10T12:00:00Z"), id_at("2026-10-02T12:00:00Z")];
        assert_eq!(
            uuid7_range(&ids),
            Ok(Some((
                at("2026-10-02T00:00:00Z"),
                at("2026-12-31T23:59:59.999999Z")
            )))
        );
        assert_eq!(uuid7_range(&[]), Ok(None));
    }

    #[test]
    fn other_versions_are_refused_in_the_originals_words() {
        let v4 = Uuid::from_u128(0x9c5b_94b1_35ad_49bb_b118_8e8f_c24a_bf80);
        for error in [
            uuid7_to_datetime(v4).unwrap_err(),
            uuid7_start(Uuid::nil()).unwrap_err(),
            uuid7_end(v4, 1).unwrap_err(),
            uuid7_range(&[id_at("2026-10-02T12:00:00Z"), v4]).unwrap_err(),
            finding_id(ScanId(v4), 0, 0).unwrap_err(),
        ] {
            assert_eq!(error.to_string(), "Invalid UUIDv7 value.");
        }
    }

    #[test]
    fn times_before_the_epoch_are_refused() {
        assert_eq!(
            datetime_to_uuid7(at("1969-12-31T23:59:59Z"), 0),
            Err(Invalid::Time)
        );
        assert_eq!(floor(at("1969-12-31T23:59:59Z")), Err(Invalid::Time));
    }

    prop_compose! {
        /// Any moment an id can hold that the calendar can, too.
        fn moments()(millis in 0_i64..253_402_207_200_000) -> Timestamp {
            Timestamp::from_millisecond(millis).unwrap()
        }
    }

    proptest! {
        #[test]
        fn the_time_survives(moment in moments(), random: u128) {
            let id = datetime_to_uuid7(moment, random).unwrap();
            prop_assert_eq!(uuid7_to_datetime(id), Ok(moment));
            prop_assert_eq!(id.get_version_num(), 7);
            prop_assert!(floor(moment).unwrap() <= id);
        }

        #[test]
        fn ids_order_as_their_times_do(one in moments(), two in moments(), r: u128, s: u128) {
            let (a, b) = (datetime_to_uuid7(one, r).unwrap(), datetime_to_uuid7(two, s).unwrap());
            if one < two {
                prop_assert!(a < b);
                prop_assert!(a < floor(two).unwrap());
            }
        }

        #[test]
        fn findings_share_the_scans_time_and_ascend_with_the_counter(
            moment in moments(), r: u128, counter in 0..u32::MAX, x: u64, y: u64
        ) {
            let scan = ScanId(datetime_to_uuid7(moment, r).unwrap());
            let one = finding_id(scan, counter, x).unwrap();
            let next = finding_id(scan, counter + 1, y).unwrap();
            prop_assert_eq!(uuid7_to_datetime(one), Ok(moment));
            prop_assert_eq!(one.get_version_num(), 7);
            prop_assert_eq!(one.get_variant(), uuid::Variant::RFC4122);
            prop_assert!(one < next);
            prop_assert_eq!(finding_id(scan, counter, x.wrapping_add(1)).unwrap() == one, false);
        }

        #[test]
        fn start_and_end_enclose_the_moment(moment in moments(), r: u128) {
            let id = datetime_to_uuid7(moment, r).unwrap();
            prop_assert!(uuid7_start(id).unwrap() <= moment);
            if let Ok(end) = uuid7_end(id, 1) {
                prop_assert!(moment <= end);
                prop_assert!(uuid7_end(id, 0).is_err() || uuid7_end(id, 0).unwrap() < moment);
            }
        }
    }
}
