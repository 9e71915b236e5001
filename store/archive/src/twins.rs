//! Which rows share a direction. Rows in exactly one direction are one node of the graph, since links to twins would
//! hide everything else.
//!
//! ```text
//! twins   for each direction where its rows begin, and the end; then the rows
//! ```

use crate::directions;
use crate::error::ReadError;
use crate::sealed::Sealed;

/// The rows of each direction.
pub(crate) enum Twins {
    /// Each row has its own: number by number.
    None,
    /// Those of a direction lie side by side.
    Some { starts: Vec<u32>, rows: Vec<u32> },
}

/// Bytes of the file.
pub(crate) fn bytes(directions: u32, rows: u32) -> u64 {
    4 * (u64::from(directions) + 1 + u64::from(rows))
}

/// The file as it is written, from the direction of each row.
pub(crate) fn write(directions: u32, of_rows: &[u32]) -> Vec<u8> {
    let mut starts = vec![0_u32; directions as usize + 1];
    of_rows.iter().for_each(|direction| starts[*direction as usize + 1] += 1);
    for direction in 0..directions as usize {
        starts[direction + 1] += starts[direction];
    }
    let mut rows = vec![0_u32; of_rows.len()];
    let mut free = starts.clone();
    for (row, direction) in (0_u32..).zip(of_rows) {
        let place = &mut free[*direction as usize];
        rows[*place as usize] = row;
        *place += 1;
    }
    starts.iter().chain(&rows).flat_map(|number| number.to_le_bytes()).collect()
}

impl Twins {
    /// The file is as long as the counts say: the manifest was compared with them.
    pub(crate) fn read(file: &Sealed, directions: u32, rows: u32) -> Result<Twins, ReadError> {
        let bytes = file.read_all()?;
        let mut numbers = directions::numbers(&bytes);
        let starts: Vec<u32> = numbers.by_ref().take(directions as usize + 1).collect();
        let of_directions: Vec<u32> = numbers.collect();
        let is_whole =
            starts.is_sorted() && starts.last() == Some(&rows) && of_directions.iter().all(|row| *row < rows);
        if is_whole { Ok(Twins::Some { starts, rows: of_directions }) } else { Err(file.damaged(0)) }
    }

    pub(crate) fn held(&self) -> usize {
        match self {
            Twins::None => 0,
            Twins::Some { starts, rows } => size_of::<u32>() * (starts.capacity() + rows.capacity()),
        }
    }

    /// The rows of a direction, in order.
    pub(crate) fn rows_of(&self, direction: u32) -> impl Iterator<Item = u32> + use<'_> {
        let (own, twins) = match self {
            Twins::None => (Some(direction), [].as_slice()),
            Twins::Some { starts, rows } => {
                let start =
                    |direction: usize| starts.get(direction).map_or(rows.len(), |start| *start as usize);
                let (first, end) = (start(direction as usize), start(direction as usize + 1));
                (None, rows.get(first..end).unwrap_or(&[]))
            }
        };
        own.into_iter().chain(twins.iter().copied())
    }
}
