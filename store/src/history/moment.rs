//! Moments: which time a position had, and how many states had been superseded by then.
//!
//! The newest row is the newest group. It gives way to the next one unless, by then, a minute has passed or many
//! states were superseded since the row before it: so rows are sparse, and yet a long pause has a row at either end.
//! Clocks are set back and forth. A date later than now is passed over, and what was decided before another thing is
//! never taken to be younger: a wrong clock may keep the past for longer, not drop it sooner.

use redb::ReadableTable;

use crate::error::Failure;
use crate::id::Position;
use crate::limit;
use crate::tables::{META_OBJECT_ROWS, META_OBJECTS, Tables, read_meta};

use super::Retention;

/// One position with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) position: Position,
    pub(super) at_ms: u64,
    /// States superseded by then, since the store was made.
    pub(super) superseded: u64,
}

/// How full the past is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) now_ms: u64,
    /// States superseded since the store was made.
    pub(super) superseded: u64,
    /// Those of them that are still there.
    pub(super) kept: u64,
}

/// Dates the group that ends at `position`.
pub(crate) fn note_group(
    tables: &mut Tables<'_>,
    position: Position,
    at_ms: u64,
    retention: &Retention,
) -> Result<(), Failure> {
    let next = Moment { position, at_ms, superseded: superseded(&tables.meta)? };
    let newest: Vec<Moment> =
        tables.moments.iter()?.rev().take(2).map(|row| Ok(moment(row?))).collect::<Result<_, Failure>>()?;
    if let [last, before] = newest.as_slice()
        && is_one_interval(before, &next, retention)
    {
        tables.moments.remove(last.position.get())?;
    }
    tables.moments.insert(position.get(), (at_ms, next.superseded))?;
    Ok(())
}

/// States superseded since the store was made.
pub(super) fn superseded(meta: &impl ReadableTable<&'static str, u64>) -> Result<u64, Failure> {
    Ok(read_meta(meta, META_OBJECT_ROWS)?.saturating_sub(read_meta(meta, META_OBJECTS)?))
}

/// All moments, by position.
pub(super) fn rows(
    moments: &impl ReadableTable<u64, (u64, u64)>,
) -> Result<impl Iterator<Item = Result<Moment, Failure>>, Failure> {
    Ok(moments.iter()?.map(|row| Ok(moment(row?))))
}

/// The floor that the bounds ask for: the newest moment past the age, or the oldest after which no more than `rows_max`
/// states were superseded, whichever is newer.
pub(super) fn floor(
    moments: impl Iterator<Item = Result<Moment, Failure>>,
    retention: &Retention,
    standing: &Standing,
) -> Result<Position, Failure> {
    let cutoff = standing.now_ms.checked_sub(retention.age_ms());
    let (mut floor, mut ages) = (Position::NONE, cutoff.is_some());
    let mut is_over = standing.kept > retention.rows_max;
    for moment in moments {
        let moment = moment?;
        if !ages && !is_over {
            break;
        }
        if is_over && standing.superseded.saturating_sub(moment.superseded) <= retention.rows_max {
            is_over = false;
            floor = moment.position;
        }
        if ages && moment.at_ms <= standing.now_ms {
            ages = cutoff.is_some_and(|cutoff| moment.at_ms <= cutoff);
            floor = if ages { moment.position } else { floor };
        }
    }
    Ok(floor)
}

/// The newest position at or before a time.
pub(super) fn newest_at(
    moments: impl Iterator<Item = Result<Moment, Failure>>,
    ms: u64,
    now_ms: u64,
) -> Result<Option<Position>, Failure> {
    let mut newest = None;
    for moment in moments {
        let moment = moment?;
        if moment.at_ms > now_ms {
            continue;
        }
        if moment.at_ms > ms {
            break;
        }
        newest = Some(moment.position);
    }
    Ok(newest)
}

/// Whether nothing between two moments needs one of its own.
pub(super) fn is_one_interval(before: &Moment, next: &Moment, retention: &Retention) -> bool {
    // A tenth of what is kept, so that a bound in rows is met within a tenth.
    let rows_max = (retention.rows_max / 10).clamp(1, limit::MOMENT_ROWS_MAX);
    next.at_ms.abs_diff(before.at_ms) < limit::MOMENT_MS_MAX
        && next.superseded.saturating_sub(before.superseded) < rows_max
}

fn moment((key, row): (redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, (u64, u64)>)) -> Moment {
    let (at_ms, superseded) = row.value();
    Moment { position: Position::new(key.value()), at_ms, superseded }
}
