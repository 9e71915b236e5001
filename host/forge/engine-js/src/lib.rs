//! The JavaScript engine of generated behaviours: one core module, shared by all of their components.
//!
//! ```text
//! build   `wizer-initialize` makes the realm and reads the prelude; the memory of that moment is the module's
//! start   a behaviour's component hands over what it was made of: `boot`
//! call    describe, handle, evolve, devolve: JSON text in, JSON text out
//! ```
//! JavaScript of a behaviour is one ES module that exports `handle(self, args, telos)`. What `self` and `telos` are is
//! `prelude.js`'s; what of the host it reaches is `host.rs`'s. Nothing lives here between messages: an instance serves
//! one.

mod behaviour;
mod bindings;
mod chance;
mod host;
mod problem;
mod realm;

use bindings::exports::telos::host::handler::{Failure, Guest as Handler, Message};
use bindings::exports::telos::host::lifecycle::{Descriptor, EvolveError, Guest as Lifecycle, SlotValue};
use realm::with_realm;

/// The engine, to its components.
struct Engine;

impl bindings::Guest for Engine {
    fn boot(behaviour: String) -> Result<(), String> {
        with_realm(|realm| realm.boot(&behaviour))
    }
}

impl Lifecycle for Engine {
    fn describe() -> Descriptor {
        with_realm(|realm| realm.describe())
    }

    fn evolve(slots: Vec<SlotValue>, from: u32, to: u32) -> Result<Vec<SlotValue>, EvolveError> {
        with_realm(|realm| realm.carry("evolve", &slots, from, to))
    }

    fn devolve(slots: Vec<SlotValue>, from: u32, to: u32) -> Result<Vec<SlotValue>, EvolveError> {
        with_realm(|realm| realm.carry("devolve", &slots, from, to))
    }
}

impl Handler for Engine {
    fn handle(message: Message) -> Result<String, Failure> {
        with_realm(|realm| realm.handle(&message))
    }
}

#[allow(unsafe_code, unreachable_pub, reason = "generated: the canonical ABI's exports")]
mod exported {
    crate::bindings::export!(Engine with_types_in crate::bindings);

    use super::Engine;
}

/// Makes the realm, once, when the engine is built.
#[expect(unsafe_code, reason = "the name that the build looks for")]
#[unsafe(export_name = "wizer-initialize")]
pub extern "C" fn initialize() {
    with_realm(|_| ());
}
