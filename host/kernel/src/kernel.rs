//! The kernel as the rest of the host sees it.

mod lined_up;
mod start;

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use telos_store::{ComponentId, DedupeKey, Digest, ObjectId, Revision, Store};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};

use crate::blame::Struck;
use crate::budget::InferenceTerms;
use crate::code::{CodeCache, CompilerSeat};
use crate::core_module::{BootError, CoreModulesSeat, Image};
use crate::descriptor::Kind;
use crate::dispatch::Dispatcher;
use crate::engine::EngineError;
use crate::evolution::{Evolution, OnEvolving};
use crate::failure::Failure;
use crate::generation::GenerationMode;
use crate::grant::Grants;
use crate::listing;
use crate::miss::ForgeSeat;
use crate::operator::{self, Listed, ObjectError};
use crate::outbox::deliver_posts;
use crate::probation::ProbationTerms;
use crate::root::{Answer, DispatchStats, Rehearsal, Root};
use crate::sandbox::SandboxSeat;
use crate::seams::{JournalLine, JournalSink, Severity};
use crate::seat::Seats;
use crate::standing::ReleaseStanding;
use crate::swap::{
    Checked, InstallRequest, Quarantined, SetApplied, SetPlan, SetRequest, SwapError, Swapped, Swapper,
    Swapping,
};
use crate::tryout::{TrialOrder, Tryout};
use crate::upkeep::keep_up;
use crate::watch::Watch;

pub use lined_up::LinedUp;

/// What the kernel needs to know of its host.
#[derive(Debug, Clone, Default)]
pub struct KernelConfig {
    /// Where compiled code is kept; none compiles anew at every start.
    pub cache: Option<CodeCache>,
    /// What compiles; none compiles in this process.
    pub compiler: CompilerSeat,
    /// Threads for guests. 0, the default: as many as the machine has.
    pub threads: usize,
    /// Where candidates are tried before this process compiles them; none tries them in this process.
    pub sandbox: SandboxSeat,
    /// How long a release is on probation, and what burns it.
    pub probation: ProbationTerms,
    /// Core modules that components may import.
    pub core_modules: CoreModulesSeat,
    /// What does something about messages that nobody understands.
    pub forge: ForgeSeat,
    /// What each component may have of the minds.
    pub inference: InferenceTerms,
}

/// Why the kernel did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store.
    #[error("the store cannot be read: {0}")]
    Store(String),
    /// The runtime.
    #[error("the runtime for guests could not start: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Runs components. Cheap to clone; the last clone stops it.
///
/// The second field is the request that the next change is decided under; see [`Kernel::for_request`].
#[derive(Clone)]
pub struct Kernel(Arc<Parts>, Option<DedupeKey>);

/// A kernel, as long as somebody else keeps it.
#[derive(Clone)]
pub struct WeakKernel(std::sync::Weak<Parts>);

impl WeakKernel {
    /// The kernel; none once it is gone.
    pub fn upgrade(&self) -> Option<Kernel> {
        self.0.upgrade().map(|parts| Kernel(parts, None))
    }
}

struct Parts {
    store: Store,
    seats: Arc<Seats>,
    grants: Arc<Grants>,
    dispatcher: Arc<Dispatcher>,
    swapper: Arc<Swapper>,
    journal: Arc<dyn JournalSink>,
    /// Rung when something was posted.
    bell: Arc<Notify>,
    /// Until it begins.
    watch: Mutex<Option<(Watch, mpsc::Receiver<Struck>)>>,
    /// Dropped in the background, so that the kernel may be dropped from inside another runtime.
    guests: Option<Runtime>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(guests) = self.guests.take() {
            guests.shutdown_background();
        }
    }
}

impl Kernel {
    /// Carries state over for every staged release that has its grants, and lets it serve, as `mode` says; `told` hears
    /// how far it is. For a start: after what waited outside was installed, before messages are admitted.
    ///
    /// A release that fails leaves everything as it was: an audit row says why, and what served serves.
    ///
    /// # Errors
    /// When the releases cannot be listed. Whatever else goes wrong is an outcome.
    pub async fn raise_generations(
        &self,
        mode: GenerationMode,
        told: OnEvolving,
    ) -> Result<Vec<Evolution>, SwapError> {
        let swapper = Arc::clone(&self.0.swapper);
        self.swapping(async move { swapper.raise_generations(mode, told).await }).await
    }

    /// Begins what a kernel does unasked: delivers what was posted, and keeps the store up. Once; a second time does
    /// nothing.
    pub fn begin(&self) {
        let Parts { store, dispatcher, bell, watch, guests, .. } = &*self.0;
        let Some(guests) = guests else { return };
        if let Some((watch, struck)) = watch.lock().take() {
            guests.spawn(keep_up(store.clone()));
            guests.spawn(deliver_posts(store.clone(), Arc::downgrade(dispatcher), Arc::clone(bell)));
            guests.spawn(watch.keep(struck));
        }
    }

    /// The kernel, for whoever must not keep it.
    pub fn downgrade(&self) -> WeakKernel {
        WeakKernel(Arc::downgrade(&self.0))
    }

    /// A handle for one change that somebody asks for under a number: the change is decided at most once, and asked
    /// for again under that number it answers what it answered. For one change only, since the next would have the
    /// same number. Messages carry their own number in [`Root`].
    #[must_use]
    pub fn for_request(&self, request: DedupeKey) -> Self {
        Self(Arc::clone(&self.0), Some(request))
    }

    /// Sends a message from outside and waits for its authoritative answer.
    ///
    /// # Cancel safety
    /// Dropping the future stops the guest at its next epoch; a commit that was already asked for goes on.
    ///
    /// # Errors
    /// Every [`Failure`] says whether an effect may exist, whose fault it was and what to do next.
    pub async fn send(&self, root: Root) -> Result<Answer, Failure> {
        self.line_up(root).answer().await
    }

    /// Takes a message from outside in: roots that write to one object run in the order of these calls. Costs a few
    /// point reads and never waits for another message; the bounds of a lane are checked here.
    pub fn line_up(&self, root: Root) -> LinedUp {
        LinedUp { arrived: self.0.dispatcher.line_up(root), kernel: self.clone() }
    }

    /// Runs a message up to its commit and throws it away: what it would answer, and how long that takes.
    ///
    /// # Errors
    /// As [`Kernel::send`], commit apart.
    pub async fn rehearse(&self, root: Root) -> Result<Rehearsal, Failure> {
        let dispatcher = Arc::clone(&self.0.dispatcher);
        self.on_guest_runtime(async move { dispatcher.rehearse(root).await })
            .await
            .unwrap_or_else(|cause| Err(self.host_failure(cause)))
    }

    /// Makes a release of bytes and lets it serve, or stages it while it needs a grant.
    ///
    /// # Errors
    /// [`SwapError`]; what was serving keeps serving.
    pub async fn install(&self, bytes: Vec<u8>, request: InstallRequest) -> Result<Swapped, SwapError> {
        let (swapper, asked) = (Arc::clone(&self.0.swapper), self.1);
        self.swapping(async move { swapper.install(&bytes, request, asked).await }).await
    }

    /// What an install answered that this handle's request decided before; its bytes are not needed again.
    ///
    /// # Errors
    /// [`SwapError::Commit`] when the request is too old to be decided.
    pub fn installed_before(&self) -> Result<Option<Swapped>, SwapError> {
        self.0.swapper.remembered(self.1)
    }

    /// Examines bytes and runs their examples as an install would; nothing changes.
    ///
    /// # Errors
    /// [`SwapError`] says what an install would have said.
    pub async fn check(&self, bytes: Vec<u8>, request: InstallRequest) -> Result<Checked, SwapError> {
        let swapper = Arc::clone(&self.0.swapper);
        self.swapping(async move { swapper.check(&bytes, &request).await }).await
    }

    /// Tries a behaviour that is nobody's release, in this process; nothing changes.
    pub async fn try_out(&self, order: TrialOrder) -> Tryout {
        let swapper = Arc::clone(&self.0.swapper);
        let tried = self.swapping(async move { Ok(swapper.try_order(&order).await) }).await;
        tried.unwrap_or_else(|error| Tryout::Hindered(error.to_string()))
    }

    /// What a core module that components import is compiled to, for a [`crate::TrialCell`] of this version. Slow when
    /// nobody has compiled it yet.
    ///
    /// # Errors
    /// In words: this host has no such module, or cannot compile it now.
    pub async fn module_code(&self, module: String) -> Result<Vec<u8>, String> {
        let swapper = Arc::clone(&self.0.swapper);
        let code = self.swapping(async move { Ok(swapper.module_code(&module)) }).await;
        match code {
            Ok(code) => code.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Lets a kept release serve: `wanted` is its version, or at least eight digits of its digest. One of a later
    /// generation than its component's state carries that over while the old release serves; only for what changed
    /// meanwhile are messages to the component held, and a crash leaves it to the next start.
    ///
    /// # Errors
    /// [`SwapError`]; what was serving keeps serving.
    pub async fn swap(&self, component: &str, wanted: String) -> Result<Swapped, SwapError> {
        self.swap_so(component, wanted, Swapping::default()).await
    }

    /// The same, with what an operator says about it.
    ///
    /// # Errors
    /// As [`Kernel::swap`].
    pub async fn swap_so(
        &self,
        component: &str,
        wanted: String,
        how: Swapping,
    ) -> Result<Swapped, SwapError> {
        let (swapper, component, asked) = self.asked(component)?;
        self.swapping(async move { swapper.swap_to(&component, &wanted, how, asked).await }).await
    }

    /// Lets the release serve that served before.
    ///
    /// # Errors
    /// [`SwapError`]; what was serving keeps serving.
    pub async fn rollback(&self, component: &str) -> Result<Swapped, SwapError> {
        let (swapper, component, asked) = self.asked(component)?;
        self.swapping(async move { swapper.rollback(&component, asked).await }).await
    }

    /// Builds that were burnt on probation, by component.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn quarantine(&self) -> Result<Vec<Quarantined>, SwapError> {
        self.0.swapper.quarantine()
    }

    /// Lifts the quarantine of a build, by version or by the start of its digest; answers what was lifted and the
    /// position of the commit. It serves again when somebody swaps to it, on probation.
    ///
    /// # Errors
    /// [`SwapError::NotQuarantined`], [`SwapError::NoSuchRelease`].
    pub async fn lift_quarantine(
        &self,
        component: &str,
        wanted: String,
    ) -> Result<(Quarantined, u64), SwapError> {
        let (swapper, component, asked) = self.asked(component)?;
        self.swapping(async move { swapper.lift(&component, &wanted, asked).await }).await
    }

    /// What a set of changes would do; nothing changes.
    ///
    /// # Errors
    /// [`SwapError`] for a build that is none, or a component or release that is not known.
    pub async fn plan_set(&self, set: SetRequest) -> Result<SetPlan, SwapError> {
        let swapper = Arc::clone(&self.0.swapper);
        self.swapping(async move { swapper.plan_set(set).await }).await
    }

    /// Installs, swaps and removes several components in one commit and with one table, or none of them.
    ///
    /// # Errors
    /// [`SwapError`]; what was serving keeps serving.
    pub async fn apply_set(&self, set: SetRequest) -> Result<SetApplied, SwapError> {
        let (swapper, asked) = (Arc::clone(&self.0.swapper), self.1);
        self.swapping(async move { swapper.apply_set(set, asked).await }).await
    }

    /// What an [`apply_set`](Self::apply_set) answered that this handle's request decided before.
    ///
    /// # Errors
    /// [`SwapError::Commit`] when the request is too old to be decided.
    pub fn applied_before(&self) -> Result<Option<SetApplied>, SwapError> {
        self.0.swapper.remembered(self.1)
    }

    /// Takes a component's seat away, and what waits for a grant or a start; answers the position of the commit.
    ///
    /// # Errors
    /// [`SwapError::NoSuchPlugin`] when it has nothing of these.
    pub async fn remove(&self, component: &str) -> Result<u64, SwapError> {
        let (swapper, component, asked) = self.asked(component)?;
        self.swapping(async move { swapper.remove(&component, asked).await }).await
    }

    /// Grants interfaces (`["all"]`: whatever its release imports); a staged release that now has all it needs serves.
    ///
    /// # Errors
    /// [`SwapError::NoSuchInterface`], [`SwapError::NoSuchPlugin`]; [`SwapError::GrantedOnly`] when the staged release
    /// does not serve for all that.
    pub async fn grant(
        &self,
        component: &str,
        interfaces: Vec<String>,
    ) -> Result<Option<Swapped>, SwapError> {
        let (swapper, component, asked) = self.asked(component)?;
        self.swapping(async move { swapper.grant(&component, &interfaces, asked).await }).await
    }

    /// Revokes interfaces; answers the position of the commit.
    ///
    /// # Errors
    /// [`SwapError::NoSuchInterface`], [`SwapError::NoSuchPlugin`].
    pub async fn revoke(&self, component: &str, interfaces: Vec<String>) -> Result<u64, SwapError> {
        let (swapper, component, asked) = self.asked(component)?;
        self.swapping(async move { swapper.revoke(&component, &interfaces, asked).await }).await
    }

    /// Writes down that an inbox candidate was refused. With the digest of its bytes, those are not tried again.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn refuse(
        &self,
        path: String,
        consumed: Option<Digest>,
        cause: String,
    ) -> Result<(), SwapError> {
        let swapper = Arc::clone(&self.0.swapper);
        self.swapping(async move { swapper.refuse(&path, consumed, &cause).await }).await
    }

    /// Whether these bytes were already consumed from this path.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_consumed(&self, path: &str, digest: Digest) -> Result<bool, SwapError> {
        Ok(self.0.store.is_consumed(path, &digest)?)
    }

    /// The component that a release of this digest belongs to.
    pub fn component_of(&self, digest: Digest) -> Option<String> {
        let records = self.0.store.releases(None).ok()?;
        records.into_iter().find(|record| record.digest == digest).map(|record| record.component.to_string())
    }

    /// The version of a component's release, and how it stands; none when there is no such release.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn standing(
        &self,
        component: &str,
        digest: Digest,
    ) -> Result<Option<(String, ReleaseStanding)>, SwapError> {
        self.0.swapper.release_standing(&plugin_id(component)?, digest)
    }

    /// Every plugin with a release: what serves, what waits, what it may use.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn plugins(&self) -> Result<Vec<Value>, SwapError> {
        listing::all(&self.0.swapper)
    }

    /// Everything about one plugin.
    ///
    /// # Errors
    /// [`SwapError::NoSuchPlugin`].
    pub fn plugin(&self, component: &str) -> Result<Value, SwapError> {
        let component = plugin_id(component)?;
        let mut told = listing::one(&self.0.swapper, &component)?;
        told["budgets"] = self.budgets(&component);
        Ok(told)
    }

    /// The component of the release that serves, as it was installed, and its version; of the newest when none serves.
    ///
    /// # Errors
    /// [`SwapError::NoSuchPlugin`], or the store's.
    pub fn component(&self, component: &str) -> Result<(String, Vec<u8>), SwapError> {
        let record = listing::shown(&self.0.swapper, &plugin_id(component)?)?;
        let bytes = self.0.swapper.bytes(&record)?;
        Ok((record.version, bytes))
    }

    /// Whether a release of this component serves.
    pub fn serves(&self, component: &ComponentId) -> bool {
        self.0.swapper.seats.current().releases.contains_key(component)
    }

    /// Messages that the release which serves this component has answered since it was loaded; 0 where none serves.
    pub fn answered(&self, component: &ComponentId) -> u64 {
        let table = self.0.swapper.seats.current();
        table.releases.get(component).map_or(0, |release| release.tally.usage().answered)
    }

    /// What each release that serves has used since this host loaded it: see [`Usage`](crate::Usage); and of which budgets.
    pub fn usage(&self) -> Vec<Value> {
        listing::usage(&self.0.swapper, &self.0.dispatcher.surroundings.allowances)
    }

    fn budgets(&self, component: &ComponentId) -> Value {
        listing::budgets(&self.0.store, &self.0.dispatcher.surroundings.allowances, component)
    }

    /// Releases whose code is loaded: those that serve, and retired ones that messages under way still hold.
    pub fn loaded_releases(&self) -> usize {
        self.0.swapper.loaded()
    }

    /// Whether a component that serves has a mind of its own: a persona or a curator.
    pub fn is_minded(&self, component: &ComponentId) -> bool {
        let table = self.0.seats.current();
        table.releases.get(component).is_some_and(|release| release.descriptor.kind != Kind::Behaviour)
    }

    /// Ids of serving personas.
    pub fn personas(&self) -> Vec<String> {
        let table = self.0.seats.current();
        let is_persona = |release: &&Arc<crate::seat::Release>| release.descriptor.kind == Kind::Persona;
        table.releases.values().filter(is_persona).map(|release| release.component.to_string()).collect()
    }

    /// What is granted to a component now.
    pub fn grants(&self, component: &str) -> Result<Vec<String>, SwapError> {
        Ok(self.0.grants.of(&plugin_id(component)?).into_iter().collect())
    }

    /// Named objects, in name order, after a name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn objects(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, ObjectError> {
        operator::list(&self.0.store, prefix, after, limit)
    }

    /// Everything about an object: slots, parents, what it understands.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchObject`].
    pub fn object(&self, target: &str) -> Result<Value, ObjectError> {
        operator::show(&self.0.store, &self.0.seats, target)
    }

    /// The kept states of an object, newest first, at most `limit` (capped at 100). `before`: only those with a smaller
    /// revision, which gives the next page.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchObject`].
    pub fn object_history(
        &self,
        target: &str,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Value>, ObjectError> {
        operator::history(&self.0.store, target, before, limit)
    }

    /// The object behind a name or an id.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchObject`].
    pub fn resolve(&self, target: &str) -> Result<ObjectId, ObjectError> {
        operator::resolve(&mut self.0.store.begin(), target)
    }

    /// Makes a named object that delegates to `parents`.
    ///
    /// # Errors
    /// [`ObjectError::NameTaken`], [`ObjectError::NoSuchObject`].
    pub async fn new_object(&self, name: &str, parents: &[String]) -> Result<(ObjectId, u64), ObjectError> {
        let made = operator::new(&self.0.store, name, parents, self.1).await?;
        Ok((made.id, made.position))
    }

    /// Sets a value slot, or removes it when there is no value.
    ///
    /// # Errors
    /// [`ObjectError::MethodSlot`], [`ObjectError::NoSuchObject`], [`ObjectError::Invalid`].
    pub async fn set_slot(
        &self,
        target: &str,
        slot: &str,
        value: Option<&Value>,
    ) -> Result<(ObjectId, u64), ObjectError> {
        let set = operator::set(&self.0.store, target, slot, value, self.1).await?;
        Ok((set.id, set.position))
    }

    /// Takes a name away from its object, which stays.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchObject`], [`ObjectError::RootName`] while the component of that name serves.
    pub async fn unname(&self, name: &str) -> Result<(ObjectId, u64), ObjectError> {
        let unnamed = operator::unname(&self.0.store, name, self.1).await?;
        Ok((unnamed.id, unnamed.position))
    }

    /// What the dispatcher has done so far.
    pub fn dispatch_stats(&self) -> DispatchStats {
        self.0.dispatcher.stats()
    }

    fn asked(&self, component: &str) -> Result<(Arc<Swapper>, ComponentId, Option<DedupeKey>), SwapError> {
        Ok((Arc::clone(&self.0.swapper), plugin_id(component)?, self.1))
    }

    /// Runs a change to its end, also when whoever asked for it leaves.
    async fn swapping<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SwapError>> + Send + 'static,
    ) -> Result<T, SwapError> {
        // Compiling takes a thread for as long as it takes; it must not be one that serves.
        let Some(guests) = &self.0.guests else {
            return Err(SwapError::Store("the host is stopping".into()));
        };
        let runtime = guests.handle().clone();
        let task = guests.spawn_blocking(move || runtime.block_on(work));
        task.await.unwrap_or_else(|error| Err(SwapError::CutShort(error.to_string())))
    }

    /// Hands text to the `boot` of a core module that components import, in an instance that reaches nothing: whether a
    /// component that carries this text would start.
    ///
    /// # Errors
    /// [`BootError`]: what is wrong with the text, in the module's words.
    pub async fn boot(&self, module: String, text: String) -> Result<(), BootError> {
        let swapper = Arc::clone(&self.0.swapper);
        let booted = self.on_guest_runtime(async move { swapper.boot(&module, &text).await }).await;
        booted.unwrap_or_else(|cause| Err(BootError::Hindered(cause)))
    }

    /// As [`boot`](Self::boot), of a module's bytes, and answers what its instance holds afterwards. Compiles the module
    /// when nobody has yet.
    ///
    /// # Errors
    /// [`BootError`].
    pub async fn boot_image(&self, module: Vec<u8>, text: String) -> Result<Image, BootError> {
        let swapper = Arc::clone(&self.0.swapper);
        let booted = self.swapping(async move { Ok(swapper.boot_image(&module, &text).await) }).await;
        booted.unwrap_or_else(|error| Err(BootError::Hindered(error.to_string())))
    }

    /// Runs work beside the guests; a panic there is caught and told.
    async fn on_guest_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        let Some(guests) = &self.0.guests else {
            return Err("the host is stopping".into());
        };
        let task = AbortOnDrop(guests.spawn(work));
        task.join().await.map_err(|error| error.to_string())
    }

    fn host_failure(&self, cause: String) -> Failure {
        let incident = self.0.journal.next_incident();
        self.0.journal.record(JournalLine {
            severity: Severity::Error,
            event: "message.host-failed",
            body: cause.clone(),
            trace: None,
            plugin: None,
            attributes: Map::from_iter([("incident".into(), Value::from(incident))]),
        });
        Failure::Host { cause, incident }
    }
}

/// A task that ends when nobody waits for it any more.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    async fn join(mut self) -> Result<T, tokio::task::JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn plugin_id(component: &str) -> Result<ComponentId, SwapError> {
    ComponentId::new(component).map_err(|_| SwapError::NoSuchPlugin(component.to_owned()))
}
