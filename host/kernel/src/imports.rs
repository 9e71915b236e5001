//! The host side of each interface a guest imports, one file per interface. Contract types never leave these files.

pub(crate) mod archive;
pub(crate) mod inference;
pub(crate) mod logging;
pub(crate) mod messaging;
pub(crate) mod moment;
pub(crate) mod storage;
pub(crate) mod vectors;
pub(crate) mod wasi;

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use crate::contract::{Persona, types};
use crate::instance::MessageState;

impl types::Host for MessageState {}

/// A linker that carries every interface of the contract, and WASI, inert.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<MessageState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Persona::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    Ok(linker)
}
