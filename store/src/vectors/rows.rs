//! Rows that never change: directions, and whose they are. A graph is built over them; dates of removal are the segment's.

use std::collections::HashMap;
use std::sync::Arc;

use telos_graph::Matrix;

use crate::id::{ObjectId, Position};
use crate::json::Json;

/// One vector's row, without its direction.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) object: ObjectId,
    pub(crate) added: Position,
    pub(crate) metadata: Json,
}

/// At most `u32::MAX - 1` rows, in any order. An object has one for every time it was given a vector.
#[derive(Debug)]
pub(crate) struct Rows {
    matrix: Arc<Matrix>,
    rows: Vec<Row>,
    newest: HashMap<ObjectId, u32>,
}

impl Rows {
    /// `matrix`: a direction for each row.
    pub(crate) fn of(matrix: Matrix, rows: Vec<Row>) -> Rows {
        debug_assert_eq!(matrix.len(), rows.len());
        let mut newest = HashMap::with_capacity(rows.len());
        for (number, row) in (0_u32..).zip(&rows) {
            let newest = newest.entry(row.object).or_insert(number);
            if rows[*newest as usize].added < row.added {
                *newest = number;
            }
        }
        Rows { matrix: Arc::new(matrix), rows, newest }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Row numbers in order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        self.matrix.numbers()
    }

    /// The directions.
    pub(crate) fn matrix(&self) -> &Arc<Matrix> {
        &self.matrix
    }

    pub(crate) fn row(&self, number: u32) -> &Row {
        &self.rows[number as usize]
    }

    /// The row's direction.
    pub(crate) fn direction(&self, number: u32) -> &[f32] {
        self.matrix.row(number)
    }

    /// The row that an object was given last.
    pub(crate) fn newest(&self, object: ObjectId) -> Option<u32> {
        self.newest.get(&object).copied()
    }

    /// Bytes in memory, metadata included.
    pub(crate) fn bytes(&self) -> usize {
        let metadata: usize = self.rows.iter().map(|row| row.metadata.as_str().len()).sum();
        let of_object = size_of::<ObjectId>() + size_of::<u32>();
        self.matrix.bytes()
            + self.rows.capacity() * size_of::<Row>()
            + self.newest.capacity() * of_object
            + metadata
    }
}
