//! The plugin kernel: what runs components, and what they may do.
//!
//! ```text
//! examine  bytes → release        what it is, imports, says of itself          changes nothing
//! trial    release → verdict      its own examples on scratch storage           changes nothing
//! swap     release → seat         one commit, one pointer                       audit row
//! evolve   state → generation     at a start, every object or none              audit row
//! watch    probation → permanent  or the seat returns                          audit row
//! dispatch root → answer          lane, tree of messages, one commit            everything or nothing
//! instance message → ending       a fresh instance; linear memory dies with it
//! ```
//! A guest does exactly what its grants say, through `wit/`; WASI is present but inert. Guests run on a runtime of
//! their own, so that nothing they do starves the bridge or the journal. The rest of the host is known only through
//! the traits in [`seams`].
//!
//! Never here: sockets, models, files other than the inbox.

mod activation;
mod admission;
mod allowance;
mod archivist;
mod blame;
mod budget;
mod change;
mod code;
mod contract;
mod core_module;
mod courses;
mod cpu;
mod decide;
mod decision;
mod deliver;
mod descriptor;
mod dispatch;
mod effects;
mod engine;
mod evolution;
mod examine;
mod failure;
mod functions;
mod generation;
mod grant;
mod imports;
pub mod inbox;
mod instance;
mod kernel;
mod lane;
mod lesson;
mod limits;
mod listing;
mod manifest;
mod miss;
mod notice;
mod objects;
mod operator;
mod outbox;
mod pace;
mod pauses;
mod probation;
mod publication;
mod pure;
mod raise;
mod root;
mod root_object;
mod sandbox;
pub mod seams;
mod seat;
mod shared;
mod standing;
mod swap;
mod tally;
mod traffic;
mod tree;
mod trial;
mod tryout;
mod turn;
mod upkeep;
mod watch;

pub use budget::InferenceTerms;
pub use code::{CodeCache, CompileError, Compiler, CompilerSeat, EngineKind, SEAL_KEY_BYTES, precompile};
pub use contract::CONTRACT_VERSION;
pub use core_module::{BootError, CoreModules, CoreModulesSeat, Image, Number};
pub use descriptor::{Descriptor, DescriptorError, Kind, Recording, Selector};
pub use dispatch::ATTEMPTS_MAX;
pub use engine::{EPOCH, EngineError, Engines, INSTANCE_SLOTS, MEMORY_BYTES_CEILING};
pub use evolution::{Evolution, EvolutionOutcome, Evolving, OnEvolving};
pub use examine::{COMPONENT_BYTES_MAX, ExamineError};
pub use failure::{Breakage, Effect, Failure, Fault};
pub use generation::GenerationMode;
pub use grant::{DEFAULT_GRANTS, INTERFACES};
pub use inbox::InboxEntry;
pub use kernel::{Kernel, KernelConfig, KernelError, LinedUp, WeakKernel};
pub use lane::LANE_ENTRIES_MAX;
pub use lesson::{FORGED, Lesson};
pub use limits::{Limits, LimitsError};
pub use manifest::{Manifest, ManifestError};
pub use miss::{Forge, ForgeSeat, Forged, Miss};
pub use operator::{Listed, ObjectError};
pub use probation::ProbationTerms;
pub use root::{Answer, DispatchStats, Rehearsal, Root};
pub use root_object::RootObjectError;
pub use sandbox::{Sandbox, SandboxSeat, TrialEnd, TrialRoom};
pub use seat::{Release, SeatTable};
pub use standing::ReleaseStanding;
pub use swap::{
    Checked, Granting, InstallRequest, Quarantined, SET_MEMBERS_MAX, SetApplied, SetMember, SetPlan,
    SetRequest, SwapError, Swapped, Swapping,
};
pub use tally::Usage;
pub use trial::{ExampleResult, TrialMessage, Tried, TriedFailure};
pub use tryout::{TrialCell, TrialOrder, Tryout};

/// How deep messages may send messages.
pub const MESSAGE_DEPTH_MAX: u32 = 8;
