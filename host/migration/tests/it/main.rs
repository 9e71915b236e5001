//! Migrations as an operator meets them: one subject per module.

#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod bounds;
mod evolve;
mod fixture;
mod refusal;
