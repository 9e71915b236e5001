//! The journal against its promises, on real files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod crash;
mod faults;
mod fixture;
mod flood;
mod reading;
mod rotation;
