//! One `counter` message, admission → reply ready to commit, against bare wasmtime doing the same work: store,
//! instantiate, one call that reads and writes a slot, drop. Both on the serving engine, interleaved. The commit is a
//! row of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telos_bench::{Better, Row, Samples};
use telos_kernel::{Engines, Root};
use telos_store::Json;
use telos_tests::{TestKernel, guest};
use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

mod bare {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "behaviour",
        exports: { default: async },
    });
}

use bare::exports::telos::host::handler::Message;
use bare::telos::host::{logging, messaging, storage, types};

const WARM_UP: usize = 2_000;
const RUNS: usize = 20_000;
const COMMITS: usize = 500;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let peer = Peer::new();
    let (mut ours, mut peers) = (Samples::default(), Samples::default());
    for round in 0..WARM_UP + RUNS {
        let (mine, bare) = (rehearse(&kernel).await, peer.message().await);
        if round >= WARM_UP {
            ours.add(mine);
            peers.add(bare);
        }
    }
    row("message, admission to reply ready to commit", &mut ours, &mut peers);
    commits(&kernel).await;
}

fn row(case: &'static str, ours: &mut Samples, peers: &mut Samples) {
    let more = json!({
        "ours_p99_us": ours.percentile_us(99.0),
        "peer_p99_us": peers.percentile_us(99.0),
        "target_ratio": 2.0,
    });
    Row {
        bench: "dispatch",
        case,
        unit: "us p50",
        better: Better::Lower,
        ours: ours.percentile_us(50.0),
        peer: Some((peers.percentile_us(50.0), "wasmtime store+instantiate+call+drop")),
        runs: ours.count(),
        more: more.as_object().cloned().unwrap_or_default(),
    }
    .print();
}

fn root() -> Root {
    Root {
        receiver: "counter".into(),
        selector: "increment".into(),
        arguments: Json::null(),
        deadline: Instant::now() + Duration::from_secs(10),
        request: None,
        sink: None,
    }
}

async fn rehearse(kernel: &TestKernel) -> Duration {
    kernel.kernel.rehearse(root()).await.expect("an answer").elapsed
}

/// The whole message, commit included: what the disk adds.
async fn commits(kernel: &TestKernel) {
    let mut samples = Samples::default();
    for _ in 0..COMMITS {
        let start = Instant::now();
        kernel.kernel.send(root()).await.expect("an answer");
        samples.add(start.elapsed());
    }
    let more = json!({ "ours_p99_us": samples.percentile_us(99.0) });
    Row {
        bench: "dispatch",
        case: "message with its durable commit, one at a time",
        unit: "us p50",
        better: Better::Lower,
        ours: samples.percentile_us(50.0),
        peer: None,
        runs: samples.count(),
        more: more.as_object().cloned().unwrap_or_default(),
    }
    .print();
}

/// Bare wasmtime with the least host that makes the component run: slots in a map, WASI inert.
struct Peer {
    engines: Engines,
    pre: bare::BehaviourPre<Least>,
}

struct Least {
    slots: HashMap<String, String>,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl Peer {
    fn new() -> Self {
        let engines = Engines::new().expect("engines");
        let component = Component::from_binary(&engines.serving, &guest("counter")).expect("a component");
        let mut linker = Linker::new(&engines.serving);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("WASI");
        bare::Behaviour::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut Least| state)
            .expect("the contract");
        let pre = bare::BehaviourPre::new(linker.instantiate_pre(&component).expect("a linked component"));
        Self { engines, pre: pre.expect("the contract's exports") }
    }

    async fn message(&self) -> Duration {
        let start = Instant::now();
        let state = Least {
            slots: HashMap::from([("count".to_owned(), "41".to_owned())]),
            wasi: WasiCtxBuilder::new().build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engines.serving, state);
        store.set_epoch_deadline(1_000_000);
        let instance = self.pre.instantiate_async(&mut store).await.expect("an instance");
        let message = Message {
            receiver: types::ObjectId { high: 0, low: 1 },
            selector: "increment".into(),
            arguments: "null".into(),
            trace: String::new(),
        };
        let answer = instance.telos_host_handler().call_handle(&mut store, &message).await.expect("a call");
        assert_eq!(answer.expect("an answer").parse::<Value>().expect("JSON"), 42);
        drop(store);
        start.elapsed()
    }
}

impl WasiView for Least {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for Least {}

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
