//! The bridge over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bounds;
mod calls;
mod doors;
mod endpoints;
mod fixture;
mod hostile;
mod restart;
mod streams;
