//! Directions on disk, one for all rows that share it: in the graph's sectors, each with its links, or one after the
//! other where there is no graph.
//!
//! ```text
//! vectors   8 bytes: count, components; then the directions
//! graph     a sector about itself; then nodes, as many as fit in each sector, or sectors as many as each node needs
//! a node    components, how many links, links, nothing up to its length
//! ```
//! Numbers are little-endian.

use crate::error::ReadError;
use crate::sealed::{BLOCK, STRIDE, Sealed};

/// Bytes before the first direction where there is no graph.
pub(crate) const HEADER: usize = 8;

/// Directions of one edition, by number.
pub(crate) struct Directions {
    file: Sealed,
    dim: usize,
    count: u32,
    /// Links that a node has room for; none without a graph.
    degree: usize,
    places: Places,
}

/// Where each lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    before: u64,
    /// Nodes that lie together.
    group: u64,
    group_bytes: u64,
    node_bytes: u64,
}

impl Places {
    pub(crate) fn in_vectors(dim: usize) -> Places {
        let node_bytes = 4 * dim as u64;
        Places { before: HEADER as u64, group: 1, group_bytes: node_bytes, node_bytes }
    }

    pub(crate) fn in_graph(dim: usize, degree: usize) -> Places {
        let (node_bytes, block) = (4 * (dim + 1 + degree) as u64, BLOCK as u64);
        let group = (block / node_bytes).max(1);
        Places {
            before: block,
            group,
            group_bytes: node_bytes.next_multiple_of(block).max(block),
            node_bytes,
        }
    }

    fn of(self, node: u64) -> u64 {
        self.before + node / self.group * self.group_bytes + node % self.group * self.node_bytes
    }

    /// Bytes of the whole file.
    pub(crate) fn bytes(self, count: u32) -> u64 {
        self.before + u64::from(count).div_ceil(self.group) * self.group_bytes
    }
}

impl Directions {
    /// The file is as long as the places say: the manifest was compared with them.
    pub(crate) fn new(file: Sealed, dim: usize, count: u32, degree: usize, places: Places) -> Directions {
        Directions { file, dim, count, degree, places }
    }

    pub(crate) fn held(&self) -> usize {
        self.file.held()
    }

    /// The components of one, as bytes, and its links. Cost: one read of a sector, mostly.
    pub(crate) fn node<'a>(
        &self,
        number: u32,
        buffer: &'a mut Vec<u8>,
    ) -> Result<(&'a [u8], impl Iterator<Item = u32> + use<'a>), ReadError> {
        let place = self.places.of(u64::from(number));
        let len = usize::try_from(self.places.node_bytes).unwrap_or(0);
        let bytes = self.file.read(place, len, buffer)?;
        let (components, links) = bytes.split_at(4 * self.dim);
        let mut links = numbers(links);
        let count = if self.degree == 0 { 0 } else { links.next().unwrap_or(0) as usize };
        if count > self.degree {
            return Err(self.file.damaged(place));
        }
        Ok((components, links.take(count)))
    }

    /// A link to nowhere.
    pub(crate) fn damaged(&self, number: u32) -> ReadError {
        self.file.damaged(self.places.of(u64::from(number)))
    }

    /// Hands out every direction as bytes, in order. Cost: reads the whole file, in little memory.
    pub(crate) fn each<E: From<ReadError>>(
        &self,
        mut with: impl FnMut(u32, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Places { group, group_bytes, node_bytes, .. } = self.places;
        let [group, group_bytes, node_bytes] =
            [group, group_bytes, node_bytes].map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        let groups_at_once = (STRIDE / group_bytes.max(1)).max(1);
        let (mut number, mut buffer) = (0, Vec::new());
        while number < self.count {
            let nodes_left = (self.count - number) as usize;
            let groups = nodes_left.div_ceil(group).min(groups_at_once);
            let place = self.places.of(u64::from(number));
            let bytes = self.file.read(place, groups * group_bytes, &mut buffer)?;
            let nodes = bytes
                .chunks_exact(group_bytes)
                .flat_map(|group| group.chunks_exact(node_bytes).take(self.places_in_group()));
            for node in nodes.take(nodes_left) {
                with(number, &node[..4 * self.dim])?;
                number += 1;
            }
        }
        Ok(())
    }

    fn places_in_group(&self) -> usize {
        usize::try_from(self.places.group).unwrap_or(usize::MAX)
    }
}

/// Numbers out of bytes.
pub(crate) fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> + use<'_> {
    bytes.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number))
}

/// Components out of bytes.
pub(crate) fn components(bytes: &[u8]) -> impl Iterator<Item = f32> + use<'_> {
    bytes.as_chunks::<4>().0.iter().map(|component| f32::from_le_bytes(*component))
}

/// Cosine distance of a direction to one in bytes: 0.0 the same way, 1.0 unrelated or zero, 2.0 opposite. Eight sums
/// side by side, so that the compiler uses vector registers.
pub(crate) fn distance(direction: &[f32], bytes: &[u8]) -> f32 {
    let (lanes, rest) = direction.as_chunks::<8>();
    let (byte_lanes, byte_rest) = bytes.as_chunks::<32>();
    let mut sums = [0.0_f32; 8];
    for (lane, bytes) in lanes.iter().zip(byte_lanes) {
        let (bytes, _) = bytes.as_chunks::<4>();
        for at in 0..8 {
            sums[at] += lane[at] * f32::from_le_bytes(bytes[at]);
        }
    }
    let rest: f32 = rest.iter().zip(components(byte_rest)).map(|(left, right)| left * right).sum();
    // Rounding leads a little past either end.
    (1.0 - (sums.iter().sum::<f32>() + rest)).clamp(0.0, 2.0)
}
