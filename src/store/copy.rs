//! Rows in the format of binary COPY.
//!
//! Policies bind COPY out of existence (Postgres refuses it), so rows go into tables of
//! `pg_temp`, which only this transaction sees, and from there under the policies.

use uuid::Uuid;

use super::{StoreError, TenantTx};

/// Signature, flags and extension length.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Bytes sent at once.
const PART: usize = 64 * 1024;
/// Seconds from the Unix epoch to that of Postgres.
const EPOCH: i64 = 946_684_800;
/// `pg_type.oid` of `text`.
const TEXT_OID: i32 = 25;

/// Rows of one table, encoded.
#[derive(Debug)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    count: usize,
    columns: i16,
}

impl Rows {
    /// No rows yet, of so many columns.
    pub(super) fn new(columns: i16) -> Self {
        Self {
            bytes: HEADER.to_vec(),
            count: 0,
            columns,
        }
    }

    /// How many rows were begun.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many bytes they take.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// No rows, of as many columns.
    pub(super) fn none(&self) -> Self {
        Self::new(self.columns)
    }

    /// Takes them away; none are left.
    pub(super) fn take(&mut self) -> Self {
        let none = self.none();
        std::mem::replace(self, none)
    }

    /// Begins a row; its fields follow in the order of the columns.
    pub(super) fn row(&mut self) -> &mut Self {
        self.count += 1;
        self.bytes.extend_from_slice(&self.columns.to_be_bytes());
        self
    }

    pub(super) fn null(&mut self) -> &mut Self {
        self.length(-1)
    }

    pub(super) fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub(super) fn maybe_uuid(&mut self, value: Option<Uuid>) -> &mut Self {
        match value {
            Some(value) => self.uuid(value),
            None => self.null(),
        }
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub(super) fn maybe_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        // Records are bounded far below 2 GiB.
        self.length(i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.bytes.extend_from_slice(value);
        self
    }

    pub(super) fn bool(&mut self, value: bool) -> &mut Self {
        self.bytes(&[u8::from(value)])
    }

    pub(super) fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// A `timestamptz` from microseconds of the Unix epoch.
    pub(super) fn timestamp(&mut self, micros: i64) -> &mut Self {
        self.i64(micros - EPOCH * 1_000_000)
    }

    /// A `text[]` of one dimension.
    pub(super) fn texts<'a>(
        &mut self,
        values: impl ExactSizeIterator<Item = &'a str>,
    ) -> &mut Self {
        let length_at = self.bytes.len();
        self.length(0);
        let count = i32::try_from(values.len()).unwrap_or(i32::MAX);
        let dimensions = i32::from(count > 0);
        for word in [dimensions, 0, TEXT_OID] {
            self.bytes.extend_from_slice(&word.to_be_bytes());
        }
        if count > 0 {
            for word in [count, 1] {
                self.bytes.extend_from_slice(&word.to_be_bytes());
            }
            for value in values {
                self.text(value);
            }
        }
        let length = self.bytes.len() - length_at - 4;
        let length = i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes();
        self.bytes[length_at..length_at + 4].copy_from_slice(&length);
        self
    }

    fn length(&mut self, length: i32) -> &mut Self {
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self
    }

    /// Puts the rows into a table of `pg_temp`; `table` is a name of ours.
    pub(super) async fn send(
        mut self,
        tx: &mut TenantTx,
        table: &'static str,
    ) -> Result<(), StoreError> {
        if self.count == 0 {
            return Ok(());
        }
        self.bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        let statement = format!("copy pg_temp.{table} from stdin (format binary)");
        let mut copy = tx.conn().copy_in_raw(&statement).await?;
        // In parts, so that the server takes in one while the next is on its way.
        for part in self.bytes.chunks(PART) {
            copy.send(part).await?;
        }
        copy.finish().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_fields_with_lengths_in_network_order() {
        let mut rows = Rows::new(3);
        rows.row().text("ab").null().texts(["x"].iter().copied());
        let expected = [
            &[0, 3][..],
            &[0, 0, 0, 2],
            b"ab",
            &[0xff, 0xff, 0xff, 0xff],
            &[0, 0, 0, 25],
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 1],
            &[0, 0, 0, 1, b'x'],
        ]
        .concat();
        assert_eq!(rows.bytes[HEADER.len()..], expected);
    }

    #[test]
    fn the_year_2000_is_the_epoch() {
        let mut rows = Rows::new(1);
        rows.row().timestamp(EPOCH * 1_000_000);
        assert!(rows.bytes.ends_with(&[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]));
    }
}
