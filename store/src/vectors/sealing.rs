//! Sealing: a segment is copied out of its index, so that it can be written down.
//!
//! ```text
//! begin     what is to be copied                                  a look
//! copy      the nodes of rows, then the rows with digests of      some at a time, each while the index may be read
//!           where they lie, links, strays: the bytes of a file
//! close     a checksum                                            nobody waits
//! end       the file is the segment's                             unless rows were erased meanwhile: then it is deleted
//! ```
//! Never here: files, dates of removal. A row that is superseded is known by what the database has.

use telos_graph::{NO_NODE, Outline};

use crate::limit;

use super::CollectionKey;
use super::sealed::{self, Head, SealedRow};
use super::segment::Segment;

/// A segment on its way to a file.
pub(crate) struct Sealing {
    pub(super) key: CollectionKey,
    pub(super) number: u64,
    /// How often rows of it had been erased.
    erasures: u64,
    head: Head,
    /// The node of each row.
    nodes: Vec<u32>,
    next: Next,
}

/// Bytes of a node's links, about.
const LINKS_BYTES: usize = 160;

/// What is copied next.
#[derive(Clone, Copy)]
enum Next {
    Head,
    /// Of which rows a node is, from that node on.
    Nodes(u32),
    Rows(u32),
    Links(u32),
    Strays(u32),
}

impl Sealing {
    /// None of a graph that cannot be written down.
    pub(super) fn of(key: &CollectionKey, head: Head, segment: &Segment) -> Option<Sealing> {
        let Outline { nodes, entry, strays } = segment.graph().outline()?;
        let rows = u32::try_from(segment.len()).ok()?;
        let effort = segment.effort().and_then(|effort| u32::try_from(effort).ok());
        let head = Head { rows, nodes, entry, strays, effort, recall: segment.recall(), ..head };
        let (key, number, erasures) = (key.clone(), segment.number, segment.erasures());
        let nodes = vec![NO_NODE; segment.len()];
        Some(Sealing { key, number, erasures, head, nodes, next: Next::Head })
    }

    /// Whether it still says what the segment is.
    pub(super) fn is_of(&self, segment: &Segment) -> bool {
        self.number == segment.number && self.erasures == segment.erasures()
    }

    /// Copies the next part, appending it to the bytes of the file; false when all is copied.
    pub(super) fn copy(&mut self, segment: &Segment, bytes: &mut Vec<u8>) -> bool {
        // In tests of the index a row or two, so that things happen between them.
        let bytes_max = if cfg!(test) { 24 } else { limit::GATHER_BYTES_MAX };
        let until = |first: u32, of: u32, bytes_each: usize| {
            let at_once = u32::try_from(bytes_max / bytes_each).unwrap_or(u32::MAX).max(1);
            first.saturating_add(at_once).min(of)
        };
        let Head { rows, nodes, strays, .. } = self.head;
        self.next = match self.next {
            Next::Head => {
                bytes.extend(sealed::encode_head(&self.head));
                Next::Nodes(0)
            }
            Next::Nodes(first) if first < nodes => {
                let last = until(first, nodes, size_of::<u64>());
                (first..last).for_each(|node| self.place_rows(segment, node));
                Next::Nodes(last)
            }
            Next::Nodes(_) => Next::Rows(0),
            Next::Rows(first) if first < rows => {
                let last = until(first, rows, self.head.form.dim * size_of::<f32>());
                (first..last).for_each(|number| sealed::encode_row(self.row(segment, number), bytes));
                Next::Rows(last)
            }
            Next::Rows(_) => Next::Links(0),
            Next::Links(first) if first < nodes => {
                let last = until(first, nodes, LINKS_BYTES);
                (first..last).for_each(|node| sealed::encode_links(segment.graph().links(node), bytes));
                Next::Links(last)
            }
            Next::Links(_) => Next::Strays(0),
            Next::Strays(first) if first < strays => {
                let last = until(first, strays, size_of::<u32>());
                let copied = &segment.graph().strays()[first as usize..last as usize];
                copied.iter().for_each(|stray| sealed::encode_stray(*stray, bytes));
                Next::Strays(last)
            }
            Next::Strays(_) => return false,
        };
        true
    }

    fn place_rows(&mut self, segment: &Segment, node: u32) {
        if let Some(alike) = segment.graph().alike(node) {
            alike.numbers().for_each(|number| self.nodes[number as usize] = node);
        }
    }

    fn row(&self, segment: &Segment, number: u32) -> SealedRow {
        match self.nodes[number as usize] {
            NO_NODE => sealed::erased_row(),
            node => {
                let row = segment.row(number);
                let digest = sealed::digest(segment.direction(number));
                SealedRow { object: row.object, added: row.added, digest, node }
            }
        }
    }

    /// Ends the bytes of the file.
    pub(crate) fn close(bytes: &mut Vec<u8>) {
        sealed::close(bytes);
    }
}
