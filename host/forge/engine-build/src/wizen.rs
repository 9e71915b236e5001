//! Pre-initialisation: the engine's realm is made here, once, and not by each instance.

use anyhow::{Context, Result, bail};
use wasmtime::{Config, Engine, Instance, Linker, Module, Store, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

const INITIALIZE: &str = "wizer-initialize";
/// More than the engine takes of a host's, since nobody else is served here.
const STACK_BYTES: usize = 2 << 20;

/// The module with the memory that its initialisation leaves, which reaches nothing.
pub(crate) fn pre_initialised(module: &[u8]) -> Result<Vec<u8>> {
    let mut wizer = Wizer::new();
    wizer.init_func(INITIALIZE);
    let (context, instrumented) = wizer.instrument(module).map_err(anyhow::Error::from)?;
    let mut initialised = initialised(&instrumented).context("the engine cannot be pre-initialised")?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let snapshot = runtime.block_on(wizer.snapshot(&context, &mut initialised));
    snapshot.map_err(anyhow::Error::from).context("what the engine's initialisation leaves cannot be kept")
}

/// An instance after its initialisation.
struct Initialised {
    store: Store<()>,
    instance: Instance,
}

fn initialised(module: &[u8]) -> Result<Initialised> {
    let engine = Engine::new(Config::new().max_wasm_stack(STACK_BYTES).async_stack_size(2 * STACK_BYTES))?;
    let module = Module::new(&engine, module)?;
    let mut linker = Linker::new(&engine);
    linker.define_unknown_imports_as_traps(&module)?;
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &module)?;
    if instance.get_func(&mut store, "_initialize").is_some() {
        bail!("it has an initialisation of its own besides {INITIALIZE}");
    }
    instance.get_typed_func::<(), ()>(&mut store, INITIALIZE)?.call(&mut store, ())?;
    Ok(Initialised { store, instance })
}

impl InstanceState for Initialised {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut self.store, name);
        match global.map(|global| global.get(&mut self.store)) {
            Some(Val::I32(value)) => SnapshotVal::I32(value),
            Some(Val::I64(value)) => SnapshotVal::I64(value),
            Some(Val::F32(bits)) => SnapshotVal::F32(bits),
            Some(Val::F64(bits)) => SnapshotVal::F64(bits),
            other => panic!("the global {name} is {other:?}, and not a number"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut self.store, name);
        contents(memory.unwrap_or_else(|| panic!("no memory {name}")).data(&self.store));
    }
}
