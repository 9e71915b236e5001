//! Sealing: a segment is copied out of its index, so that it can be written down.
//!
//! ```text
//! begin     whose rows there are, and the graph     one short copy, while the index may be read
//! digest    where rows lie, some at a time          each while the index may be read
//! encode    the bytes of a file                     nobody waits
//! end       the file is the segment's               unless rows were erased meanwhile: then it is deleted
//! ```
//! Never here: files, dates of removal. A row that is superseded is known by what the database has.

use telos_graph::{NO_NODE, Sketch};

use super::CollectionKey;
use super::sealed::{self, Head, SealedRow};
use super::segment::Segment;

/// Rows whose digests are made at once.
const DIGESTS_AT_ONCE: usize = 4_096;

/// A segment on its way to a file.
pub(crate) struct Sealing {
    pub(super) key: CollectionKey,
    pub(super) number: u64,
    /// How often rows of it had been erased.
    erasures: u64,
    head: Head,
    rows: Vec<SealedRow>,
    /// Rows that have their digest.
    digested: usize,
    links: Vec<Vec<u32>>,
}

impl Sealing {
    /// None of a graph that cannot be written down.
    pub(super) fn of(key: &CollectionKey, head: Head, segment: &Segment) -> Option<Sealing> {
        let Sketch { nodes, entry, links } = segment.sketch()?;
        let row = |(number, node): (u32, u32)| match node {
            NO_NODE => sealed::erased_row(),
            node => {
                let row = segment.row(number);
                SealedRow { object: row.object, added: row.added, digest: 0, node }
            }
        };
        let rows: Vec<SealedRow> = (0_u32..).zip(nodes).map(row).collect();
        let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        let head = Head {
            rows: count(rows.len()),
            nodes: count(links.len()),
            entry,
            recall: segment.recall(),
            ..head
        };
        let (key, number, erasures) = (key.clone(), segment.number, segment.erasures());
        Some(Sealing { key, number, erasures, head, rows, digested: 0, links })
    }

    /// Whether it still says what the segment is.
    pub(super) fn is_of(&self, segment: &Segment) -> bool {
        self.number == segment.number && self.erasures == segment.erasures()
    }

    /// Makes digests of the next rows; false when all are made.
    pub(super) fn digest(&mut self, segment: &Segment) -> bool {
        let last = self.rows.len().min(self.digested + DIGESTS_AT_ONCE);
        for number in self.digested..last {
            let row = &mut self.rows[number];
            if let Some(place) = u32::try_from(number).ok().filter(|_| row.node != NO_NODE) {
                row.digest = sealed::digest(segment.direction(place));
            }
        }
        self.digested = last;
        last < self.rows.len()
    }

    /// The bytes of its file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = sealed::encode_head(&self.head);
        self.rows.iter().for_each(|row| sealed::encode_row(*row, &mut bytes));
        self.links.iter().for_each(|links| sealed::encode_links(links, &mut bytes));
        sealed::close(&mut bytes);
        bytes
    }
}
