//! Damage: redb trusts the pages of a file that was closed in good order, and panics over one that was changed since.
//!
//! Whatever reads or writes rows does it within [`guard`], so that such a panic ends the call that met the page, with
//! [`Failure::Damaged`], and nothing else. A handle that panicked is not trusted: the committer opens another one and has
//! every page checked. Never here: whether a file is to be used.
//!
//! Not held: a panic of redb while another one unwinds, which ends the process. It is known of redb's `ExtractIf` and
//! avoided there by [`Extracted`]; `retain_in` has one inside. It is known too, and not avoided, of tables that are
//! dropped after redb panicked in one of them, and of its own commit: where pages rot below an open store both are met.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::bug;
use crate::error::Failure;

/// Does what may meet a damaged page. Nothing that `work` leaves half-done may be used afterwards, except rows: they
/// change in transactions, which end with it.
pub(crate) fn guard<T, E: From<Failure>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let why = format!("reading it ended in a panic: {}", bug::said(&*panic));
        Err(Failure::Damaged { why }.into())
    })
}

/// Rows that redb removes while they are read. Its own iterator works on the page when it is dropped, and where a damaged
/// one ended it in a panic it would panic again, which ends the process: then it is left alone.
pub(crate) struct Extracted<I>(Option<I>);

impl<I: Iterator> Extracted<I> {
    pub(crate) fn of(rows: I) -> Extracted<I> {
        Extracted(Some(rows))
    }
}

impl<I: Iterator> Iterator for Extracted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.as_mut()?.next()
    }
}

impl<I> Drop for Extracted<I> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.0.take());
        }
    }
}

#[cfg(test)]
mod tests;
