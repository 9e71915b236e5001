//! Moments: which time a position had.
//!
//! The newest row is the newest group. It gives way to the next one unless a minute has passed by then since the row
//! before it: so rows are sparse, and yet a long pause has a row at either end.
//! Clocks are set back and forth. A date later than now is passed over, and what was decided before another thing is
//! never taken to be younger: a wrong clock may keep the past for longer, not drop it sooner.

use redb::ReadableTable;

use crate::error::Failure;
use crate::id::Position;
use crate::limit;
use crate::scan::Scan as _;
use crate::tables::Tables;

/// One position with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) position: Position,
    pub(super) at_ms: u64,
}

/// Dates the group that ends at `position`.
pub(crate) fn note_group(tables: &mut Tables<'_>, position: Position, at_ms: u64) -> Result<(), Failure> {
    let newest: Vec<Moment> =
        tables.moments.open()?.rows()?.rev().take(2).map(moment).collect::<Result<_, _>>()?;
    if let [last, before] = newest.as_slice()
        && is_one_interval(before.at_ms, at_ms)
    {
        tables.moments.open()?.remove(last.position.get())?;
    }
    tables.moments.open()?.insert(position.get(), at_ms)?;
    Ok(())
}

/// All moments, by position.
pub(super) fn rows(
    moments: &impl ReadableTable<u64, u64>,
) -> Result<impl Iterator<Item = Result<Moment, Failure>>, Failure> {
    Ok(moments.rows()?.map(moment))
}

/// The newest position at or before a time; [`Position::NONE`] when there is none.
pub(super) fn newest_at(
    moments: impl Iterator<Item = Result<Moment, Failure>>,
    ms: u64,
    now_ms: u64,
) -> Result<Position, Failure> {
    let mut newest = Position::NONE;
    for moment in moments {
        let moment = moment?;
        if moment.at_ms > now_ms {
            continue;
        }
        if moment.at_ms > ms {
            break;
        }
        newest = moment.position;
    }
    Ok(newest)
}

/// Whether nothing between two times needs a moment of its own.
pub(super) fn is_one_interval(before_ms: u64, next_ms: u64) -> bool {
    next_ms.abs_diff(before_ms) < limit::MOMENT_MS_MAX
}

type Row<'a> = Result<(redb::AccessGuard<'a, u64>, redb::AccessGuard<'a, u64>), redb::StorageError>;

fn moment(row: Row<'_>) -> Result<Moment, Failure> {
    let (key, at_ms) = row?;
    Ok(Moment { position: Position::new(key.value()), at_ms: at_ms.value() })
}
