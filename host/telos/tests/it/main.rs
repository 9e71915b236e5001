//! The real binary: against a bridge that answers from a table, and as a whole host.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod client;
mod edges;
mod evolve;
mod far;
mod generation;
mod host;
mod inbox;
mod memory;
#[cfg(feature = "llama")]
mod minds;
#[cfg(target_os = "linux")]
mod room;
mod running;
mod store;
