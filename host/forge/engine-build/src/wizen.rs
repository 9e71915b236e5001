//! Pre-initialisation: the engine's realm is made here, once, and not by each instance.

use anyhow::{Context, Result};
use wasmtime::{Config, Engine, Linker, Module, Store};
use wasmtime_wizer::Wizer;

const INITIALIZE: &str = "wizer-initialize";

/// The module with the memory that its initialisation leaves, which reaches nothing.
pub(crate) fn pre_initialised(module: &[u8]) -> Result<Vec<u8>> {
    let engine = Engine::new(Config::new().max_wasm_stack(2 << 20).async_stack_size(4 << 20))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut store = Store::new(&engine, ());
    let mut wizer = Wizer::new();
    wizer.init_func(INITIALIZE);
    let initialised = wizer.run(&mut store, module, async |store: &mut Store<()>, module: &Module| {
        let mut linker = Linker::new(module.engine());
        linker.define_unknown_imports_as_traps(module)?;
        linker.instantiate_async(store, module).await
    });
    runtime.block_on(initialised).map_err(anyhow::Error::from).context("the engine cannot be pre-initialised")
}
