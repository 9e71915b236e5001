//! The two engines that run guests, and the thread that advances their epochs.
//!
//! `serving` interrupts by epoch alone; `metered` counts fuel as well, for trials and forged code. Both switch off
//! what widens the guest language without being asked for: 64-bit memory and tail calls here; GC, exceptions and threads
//! by leaving those features of wasmtime out of the build.
//!
//! Never here: stores, instances, plugin identity.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::code::EngineKind;
use crate::functions::Functions;
use crate::limits::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::pace::Pacer;

/// One epoch. Short enough that a spinner yields its thread often, long enough that ticks cost nothing.
pub const EPOCH: Duration = Duration::from_millis(10);

/// Most linear memory one instance may ask for, whatever its manifest says; the pool reserves address space for it.
pub const MEMORY_BYTES_CEILING: usize = 256 << 20;

/// Instances that can live at once in each engine's pool. Roots are admitted up to this ÷ [`crate::MESSAGE_DEPTH_MAX`].
pub const INSTANCE_SLOTS: u32 = 1024;

/// Slots of each pool that stay warm, and keep the images of what ran in them mapped.
const WARM_SLOTS: u32 = 16;

/// Bytes of a warm slot's memory that may stay in memory, where only what was written stays.
const RESIDENT_BYTES: usize = 1 << 20;

/// Instances with the on-demand allocator, where the address space is too small for the pool.
const INSTANCE_SLOTS_ON_DEMAND: u32 = 256;

/// Guest stack: deep enough that an interpreter in a guest finds its own end before this one; only what is used takes
/// memory.
const WASM_STACK_BYTES: usize = 2 << 20;

/// An idle host stops ticking after this long, so that it can sleep; a busy one never takes a lock to start a message.
const IDLE_TICKS_BEFORE_PARKING: u32 = 100;

/// Why the engines could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the wasm engine could not start: {0}")]
pub struct EngineError(#[from] wasmtime::Error);

/// Both engines, ticking while a guest runs.
pub struct Engines {
    /// Runs released components.
    pub serving: Engine,
    /// Runs trials, and behaviour that somebody forged: everything `serving` does, and fuel.
    pub metered: Engine,
    /// Instances that can live at once.
    pub slots: u32,
    pub(crate) pacer: Pacer,
    ticker: Ticker,
}

impl Engines {
    /// Makes both engines, for a runtime with a thread a processor.
    ///
    /// # Errors
    /// When the machine cannot run the configuration.
    pub fn new() -> Result<Self, EngineError> {
        Self::for_threads(0)
    }

    /// Both are the metered one, which compiles on the thread that asks: for a process that tries one candidate, and has no
    /// use for room for a thousand.
    pub(crate) fn for_one_trial() -> Result<Self, EngineError> {
        let metered = Engine::new(config().consume_fuel(true).parallel_compilation(false))?;
        let ticker = Ticker::start(vec![metered.clone()]);
        Ok(Self {
            serving: metered.clone(),
            metered,
            slots: INSTANCE_SLOTS_ON_DEMAND,
            pacer: Pacer::for_threads(1),
            ticker,
        })
    }

    /// Makes both engines, for a runtime with so many threads; 0 for one a processor.
    pub(crate) fn for_threads(threads: usize) -> Result<Self, EngineError> {
        let (serving, slots) = serving()?;
        let metered = metered()?;
        let ticker = Ticker::start(vec![serving.clone(), metered.clone()]);
        Ok(Self { serving, metered, slots, pacer: Pacer::for_threads(threads), ticker })
    }

    /// Keeps epochs advancing until the guard is dropped. Hold one while a guest may run.
    pub(crate) fn running(&self) -> Running {
        self.ticker.running()
    }
}

/// An engine whose code the one of this kind loads.
pub(crate) fn for_compiling(kind: EngineKind) -> Result<Engine, EngineError> {
    match kind {
        EngineKind::Serving => serving().map(|(engine, _)| engine),
        EngineKind::Metered => metered(),
    }
}

/// The same, and nothing of it is bounded before an instance is made.
pub(crate) fn without_pool(kind: EngineKind) -> Result<Engine, EngineError> {
    Ok(Engine::new(config().consume_fuel(kind == EngineKind::Metered))?)
}

/// With a memory for functions, in a process that compiles more than once.
fn remembering(mut config: Config) -> wasmtime::Result<Config> {
    config.enable_incremental_compilation(Arc::new(Functions::default()))?;
    Ok(config)
}

fn serving() -> Result<(Engine, u32), EngineError> {
    Ok(match Engine::new(&remembering(pooled(config(), INSTANCE_SLOTS))?) {
        Ok(engine) => (engine, INSTANCE_SLOTS),
        // Address space for the pool is not to be had everywhere (small VMs, ulimit -v).
        Err(_) => (Engine::new(&config())?, INSTANCE_SLOTS_ON_DEMAND),
    })
}

fn metered() -> Result<Engine, EngineError> {
    let mut config = remembering(pooled(config(), INSTANCE_SLOTS))?;
    Engine::new(config.consume_fuel(true)).or_else(|_| without_pool(EngineKind::Metered))
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(WASM_STACK_BYTES + (512 << 10))
        .cranelift_opt_level(OptLevel::Speed);
    config
}

fn pooled(mut config: Config, slots: u32) -> Config {
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots)));
    config
}

fn pool(slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // As much for each as a component may be made of: else one with many parts would leave others without a slot.
    pool.total_component_instances(slots)
        .total_core_instances(slots * CORE_INSTANCES_MAX)
        .total_memories(slots * MEMORIES_MAX)
        .total_tables(slots * TABLES_MAX)
        .total_stacks(slots)
        .max_memory_size(MEMORY_BYTES_CEILING)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        // Warm slots of replaced releases would keep their images mapped: a few are enough.
        .max_unused_warm_slots(WARM_SLOTS)
        .table_keep_resident(16 << 10);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        // The kernel says which pages a guest wrote, wherever they are, and those are written back: the next one finds
        // them mapped. An interpreter writes some 400 KiB, its stack first.
        pool.pagemap_scan(Enabled::Auto).linear_memory_keep_resident(RESIDENT_BYTES);
    } else {
        // The lowest bytes are reset by memset rather than by madvise; measured faster below a few hundred KiB.
        pool.linear_memory_keep_resident(256 << 10);
    }
    pool
}

/// Advances epochs from an OS thread of its own, so that no runtime's load can stop it; sleeps while no guest runs.
struct Ticker {
    shared: Arc<TickerShared>,
    thread: Option<JoinHandle<()>>,
}

struct TickerShared {
    active: AtomicUsize,
    /// Set only by the ticker, under the gate; lets a message start without a lock while the ticker is awake.
    is_parked: AtomicBool,
    is_stopping: AtomicBool,
    gate: Mutex<()>,
    wake: Condvar,
}

/// A guest may be running.
pub(crate) struct Running(Arc<TickerShared>);

impl Ticker {
    fn start(engines: Vec<Engine>) -> Self {
        let shared = Arc::new(TickerShared {
            active: AtomicUsize::new(0),
            is_parked: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            gate: Mutex::new(()),
            wake: Condvar::new(),
        });
        let inner = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("telos-epoch".into()).spawn(move || inner.tick(&engines)).ok();
        Self { shared, thread }
    }

    fn running(&self) -> Running {
        self.shared.active.fetch_add(1, Ordering::SeqCst);
        if self.shared.is_parked.load(Ordering::SeqCst) {
            let _gate = self.shared.gate.lock();
            self.shared.wake.notify_one();
        }
        Running(Arc::clone(&self.shared))
    }
}

impl TickerShared {
    fn tick(&self, engines: &[Engine]) {
        let mut idle_ticks = 0;
        while !self.is_stopping.load(Ordering::Acquire) {
            std::thread::sleep(EPOCH);
            engines.iter().for_each(Engine::increment_epoch);
            idle_ticks = if self.active.load(Ordering::SeqCst) == 0 { idle_ticks + 1 } else { 0 };
            if idle_ticks > IDLE_TICKS_BEFORE_PARKING {
                self.park();
                idle_ticks = 0;
            }
        }
    }

    fn park(&self) {
        let mut gate = self.gate.lock();
        self.is_parked.store(true, Ordering::SeqCst);
        while self.active.load(Ordering::SeqCst) == 0 && !self.is_stopping.load(Ordering::Acquire) {
            self.wake.wait(&mut gate);
        }
        self.is_parked.store(false, Ordering::SeqCst);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        {
            let _gate = self.shared.gate.lock();
            self.shared.wake.notify_all();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
