//! A host's own workers: processes of this executable that are started with it, started again, and gone with it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use telos_bridge::{Endpoint, Workers};
use telos_journal::{Journal, Line, Producer, Rate, Severity};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::supervisor::{ChildEvent, IsHeard, OnChild, Rules, supervise};
use crate::worker::{WorkerRole, process_service};

/// How a host starts workers.
#[derive(Debug, Clone)]
pub struct CrewConfig {
    /// How many.
    pub workers: usize,
    /// What is run; it is given `worker --connect ENDPOINT --with-parent` after `arguments`.
    pub program: PathBuf,
    /// Before that.
    pub arguments: Vec<OsString>,
    /// What they do.
    pub roles: Vec<WorkerRole>,
}

/// How a host's own workers are, as its other parts see it. Cheap to clone.
///
/// What they do, the host itself does not: it waits for them, or refuses.
#[derive(Debug, Clone, Default)]
pub(crate) struct CrewStanding(Arc<Roll>);

#[derive(Debug, Default)]
struct Roll {
    roles: Vec<WorkerRole>,
    children: Mutex<Vec<Child>>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Child {
    /// It runs, or is about to.
    Wanted,
    /// It ended too often; says how.
    GivenUp(String),
}

impl CrewStanding {
    /// Workers that are about to be started; none where a host has none of its own.
    pub(crate) fn of(config: Option<&CrewConfig>) -> Self {
        let Some(config) = config else { return Self::default() };
        let children = Mutex::new(vec![Child::Wanted; config.workers]);
        Self(Arc::new(Roll { roles: config.roles.clone(), children }))
    }

    /// Whether the service is theirs.
    pub(crate) fn does(&self, service: &str) -> bool {
        let is_manned = !self.0.children.lock().is_empty();
        is_manned && self.0.roles.iter().any(|role| role.service() == service)
    }

    /// Whether none of them is started again.
    pub(crate) fn is_given_up(&self) -> bool {
        self.0.children.lock().iter().all(|child| matches!(child, Child::GivenUp(_)))
    }

    /// Each of them.
    pub(crate) fn children(&self) -> Vec<Child> {
        self.0.children.lock().clone()
    }

    pub(crate) fn hear(&self, index: usize, event: &ChildEvent) {
        if let Some(child) = self.0.children.lock().get_mut(index) {
            *child = match event {
                ChildEvent::GivenUp { how } => Child::GivenUp(how.clone()),
                _ => Child::Wanted,
            };
        }
    }
}

/// Workers under supervision. Dropping it kills them.
pub(crate) struct Crew {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Crew {
    pub(crate) fn start(
        config: &CrewConfig,
        standing: &CrewStanding,
        workers: &Workers,
        endpoint: &Endpoint,
        journal: &Arc<Journal>,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for index in 0..config.workers {
            let (config, endpoint, stopping) = (config.clone(), endpoint.to_string(), stopping.clone());
            let is_heard = listen(workers.clone());
            let told = tell(journal.producer("host", Rate::HOST), standing.clone(), index);
            tasks.spawn(async move {
                // A worker that ends by itself is missed all the same.
                let rules = Rules { is_over: |_| false, is_heard: Some(is_heard) };
                supervise(|| command(&config, &endpoint), rules, stopping, told).await;
            });
        }
        Self { stop, tasks }
    }

    /// Lets them end what they have, for some seconds.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

fn command(config: &CrewConfig, endpoint: &str) -> Command {
    let mut command = Command::new(&config.program);
    let roles: Vec<&str> = config.roles.iter().map(|role| role.service()).collect();
    command.args(&config.arguments).args(["worker", "--connect", endpoint, "--with-parent"]);
    command.args(["--roles", &roles.join(",")]).stdout(std::process::Stdio::null());
    command
}

/// A worker of the crew is heard of as long as it offers the service that names its process: not while it is silent, is
/// told to leave, or has nothing in hand but what is void.
fn listen(workers: Workers) -> IsHeard {
    Arc::new(move |pid| workers.offer(&process_service(pid)))
}

fn tell(host: Producer, standing: CrewStanding, index: usize) -> OnChild {
    Arc::new(move |event| {
        standing.hear(index, event);
        host.record(&line(event).with("worker", index + 1));
    })
}

fn line(event: &ChildEvent) -> Line {
    match event {
        ChildEvent::Started { pid } => {
            Line::new(Severity::Info, "worker.started", format!("a worker runs as process {pid}"))
                .with("pid", *pid)
        }
        ChildEvent::Ended { how, pause } => {
            let body = format!("a worker ended ({how}); it is started again in {} ms", pause.as_millis());
            Line::new(Severity::Warn, "worker.ended", body)
        }
        ChildEvent::NotStarted { cause, pause } => {
            let body = format!("a worker cannot be started ({cause}); again in {} ms", pause.as_millis());
            Line::new(Severity::Warn, "worker.not-started", body)
        }
        ChildEvent::GivenUp { how } => {
            let body = format!(
                "a worker ended too often ({how}) and is not started again; start one with `telos worker`, or the host \
                 again"
            );
            Line::new(Severity::Error, "worker.given-up", body)
        }
    }
}
