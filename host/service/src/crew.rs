//! A host's own workers: processes of this executable that are started with it, started again, and gone with it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use telos_bridge::Endpoint;
use telos_journal::{Journal, Line, Rate, Severity};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::supervisor::{ChildEvent, OnChild, supervise};

/// How a host starts workers.
#[derive(Debug, Clone)]
pub struct CrewConfig {
    /// How many.
    pub workers: usize,
    /// What is run; it is given `worker --connect ENDPOINT --with-parent` after `arguments`.
    pub program: PathBuf,
    /// Before that.
    pub arguments: Vec<OsString>,
}

/// Workers under supervision. Dropping it kills them.
pub(crate) struct Crew {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Crew {
    pub(crate) fn start(config: &CrewConfig, endpoint: &Endpoint, journal: &Arc<Journal>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for index in 1..=config.workers {
            let (config, endpoint, stopping) = (config.clone(), endpoint.to_string(), stopping.clone());
            let told = tell(Arc::clone(journal), index);
            tasks.spawn(async move {
                supervise(|| command(&config, &endpoint), stopping, told).await;
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
    command.args(&config.arguments).args(["worker", "--connect", endpoint, "--with-parent"]);
    command.stdout(std::process::Stdio::null());
    command
}

fn tell(journal: Arc<Journal>, index: usize) -> OnChild {
    let host = journal.producer("host", Rate::HOST);
    Arc::new(move |event| {
        host.record(&line(event).with("worker", index));
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
                "a worker ended too often ({how}) and is not started again; the host does its work, or start one with \
                 `telos worker`"
            );
            Line::new(Severity::Error, "worker.given-up", body)
        }
    }
}
