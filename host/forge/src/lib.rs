//! The forge: from source to a component that can serve.
//!
//! A behaviour in JavaScript is a small component that imports the engine as a core module and carries descriptor and
//! source as data. Making one takes no compiler, and what is made is an ordinary component: its bytes say which engine
//! they are for. Never here: who asks for a behaviour, who writes it, and whether it may serve.

mod assemble;
mod behaviour;
mod built_in;
mod engine;
mod gate;
mod layer;
mod policy;
mod spec;
mod ticket;
mod whole;
mod workshop;

pub use assemble::{AssembleError, SOURCE_BYTES_MAX, assemble, taken_apart};
pub use behaviour::{Account, AccountExample, AccountExpectation, AccountSelector, AccountSlot, Behaviour};
pub use built_in::BuiltIn;
pub use engine::{Engine, Template, engine};
pub use gate::Check;
pub use layer::{Confinement, Isolation, Layer};
pub use policy::Policy;
pub use spec::{EXAMPLES_MAX, Spec};
pub use ticket::{ATTEMPTS_MAX, Attempt, Ticket, TicketState, Trigger, Usage, component_of};
pub use whole::{Form, WholeError, self_contained, whole};
pub use workshop::{KeepError, Workshop, WorkshopError};

/// What JavaScript of a behaviour sees, as TypeScript declares it: `self`, `args`, `telos`, with bounds and errors.
pub const DECLARATIONS: &str = include_str!("../engine-js/telos.d.ts");
