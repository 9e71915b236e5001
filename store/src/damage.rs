//! Damage: redb trusts the pages of a file that was closed in good order, and panics over one that was changed since.
//!
//! Whatever reads or writes rows does it within [`guard`], so that such a panic ends the call that met the page, with
//! [`Failure::Damaged`], and nothing else. A handle that panicked is not trusted: the committer opens another one and has
//! every page checked. Never here: whether a file is to be used.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Failure;

/// Does what may meet a damaged page. Nothing that `work` leaves half-done may be used afterwards, except rows: they
/// change in transactions, which end with it.
pub(crate) fn guard<T, E: From<Failure>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Failure::Damaged { why: told(&*panic) }.into()))
}

/// What a panic said.
fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!(
        "reading it ended in a panic: {}",
        text.unwrap_or("no message").lines().next().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
