//! The bridge over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod below;
mod bounds;
mod calls;
mod doors;
mod endpoints;
// Counts open files and memory of other processes where Linux tells them.
#[cfg(target_os = "linux")]
mod faults;
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
