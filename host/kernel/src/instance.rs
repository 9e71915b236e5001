//! One message's life: a fresh instance of a linked release, its accounts, and what became of it.
//!
//! ```text
//! store + limits + inert WASI → instantiate → handle → take the tree back → drop everything
//! ```
//! Linear memory dies here with the message, so state that was not written through storage cannot exist.

use std::sync::Arc;
use std::time::Instant;

use telos_store::{Json, ObjectId};
use wasmtime::component::ResourceTable;
use wasmtime::{Store, Trap, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::contract::handler;
use crate::cpu::{CpuAccount, Exceeded};
use crate::deliver::host_failure;
use crate::failure::{Breakage, Failure, StoreFailure};
use crate::imports::wasi::{GuestOutput, inert_wasi};
use crate::limits::{HOSTCALL_BYTES_MAX, MemoryAccount};
use crate::seat::Release;
use crate::tally::Spent;
use crate::tree::Tree;

/// Handles to host resources one message may hold.
const RESOURCES_MAX: usize = 64;

/// Fuel of one message on the metered engine, about ten seconds of guest work: the limit on the processor comes first.
pub(crate) const FUEL: u64 = 10_000_000_000;

/// What the host knows of the message an instance lives for.
pub(crate) struct MessageState {
    /// Ours while the guest runs; away while a message it sent runs.
    tree: Option<Box<Tree>>,
    pub(crate) release: Arc<Release>,
    pub(crate) receiver: ObjectId,
    pub(crate) selector: String,
    /// The first thing the guest did against the covenant; the message fails for it, whatever it answers.
    pub(crate) violation: Option<Breakage>,
    /// Set when a host call found that the message cannot go on; the trap that follows is not the guest's fault.
    pub(crate) ended: Option<Failure>,
    pub(crate) table: ResourceTable,
    /// The first word of the message's chance.
    pub(crate) seed: u64,
    wasi: WasiCtx,
    output: GuestOutput,
    memory: MemoryAccount,
    pub(crate) cpu: CpuAccount,
}

impl MessageState {
    /// The tree. A guest cannot run while its tree is away, so host calls may rely on it.
    pub(crate) fn tree(&mut self) -> wasmtime::Result<&mut Tree> {
        self.tree.as_deref_mut().ok_or_else(tree_is_away)
    }

    pub(crate) fn take_tree(&mut self) -> wasmtime::Result<Box<Tree>> {
        self.tree.take().ok_or_else(tree_is_away)
    }

    pub(crate) fn return_tree(&mut self, tree: Box<Tree>) {
        self.tree = Some(tree);
    }

    /// Whether the running component may use an interface now.
    pub(crate) fn is_granted(&mut self, interface: &str) -> wasmtime::Result<bool> {
        let component = self.release.component.clone();
        Ok(self.tree()?.surroundings.grants.allows(&component, interface))
    }

    /// Notes a write from a read-only selector.
    pub(crate) fn note_read_only_write(&mut self, slot: &str) {
        let selector = self.selector.clone();
        self.violation.get_or_insert_with(|| Breakage::Covenant {
            slot: slot.into(),
            selector,
            cause: "a read-only selector wrote it".into(),
        });
    }
}

fn tree_is_away() -> wasmtime::Error {
    wasmtime::Error::msg("the message tree is with another message")
}

impl WasiView for MessageState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// One message to a release.
pub(crate) struct Delivery {
    pub(crate) release: Arc<Release>,
    pub(crate) receiver: ObjectId,
    /// The selector as the component knows it.
    pub(crate) selector: String,
    pub(crate) arguments: Json,
}

/// How a message of a component ended, before anyone is blamed.
pub(crate) enum Ending {
    /// It answered.
    Answer(Json),
    /// It failed in a way the sender can understand.
    Failure(Failure),
    /// It broke.
    Broken(Breakage),
}

/// Runs one message in a fresh instance and gives the tree back.
///
/// Cancel safety: dropping the future drops the instance and the tree with it; the root must then be given up.
pub(crate) async fn run(tree: Box<Tree>, delivery: Delivery) -> (Box<Tree>, Ending) {
    let (release, start) = (Arc::clone(&delivery.release), Instant::now());
    let _running = release.tally.begin();
    let mut store = store(tree, &delivery);
    let polls = store.data().cpu.polls();
    let called = polls.measure(call(&mut store, delivery)).await;
    let fuel = store.get_fuel().map_or(0, |left| FUEL.saturating_sub(left));
    let mut state = store.into_data();
    let spent = state.spent(start);
    release.tally.spend(spent);
    let unmade = called.as_ref().err().and_then(|failed| failed.of_host(&state));
    let ending = judge(called, &mut state);
    // A host call that lost the tree would have ended the message with it.
    let mut tree = match state.tree.take() {
        Some(tree) => tree,
        None => unreachable!("a finished message holds its tree"),
    };
    tree.instance = spent.elapsed;
    tree.fuel += fuel;
    tree.cpu += state.cpu.used() + state.cpu.used_by_host();
    state.output.write_to_journal(&mut tree, &state.release);
    let ending = match unmade {
        Some(cause) => Ending::Failure(host_failure(&tree, StoreFailure::Host(cause))),
        None => ending,
    };
    (tree, ending)
}

type Called = Result<Result<String, handler::Failure>, Failed>;

/// What failed, and when: before the guest had everything that it runs with, or afterwards.
enum Failed {
    Making(wasmtime::Error),
    Calling(wasmtime::Error),
}

impl Failed {
    /// What this machine wanted for, when that is why no instance could be made: a trap and a bound are the component's
    /// doing whenever they come.
    fn of_host(&self, state: &MessageState) -> Option<String> {
        let Self::Making(error) = self else { return None };
        let is_of_guest = error.is::<Trap>() || state.cpu.exceeded().is_some() || state.memory.is_exceeded();
        (!is_of_guest).then(|| {
            format!("no instance of {} could be made: {}", state.release.component, error.root_cause())
        })
    }
}

async fn call(store: &mut Store<MessageState>, delivery: Delivery) -> Called {
    let message = handler::Message {
        receiver: delivery.receiver.into(),
        selector: delivery.selector,
        arguments: delivery.arguments.as_str().to_owned(),
        trace: store.data_mut().tree().map_err(Failed::Calling)?.root.trace.clone(),
    };
    let instance = delivery.release.pre.instantiate_async(&mut *store).await.map_err(Failed::Making)?;
    instance.telos_host_handler().call_handle(store, &message).await.map_err(Failed::Calling)
}

fn store(mut tree: Box<Tree>, delivery: &Delivery) -> Store<MessageState> {
    let limits = delivery.release.limits;
    let output = GuestOutput::default();
    let (seed, pace) = (tree.next_seed(), tree.root.pace.clone());
    let state = MessageState {
        wasi: inert_wasi(&tree.root.clock, seed, &output),
        seed: first_word(&seed),
        tree: Some(tree),
        release: Arc::clone(&delivery.release),
        receiver: delivery.receiver,
        selector: delivery.selector.clone(),
        violation: None,
        ended: None,
        table: ResourceTable::with_capacity(0),
        output,
        memory: MemoryAccount::new(limits.memory_bytes()),
        cpu: CpuAccount::new(limits.cpu(), pace),
    };
    let mut store = Store::new(delivery.release.pre.engine(), state);
    store.data_mut().table.set_max_capacity(RESOURCES_MAX);
    store.limiter(|state| &mut state.memory);
    store.call_hook(|mut context, hook| {
        context.data_mut().cpu.cross(hook);
        Ok(())
    });
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| {
        Ok(match context.data_mut().cpu.yield_or_end() {
            Some(going_on) => UpdateDeadline::YieldCustom(1, Box::pin(going_on)),
            None => UpdateDeadline::Interrupt,
        })
    });
    store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
    // Only the metered engine counts fuel; the serving one refuses, and that is its right answer.
    let _ = store.set_fuel(FUEL);
    store
}

fn first_word(seed: &[u8; 32]) -> u64 {
    seed.first_chunk().map(|word| u64::from_le_bytes(*word)).unwrap_or_default()
}

fn judge(called: Called, state: &mut MessageState) -> Ending {
    if let Some(failure) = state.ended.take() {
        return Ending::Failure(failure);
    }
    match called {
        Err(Failed::Making(error) | Failed::Calling(error)) => Ending::Broken(state.breakage(&error)),
        Ok(_) if state.violation.is_some() => match state.violation.take() {
            Some(violation) => Ending::Broken(violation),
            None => unreachable!("just looked"),
        },
        Ok(Ok(text)) => match Json::parse(&text) {
            Ok(answer) => Ending::Answer(answer),
            Err(error) => Ending::Broken(Breakage::Answer(error.to_string())),
        },
        Ok(Err(failure)) => guest_failure(failure, &state.selector),
    }
}

fn guest_failure(failure: handler::Failure, selector: &str) -> Ending {
    match failure {
        handler::Failure::BadArguments(text) => Ending::Failure(Failure::BadArguments(text)),
        handler::Failure::Refused(text) => Ending::Failure(Failure::Refused(text)),
        handler::Failure::UnknownSelector => Ending::Broken(Breakage::Selector(selector.into())),
        handler::Failure::Broken(text) => Ending::Broken(Breakage::Told(cut(&text))),
        handler::Failure::Covenant(violation) => Ending::Broken(Breakage::Covenant {
            slot: violation.slot,
            selector: violation.selector,
            cause: violation.cause,
        }),
    }
}

impl MessageState {
    fn spent(&self, start: Instant) -> Spent {
        Spent {
            cpu: self.cpu.used(),
            measured_cpu: self.cpu.measured(),
            elapsed: start.elapsed(),
            memory_bytes: self.memory.bytes(),
        }
    }

    fn breakage(&self, error: &wasmtime::Error) -> Breakage {
        let limits = self.release.limits;
        match self.cpu.exceeded() {
            Some(Exceeded::Guest) => Breakage::Cpu { allowed_ms: limits.cpu_ms },
            Some(Exceeded::Host) => Breakage::HostCpu { allowed_ms: limits.cpu_ms },
            None if self.memory.is_exceeded() => Breakage::Memory { allowed_mib: limits.memory_mib },
            None => Breakage::Trap(trap_text(error, &self.output)),
        }
    }
}

/// Longest account of a fault that is kept, in characters.
const FAULT_CHARS_MAX: usize = 4_000;

fn cut(text: &str) -> String {
    text.chars().take(FAULT_CHARS_MAX).collect()
}

/// The trap's own words, and the panic message that the guest printed before it.
fn trap_text(error: &wasmtime::Error, output: &GuestOutput) -> String {
    let cause = error.root_cause().to_string();
    match output.last_line() {
        Some(line) => format!("{cause} ({line})"),
        None => cause,
    }
}
