//! Calls that reach nothing: a component's `lifecycle`, in fresh instances whose every import traps.
//!
//! ```text
//! metered engine, deny-all linker → fresh instance → describe or evolve → drop everything
//! ```
//! No clock, no chance, no storage and no second call into the same memory: equal arguments give equal answers by
//! construction. What a call may use is bounded, and the error says which bound it met, or that this machine was at fault.
//!
//! Never here: what an answer means.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::error::Elapsed;
use wasmtime::component::{Component, Linker};
use wasmtime::{Module, OutOfMemory, ResourceLimiter, Store, Trap};

use crate::contract::PersonaPre;
use crate::contract::lifecycle::{Descriptor, EvolveError, SlotValue};
use crate::core_module;
use crate::descriptor::DESCRIPTOR_BYTES_MAX;
use crate::engine::Engines;
use crate::limits::{HOSTCALL_BYTES_MAX, MemoryAccount};

/// Linear memory of one call.
const MEMORY_MIB: usize = 64;

/// Wall time of `describe`.
pub(crate) const DESCRIBE_TIME: Duration = Duration::from_secs(1);

/// What one call may use besides memory.
#[derive(Clone, Copy)]
struct Bounds {
    /// Instructions, roughly: what loops runs out of this, every time and on every machine.
    fuel: u64,
    /// For a machine that has no time, far from what the fuel takes: no fault of the component.
    time: Duration,
    /// Bytes of the answer.
    answer_bytes: usize,
}

/// A tenth of a second or so on an idle machine.
const DESCRIBE: Bounds =
    Bounds { fuel: 100_000_000, time: DESCRIBE_TIME, answer_bytes: 2 * DESCRIPTOR_BYTES_MAX };
/// A second or so: state may be large, and carrying it over is no message that somebody waits for.
const EVOLVE: Bounds =
    Bounds { fuel: 1_000_000_000, time: Duration::from_secs(10), answer_bytes: HOSTCALL_BYTES_MAX };

/// Why a call gave no answer: what follows the words "it" or "its describe()".
#[derive(Debug, thiserror::Error)]
pub(crate) enum PureError {
    #[error("used up its {0} units of fuel without an answer")]
    Fuel(u64),
    #[error("did not end within {0:?}; try again when this machine has less to do")]
    Time(Duration),
    #[error("asked for more than {MEMORY_MIB} MiB of memory")]
    Memory,
    #[error("reached for `{0}`, and may reach nothing{hint}", hint = hint(.0))]
    Reached(String),
    #[error("failed: {0}")]
    Trap(String),
    #[error("could not run on this machine just now: {0}")]
    Host(String),
}

impl PureError {
    /// Whether this machine had something to do with it, so that the next call may do better.
    pub(crate) fn is_of_the_moment(&self) -> bool {
        matches!(self, Self::Time(_) | Self::Host(_))
    }
}

/// What failed, and when: before the guest had everything that it runs with, or afterwards.
enum Failed {
    Making(wasmtime::Error),
    Calling(wasmtime::Error),
}

/// What else than an author's intention leads to an import.
fn hint(import: &str) -> &'static str {
    match import {
        import if import.starts_with("wasi:cli/") => "; a panic does that to say why",
        import if import.starts_with("wasi:random/") => "; a `HashMap` does that for its seed",
        _ => "",
    }
}

/// Which of the two functions carries state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `evolve`.
    Up,
    /// `devolve`.
    Back,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Up => "evolve",
            Self::Back => "devolve",
        })
    }
}

/// A component whose `lifecycle` can be called.
pub(crate) struct Pure {
    engines: Arc<Engines>,
    pre: PersonaPre<Account>,
}

impl Pure {
    /// # Errors
    /// When the component lacks an export of the contract.
    pub(crate) fn new(
        engines: &Arc<Engines>,
        component: &Component,
        modules: &[(String, Module)],
    ) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(&engines.metered);
        core_module::define(&mut linker, modules)?;
        linker.define_unknown_imports_as_traps(component)?;
        let pre = PersonaPre::new(linker.instantiate_pre(component)?)?;
        Ok(Self { engines: Arc::clone(engines), pre })
    }

    /// The component's account of itself. At most a second, 64 MiB and 512 KiB.
    pub(crate) async fn describe(&self) -> Result<Descriptor, PureError> {
        let _running = self.engines.running();
        let mut store = self.store(DESCRIBE)?;
        let describing = async {
            let persona = self.pre.instantiate_async(&mut store).await.map_err(Failed::Making)?;
            persona.telos_host_lifecycle().call_describe(&mut store).await.map_err(Failed::Calling)
        };
        let ended = tokio::time::timeout(DESCRIBE.time, describing).await;
        judge(ended, &store, DESCRIBE)
    }

    /// One object's value slots carried from one generation to another, up or back. At most a thousand million units of
    /// fuel, 10 s, 64 MiB and 4 MiB of answer.
    pub(crate) async fn carry(
        &self,
        way: Way,
        slots: &[SlotValue],
        from: u32,
        to: u32,
    ) -> Result<Result<Vec<SlotValue>, EvolveError>, PureError> {
        fail::fail_point!("kernel::carry-call", |cause| { Err(PureError::Host(cause.unwrap_or_default())) });
        let _running = self.engines.running();
        let mut store = self.store(EVOLVE)?;
        let carrying = async {
            let persona = self.pre.instantiate_async(&mut store).await.map_err(Failed::Making)?;
            let lifecycle = persona.telos_host_lifecycle();
            let carried = match way {
                Way::Up => lifecycle.call_evolve(&mut store, slots, from, to).await,
                Way::Back => lifecycle.call_devolve(&mut store, slots, from, to).await,
            };
            carried.map_err(Failed::Calling)
        };
        let ended = tokio::time::timeout(EVOLVE.time, carrying).await;
        judge(ended, &store, EVOLVE)
    }

    fn store(&self, bounds: Bounds) -> Result<Store<Account>, PureError> {
        let account = Account::new(MEMORY_MIB << 20);
        let mut store = Store::new(&self.engines.metered, account);
        store.limiter(|account| account);
        store.set_fuel(bounds.fuel).map_err(|error| PureError::Host(error.to_string()))?;
        store.set_hostcall_fuel(bounds.answer_bytes);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        Ok(store)
    }
}

fn judge<T>(
    ended: Result<Result<T, Failed>, Elapsed>,
    store: &Store<Account>,
    bounds: Bounds,
) -> Result<T, PureError> {
    match ended {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(failed)) => Err(store.data().cause().unwrap_or_else(|| failed.cause(bounds))),
        Err(_) => Err(PureError::Time(bounds.time)),
    }
}

impl Failed {
    /// A trap, a denied import and a bound are the component's doing whenever they come. Of the rest, what makes an
    /// instance is this machine's; from then on the guest has its stack and its memory, so that what is left is an
    /// answer that cannot be read, or too much of it.
    fn cause(self, bounds: Bounds) -> PureError {
        let (Self::Making(error) | Self::Calling(error)) = &self;
        let text = error.root_cause().to_string();
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => return PureError::Fuel(bounds.fuel),
            Some(_) => return PureError::Trap(text),
            None => {}
        }
        if let Some(import) = denied(&text) {
            return PureError::Reached(import.to_owned());
        }
        match self {
            Self::Making(_) if is_bound(&text) => PureError::Trap(text),
            Self::Calling(error) if !error.is::<OutOfMemory>() => PureError::Trap(text),
            _ => PureError::Host(text),
        }
    }
}

/// The engine says which import a denied call was for only in words.
fn denied(text: &str) -> Option<&str> {
    text.strip_prefix("unknown import: `")?.split_once('`').map(|(import, _)| import)
}

/// More instances, tables or memories than [`Account`] lets a component be made of; also only in words.
fn is_bound(text: &str) -> bool {
    text.starts_with("resource limit exceeded: ")
}

/// Holds a call to its memory, and to what a component may be made of. Remembers what a guest that is denied memory
/// hides, since it aborts.
struct Account {
    memory: MemoryAccount,
    /// The guest may have what it asked for last, as far as its component and this account go.
    may_grow: bool,
    /// This machine had no memory for it all the same.
    shortage: Option<String>,
}

impl Account {
    fn new(bytes_max: usize) -> Self {
        Self { memory: MemoryAccount::new(bytes_max), may_grow: false, shortage: None }
    }

    /// What a failure comes from, whatever it says itself.
    fn cause(&self) -> Option<PureError> {
        let shortage = || self.shortage.clone().map(PureError::Host);
        self.memory.is_exceeded().then_some(PureError::Memory).or_else(shortage)
    }
}

impl ResourceLimiter for Account {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.may_grow = maximum.is_none_or(|maximum| desired <= maximum);
        self.memory.memory_growing(current, desired, maximum)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        if self.may_grow {
            self.shortage = Some(error.root_cause().to_string());
        }
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.memory.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.memory.instances()
    }

    fn tables(&self) -> usize {
        self.memory.tables()
    }

    fn memories(&self) -> usize {
        self.memory.memories()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn making(error: impl Into<wasmtime::Error>) -> PureError {
        Failed::Making(error.into()).cause(EVOLVE)
    }

    fn calling(error: impl Into<wasmtime::Error>) -> PureError {
        Failed::Calling(error.into()).cause(EVOLVE)
    }

    fn said(text: &'static str) -> wasmtime::Error {
        wasmtime::Error::msg(text)
    }

    #[test]
    fn a_denied_import_is_named_and_a_trap_keeps_its_words() {
        let denied = said("unknown import: `wasi:cli/stderr@0.2.6#get-stderr` has not been defined");
        assert_eq!(
            calling(denied).to_string(),
            "reached for `wasi:cli/stderr@0.2.6#get-stderr`, and may reach nothing; a panic does that to say why"
        );
        assert_eq!(
            calling(Trap::UnreachableCodeReached).to_string(),
            "failed: wasm trap: wasm `unreachable` instruction executed"
        );
    }

    #[test]
    fn want_of_slots_or_memory_is_no_components_fault() {
        for error in [
            making(said("maximum concurrent component instance limit of 1000 reached")),
            making(std::io::Error::from(std::io::ErrorKind::OutOfMemory)),
            making(OutOfMemory::new(64)),
            calling(OutOfMemory::new(64)),
        ] {
            assert!(error.is_of_the_moment() && matches!(error, PureError::Host(_)), "{error}");
        }
        let mut account = Account::new(1 << 20);
        account.memory_growing(0, 1 << 16, None).unwrap();
        account.memory_grow_failed(said("cannot allocate memory")).unwrap();
        assert!(matches!(account.cause(), Some(PureError::Host(_))));
    }

    #[test]
    fn what_a_component_does_itself_is_its_own_fault() {
        for error in [
            making(Trap::MemoryOutOfBounds),
            making(said("unknown import: `wasi:clocks/wall-clock@0.2.6#now` has not been defined")),
            making(said("resource limit exceeded: instance count too high at 17")),
            calling(Trap::OutOfFuel),
            calling(said("fuel allocated for hostcalls has been exhausted")),
            calling(said("list pointer/length out of bounds of memory")),
        ] {
            assert!(!error.is_of_the_moment(), "{error}");
        }
        let mut account = Account::new(1 << 20);
        account.memory_growing(0, 1 << 16, Some(1 << 15)).unwrap();
        account.memory_grow_failed(said("Memory maximum size exceeded")).unwrap();
        assert!(account.cause().is_none());
        assert!(!account.memory_growing(0, 2 << 20, None).unwrap());
        assert!(matches!(account.cause(), Some(PureError::Memory)));
    }
}
