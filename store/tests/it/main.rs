//! The store as its users meet it: one binary, one subject per module.

#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod commit;
mod crash;
mod fault;
mod fixture;
mod frozen;
mod generation;
mod generation_crash;
mod model;
mod open;
mod outbox;
mod record;
mod search;
mod session;
mod voted;
