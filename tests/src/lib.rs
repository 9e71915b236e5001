//! Fixtures: a kernel on a store of its own, and the guests of `tests/guests`. Everything has a default, so whatever a
//! test sets matters to that test.

pub mod behaviour;
mod disk;
mod journal;
mod minds;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use telos_forge::Workshop;
use telos_kernel::seams::{Minds, NoMinds, StreamSink};
use telos_kernel::{
    Answer, CodeCache, CoreModulesSeat, Evolution, Failure, Forge, ForgeSeat, GenerationMode, Granting,
    InferenceTerms, InstallRequest, Kernel, KernelConfig, LinedUp, ProbationTerms, Root, SwapError, Swapped,
};
use telos_store::{ComponentId, DedupeKey, Json, OpenError, Slot, Store, StoreOptions, Vote};
use tempfile::TempDir;

pub use disk::Disk;
pub use journal::RecordingJournal;
pub use minds::{PIECES, ScriptedMinds};

/// The bytes of a built guest: `cargo xtask guests` puts them where `TELOS_GUESTS` says, or into `target/guests`.
///
/// # Panics
/// When it is not built, saying how to build it.
pub fn guest(name: &str) -> Vec<u8> {
    let path = guest_path(name);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask guests`", path.display()))
}

/// Where a built guest is.
pub fn guest_path(name: &str) -> PathBuf {
    let directory = std::env::var_os("TELOS_GUESTS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guests")),
        PathBuf::from,
    );
    directory.join(format!("{name}.wasm"))
}

/// A kernel on a store in a directory of its own; both go when it is dropped.
pub struct TestKernel {
    /// The kernel.
    pub kernel: Kernel,
    /// Its store.
    pub store: Store,
    /// What it said.
    pub journal: Arc<RecordingJournal>,
    /// Where behaviour is made, in a kernel that forges.
    pub workshop: Option<Arc<Workshop>>,
    home: Option<TempDir>,
}

/// What to send; see [`TestKernel::send_as`].
#[derive(Default)]
pub struct Sending {
    /// Time to answer; 10 s.
    pub within: Option<Duration>,
    /// The session and number.
    pub request: Option<DedupeKey>,
    /// Where pieces go.
    pub sink: Option<Arc<dyn StreamSink>>,
}

impl TestKernel {
    /// An empty kernel without minds.
    pub fn new() -> Self {
        Self::with_minds(Arc::new(NoMinds))
    }

    /// An empty kernel with minds.
    pub fn with_minds(minds: Arc<dyn Minds>) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        Self::in_home(home, minds)
    }

    /// An empty kernel with minds, of which each component may have so much.
    pub fn with_minds_on_terms(minds: Arc<dyn Minds>, inference: InferenceTerms) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let store = open(home.path());
        let config = KernelConfig { inference, ..KernelConfig::default() };
        let kernel = Self::configured(Some(home), store, minds, config);
        kernel.kernel.begin();
        kernel
    }

    /// A kernel with these guests installed, each granted all it imports.
    pub async fn with_guests(guests: &[&str]) -> Self {
        let kernel = Self::new();
        for name in guests {
            kernel.install(name).await;
        }
        kernel
    }

    /// An empty kernel without minds, on a disk in the test's hands.
    pub fn on_disk(disk: &Disk) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let reopen = Duration::from_millis(1);
        let options = StoreOptions {
            reopen_first: reopen,
            reopen_longest: reopen,
            room_poll: reopen,
            ..StoreOptions::default()
        };
        let store = open_roomy(&home.path().join("store"), disk, options);
        Self::on_store(home, store, Arc::new(NoMinds))
    }

    /// A kernel without minds in a directory that outlives it.
    pub fn over(directory: &Path) -> Self {
        let kernel = Self::unbegun(None, open(directory), Arc::new(NoMinds));
        kernel.kernel.begin();
        kernel
    }

    /// The same, after a start that raises generations.
    pub async fn over_raising(directory: &Path, mode: GenerationMode) -> (Self, Vec<Evolution>) {
        Self::unbegun(None, open(directory), Arc::new(NoMinds)).raising(mode).await
    }

    /// A kernel without minds in a directory that outlives it, whose releases are on probation on these terms.
    pub fn over_on_terms(directory: &Path, terms: ProbationTerms) -> Self {
        let kernel = Self::started(None, open(directory), Arc::new(NoMinds), terms);
        kernel.kernel.begin();
        kernel
    }

    /// A kernel without minds whose releases are on probation on these terms.
    pub fn on_terms(terms: ProbationTerms) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let store = open(home.path());
        let kernel = Self::started(Some(home), store, Arc::new(NoMinds), terms);
        kernel.kernel.begin();
        kernel
    }

    /// A kernel without minds over a store of its own.
    pub fn with_options(options: StoreOptions) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&home.path().join("store"), options).expect("a store");
        Self::on_store(home, store, Arc::new(NoMinds))
    }

    fn in_home(home: TempDir, minds: Arc<dyn Minds>) -> Self {
        let store = open(home.path());
        Self::on_store(home, store, minds)
    }

    fn on_store(home: TempDir, store: Store, minds: Arc<dyn Minds>) -> Self {
        let kernel = Self::unbegun(Some(home), store, minds);
        kernel.kernel.begin();
        kernel
    }

    async fn raising(self, mode: GenerationMode) -> (Self, Vec<Evolution>) {
        let raised = self.kernel.raise_generations(mode, Arc::new(|_| {})).await.expect("a store that reads");
        self.kernel.begin();
        (self, raised)
    }

    /// A kernel that does nothing unasked yet.
    fn unbegun(home: Option<TempDir>, store: Store, minds: Arc<dyn Minds>) -> Self {
        Self::started(home, store, minds, ProbationTerms::default())
    }

    fn started(
        home: Option<TempDir>,
        store: Store,
        minds: Arc<dyn Minds>,
        probation: ProbationTerms,
    ) -> Self {
        Self::configured(home, store, minds, KernelConfig { probation, ..KernelConfig::default() })
    }

    /// A kernel that has no core module for components, as a host of the contract that is not ours.
    pub fn without_engine() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let store = open(home.path());
        let kernel = Self::running(Some(home), store, Arc::new(NoMinds), KernelConfig::default());
        kernel.kernel.begin();
        kernel
    }

    fn configured(home: Option<TempDir>, store: Store, minds: Arc<dyn Minds>, config: KernelConfig) -> Self {
        let core_modules = CoreModulesSeat(Some(Arc::new(telos_forge::BuiltIn)));
        Self::running(home, store, minds, KernelConfig { core_modules, ..config })
    }

    fn running(home: Option<TempDir>, store: Store, minds: Arc<dyn Minds>, config: KernelConfig) -> Self {
        let journal = Arc::new(RecordingJournal::default());
        // Compiled code is shared between tests, so that each guest is compiled once per run.
        let cache = std::env::temp_dir().join("telos-test-cache");
        std::fs::create_dir_all(&cache).expect("a cache directory");
        let config =
            KernelConfig { cache: Some(CodeCache { directory: cache, key: [1; 32] }), threads: 2, ..config };
        let sink: Arc<RecordingJournal> = Arc::clone(&journal);
        let kernel = Kernel::start(store.clone(), &config, sink, minds).expect("a kernel");
        Self { kernel, store, journal, home, workshop: None }
    }

    /// A kernel in a directory that outlives it, which makes behaviour for messages that nobody understands.
    pub fn over_forging(directory: &Path, probation: ProbationTerms) -> Self {
        Self::over_forging_with(directory, probation, Arc::new(NoMinds))
    }

    /// The same, with minds.
    pub fn over_forging_with(directory: &Path, probation: ProbationTerms, minds: Arc<dyn Minds>) -> Self {
        let store = open(directory);
        let journal = Arc::new(RecordingJournal::default());
        let workshop = Workshop::new(store.clone(), journal, None).expect("a workshop");
        let forge = ForgeSeat(Some(Arc::clone(&workshop) as Arc<dyn Forge>));
        let config = KernelConfig { probation, forge, ..KernelConfig::default() };
        let kernel = Self::configured(None, store, minds, config);
        kernel.kernel.begin();
        workshop.begin(&kernel.kernel);
        Self { workshop: Some(workshop), ..kernel }
    }

    /// The workshop.
    ///
    /// # Panics
    /// In a kernel that does not forge.
    pub fn workshop(&self) -> &Arc<Workshop> {
        self.workshop.as_ref().expect("a kernel that forges")
    }

    /// The same home, opened by a kernel that knows nothing but what was stored.
    pub fn restart(mut self) -> Self {
        let home = self.home.take().expect("a home");
        drop(self);
        Self::in_home(home, Arc::new(NoMinds))
    }

    /// The same home, on other terms.
    pub fn restart_on_terms(mut self, terms: ProbationTerms) -> Self {
        let home = self.home.take().expect("a home");
        drop(self);
        let store = open(home.path());
        let kernel = Self::started(Some(home), store, Arc::new(NoMinds), terms);
        kernel.kernel.begin();
        kernel
    }

    /// The same home after a start as a host does it, which carries state to other generations.
    pub async fn restart_raising(self, mode: GenerationMode) -> (Self, Vec<Evolution>) {
        self.restart_after(|_| (), mode).await
    }

    /// The same after something was done to the home while no host had it.
    pub async fn restart_after(
        mut self,
        meanwhile: impl FnOnce(&Path),
        mode: GenerationMode,
    ) -> (Self, Vec<Evolution>) {
        let home = self.home.take().expect("a home");
        drop(self);
        // What the kernel had under way holds the store for a moment longer.
        drop(open(home.path()));
        meanwhile(home.path());
        let store = open(home.path());
        Self::unbegun(Some(home), store, Arc::new(NoMinds)).raising(mode).await
    }

    /// Where it keeps everything.
    pub fn path(&self) -> &Path {
        self.home.as_ref().expect("a home").path()
    }

    /// Installs a guest, granted all it imports.
    pub async fn install(&self, name: &str) -> Swapped {
        self.try_install(name, Granting::All).await.expect("an installed guest")
    }

    /// Installs a guest with the given grants.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn try_install(&self, name: &str, grants: Granting) -> Result<Swapped, SwapError> {
        let request = InstallRequest { source: format!("{name}.wasm"), grants, ..InstallRequest::default() };
        self.kernel.install(guest(name), request).await
    }

    /// Sends a message and gives its value.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn send(&self, receiver: &str, selector: &str, arguments: Value) -> Result<Value, Failure> {
        Ok(self.send_as(receiver, selector, arguments, Sending::default()).await?.value)
    }

    /// Sends a message with everything that can be said about it.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn send_as(
        &self,
        receiver: &str,
        selector: &str,
        arguments: Value,
        sending: Sending,
    ) -> Result<Answer, Failure> {
        self.kernel.send(root(receiver, selector, &arguments, sending)).await
    }

    /// Takes a message in: its place is that of this call. It has a minute.
    pub fn line_up(&self, receiver: &str, selector: &str, arguments: Value) -> LinedUp {
        let within = Some(Duration::from_secs(60));
        self.kernel.line_up(root(receiver, selector, &arguments, Sending { within, ..Sending::default() }))
    }
}

/// Waits while what a kernel before had under way still holds the store.
fn open(directory: &Path) -> Store {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match Store::open(&directory.join("store"), StoreOptions::default()) {
            Err(OpenError::InUse { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            opened => return opened.expect("a store"),
        }
    }
}

fn root(receiver: &str, selector: &str, arguments: &Value, sending: Sending) -> Root {
    Root {
        receiver: receiver.to_owned(),
        selector: selector.to_owned(),
        arguments: Json::from_value(arguments).expect("small arguments"),
        deadline: Instant::now() + sending.within.unwrap_or(Duration::from_secs(10)),
        request: sending.request,
        sink: sending.sink,
    }
}

/// A store whose file is larger than what it holds: redb syncs under a lock of its readers while its file grows, so a
/// held disk would hold readers too.
fn open_roomy(dir: &Path, disk: &Disk, options: StoreOptions) -> Store {
    let store = Store::open_with_backend(dir, disk.clone(), options).expect("a store");
    let ballast = Json::from_value(&"x".repeat(200 * 1024).into()).expect("a large value");
    let mut unit = store.begin();
    for _ in 0..8 {
        let object = unit.create(ComponentId::operator(), 1, Vec::new()).expect("an object");
        unit.set_slot(object, "ballast", Slot::Value(ballast.clone())).expect("a slot");
    }
    store.decide(unit, Vote::default()).wait().expect("a commit");
    store
}

/// Copies a directory and everything in it.
///
/// # Panics
/// When something of it cannot be copied.
pub fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            std::fs::create_dir_all(&target).expect("a directory");
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Waits until something is so.
///
/// # Panics
/// When it is not after a minute; `what` says what was waited for.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not after a minute");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Default for TestKernel {
    fn default() -> Self {
        Self::new()
    }
}
