//! `telos worker`: a process that does work for a host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;
use telos_bridge::{Endpoint, Standing, Worker};
use telos_service::{Home, WorkerRole, WorkerSetup, start_worker};

use crate::command::{models_dir, worker_ppp};
use crate::connection::Reach;
use crate::error::{CommandError, refused};
use crate::output::Output;
use crate::stop::{StopSignal, parent_gone};

/// A host that has not welcomed it by then is said to be looked for; that goes on until it is there.
const GREETING: Duration = Duration::from_secs(1);

/// Arguments of `telos worker`.
#[derive(Args, Debug)]
pub(crate) struct WorkerArguments {
    /// Work for the bare Paranoid Pirate queue there instead, as in ZeroMQ's guide; it is asked in JSON-RPC.
    #[arg(long, value_name = "ENDPOINT", conflicts_with_all = ["token_file", "credit", "with_parent"])]
    ppp: Option<Endpoint>,

    /// Where the host writes the token of a TCP endpoint [default: HOME/run/token].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// What to do, separated by commas [default: everything that this build can].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROLE")]
    roles: Vec<Role>,

    /// Jobs at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    credit: u16,

    /// How long jobs in hand are waited for when it is told to stop, in seconds.
    #[arg(long, value_name = "N", default_value_t = 5)]
    drain_s: u64,

    /// End when standard input ends, as whoever started it does.
    #[arg(long, hide = true)]
    with_parent: bool,
}

impl WorkerArguments {
    /// Whether it works for a bare queue.
    pub(crate) fn is_bare(&self) -> bool {
        self.ppp.is_some()
    }
}

/// See [`WorkerRole`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Runs minds.
    Inference,
    /// Tries components that nobody has vouched for.
    Sandbox,
}

impl From<Role> for WorkerRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Inference => Self::Inference,
            Role::Sandbox => Self::Sandbox,
        }
    }
}

/// Works until it is told to stop, or its host will not have it. `near` is where the host is, if it was said; else it is
/// the host at the home, or behind an open port.
pub(crate) async fn run(
    arguments: WorkerArguments,
    reach: Reach<'_>,
    near: Option<Endpoint>,
    output: &Output,
) -> Result<(), CommandError> {
    let lacking = arguments.roles.iter().find(|role| !WorkerRole::from(**role).is_available());
    if lacking.is_some() {
        return Err(refused(
            "this build is without llama.cpp, so it runs no minds",
            "use a `telos` with llama.cpp",
        ));
    }
    let mut stop = StopSignal::new()?;
    let home = reach.home;
    if let Some(queue) = &arguments.ppp {
        let setup = setup(&arguments, queue.clone(), home);
        return worker_ppp::run(setup, Duration::from_secs(arguments.drain_s), stop.wait(), output).await;
    }
    let proxy = match reach.far {
        Some(far) => Some(far.proxy(output).await?),
        None => None,
    };
    let endpoint = match (&proxy, near) {
        (Some(proxy), _) => proxy.endpoint().clone(),
        (None, Some(endpoint)) => endpoint,
        (None, None) => endpoint_of(home)?,
    };
    // The local end of a way elsewhere means nothing to anybody.
    let place = reach.far.map_or_else(|| endpoint.to_string(), |far| far.remote.to_string());
    let worker = start_worker(setup(&arguments, endpoint, home))
        .map_err(|cause| refused(cause.to_string(), "mend what it names and start it again"))?;
    let mut standing = worker.standing();
    let mut told = std::pin::pin!(tokio::time::sleep(GREETING));
    let mut is_told = false;
    loop {
        tokio::select! {
            () = &mut told, if !is_told => {
                is_told = true;
                tell(&Standing::Away, &place, output)?;
            }
            changed = standing.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                is_told = true;
                let now = standing.borrow_and_update().clone();
                tell(&now, &place, output)?;
            }
            () = stop.wait() => return leave(worker, &arguments, output).await,
            () = parent_gone(arguments.with_parent) => return leave(worker, &arguments, output).await,
        }
    }
}

async fn leave(worker: Worker, arguments: &WorkerArguments, output: &Output) -> Result<(), CommandError> {
    if !arguments.with_parent {
        output.note("stopping");
    }
    if !worker.drain(Duration::from_secs(arguments.drain_s)).await {
        output.note("jobs that were not done in time go to other workers");
    }
    Ok(())
}

fn setup(arguments: &WorkerArguments, endpoint: Endpoint, home: &Path) -> WorkerSetup {
    let is_tcp = matches!(endpoint, Endpoint::Tcp(_));
    let token_file = arguments.token_file.clone().or_else(|| is_tcp.then(|| home.join("run").join("token")));
    let roles = match arguments.roles.as_slice() {
        [] => WorkerRole::available(),
        asked => asked.iter().map(|role| WorkerRole::from(*role)).collect(),
    };
    WorkerSetup {
        endpoint,
        token_file,
        roles,
        credit: arguments.credit,
        is_of_crew: arguments.with_parent,
        models: models_dir(home),
        engine: None,
    }
}

fn endpoint_of(home: &Path) -> Result<Endpoint, CommandError> {
    let path = Home::at(home).endpoint_file();
    let no_host = || CommandError::NoHost { home: home.to_owned() };
    let text = std::fs::read_to_string(&path).map_err(|_| no_host())?;
    text.trim().parse().map_err(|source| CommandError::Endpoint { path, source })
}

fn tell(standing: &Standing, endpoint: &str, output: &Output) -> Result<(), CommandError> {
    let say = |state: &str| {
        let value = json!({"worker": state, "endpoint": endpoint});
        output.result(&value, |_, _| format!("{state}  endpoint {endpoint}\n"))
    };
    match standing {
        Standing::Welcome => say("ready"),
        Standing::Away => say("looking for its host"),
        Standing::Refused(cause) => Err(cause.clone().into()),
        Standing::Stuck => Err(refused(
            "every job in hand has been void for half a minute and does not stop",
            "start the worker again",
        )),
        _ => Ok(()),
    }
}
