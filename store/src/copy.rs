//! Copying every table of one database, as one read transaction sees it, into a new one.
//!
//! Rows are written afresh, so the copy has only what the tables hold: no free pages, and nothing of what was
//! removed. Every copy of a store is made here: backups, and rewriting the file in place.

use redb::{Key, ReadTransaction, ReadableTableMetadata, TableDefinition, TableError};
use redb::{TableHandle, Value, WriteTransaction};

use crate::database;
use crate::error::Failure;
use crate::progress::{Meter, Phase};
use crate::scan::Scan as _;
use crate::tables::{self, META, META_REWRITE_DUE};

/// Does the same with every table.
macro_rules! with_every_table {
    ($act:ident $arguments:tt) => {
        with_every_table!($act $arguments: META OBJECTS NAMES NAMES_OF COLLECTIONS FORMS EDITIONS VECTORS REDO
            OUTBOX DEAD_LETTERS SESSIONS DEDUPE AUDIT RELEASES SEATS GRANTS CONSUMED OWNED MOMENTS CHANGES RENAMES BLOBS
            GENERATIONS SHADOWS)
    };
    ($act:ident $arguments:tt: $($table:ident)*) => {
        $($act!($table $arguments);)*
    };
}

/// Copies every table into an empty database with one durable commit; answers the rows.
///
/// # Errors
/// [`Failure`] of either side; [`Failure::UnknownTable`] when the source has a table that is not copied here, since
/// a copy that leaves something out is none. The new database is then of no use.
pub(crate) fn copy(
    from: &ReadTransaction,
    into: &redb::Database,
    meter: &mut Meter<'_>,
) -> Result<u64, Failure> {
    check_tables(from)?;
    let rows = count(from)?;
    meter.begin(Phase::CopyRows, rows);
    let txn = database::begin_durable(into)?;
    macro_rules! copy {
        ($table:ident ()) => {
            copy_table(tables::$table, from, &txn, meter)?
        };
    }
    with_every_table!(copy());
    // A new file has no free pages, so nothing that was forgotten is in it.
    txn.open_table(META)?.remove(META_REWRITE_DUE)?;
    fail::fail_point!("store::copy-before-commit");
    txn.commit()?;
    meter.end();
    Ok(rows)
}

/// The rows of all tables. Costs one look at each.
pub(crate) fn count(from: &ReadTransaction) -> Result<u64, Failure> {
    let mut rows = 0;
    macro_rules! count {
        ($table:ident ()) => {
            rows += count_rows(tables::$table, from)?
        };
    }
    with_every_table!(count());
    Ok(rows)
}

fn check_tables(from: &ReadTransaction) -> Result<(), Failure> {
    let known = names();
    let unknown = from.list_tables()?.map(|table| table.name().to_owned()).find(|name| !known.contains(name));
    unknown.map_or(Ok(()), |name| Err(Failure::UnknownTable(name)))
}

/// Whether every table of today's layout is there. They are made together with the database, so one that is missing was
/// lost; the next write would make it again, empty.
pub(crate) fn check_all_there(from: &ReadTransaction) -> Result<(), Failure> {
    let there: Vec<String> = from.list_tables()?.map(|table| table.name().to_owned()).collect();
    let missing = names().into_iter().find(|name| !there.contains(name));
    missing.map_or(Ok(()), |name| Err(Failure::Damaged { why: format!("table {name} is missing") }))
}

fn names() -> Vec<String> {
    let mut known = Vec::new();
    macro_rules! name {
        ($table:ident ()) => {
            known.push(tables::$table.name().to_owned())
        };
    }
    with_every_table!(name());
    known
}

/// The rows of a table; none of one that an older layout did not have.
fn count_rows<K: Key + 'static, V: Value + 'static>(
    definition: TableDefinition<'_, K, V>,
    from: &ReadTransaction,
) -> Result<u64, Failure> {
    match from.open_table(definition) {
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        table => Ok(table?.len()?),
    }
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    definition: TableDefinition<'_, K, V>,
    from: &ReadTransaction,
    into: &WriteTransaction,
    meter: &mut Meter<'_>,
) -> Result<(), Failure> {
    let source = match from.open_table(definition) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        source => source?,
    };
    let mut target = into.open_table(definition)?;
    for row in source.rows()? {
        let (key, value) = row?;
        target.insert(key.value(), value.value())?;
        meter.step(1);
    }
    Ok(())
}
