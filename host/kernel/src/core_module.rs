//! Core modules that components share: an engine that many of them run on is compiled once and loaded once.
//!
//! A component imports such a module by its name, in which its hash is, so that nothing else can take its place. Who
//! has modules is the host's to say; the kernel knows none. What such a module says of something that is handed to it
//! is asked here as well: in an instance that reaches nothing, on the metered engine.

mod image;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker as ComponentLinker};
use wasmtime::{Engine, Instance, Linker, Module, ResourceLimiter, Store, Trap};

pub use image::{Image, Number};

use crate::code::{Code, EngineKind};
use crate::examine::ExamineError;
use crate::limits::MemoryAccount;

/// Fuel of one [`boot`]: a second or so.
const BOOT_FUEL: u64 = 2_000_000_000;
const BOOT_TIME: Duration = Duration::from_secs(10);
const BOOT_MEMORY_BYTES: usize = 64 << 20;
/// Longest answer of [`boot`].
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The modules that a host has for components.
pub trait CoreModules: Send + Sync {
    /// The bytes of the module of this name; none when the host has none.
    fn module(&self, name: &str) -> Option<Vec<u8>>;

    /// Whether this host itself assembled a component around one of its modules, so that compiling it cannot take long.
    fn is_assembled(&self, component: &[u8]) -> bool;
}

/// A host's modules, if it has any.
#[derive(Clone, Default)]
pub struct CoreModulesSeat(pub Option<Arc<dyn CoreModules>>);

impl fmt::Debug for CoreModulesSeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CoreModulesSeat").field(&self.0.is_some()).finish()
    }
}

/// Why a module did not take what it was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// It says what is wrong with it.
    #[error("{0}")]
    Refused(String),
    /// It did not come to an end with it within its bounds, or trapped.
    #[error("it {0}")]
    Broken(String),
    /// There is no such module, or it could not be run here, now.
    #[error("it could not be looked at: {0}")]
    Hindered(String),
}

/// Modules that were loaded, by engine and name.
pub(crate) struct Loaded {
    seat: CoreModulesSeat,
    modules: Mutex<HashMap<(EngineKind, String), Module>>,
}

impl Loaded {
    pub(crate) fn new(seat: CoreModulesSeat) -> Self {
        Self { seat, modules: Mutex::default() }
    }

    /// Has a module, under this name.
    pub(crate) fn put(&self, kind: EngineKind, name: &str, module: Module) {
        self.modules.lock().insert((kind, name.to_owned()), module);
    }

    /// Whether a component is one that this host assembled.
    pub(crate) fn is_assembled(&self, component: &[u8]) -> bool {
        self.seat.0.as_ref().is_some_and(|modules| modules.is_assembled(component))
    }

    /// The module of this name for an engine. Compiles it when nobody has yet.
    pub(crate) fn module(&self, code: &Code, kind: EngineKind, name: &str) -> Result<Module, ExamineError> {
        if let Some(module) = self.modules.lock().get(&(kind, name.to_owned())) {
            return Ok(module.clone());
        }
        let bytes = self.seat.0.as_ref().and_then(|modules| modules.module(name));
        let bytes = bytes.ok_or_else(|| ExamineError::UnknownImport(name.to_owned()))?;
        let module = code.module(kind, &bytes)?;
        self.modules.lock().insert((kind, name.to_owned()), module.clone());
        Ok(module)
    }
}

/// Names of the core modules that a component imports.
pub(crate) fn imported_by(engine: &Engine, component: &Component) -> Vec<String> {
    let kind = component.component_type();
    let modules = kind.imports(engine).filter(|(_, import)| matches!(import.ty, ComponentItem::Module(_)));
    modules.map(|(name, _)| name.to_owned()).collect()
}

/// Gives a linker what a component imports of core modules.
pub(crate) fn define<T: 'static>(
    linker: &mut ComponentLinker<T>,
    modules: &[(String, Module)],
) -> wasmtime::Result<()> {
    modules.iter().try_for_each(|(name, module)| linker.root().module(name, module))
}

/// Hands text to a module's `boot`, in an instance that reaches nothing.
pub(crate) async fn boot(engine: &Engine, module: &Module, text: &str) -> Result<(), BootError> {
    booted(engine, module, text).await.map(drop)
}

/// The same, and what the instance holds afterwards.
pub(crate) async fn boot_image(engine: &Engine, module: &Module, text: &str) -> Result<Image, BootError> {
    let Booted { store, instance } = booted(engine, module, text).await?;
    Ok(Image::of(store, &instance))
}

/// An instance that took a text.
struct Booted {
    store: Store<Account>,
    instance: Instance,
}

async fn booted(engine: &Engine, module: &Module, text: &str) -> Result<Booted, BootError> {
    let ended = tokio::time::timeout(BOOT_TIME, boot_within(engine, module, text)).await;
    ended.unwrap_or_else(|_| Err(BootError::Hindered(format!("it took longer than {BOOT_TIME:?}"))))
}

async fn boot_within(engine: &Engine, module: &Module, text: &str) -> Result<Booted, BootError> {
    let hindered = |error: wasmtime::Error| BootError::Hindered(format!("{error:#}"));
    let mut store = Store::new(engine, Account(MemoryAccount::new(BOOT_MEMORY_BYTES)));
    store.limiter(|account| &mut account.0 as &mut dyn ResourceLimiter);
    store.set_fuel(BOOT_FUEL).map_err(hindered)?;
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    let mut linker = Linker::new(engine);
    linker.define_unknown_imports_as_traps(module).map_err(hindered)?;
    let instance = linker.instantiate_async(&mut store, module).await.map_err(hindered)?;
    let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| lacks("memory"))?;
    let realloc = instance
        .get_typed_func::<(u32, u32, u32, u32), u32>(&mut store, "cabi_realloc")
        .map_err(|_| lacks("cabi_realloc"))?;
    let boot = instance.get_typed_func::<(u32, u32), u32>(&mut store, "boot").map_err(|_| lacks("boot"))?;
    let length = u32::try_from(text.len()).map_err(|_| BootError::Refused("it is too large".into()))?;
    let at = realloc.call_async(&mut store, (0, 0, 1, length)).await.map_err(broken)?;
    memory.write(&mut store, at as usize, text.as_bytes()).map_err(|error| lacks(&error.to_string()))?;
    let answer = boot.call_async(&mut store, (at, length)).await.map_err(broken)?;
    match refusal(memory.data(&store), answer as usize) {
        Some(said) => Err(BootError::Refused(said)),
        None => Ok(Booted { store, instance }),
    }
}

/// `result<_, string>` as it lies in memory: a tag, then where the text is and how long.
fn refusal(memory: &[u8], at: usize) -> Option<String> {
    let word = |at: usize| {
        let bytes = memory.get(at..at + 4)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    if memory.get(at)? == &0 {
        return None;
    }
    let (from, length) = (word(at + 4)?, word(at + 8)?.min(ANSWER_BYTES_MAX));
    let text = memory.get(from..from.checked_add(length)?).unwrap_or_default();
    Some(String::from_utf8_lossy(text).into_owned())
}

fn lacks(what: &str) -> BootError {
    BootError::Hindered(format!("the module has no `{what}` to hand it to"))
}

fn broken(error: wasmtime::Error) -> BootError {
    let cause = error.root_cause().to_string();
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => BootError::Broken(format!("used up its {BOOT_FUEL} units of fuel")),
        _ => BootError::Broken(format!("failed: {cause}")),
    }
}

struct Account(MemoryAccount);
