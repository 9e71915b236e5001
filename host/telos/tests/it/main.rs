//! The real binary: against a bridge that answers from a table, and as a whole host.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod client;
mod code;
mod edges;
mod evolve;
mod export;
mod far;
mod forge;
mod generation;
mod host;
mod inbox;
#[cfg(target_os = "linux")]
mod isolated;
mod memory;
#[cfg(feature = "llama")]
mod minds;
mod ppp;
mod probation;
mod release;
// The bridge's, which also starts programs of its own.
#[path = "../../../bridge/tests/it/python.rs"]
#[allow(dead_code, reason = "here only examples run")]
mod python;
#[cfg(target_os = "linux")]
mod room;
mod running;
mod store;
#[cfg(target_os = "linux")]
mod workers;
