//! How a kernel comes to be: what it is made of, and what serves from the first moment on.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Map;
use telos_store::{ComponentId, Store};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc};

use super::{Kernel, KernelConfig, KernelError, Parts};
use crate::MESSAGE_DEPTH_MAX;
use crate::admission::Admission;
use crate::allowance::Allowances;
use crate::archivist::Archivist;
use crate::code::Code;
use crate::dispatch::{Dispatcher, Surroundings};
use crate::engine::{EngineError, Engines};
use crate::examine::Examiner;
use crate::grant::Grants;
use crate::lane::Lanes;
use crate::seams::{JournalLine, JournalSink, Minds, Severity};
use crate::seat::{SeatTable, Seats};
use crate::shared::Shared;
use crate::swap::Swapper;
use crate::watch::{STRUCK_MAX, Watch};

impl Kernel {
    /// Starts on a store: loads what serves. What a kernel does unasked waits for [`Kernel::begin`], so that state can be
    /// carried over first.
    ///
    /// A seat whose release cannot be loaded is reported in the journal and does not serve; everything else does.
    ///
    /// # Errors
    /// When the machine cannot run guests, or the store cannot be read.
    pub fn start(
        store: Store,
        config: &KernelConfig,
        journal: Arc<dyn JournalSink>,
        minds: Arc<dyn Minds>,
    ) -> Result<Self, KernelError> {
        let engines = Arc::new(Engines::for_threads(config.threads)?);
        let (cache, compiler) = (config.cache.clone(), config.compiler.clone());
        let modules = config.core_modules.clone();
        let code = Code::new(Arc::clone(&engines), cache, compiler, modules, Arc::clone(&journal));
        let unreadable = |error: telos_store::Failure| KernelError::Store(error.to_string());
        let grants = Arc::new(Grants::load(&store).map_err(unreadable)?);
        let seats =
            Arc::new(Seats::new(SeatTable { position: store.position(), releases: Default::default() }));
        let examiner = Examiner::new(code).map_err(EngineError::from)?;
        let roots = engines.slots as usize / MESSAGE_DEPTH_MAX as usize;
        let shared = Shared {
            store: store.clone(),
            seats: Arc::clone(&seats),
            lanes: Arc::new(Lanes::default()),
            admission: Arc::new(Admission::new(roots)),
            traffic: Arc::default(),
        };
        let swapper = Swapper::new(
            shared.clone(),
            examiner,
            config.sandbox.clone(),
            Arc::clone(&grants),
            Arc::clone(&journal),
        );
        swapper.notices.remember_failures(&store).map_err(unreadable)?;
        report_unloadable(&swapper, journal.as_ref())?;
        let surroundings = Arc::new(Surroundings {
            pacer: engines.pacer.clone(),
            grants: Arc::clone(&grants),
            journal: Arc::clone(&journal),
            minds,
            allowances: Allowances::new(config.inference),
            archivist: Some(Arc::new(archivist(&store, &journal, &seats, &grants))),
            forge: config.forge.clone(),
        });
        let bell = Arc::new(Notify::new());
        let ring = Arc::clone(&bell);
        let on_posts = Box::new(move || ring.notify_one());
        let (struck, struck_out) = mpsc::channel(STRUCK_MAX);
        let dispatcher = Arc::new(Dispatcher::new(shared, engines, surroundings, on_posts, struck));
        let swapper = Arc::new(swapper);
        let watch = Watch::new(&dispatcher, Arc::clone(&swapper), config.probation);
        let guests = guest_runtime(config.threads)?;
        let parts = Parts {
            store,
            seats,
            grants,
            dispatcher,
            swapper,
            journal,
            bell,
            watch: Mutex::new(Some((watch, struck_out))),
            guests: Some(guests),
        };
        Ok(Self(Arc::new(parts), None))
    }
}

fn archivist(
    store: &Store,
    journal: &Arc<dyn JournalSink>,
    seats: &Arc<Seats>,
    grants: &Arc<Grants>,
) -> Archivist {
    let (seats, grants) = (Arc::clone(seats), Arc::clone(grants));
    let may = move |component: &ComponentId| {
        seats.current().releases.contains_key(component) && grants.allows(component, "archive")
    };
    Archivist::new(store.clone(), Arc::clone(journal), Arc::new(may))
}

fn guest_runtime(threads: usize) -> std::io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder.thread_name("telos-guest").enable_all().build()
}

fn report_unloadable(swapper: &Swapper, journal: &dyn JournalSink) -> Result<(), KernelError> {
    let unloadable = swapper.load_seats().map_err(|error| KernelError::Store(error.to_string()))?;
    for (component, error) in unloadable {
        journal.record(JournalLine {
            severity: Severity::Error,
            event: "plugin.unloadable",
            body: format!("{component} does not serve: {error}"),
            trace: None,
            plugin: None,
            attributes: Map::from_iter([("component".into(), component.to_string().into())]),
        });
    }
    Ok(())
}
