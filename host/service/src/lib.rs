//! A running host: its home, its parts wired together, and the methods it answers over the bridge.
//!
//! ```text
//! store + journal + minds → kernel → plugins that arrived → state carried over → bridge → guard → ready
//! ```
//! The parts do not know each other; this crate alone does. It decides nothing that a part could decide.

mod arrivals;
mod checks;
mod gate;
mod home;
mod host;
mod journaling;
mod methods;
mod minding;
mod offline;
mod outcome;
mod store_watch;
mod tail;
mod turnstile;

pub use arrivals::Bundle;
pub use checks::{Check, CheckState};
pub use home::Home;
pub use host::{Host, HostConfig, StartError};
pub use offline::{OfflineJournal, OfflineStore};
pub use telos_kernel::{Evolution, EvolutionOutcome, Evolving, GenerationMode, OnEvolving};
