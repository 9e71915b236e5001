//! Rows in exactly the same direction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::matrix::Matrix;

/// For each row that is not the first of its direction, which one is.
pub(crate) struct Twins(HashMap<u32, u32>);

/// Compares every row with those that hash alike. Cost: reads all of them once.
pub(crate) fn of(rows: &Matrix) -> Twins {
    let mut first: HashMap<u64, Vec<u32>> = HashMap::with_capacity(rows.len());
    let mut twins = HashMap::new();
    for number in rows.numbers() {
        match first.entry(hash(rows.row(number))) {
            Entry::Vacant(free) => drop(free.insert(vec![number])),
            Entry::Occupied(mut alike) => {
                match alike.get().iter().find(|known| rows.row(**known) == rows.row(number)) {
                    Some(known) => drop(twins.insert(number, *known)),
                    None => alike.get_mut().push(number),
                }
            }
        }
    }
    Twins(twins)
}

impl Twins {
    /// Whether another row before it has its direction.
    pub(crate) fn is_later(&self, number: u32) -> bool {
        self.0.contains_key(&number)
    }

    /// The later ones of each first, in order.
    pub(crate) fn by_first(self) -> HashMap<u32, Vec<u32>> {
        let mut by_first: HashMap<u32, Vec<u32>> = HashMap::new();
        for (later, first) in self.0 {
            by_first.entry(first).or_default().push(later);
        }
        by_first.values_mut().for_each(|later| later.sort_unstable());
        by_first
    }
}

/// Zeros of either sign are one direction.
fn hash(row: &[f32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.iter().for_each(|component| (component + 0.0).to_bits().hash(&mut hasher));
    hasher.finish()
}
