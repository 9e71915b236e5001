//! Damage: redb trusts the pages that it reads, however the file was closed, and panics over some that were changed since.
//! Others it serves as they are: `pages` has all of them looked at, after a crash and before a copy.
//!
//! Whatever reads or writes rows does it within [`guard`], so that such a panic ends the call that met the page, with
//! [`Failure::Damaged`], and nothing else. A handle that panicked is not trusted: the committer opens another one and has
//! every page checked. Never here: whether a file is to be used.
//!
//! A panic while another one passes would end the process. What redb does when something of its own is dropped is kept
//! from that where this store drops it:
//!
//! ```text
//! table            takes the lock of the open tables, which a panic below it poisons   OnDemand, by let_go
//! rows to remove   work on their page once more                                       Guarded
//! handle           commits once more, over pages that may be damaged                  give_up: the file is closed, no more
//! ```
//!
//! Not held, since only redb can mend it: such a panic inside one call of redb's. Its commit takes the pages that are free
//! from tables of its own with the same iterator over rows to remove, so a page of those tables that rots below an open
//! store may end the process; nothing that was acknowledged is lost, as in any crash. `retain_in` has that iterator inside
//! too. Nor are pages that lie below themselves, because some were swapped: redb walks them until its thread's stack ends.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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

/// Drops what works on redb's pages, or takes redb's locks, when it is dropped. A panic of that while another one passes
/// would end the process, so it is caught. It is not forgotten instead: a table that is never dropped keeps its write
/// transaction, and that keeps the file open and locked.
pub(crate) fn let_go<T>(left: &mut Option<T>) {
    let left = left.take();
    if std::thread::panicking() {
        // The panic that passes is told.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(left)));
    }
}

/// What is [`let_go`] when it is dropped. For rows that redb removes while they are read: its iterator works on the page
/// once more when it is dropped.
pub(crate) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(crate) fn of(inner: T) -> Guarded<T> {
        Guarded(Some(inner))
    }
}

impl<I: Iterator> Iterator for Guarded<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.as_mut()?.next()
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let_go(&mut self.0);
    }
}

/// Drops a handle of redb's without letting it write, as if a panic passed it: redb then closes the file and does nothing
/// else, where it would otherwise commit once more, over pages that may be damaged.
pub(crate) fn give_up<T>(handle: T) {
    let _ = catch_unwind(AssertUnwindSafe(move || {
        let _handle = Guarded::of(handle);
        // Not `panic!`: nothing is wrong, so nothing is said.
        resume_unwind(Box::new(()))
    }));
}

#[cfg(test)]
mod tests;
