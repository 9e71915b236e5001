//! Editions as their users meet them: one binary, one subject per module.

#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]
#![allow(clippy::print_stdout, reason = "a proof says how much it tried")]

mod crash;
mod damage;
mod death;
mod edition;
mod fixture;
mod refusal;
mod shelf;
