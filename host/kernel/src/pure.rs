//! Calls that reach nothing: a component's `lifecycle`, in fresh instances whose every import traps.
//!
//! ```text
//! metered engine, deny-all linker → fresh instance → describe or evolve → drop everything
//! ```
//! No clock, no chance, no storage and no second call into the same memory: equal arguments give equal answers by
//! construction. What a call may use is bounded, and the error says which bound it met.
//!
//! Never here: what an answer means.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::error::Elapsed;
use wasmtime::component::{Component, Linker};
use wasmtime::{ResourceLimiter, Store, Trap};

use crate::contract::lifecycle::{Descriptor, EvolveError, SlotValue};
use crate::contract::{Persona, PersonaPre};
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
}

/// What else than an author's intention leads to an import.
fn hint(import: &str) -> &'static str {
    match import {
        import if import.starts_with("wasi:cli/") => "; a panic does that to say why",
        import if import.starts_with("wasi:random/") => "; a `HashMap` does that for its seed",
        _ => "",
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
    pub(crate) fn new(engines: &Arc<Engines>, component: &Component) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(&engines.metered);
        linker.define_unknown_imports_as_traps(component)?;
        let pre = PersonaPre::new(linker.instantiate_pre(component)?)?;
        Ok(Self { engines: Arc::clone(engines), pre })
    }

    /// The component's account of itself. At most a second, 64 MiB and 512 KiB.
    pub(crate) async fn describe(&self) -> Result<Descriptor, PureError> {
        let _running = self.engines.running();
        let mut store = self.store(DESCRIBE)?;
        let describing = async {
            let persona = self.pre.instantiate_async(&mut store).await?;
            persona.telos_host_lifecycle().call_describe(&mut store).await
        };
        let ended = tokio::time::timeout(DESCRIBE.time, describing).await;
        judge(ended, &store, DESCRIBE)
    }

    /// One object's value slots carried from one generation to another. At most a thousand million units of fuel, 10 s,
    /// 64 MiB and 4 MiB of answer.
    pub(crate) async fn evolve(
        &self,
        slots: &[SlotValue],
        from: u32,
        to: u32,
    ) -> Result<Result<Vec<SlotValue>, EvolveError>, PureError> {
        let _running = self.engines.running();
        let mut store = self.store(EVOLVE)?;
        let evolving = async {
            let persona: Persona = self.pre.instantiate_async(&mut store).await?;
            persona.telos_host_lifecycle().call_evolve(&mut store, slots, from, to).await
        };
        let ended = tokio::time::timeout(EVOLVE.time, evolving).await;
        judge(ended, &store, EVOLVE)
    }

    fn store(&self, bounds: Bounds) -> Result<Store<Account>, PureError> {
        let account = Account(MemoryAccount::new(MEMORY_MIB << 20));
        let mut store = Store::new(&self.engines.metered, account);
        store.limiter(|account| account);
        store.set_fuel(bounds.fuel).map_err(|error| PureError::Trap(error.to_string()))?;
        store.set_hostcall_fuel(bounds.answer_bytes);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        Ok(store)
    }
}

fn judge<T>(
    ended: Result<wasmtime::Result<T>, Elapsed>,
    store: &Store<Account>,
    bounds: Bounds,
) -> Result<T, PureError> {
    let error = match ended {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error,
        Err(_) => return Err(PureError::Time(bounds.time)),
    };
    // A guest that is denied memory aborts, which would hide why.
    if store.data().0.is_exceeded() {
        return Err(PureError::Memory);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Err(PureError::Fuel(bounds.fuel)),
        _ => Err(trapped(&error.root_cause().to_string())),
    }
}

/// The engine says which import a denied call was for only in words.
fn trapped(text: &str) -> PureError {
    let import = text.strip_prefix("unknown import: `").and_then(|rest| rest.split_once('`'));
    match import {
        Some((import, _)) => PureError::Reached(import.to_owned()),
        None => PureError::Trap(text.to_owned()),
    }
}

/// Holds a call to its memory, and to what a component may be made of.
struct Account(MemoryAccount);

impl ResourceLimiter for Account {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.0.memory_growing(current, desired, maximum)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.0.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        16
    }

    fn tables(&self) -> usize {
        8
    }

    fn memories(&self) -> usize {
        4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_import_is_named_and_a_trap_keeps_its_words() {
        let said = |text: &str| trapped(text).to_string();
        let denied = said("unknown import: `wasi:cli/stderr@0.2.6#get-stderr` has not been defined");
        assert_eq!(
            denied,
            "reached for `wasi:cli/stderr@0.2.6#get-stderr`, and may reach nothing; a panic does that to say why"
        );
        assert_eq!(
            said("wasm `unreachable` instruction executed"),
            "failed: wasm `unreachable` instruction executed"
        );
    }
}
