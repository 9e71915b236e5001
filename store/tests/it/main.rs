//! The store as its users meet it: one binary, one subject per module.

#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]
#![allow(clippy::print_stdout, reason = "a proof says how much it tried")]

mod archive;
mod backup;
mod blob;
mod bug;
mod commit;
mod crash;
mod curator;
mod damage;
mod death;
mod draft;
mod edition;
mod fault;
mod fixture;
mod forget;
mod frozen;
mod generation;
mod generation_crash;
mod history;
mod history_crash;
mod isolation;
mod kept;
mod layered;
mod ledger;
mod model;
mod open;
mod outbox;
mod pages;
mod power;
mod random;
mod record;
mod rewrite;
mod sealed;
mod search;
mod session;
mod simulated_disk;
mod start;
mod stored_room;
mod vector_room;
mod voted;
mod whole;
