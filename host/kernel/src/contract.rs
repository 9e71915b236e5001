//! The contract with guests: bindings generated from `wit/`, and the only file that names WIT paths.
//!
//! Contract types stop here and in `imports/`: the rest of the kernel speaks its own words.

mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "persona",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "telos:host/inference.generation": crate::imports::inference::OpenGeneration,
        },
    });
}

pub(crate) use generated::exports::telos::host::{handler, lifecycle};
pub(crate) use generated::telos::host::{
    archive, inference, logging, messaging, moment, storage, types, vectors,
};
pub(crate) use generated::{Persona, PersonaPre};

/// The contract version this host speaks.
pub const CONTRACT_VERSION: &str = "0.1.0";

/// The package whose interfaces are the contract.
pub(crate) const PACKAGE: &str = "telos:host/";

/// Interfaces that carry no authority: types, the message's moment, and what the component itself exports.
pub(crate) const FREE_INTERFACES: &[&str] = &["types", "moment", "lifecycle", "handler"];

impl From<telos_store::ObjectId> for types::ObjectId {
    fn from(id: telos_store::ObjectId) -> Self {
        Self { high: id.high(), low: id.low() }
    }
}

impl From<types::ObjectId> for telos_store::ObjectId {
    fn from(id: types::ObjectId) -> Self {
        Self::from_parts(id.high, id.low)
    }
}
