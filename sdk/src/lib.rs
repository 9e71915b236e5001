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
//! Build it as a `cdylib` with `cargo build --target wasm32-wasip2 --profile guest`; the file is a component. A
//! component imports only the interfaces whose functions it calls, so one crate serves behaviours and personas.
//!
//! Natively everything compiles, and every call that would reach the host panics.

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

    pub use crate::{Failure, Object, Receiver, Slot, plugin};
    pub use crate::{debug, error, info, trace, warn};
}
