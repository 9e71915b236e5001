//! Integration tests of TelOS: one binary, one subject per file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod architect;
mod archive;
mod budgets;
mod churn;
mod conflict;
mod counting;
mod disk;
mod dispatch;
mod evolving;
mod forge_crash;
mod forging;
mod generation;
mod generation_crash;
mod hostile;
mod messaging;
mod operator;
mod posts;
mod probation;
mod returning;
mod scripted;
mod set;
mod storage;
mod swap;
mod swap_crash;
mod tidy;
mod vectors;
