//! What a plugin author uses: selectors, state guards, typed host interfaces.
//!
//! A plugin is one `impl` block. Each message runs in a fresh instance, so nothing lives in the plugin itself: state
//! is in the slots of the receiver, and a slot is read through a guard that writes back what changed.
//!
//! ```
//! use telos_sdk::prelude::*;
//!
//! struct Tally;
//!
//! #[derive(Deserialize)]
//! struct Add { by: u64 }
//!
//! /// Adds up.
//! #[plugin(id = "tally")]
//! #[slot(name = "total", default = 0, summary = "The sum so far.")]
//! impl Tally {
//!     /// Adds `by` and answers the new total.
//!     #[selector]
//!     #[example(name = "adds", before = {"total": 1}, arguments = {"by": 2}, returns = 3, after = {"total": 3})]
//!     fn add(this: &Receiver, arguments: Add) -> Result<u64, Failure> {
//!         let mut total = this.slot::<u64>("total")?;
//!         *total = total.checked_add(arguments.by).ok_or_else(|| Failure::refused("too much"))?;
//!         Ok(*total)
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! # State of a new shape
//!
//! Whoever changes what slots mean raises `generation` and writes an `#[evolve]` function. The host calls it once for
//! each object, with the generation that this object is in, when it starts with the new release; every object gets its
//! new state in one commit, or none does and the old release serves on. A step at a time carries over the state of every
//! earlier release:
//!
//! ```
//! use telos_sdk::prelude::*;
//!
//! struct Tally;
//!
//! /// Adds up, in cents since its second generation.
//! #[plugin(id = "tally", version = "2.0.0", generation = 2)]
//! #[slot(name = "cents", default = 0, summary = "The sum so far.")]
//! impl Tally {
//!     /// Answers the sum.
//!     #[selector(read_only)]
//!     fn sum(this: &Receiver) -> Result<u64, Failure> {
//!         Ok(*this.slot("cents")?)
//!     }
//!
//!     #[evolve]
//!     fn evolve(mut slots: Slots, from: u32, to: u32) -> Result<Slots, EvolveError> {
//!         for step in from..to {
//!             match step {
//!                 1 => total_to_cents(&mut slots)?,
//!                 _ => return Err(EvolveError::Unsupported),
//!             }
//!         }
//!         Ok(slots)
//!     }
//! }
//!
//! fn total_to_cents(slots: &mut Slots) -> Result<(), EvolveError> {
//!     // An object that never added has no slot of its own.
//!     let Some(total) = slots.remove("total") else { return Ok(()) };
//!     let total = total.as_u64().ok_or_else(|| EvolveError::invalid(format!("total is {total}")))?;
//!     slots.insert("cents".into(), json!(total * 100));
//!     Ok(())
//! }
//!
//! let old = Slots::from([("total".to_owned(), json!(3))]);
//! assert_eq!(Tally::evolve(old, 1, 2), Ok(Slots::from([("cents".to_owned(), json!(300))])));
//! ```
//!
//! It is a pure function, which a unit test calls as it is. The host holds it to that: no call reaches the host, a clock
//! or chance (a `HashMap` is seeded by chance; a `BTreeMap` is not), and each may use about a second, 64 MiB and 4 MiB of
//! answer.
//!
//! Build it as a `cdylib` with `cargo build --target wasm32-wasip2 --profile guest`; the file is a component. A
//! component imports only the interfaces whose functions it calls, so one crate serves behaviours and personas.
//!
//! Natively everything compiles, and every call that would reach the host panics.

pub mod archive;
pub mod bindings;
pub mod descriptor;
pub mod inference;
pub mod logging;
pub mod messaging;
pub mod object;
pub mod plugin;
pub mod state;
pub mod storage;
pub mod vectors;

/// One JSON value from JSON-like tokens; the same as `serde_json::json!`.
pub use serde_json::json;
pub use telos_sdk_macros::plugin;

pub use object::Object;
pub use plugin::{Component, Failure, Plugin};
pub use state::{Receiver, Slot};

/// What nearly every plugin needs: `use telos_sdk::prelude::*;`.
pub mod prelude {
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};

    pub use crate::descriptor::{EvolveError, Slots};
    pub use crate::{Failure, Object, Receiver, Slot, plugin};
    pub use crate::{debug, error, info, trace, warn};
}
