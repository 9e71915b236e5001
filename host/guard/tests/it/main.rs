//! The guard over real sockets, and its inspector against a model.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bounds;
mod corpus;
mod fixture;
mod hostile;
mod inspector;
mod interop;
mod model;
mod stream;
