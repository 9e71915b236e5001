//! Whose each row is: entries of one length in the order of objects, and their metadata behind one another.
//!
//! ```text
//! an entry   object 16, added 8, where its metadata begins 8, how long it is 4, number of its direction 4 bytes
//! ```

use crate::error::ReadError;
use crate::sealed::Sealed;

/// Bytes of an entry.
pub(crate) const ENTRY: usize = 40;

/// One row, without its direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is.
    pub object: u128,
    /// As it was given.
    pub added: u64,
    /// As it was given.
    pub metadata: String,
}

/// An entry as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) object: u128,
    pub(crate) added: u64,
    pub(crate) metadata: u64,
    pub(crate) metadata_bytes: u32,
    pub(crate) direction: u32,
}

impl Place {
    pub(crate) fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..16].copy_from_slice(&self.object.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.added.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.metadata.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.metadata_bytes.to_le_bytes());
        bytes[36..].copy_from_slice(&self.direction.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8; ENTRY]) -> Place {
        let number = |from: usize, to: usize| {
            let mut number = [0; 16];
            number[..to - from].copy_from_slice(&bytes[from..to]);
            u128::from_le_bytes(number)
        };
        #[expect(clippy::cast_possible_truncation, reason = "as many bytes as the number has")]
        Place {
            object: number(0, 16),
            added: number(16, 24) as u64,
            metadata: number(24, 32) as u64,
            metadata_bytes: number(32, 36) as u32,
            direction: number(36, 40) as u32,
        }
    }
}

/// Rows of an edition, by number.
pub(crate) struct RowFiles {
    pub(crate) entries: Sealed,
    pub(crate) metadata: Sealed,
    pub(crate) count: u32,
}

impl RowFiles {
    pub(crate) fn held(&self) -> usize {
        self.entries.held() + self.metadata.held()
    }

    pub(crate) fn place(&self, number: u32) -> Result<Place, ReadError> {
        if number >= self.count {
            return Err(ReadError::NoRow { number, count: self.count });
        }
        let (at, mut buffer) = (u64::from(number) * ENTRY as u64, Vec::new());
        let bytes = self.entries.read(at, ENTRY, &mut buffer)?;
        bytes.as_array().map(Place::of).ok_or_else(|| self.entries.damaged(at))
    }

    pub(crate) fn entry(&self, number: u32) -> Result<Entry, ReadError> {
        let Place { object, added, metadata, metadata_bytes, .. } = self.place(number)?;
        let mut buffer = Vec::new();
        let bytes = self.metadata.read(metadata, metadata_bytes as usize, &mut buffer)?;
        let text = str::from_utf8(bytes).map_err(|_| self.metadata.damaged(metadata))?;
        Ok(Entry { object, added, metadata: text.into() })
    }

    /// By halves: one read of a block for each.
    pub(crate) fn find(&self, object: u128) -> Result<Option<u32>, ReadError> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.place(middle)?.object.cmp(&object) {
                std::cmp::Ordering::Equal => return Ok(Some(middle)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// Entries in order, a stride in memory at a time.
    pub(crate) fn places(&self) -> Places<'_> {
        Places { rows: self, next: 0, buffer: Vec::new(), ready: Vec::new().into_iter() }
    }
}

/// Entries read at a time.
const AT_ONCE: u32 = 4096;

/// Entries in order.
pub(crate) struct Places<'a> {
    rows: &'a RowFiles,
    next: u32,
    buffer: Vec<u8>,
    ready: std::vec::IntoIter<Place>,
}

impl Iterator for Places<'_> {
    type Item = Result<Place, ReadError>;

    fn next(&mut self) -> Option<Result<Place, ReadError>> {
        if let Some(place) = self.ready.next() {
            return Some(Ok(place));
        }
        let count = (self.rows.count - self.next).min(AT_ONCE);
        if count == 0 {
            return None;
        }
        let at = u64::from(self.next) * ENTRY as u64;
        match self.rows.entries.read(at, count as usize * ENTRY, &mut self.buffer) {
            Ok(bytes) => {
                let places: Vec<Place> = bytes.as_chunks::<ENTRY>().0.iter().map(Place::of).collect();
                self.ready = places.into_iter();
                self.next += count;
                self.ready.next().map(Ok)
            }
            // Once: what follows is as far as anyone can say lost too.
            Err(error) => {
                self.next = self.rows.count;
                Some(Err(error))
            }
        }
    }
}
