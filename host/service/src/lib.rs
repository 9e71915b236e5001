//! A running host: its home, its parts wired together, and the methods it answers over the bridge.
//!
//! ```text
//! store + journal + minds → kernel → plugins that arrived → state carried over → bridge → guard → ready
//! ```
//! The parts do not know each other; this crate alone does. It decides nothing that a part could decide.

mod arrivals;
mod checks;
mod compiling;
mod crew;
mod elsewhere;
mod gate;
mod home;
mod host;
mod isolating;
mod journaling;
mod methods;
mod minding;
mod offline;
mod outcome;
mod sandboxing;
mod seal_key;
mod store_watch;
mod supervisor;
mod swap_record;
mod tail;
mod turnstile;
mod worker;

pub use arrivals::Bundle;
pub use checks::{Check, CheckState};
pub use compiling::{COMPILE_CPU_S_MAX, COMPILE_MEMORY_BYTES_MAX, COMPILE_REFUSED};
pub use crew::CrewConfig;
pub use home::Home;
pub use host::{Host, HostConfig, Pace, StartError};
pub use isolating::cell::try_one;
pub use isolating::{Probe, TRIAL_CPU_S_MAX, TRIAL_MEMORY_BYTES_MAX};
pub use minding::KernelMinds;
pub use offline::{OfflineJournal, OfflineStore};
pub use supervisor::{ChildEvent, Ending, IsHeard, OnChild, Rules, SILENT_MAX, Supervision, supervise};
pub use telos_forge::{Confinement, Layer};
pub use telos_kernel::{
    CompileError, EngineKind, Evolution, EvolutionOutcome, Evolving, GenerationMode, InferenceTerms,
    OnEvolving, ProbationTerms, precompile,
};
pub use worker::{WorkerRole, WorkerSetup, WorkerStartError, start_ppp_worker, start_worker};
