//! The vectors of a collection as an edition takes them.

use std::collections::VecDeque;

use telos_archive::Row;

use crate::error::Failure;
use crate::scan::Scan as _;
use crate::shared::{Collection, Shared};
use crate::tables::VECTORS;
use crate::vectors::CollectionForm;

/// Vectors that are read at once.
const ROWS_AT_ONCE: usize = 1_024;

/// The vectors of a collection, in the order of objects, read some at a time: one that changes meanwhile is as it was
/// before or after.
pub(super) struct Rows<'a> {
    shared: &'a Shared,
    collection: u32,
    form: CollectionForm,
    read: VecDeque<Row>,
    /// Where to read on; none at the end.
    from: Option<u128>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(shared: &'a Shared, collection: &Collection) -> Rows<'a> {
        let (collection, form) = (collection.number, collection.form);
        Rows { shared, collection, form, read: VecDeque::new(), from: Some(0) }
    }

    fn read_on(&mut self, from: u128) -> Result<(), Failure> {
        let range = (self.collection, from)..=(self.collection, u128::MAX);
        let rows = self.shared.read(VECTORS, |vectors| {
            let mut rows = Vec::with_capacity(ROWS_AT_ONCE);
            for row in vectors.rows_in(range.clone())?.take(ROWS_AT_ONCE) {
                let (key, value) = row?;
                let (added, metadata, bytes) = value.value();
                let direction = self.form.place_or_zeros(&self.form.precision.decode(bytes));
                rows.push(Row { object: key.value().1, added, metadata: metadata.to_owned(), direction });
            }
            Ok(rows)
        })?;
        let last = rows.last().filter(|_| rows.len() == ROWS_AT_ONCE);
        self.from = last.and_then(|last| last.object.checked_add(1));
        self.read = rows.into();
        Ok(())
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Box<dyn std::error::Error + Send + Sync>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let (true, Some(from)) = (self.read.is_empty(), self.from)
            && let Err(failure) = self.read_on(from)
        {
            self.from = None;
            return Some(Err(failure.into()));
        }
        self.read.pop_front().map(Ok)
    }
}
