//! A worker of this host: a process of its own that has minds or a sandbox, so that what goes wrong there ends nobody
//! else.

mod inference;
mod sandbox;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use telos_bridge::{
    Call, Effect, Endpoint, PppWorker, PppWorkerConfig, Reply, RpcError, Service, Worker, WorkerConfig,
    WorkerError,
};
use telos_inference::engine::Engine;
use telos_inference::{Catalogue, LlamaEngine, MindError, Minds, MindsConfig};
use telos_kernel::EngineError;

use crate::minding::wire;
use crate::sandboxing;
use inference::Inference;
use sandbox::Sandbox;

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerRole {
    /// Answers for minds.
    Inference,
    /// Tries components that nobody has vouched for.
    Sandbox,
}

impl WorkerRole {
    /// What this build can do, as a worker does it when no role is named.
    #[must_use]
    pub fn available() -> Vec<Self> {
        [Self::Inference, Self::Sandbox].into_iter().filter(|role| role.is_available()).collect()
    }

    /// Whether this build can do it: minds need llama.cpp.
    #[must_use]
    pub fn is_available(self) -> bool {
        LlamaEngine::IS_BUILT_IN || self != Self::Inference
    }

    /// The service that it offers.
    #[must_use]
    pub fn service(self) -> &'static str {
        match self {
            Self::Inference => wire::SERVICE,
            Self::Sandbox => sandboxing::SERVICE,
        }
    }
}

/// The beginning of the service that names a process.
const PROCESS: &str = "process.";
/// A host's own worker looks for it so often at least: it is there, or the worker ends with it.
const CREW_BACKOFF_MAX: Duration = Duration::from_secs(4);

/// A service that nobody asks for: by offering it, a host's own worker says which process it is.
pub(crate) fn process_service(pid: u32) -> String {
    format!("{PROCESS}{pid}")
}

/// The process that a service names.
pub(crate) fn process_of(service: &str) -> Option<u32> {
    service.strip_prefix(PROCESS)?.parse().ok()
}

/// What a worker is started with.
pub struct WorkerSetup {
    /// Its host.
    pub endpoint: Endpoint,
    /// Where the host writes the token of a TCP endpoint.
    pub token_file: Option<PathBuf>,
    /// What it does.
    pub roles: Vec<WorkerRole>,
    /// Jobs in hand at once.
    pub credit: u16,
    /// Whether its host started it.
    pub is_of_crew: bool,
    /// Where fetched minds are.
    pub models: PathBuf,
    /// What runs minds; none is llama.cpp where it is built in.
    pub engine: Option<Arc<dyn Engine>>,
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerStartError {
    /// The minds' engine.
    #[error("the minds' engine cannot start: {0}")]
    Minds(#[from] MindError),
    /// The sandbox.
    #[error("the sandbox cannot start: {0}")]
    Sandbox(#[from] EngineError),
    /// The bridge.
    #[error(transparent)]
    Bridge(#[from] WorkerError),
}

/// Starts a worker; it looks for its host until it is dropped or drained.
///
/// # Errors
/// [`WorkerStartError`].
pub fn start_worker(setup: WorkerSetup) -> Result<Worker, WorkerStartError> {
    let duties = Duties::new(&setup)?;
    let usual = WorkerConfig::default();
    let mut services: Vec<String> = setup.roles.iter().map(|role| role.service().to_owned()).collect();
    services.extend(setup.is_of_crew.then(|| process_service(std::process::id())));
    let config = WorkerConfig {
        services,
        credit: setup.credit,
        token_file: setup.token_file,
        backoff_max: if setup.is_of_crew { CREW_BACKOFF_MAX } else { usual.backoff_max },
        ..usual
    };
    Ok(Worker::start(setup.endpoint, config, Arc::new(duties))?)
}

/// Starts a worker for a bare Paranoid Pirate queue at the endpoint, which is asked in JSON-RPC, one request at a time;
/// credit and token say nothing there.
///
/// # Errors
/// [`WorkerStartError`].
pub fn start_ppp_worker(setup: WorkerSetup) -> Result<PppWorker, WorkerStartError> {
    let duties = BareDuties(Duties::new(&setup)?);
    Ok(PppWorker::start(setup.endpoint, PppWorkerConfig::default(), Arc::new(duties))?)
}

fn minds(engine: Option<&Arc<dyn Engine>>, models: &Path) -> Result<Minds, MindError> {
    let engine = match engine {
        Some(engine) => Arc::clone(engine),
        None => Arc::new(LlamaEngine::new(None)?),
    };
    Ok(Minds::open(models, Catalogue::bundled(), engine, MindsConfig::default()))
}

/// What this worker can do, by service.
struct Duties {
    inference: Option<Inference>,
    sandbox: Option<Sandbox>,
}

impl Duties {
    fn new(setup: &WorkerSetup) -> Result<Self, WorkerStartError> {
        let does = |role| setup.roles.contains(&role);
        let sandbox = if does(WorkerRole::Sandbox) { Some(Sandbox::new()?) } else { None };
        let inference = if does(WorkerRole::Inference) {
            Some(Inference::new(minds(setup.engine.as_ref(), &setup.models)?))
        } else {
            None
        };
        Ok(Self { inference, sandbox })
    }

    fn does(&self, service: &str) -> bool {
        (service == wire::SERVICE && self.inference.is_some())
            || (service == sandboxing::SERVICE && self.sandbox.is_some())
    }
}

impl Service for Duties {
    fn call(&self, call: Call, reply: Reply) {
        match (call.method.as_str(), &self.inference, &self.sandbox) {
            (wire::SERVICE, Some(inference), _) => inference.call(call, reply),
            (sandboxing::SERVICE, _, Some(sandbox)) => sandbox.call(call, reply),
            (other, ..) => reply.give_back(format!("this worker does not do `{other}`")),
        }
    }
}

/// The same for a bare queue, which knows nothing of services: what this worker does not do no other would be asked.
struct BareDuties(Duties);

impl Service for BareDuties {
    fn call(&self, call: Call, reply: Reply) {
        if self.0.does(&call.method) {
            return self.0.call(call, reply);
        }
        let message = format!("this worker does not do `{}`", call.method);
        let error = RpcError::new("no-such-method", Effect::None, message).with_code(-32_601);
        reply.finish(Err(error.with_next("ask in JSON-RPC 2.0, with the service as the method")));
    }
}
