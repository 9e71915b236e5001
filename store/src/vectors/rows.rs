//! Rows of a segment: whose they are. Their directions are the graph's; dates of removal are the segment's.

use std::collections::{HashMap, HashSet};

use crate::id::{ObjectId, Position};
use crate::json::Json;

/// One vector's row, without its direction.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) object: ObjectId,
    pub(crate) added: Position,
    pub(crate) metadata: Json,
}

impl Row {
    /// In the place of one that was erased: nobody's, and not to be seen at any position.
    pub(crate) fn erased() -> Row {
        Row { object: ObjectId::from_bits(u128::MAX), added: Position::new(u64::MAX), metadata: Json::null() }
    }

    pub(crate) fn is_erased(&self) -> bool {
        self.added == Row::erased().added
    }
}

/// At most `u32::MAX - 1` rows, in any order. An object has one for every time it was given a vector.
#[derive(Debug)]
pub(crate) struct Rows {
    rows: Vec<Row>,
    newest: HashMap<ObjectId, u32>,
    /// Where an object has several, the others.
    older: HashMap<ObjectId, Vec<u32>>,
}

impl Rows {
    pub(crate) fn of(rows: Vec<Row>) -> Rows {
        let (mut newest, mut older) = (HashMap::with_capacity(rows.len()), HashMap::new());
        // Those that were erased are nobody's.
        for (number, row) in (0_u32..).zip(&rows).filter(|(_, row)| !row.is_erased()) {
            let Some(other) = newest.insert(row.object, number) else { continue };
            let is_newer = rows[other as usize].added < row.added;
            let (newer, old) = if is_newer { (number, other) } else { (other, number) };
            newest.insert(row.object, newer);
            older.entry(row.object).or_insert_with(Vec::new).push(old);
        }
        Rows { rows, newest, older }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Row numbers in order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn row(&self, number: u32) -> &Row {
        &self.rows[number as usize]
    }

    /// The row that an object was given last.
    pub(crate) fn newest(&self, object: ObjectId) -> Option<u32> {
        self.newest.get(&object).copied()
    }

    /// Every row of an object, the newest first.
    pub(crate) fn of_object(&self, object: ObjectId) -> impl Iterator<Item = u32> {
        let older = self.older.get(&object).into_iter().flatten().copied();
        self.newest(object).into_iter().chain(older)
    }

    /// Makes every row of an object nobody's; answers which they are.
    pub(crate) fn erase(&mut self, object: ObjectId) -> HashSet<u32> {
        let erased: HashSet<u32> = self.of_object(object).collect();
        erased.iter().for_each(|number| self.rows[*number as usize] = Row::erased());
        self.newest.remove(&object);
        self.older.remove(&object);
        erased
    }

    /// Bytes in memory, metadata included.
    pub(crate) fn bytes(&self) -> usize {
        let metadata: usize = self.rows.iter().map(|row| row.metadata.memory()).sum();
        // A hash map has a byte more for each entry.
        let of_newest = size_of::<(ObjectId, u32)>() + 1;
        let of_older = size_of::<(ObjectId, Vec<u32>)>() + 1;
        let older: usize = self.older.values().map(|older| older.capacity() * size_of::<u32>()).sum();
        self.rows.capacity() * size_of::<Row>()
            + self.newest.capacity() * of_newest
            + self.older.capacity() * of_older
            + older
            + metadata
    }
}

#[cfg(test)]
mod tests;
