//! One running host: started in order, stopped in reverse.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use telos_bridge::{
    BridgeConfig, BridgeError, CancelReason, CancelToken, Effect, Endpoint, PppConfig, PppServer, RpcError,
    Server, Service, Watcher, Workers, serve, serve_ppp,
};
use telos_guard::{Guard, GuardError};
use telos_inference::engine::Engine;
use telos_inference::{Catalogue, LlamaEngine, Minds, MindsConfig};
use telos_journal::{Journal, JournalConfig, JournalError, Line, Rate, Severity};
use telos_kernel::seams::JournalSink;
use telos_kernel::{
    CodeCache, CompilerSeat, CoreModulesSeat, Evolution, Forge, ForgeSeat, GenerationMode, InferenceTerms,
    Kernel, KernelConfig, KernelError, OnEvolving, ProbationTerms, SandboxSeat,
};
use telos_store::{OpenError, Store, StoreOptions, told};
use tokio::task::JoinHandle;

use crate::arrivals::{Arrivals, Bundle};
use crate::checks::{self, Check, Parts};
use crate::compiling::CompilingProcess;
use crate::crew::{Crew, CrewConfig, CrewStanding};
use crate::elsewhere::{Elsewhere, OnLine};
use crate::gate::{self, Gate};
use crate::home::Home;
use crate::isolating::TrialProcess;
use crate::journaling::{self, Facts, KernelJournal};
use crate::methods::{Methods, SpokenTo};
use crate::minding::KernelMinds;
use crate::minding::shared::SharedMinds;
use crate::outcome;
use crate::sandboxing::WorkerSandbox;
use crate::seal_key;
use telos_forge::{BuiltIn, Isolation, Workshop};

/// What a host is started with.
pub struct HostConfig {
    /// Where it keeps everything.
    pub home: Home,
    /// Plugin directories besides the home's own inbox.
    pub plugins: Vec<PathBuf>,
    /// Plugins that come with the executable.
    pub bundle: Bundle,
    /// Where fetched minds are.
    pub models: PathBuf,
    /// Loopback TCP instead of the private socket.
    pub tcp: Option<SocketAddr>,
    /// A pair of endpoints for bare Paranoid Pirate besides; none unless asked for, because bare frames know no token.
    pub ppp: Option<PppConfig>,
    /// An open port besides, behind a guard.
    pub listen: Option<SocketAddr>,
    /// How the store is kept: quotas, how much of the past.
    pub store: StoreOptions,
    /// What to do with staged plugins whose state is of an earlier generation.
    pub generations: GenerationMode,
    /// Hears how far that is; none: only the journal does.
    pub on_evolving: Option<OnEvolving>,
    /// How long a new release is on probation, and what burns it.
    pub probation: ProbationTerms,
    /// What each plugin may have of the minds.
    pub inference: InferenceTerms,
    /// What runs minds; none is llama.cpp where it is built in.
    pub engine: Option<Arc<dyn Engine>>,
    /// How soon a peer that fell silent is gone.
    pub pace: Pace,
    /// The program that compiles, and tries behaviours, in processes of its own, `telos`; none does both in this process.
    pub program: Option<PathBuf>,
    /// Workers of its own; none starts none.
    pub crew: Option<CrewConfig>,
}

/// How often peers of the bridge beat, and how many missed beats end one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From 10 ms to 60 s; peers learn it from the host. 1 s.
    pub heartbeat: Duration,
    /// From 1 to 1,000. 3.
    pub liveness: u32,
}

impl Default for Pace {
    fn default() -> Self {
        let BridgeConfig { heartbeat, liveness, .. } = BridgeConfig::default();
        Self { heartbeat, liveness }
    }
}

/// Why a host did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The home.
    #[error("the home cannot be used: {0}")]
    Home(#[from] std::io::Error),
    /// The store; also a home that another host uses.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The journal.
    #[error("the journal cannot be opened: {0}")]
    Journal(#[from] JournalError),
    /// The minds' engine.
    #[error("the minds' engine cannot start: {0}")]
    Minds(#[from] telos_inference::MindError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The bridge.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The forge's records.
    #[error("{0}")]
    Forge(String),
    /// The open port.
    #[error(transparent)]
    Guard(#[from] GuardError),
}

impl StartError {
    /// What to tell whoever started it: the causes, whole, and the step that fits them.
    pub fn to_rpc(&self) -> RpcError {
        match self {
            StartError::Store(cause) => outcome::start_error(cause),
            StartError::Home(cause) => {
                let (_, next) = outcome::file_trouble(cause.kind());
                RpcError::new("home", Effect::None, told(self)).with_next(next)
            }
            _ => RpcError::new("start", Effect::None, told(self))
                .with_next("mend what it names and start again"),
        }
    }
}

/// A running host. Stop it with [`Host::stop`]; dropping it also stops it, without waiting.
pub struct Host {
    home: Home,
    store: Store,
    journal: Arc<Journal>,
    kernel: Kernel,
    minds: Arc<Minds>,
    arrivals: Arc<Arrivals>,
    elsewhere: Elsewhere,
    server: Server,
    ppp: Option<PppServer>,
    crew: Option<Crew>,
    gate: Gate,
    isolation: Option<Arc<TrialProcess>>,
    stopping: CancelToken,
    watcher: JoinHandle<()>,
    facts: Facts,
    evolutions: Vec<Evolution>,
}

impl Host {
    /// Starts a host: store, journal, minds, kernel, what waits in the plugin directories, state that must be carried to
    /// another generation, and last the bridge, so that whoever can reach it finds it complete. Blocking work; call it
    /// from a thread that may wait. Dropped before it is done, it leaves what a crash would: nothing half done.
    ///
    /// # Errors
    /// [`StartError::Store`] when the home is in use by another host; every error names what could not be used, and is a
    /// line in the journal where that can be written.
    pub async fn start(config: HostConfig) -> Result<Self, StartError> {
        let home = config.home.clone();
        let started = Self::start_parts(config).await;
        if let Err(error) = &started {
            say_failed_start(&home, error);
        }
        started
    }

    async fn start_parts(config: HostConfig) -> Result<Self, StartError> {
        let home = config.home;
        if config.listen.is_some() {
            Guard::check_supported()?;
        }
        home.prepare()?;
        let was_decided = Store::is_restore_decided(&home.store());
        let store = Store::open(&home.store(), config.store)?;
        let audit = journaling::audit_at_hand(&store);
        let journal = Arc::new(Journal::open_beside(home.journal(), JournalConfig::default(), audit)?);
        if let Some(set_back) = journal.set_back() {
            let line = checks::older_store_line(&set_back);
            journal.producer("host", Rate::HOST).record(&line);
        }
        if was_decided {
            journal.producer("host", Rate::HOST).record(&checks::finished_restore_line());
        }
        for line in config.bundle.bring_back(&store) {
            journal.producer("host", Rate::HOST).record(&line);
        }
        let facts = Facts::follow(store.clone(), Arc::clone(&journal))?;
        let minds = Arc::new(minds(config.engine, &config.models)?);
        let sink = Arc::new(KernelJournal::new(Arc::clone(&journal)));
        let workers = Workers::new();
        let standing = CrewStanding::of(config.crew.as_ref());
        let elsewhere = Elsewhere::new(&workers, &standing, write_down(&journal));
        let sandbox = SandboxSeat(Some(Arc::new(WorkerSandbox(elsewhere.clone()))));
        let isolation = config.program.clone().map(|program| Arc::new(TrialProcess::by(program)));
        let workshop = Workshop::new(
            store.clone(),
            Arc::clone(&sink) as Arc<dyn JournalSink>,
            isolation.clone().map(|isolation| isolation as Arc<dyn Isolation>),
        )
        .map_err(|error| StartError::Forge(error.to_string()))?;
        let kernel_config = KernelConfig {
            cache: Some(CodeCache {
                directory: home.cache(),
                key: seal_key::read_or_make(&home.cache_key())?,
            }),
            compiler: CompilerSeat(
                config.program.map(|program| Arc::new(CompilingProcess::by(program)) as _),
            ),
            sandbox,
            threads: 0,
            probation: config.probation,
            core_modules: CoreModulesSeat(Some(Arc::new(BuiltIn))),
            forge: ForgeSeat(Some(Arc::clone(&workshop) as Arc<dyn Forge>)),
            inference: config.inference,
        };
        let own = Arc::new(KernelMinds(Arc::clone(&minds)));
        let shared = Arc::new(SharedMinds { own, elsewhere: elsewhere.clone() });
        let kernel = Kernel::start(store.clone(), &kernel_config, sink, shared)?;
        let mut directories = vec![home.inbox()];
        directories.extend(config.plugins);
        let arrivals = Arrivals::new(kernel.clone(), store.clone(), config.bundle, directories);
        arrivals.take_in_present().await;
        let evolutions = raise_generations(&kernel, config.generations, config.on_evolving).await?;
        kernel.begin();
        workshop.begin(&kernel);
        let stopping = CancelToken::new();
        let gate = Gate::default();
        let methods = Methods::new(&SpokenTo {
            home: &home,
            store: &store,
            journal: &journal,
            kernel: &kernel,
            minds: &minds,
            arrivals: &arrivals,
            elsewhere: &elsewhere,
            workshop: &workshop,
            gate: &gate,
            isolation: isolation.as_ref(),
        });
        let methods = methods.until(&stopping);
        let endpoint = match config.tcp {
            Some(address) => Endpoint::Tcp(address),
            None => default_endpoint(&home),
        };
        let gauge = config.ppp.as_ref().map(|pair| pair.gauge.clone());
        let methods: Arc<dyn Service> = Arc::new(methods.with_bare(gauge));
        let doors = if config.listen.is_some() { gate::doors(&home) } else { Vec::new() };
        let Pace { heartbeat, liveness } = config.pace;
        let bridge =
            BridgeConfig { doors, heartbeat, liveness, ..bridge_config(&home, workers.clone(), &journal) };
        let server = serve(endpoint, Arc::clone(&methods), bridge).await?;
        let ppp = match config.ppp {
            Some(pair) => Some(serve_ppp(pair, methods).await?),
            None => None,
        };
        let crew =
            config.crew.map(|crew| Crew::start(&crew, &standing, &workers, server.endpoint(), &journal));
        if let Some(listen) = config.listen {
            gate.open(listen, &home, &journal).await?;
        }
        let host = Self {
            crew,
            watcher: tokio::spawn(Arc::clone(&arrivals).watch()),
            home,
            store,
            journal,
            kernel,
            minds,
            arrivals,
            elsewhere,
            server,
            ppp,
            gate,
            isolation,
            stopping,
            facts,
            evolutions,
        };
        host.announce()?;
        Ok(host)
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> &Endpoint {
        self.server.endpoint()
    }

    /// The pair for bare Paranoid Pirate, when there is one.
    pub fn ppp(&self) -> Option<&PppServer> {
        self.ppp.as_ref()
    }

    /// Where peers on other machines reach it, with its key; none without an open port.
    pub fn remote(&self) -> Option<String> {
        self.gate.remote()
    }

    /// Its home.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Every readiness check, now.
    pub fn checks(&self) -> Vec<Check> {
        let home = self.home.root();
        let Self { store, journal, kernel, minds, arrivals, elsewhere, gate, .. } = self;
        let isolation = self.isolation.as_deref();
        checks::run(&Parts { home, store, journal, kernel, minds, arrivals, elsewhere, gate, isolation })
    }

    /// Ids of serving personas.
    pub fn personas(&self) -> Vec<String> {
        self.kernel.personas()
    }

    /// What its start did for each staged plugin whose state is of an earlier generation.
    pub fn evolutions(&self) -> &[Evolution] {
        &self.evolutions
    }

    /// Its kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Stops in order: messages under way are answered, for a few seconds, and new ones left to the next host; then
    /// everything said so far is in the journal.
    pub async fn stop(self) {
        let _ = std::fs::remove_file(self.home.endpoint_file());
        self.watcher.abort();
        self.stopping.cancel(CancelReason::Shutdown);
        let bare = async {
            if let Some(ppp) = self.ppp {
                ppp.shutdown().await;
            }
        };
        // The bridge says goodbye through the guard's connections, so it goes first.
        tokio::join!(self.server.shutdown(), bare);
        self.gate.close().await;
        // After the calls under way, which may need them.
        if let Some(crew) = self.crew {
            crew.stop().await;
        }
        let stopped = Line::new(Severity::Info, "host.stopped", "the host stopped");
        self.journal.producer("host", Rate::HOST).record(&stopped);
        // Joins the follower, so that every decision is in the journal before it closes.
        drop(self.facts);
        self.journal.close();
    }

    fn announce(&self) -> Result<(), std::io::Error> {
        let file = self.home.endpoint_file();
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, format!("{}\n", self.endpoint()))?;
        std::fs::rename(fresh, file)?;
        let started = Line::new(Severity::Info, "host.started", format!("ready at {}", self.endpoint()))
            .with("pid", std::process::id())
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("position", self.store.position().get());
        // Whoever reads the journal later has to see that this door was open.
        let started = match &self.ppp {
            Some(ppp) => started
                .with("ppp_frontend", ppp.frontend().to_string())
                .with("ppp_backend", ppp.backend().to_string()),
            None => started,
        };
        self.journal.producer("host", Rate::HOST).record(&started);
        Ok(())
    }
}

/// What becomes of orders that no worker answered.
fn write_down(journal: &Journal) -> OnLine {
    let orders = journal.producer("orders", Rate::default());
    Arc::new(move |line| {
        orders.record(line);
    })
}

/// Nothing where another host has the journal.
fn say_failed_start(home: &Home, error: &StartError) {
    let Ok(journal) = Journal::open(home.journal(), JournalConfig::default()) else { return };
    let told = error.to_rpc();
    let line = Line::new(Severity::Error, "host.start-failed", told.message).with("kind", told.data.kind);
    journal.producer("host", Rate::HOST).record(&line);
}

async fn raise_generations(
    kernel: &Kernel,
    mode: GenerationMode,
    told: Option<OnEvolving>,
) -> Result<Vec<Evolution>, StartError> {
    let told = told.unwrap_or_else(|| Arc::new(|_| {}));
    let raised = kernel.raise_generations(mode, told).await;
    raised.map_err(|error| KernelError::Store(error.to_string()).into())
}

fn minds(engine: Option<Arc<dyn Engine>>, models: &std::path::Path) -> Result<Minds, StartError> {
    let engine = match engine {
        Some(engine) => engine,
        None => Arc::new(LlamaEngine::new(None)?),
    };
    Ok(Minds::open(models, Catalogue::bundled(), engine, MindsConfig::default()))
}

fn bridge_config(home: &Home, workers: Workers, journal: &Journal) -> BridgeConfig {
    let peers = journal.producer("bridge", Rate::default());
    let watcher = Watcher::new(move |notice| {
        if !notice.is_routine() {
            peers.record(&journaling::peer_line(notice));
        }
    });
    let token_file = Some(home.run().join("token"));
    BridgeConfig { token_file, workers, watcher, ..BridgeConfig::default() }
}

#[cfg(unix)]
fn default_endpoint(home: &Home) -> Endpoint {
    Endpoint::Unix(home.socket())
}

#[cfg(not(unix))]
fn default_endpoint(_home: &Home) -> Endpoint {
    Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
}
