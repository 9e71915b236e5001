//! The store as its users meet it: one binary, one subject per module.

#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod backup;
mod blob;
mod commit;
mod crash;
mod death;
mod fault;
mod fixture;
mod forget;
mod frozen;
mod history;
mod history_crash;
mod model;
mod open;
mod outbox;
mod record;
mod rewrite;
mod search;
mod session;
mod voted;
mod whole;
