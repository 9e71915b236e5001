//! The bridge over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod below;
mod bounds;
mod calls;
mod doors;
mod endpoints;
mod fixture;
mod hostile;
#[cfg(unix)]
mod ppp;
#[cfg(unix)]
mod python;
mod restart;
mod streams;
mod wires;
mod workers;
