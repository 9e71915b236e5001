//! Walks over the rows of a table that end: where a damaged page leads back to one before it, redb goes round.
//!
//! No walk has more rows than its table says it has, so the row after those ends it, as damage. Whatever goes over more
//! rows than it counts itself uses [`Scan`]; the lint `disallowed-methods` finds what does not. Never here: what the rows
//! mean.

use std::borrow::Borrow;
use std::ops::RangeBounds;

use redb::{AccessGuard, Key, Range, ReadableTable, StorageError, Value};

/// Rows in the order of their keys, from either end.
pub(crate) struct Rows<'a, K: Key + 'static, V: Value + 'static> {
    rows: Range<'a, K, V>,
    left: u64,
}

/// One row.
type Row<'a, K, V> = Result<(AccessGuard<'a, K>, AccessGuard<'a, V>), StorageError>;

pub(crate) trait Scan<K: Key + 'static, V: Value + 'static>: ReadableTable<K, V> {
    /// Every row.
    fn rows(&self) -> Result<Rows<'_, K, V>, StorageError> {
        self.rows_in::<K::SelfType<'_>>(..)
    }

    /// The rows whose keys are in a range.
    fn rows_in<'a, KR>(&self, keys: impl RangeBounds<KR> + 'a) -> Result<Rows<'_, K, V>, StorageError>
    where
        KR: Borrow<K::SelfType<'a>> + 'a,
    {
        #[expect(clippy::disallowed_methods, reason = "this is where it is bounded")]
        let rows = self.range(keys)?;
        Ok(Rows { rows, left: self.len()? })
    }
}

impl<K: Key + 'static, V: Value + 'static, T: ReadableTable<K, V>> Scan<K, V> for T {}

impl<K: Key + 'static, V: Value + 'static> Rows<'_, K, V> {
    fn count<'a>(&mut self, row: Row<'a, K, V>) -> Row<'a, K, V> {
        let row = row?;
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(row)
            }
            None => Err(StorageError::Corrupted("a table has more rows than it says it has".into())),
        }
    }
}

impl<'a, K: Key + 'static, V: Value + 'static> Iterator for Rows<'a, K, V> {
    type Item = Row<'a, K, V>;

    fn next(&mut self) -> Option<Row<'a, K, V>> {
        let row = self.rows.next()?;
        Some(self.count(row))
    }
}

impl<K: Key + 'static, V: Value + 'static> DoubleEndedIterator for Rows<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let row = self.rows.next_back()?;
        Some(self.count(row))
    }
}
