//! One-off migrations: an operator's script changes the objects of a store that no host has open, all of them by one
//! commit, or none.
//!
//! ```text
//! script   read, bounded, and parsed              nothing was touched yet
//! draft    the store's lock, a verified backup    `telos_store::Draft`; a rehearsal writes nothing
//! run      the script, bounded in every way       its first mistake ends it, and nothing was changed
//! report   what differs, from the draft itself    the same for a rehearsal and for the real run
//! seal     audit row `store.evolved`, switch      whole or not at all
//! ```
//! Scripts are Lua 5.4, without anything that reads the world: no files, no clock, no chance, no modules, no way to
//! catch an error. Walking a table goes in the order of its keys, so that the same store gives the same result.
//! What a script may call is in `bench.rs`; that it is Lua is known to `lua.rs` alone.
//! Never here: who asks, what is printed, the journal.

mod bench;
mod error;
mod limits;
mod lua;
mod report;
mod run;
mod script;

pub use error::{EvolveError, Limit, Refused, ValueError};
pub use limits::Limits;
pub use report::{ComponentChanges, Difference, Evolved, NameChanges, Printed, Subject};
pub use run::evolve;
pub use script::Script;
