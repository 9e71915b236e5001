//! What stands for the directions in memory: for each a few bytes, each the nearest of 256 pieces of directions.
//!
//! ```text
//! codebook  how many pieces a direction is cut into; where each begins, and the end; for each component its 256 values
//! codes     for each direction one byte a piece
//! ```
//! Source: Jégou, Douze, Schmid: Product quantization for nearest neighbor search, 2011.

use crate::directions;
use crate::error::ReadError;
use crate::sealed::Sealed;

/// Values that a piece is one of.
pub(crate) const CENTRES: usize = 256;

/// Codes of all directions of an edition.
pub(crate) struct Codes {
    /// Where each piece ends.
    ends: Vec<usize>,
    /// Component by component.
    centres: Vec<f32>,
    codes: Vec<u8>,
}

/// How far a direction is from each of the values of each piece.
pub(crate) struct Table(Vec<f32>);

/// Bytes of the codebook.
pub(crate) fn codebook_bytes(dim: usize, pieces: usize) -> u64 {
    4 * (1 + pieces as u64 + 1 + (dim * CENTRES) as u64)
}

/// The codebook as it is written: `starts` has the end too, `centres` are 256 rows.
pub(crate) fn codebook(starts: &[usize], centres: &[f32]) -> Vec<u8> {
    let dim = starts.last().copied().unwrap_or(0);
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes: Vec<u8> = number(starts.len().saturating_sub(1)).into();
    starts.iter().for_each(|start| bytes.extend(number(*start)));
    for component in 0..dim {
        let of_component = centres.iter().skip(component).step_by(dim);
        of_component.for_each(|value| bytes.extend(value.to_le_bytes()));
    }
    bytes
}

impl Codes {
    /// The files are as long as dimension, pieces and count say: the manifest was compared with them.
    pub(crate) fn read(
        codebook: &Sealed,
        codes: &Sealed,
        dim: usize,
        pieces: usize,
    ) -> Result<Codes, ReadError> {
        let bytes = codebook.read_all()?;
        let mut numbers = directions::numbers(&bytes).map(|number| number as usize);
        let is_as_told = numbers.next() == Some(pieces) && numbers.next() == Some(0);
        let ends: Vec<usize> = numbers.take(pieces).collect();
        let is_ascending = ends.is_sorted_by(|one, next| one < next);
        if !is_as_told || !is_ascending || ends.first() == Some(&0) || ends.last() != Some(&dim) {
            return Err(codebook.damaged(0));
        }
        let centres = directions::components(bytes.get(4 * (pieces + 2)..).unwrap_or(&[])).collect();
        Ok(Codes { ends, centres, codes: codes.read_all()? })
    }

    pub(crate) fn held(&self) -> usize {
        self.codes.capacity()
            + size_of::<f32>() * self.centres.capacity()
            + size_of::<usize>() * self.ends.capacity()
    }

    /// Cost: as that of comparing a direction with 256.
    pub(crate) fn table(&self, direction: &[f32]) -> Table {
        let mut table = vec![0.0; self.ends.len() * CENTRES];
        let mut pieces = table.as_chunks_mut::<CENTRES>().0.iter_mut().zip(&self.ends);
        let mut piece = pieces.next();
        for (number, (component, values)) in
            direction.iter().zip(self.centres.as_chunks::<CENTRES>().0).enumerate()
        {
            if piece.as_ref().is_some_and(|(_, end)| number == **end) {
                piece = pieces.next();
            }
            if let Some((sums, _)) = &mut piece {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += (component - value) * (component - value);
                }
            }
        }
        Table(table)
    }

    /// The square of about how far the direction of a table is from one by number; none when there is no such.
    pub(crate) fn distance(&self, table: &Table, number: u32) -> Option<f32> {
        let pieces = self.ends.len();
        let first = number as usize * pieces;
        let codes = self.codes.get(first..first + pieces)?;
        let parts = table.0.as_chunks::<CENTRES>().0.iter().zip(codes);
        Some(parts.map(|(part, code)| part[usize::from(*code)]).sum())
    }
}
