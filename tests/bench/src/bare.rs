//! Bare wasmtime with the least host that makes a guest run: slots in a map, WASI inert, and of the limits those that
//! are asked for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use telos_tests::guest;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{
    CallHook, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter, Store,
    UpdateDeadline,
};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "behaviour",
        exports: { default: async },
    });
}

use bindings::exports::telos::host::handler::Message;
use bindings::telos::host::{logging, messaging, moment, storage, types};

/// One guest, linked for one engine.
pub struct Bare {
    engine: Engine,
    pre: bindings::BehaviourPre<Least>,
    held: Held,
}

/// What each message is held to, beside what its engine compiles in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// A `ResourceLimiter` counts its memory.
    pub memory: bool,
    /// Bytes through host calls are bounded.
    pub hostcall_fuel: bool,
    /// A call hook looks at the clock at each crossing, as the kernel's does before the first epoch has passed.
    pub cpu: bool,
    /// An epoch that ends yields to a callback; without it the deadline is out of reach.
    pub epochs: bool,
}

/// An engine as the kernel's that serves, with a pool, with and without what its limits compile in.
///
/// # Panics
/// Where wasmtime makes none.
pub fn engine(has_epochs: bool, has_fuel: bool) -> Engine {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(64)
        .total_component_instances(64)
        .total_core_instances(256)
        .total_tables(128)
        .total_stacks(64)
        .max_memory_size(256 << 20)
        .max_memories_per_component(4)
        .max_tables_per_component(8)
        .max_core_instances_per_component(16)
        .table_elements(20_000)
        .max_unused_warm_slots(16)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10);
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(has_epochs)
        .consume_fuel(has_fuel)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).expect("an engine")
}

struct Least {
    slots: HashMap<String, String>,
    wasi: WasiCtx,
    table: ResourceTable,
    memory: MemoryCount,
    cpu: Duration,
    entered: Option<Instant>,
}

#[derive(Default)]
struct MemoryCount(usize);

impl Bare {
    /// Compiles and links a guest.
    ///
    /// # Panics
    /// When it is not built, or is not of the contract.
    pub fn on(engine: &Engine, name: &str, held: Held) -> Self {
        let component = Component::from_binary(engine, &guest(name)).expect("a component");
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("WASI");
        bindings::Behaviour::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut Least| state)
            .expect("the contract");
        let pre =
            bindings::BehaviourPre::new(linker.instantiate_pre(&component).expect("a linked component"));
        Self { engine: engine.clone(), pre: pre.expect("the contract's exports"), held }
    }

    /// One message's life: store, instantiate, call, drop. How long it took, and the answer. Slot `count` holds 41.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn message(&self, selector: &str, arguments: &str) -> (Duration, String) {
        let start = Instant::now();
        let mut store = self.store();
        let instance = self.pre.instantiate_async(&mut store).await.expect("an instance");
        let message = Message {
            receiver: types::ObjectId { high: 0, low: 1 },
            selector: selector.to_owned(),
            arguments: arguments.to_owned(),
            trace: String::new(),
        };
        let answer = instance.telos_host_handler().call_handle(&mut store, &message).await.expect("a call");
        drop(store);
        (start.elapsed(), answer.expect("an answer"))
    }

    fn store(&self) -> Store<Least> {
        let state = Least {
            slots: HashMap::from([("count".to_owned(), "41".to_owned())]),
            wasi: WasiCtxBuilder::new().build(),
            table: ResourceTable::new(),
            memory: MemoryCount::default(),
            cpu: Duration::ZERO,
            entered: None,
        };
        let mut store = Store::new(&self.engine, state);
        // Only an engine that counts fuel has some, and it begins with none.
        let _ = store.set_fuel(u64::MAX);
        if self.held.memory {
            store.limiter(|state| &mut state.memory);
        }
        if self.held.hostcall_fuel {
            store.set_hostcall_fuel(4 << 20);
        }
        if self.held.cpu {
            store.call_hook(|mut context, hook| {
                context.data_mut().cross(hook);
                Ok(())
            });
        }
        if self.held.epochs {
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        } else {
            store.set_epoch_deadline(1_000_000);
        }
        store
    }
}

impl Least {
    fn cross(&mut self, hook: CallHook) {
        match hook {
            CallHook::CallingWasm | CallHook::ReturningFromHost => self.entered = Some(Instant::now()),
            CallHook::CallingHost | CallHook::ReturningFromWasm => {
                self.cpu += self.entered.take().map_or(Duration::ZERO, |entered| entered.elapsed());
            }
        }
    }
}

impl ResourceLimiter for MemoryCount {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.0 = self.0 - current + desired;
        Ok(self.0 <= 64 << 20)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 20_000)
    }
}

impl WasiView for Least {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for Least {}

impl moment::Host for Least {
    fn now(&mut self) -> u64 {
        0
    }

    fn seed(&mut self) -> u64 {
        1
    }
}

impl logging::Host for Least {
    fn log(&mut self, _level: logging::Level, _message: String, _fields: String) {}
}

impl storage::Host for Least {
    fn lookup(
        &mut self,
        object: types::ObjectId,
        slot: String,
    ) -> Result<Option<storage::Found>, storage::Error> {
        let found =
            |value: &String| storage::Found { value: value.clone(), holder: object, is_method: false };
        Ok(self.slots.get(&slot).map(found))
    }

    fn write(&mut self, _object: types::ObjectId, slot: String, value: String) -> Result<(), storage::Error> {
        self.slots.insert(slot, value);
        Ok(())
    }

    fn read(&mut self, _object: types::ObjectId, slot: String) -> Result<Option<String>, storage::Error> {
        Ok(self.slots.get(&slot).cloned())
    }

    fn create(&mut self, _parents: Vec<types::ObjectId>) -> Result<types::ObjectId, storage::Error> {
        Err(storage::Error::Denied)
    }

    fn clone(&mut self, _source: types::ObjectId) -> Result<types::ObjectId, storage::Error> {
        Err(storage::Error::Denied)
    }

    fn find(&mut self, _name: String) -> Result<Option<types::ObjectId>, storage::Error> {
        Err(storage::Error::Denied)
    }

    fn bind(&mut self, _name: String, _object: types::ObjectId) -> Result<(), storage::Error> {
        Err(storage::Error::Denied)
    }

    fn names(
        &mut self,
        _prefix: String,
        _after: String,
        _limit: u32,
    ) -> Result<Vec<storage::Named>, storage::Error> {
        Err(storage::Error::Denied)
    }

    fn remove(&mut self, _object: types::ObjectId, _slot: String) -> Result<bool, storage::Error> {
        Err(storage::Error::Denied)
    }

    fn slots(&mut self, _object: types::ObjectId) -> Result<Vec<String>, storage::Error> {
        Err(storage::Error::Denied)
    }

    fn parents(&mut self, _object: types::ObjectId) -> Result<Vec<types::ObjectId>, storage::Error> {
        Err(storage::Error::Denied)
    }

    fn set_parents(
        &mut self,
        _object: types::ObjectId,
        _parents: Vec<types::ObjectId>,
    ) -> Result<(), storage::Error> {
        Err(storage::Error::Denied)
    }

    fn history(
        &mut self,
        _object: types::ObjectId,
        _slot: String,
        _limit: u32,
    ) -> Result<Vec<storage::Past>, storage::Error> {
        Err(storage::Error::Denied)
    }
}

impl messaging::Host for Least {
    fn send(
        &mut self,
        _receiver: types::ObjectId,
        _selector: String,
        _arguments: String,
    ) -> Result<String, messaging::Error> {
        Err(messaging::Error::Denied)
    }

    fn post(
        &mut self,
        _receiver: types::ObjectId,
        _selector: String,
        _arguments: String,
    ) -> Result<(), messaging::Error> {
        Err(messaging::Error::Denied)
    }

    fn emit(&mut self, _chunk: String) -> Result<(), messaging::Error> {
        Err(messaging::Error::Denied)
    }
}
