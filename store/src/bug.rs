//! Bugs of this host: a panic of its own code says nothing about the file, so no page is checked because of one.
//!
//! Where rows are read or written a panic may be the file's too; that is [`crate::damage`]'s. Never here: what becomes of
//! what the panic left half-done.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Failure;

/// Does what touches no row. Nothing that `work` leaves half-done may be used afterwards.
///
/// # Errors
/// [`Failure::Panicked`], which names what was being done.
pub(crate) fn guard<T>(doing: &str, work: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|panic| Failure::Panicked { what: format!("{doing} ended in a panic: {}", said(&*panic)) })
}

/// The first line of what a panic said.
pub(crate) fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
