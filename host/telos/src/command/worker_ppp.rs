//! `telos worker --ppp ENDPOINT`: work for a bare Paranoid Pirate queue, the ZeroMQ guide's or a host's backend.

use std::sync::Arc;
use std::time::Duration;

use telos_bridge::{Endpoint, PppStanding, PppWorker, PppWorkerConfig, Service};

use crate::error::{CommandError, refused};
use crate::output::Output;

/// How long the request in hand may still take once it is told to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers requests with `service`, one at a time, until `stop` is ready; the one in hand is then answered first.
///
/// # Errors
/// An endpoint that other machines can reach.
pub(crate) async fn run_ppp(
    endpoint: Endpoint,
    service: Arc<dyn Service>,
    stop: impl Future<Output = ()>,
    output: &Output,
) -> Result<(), CommandError> {
    let worker = PppWorker::start(endpoint.clone(), PppWorkerConfig::default(), service)
        .map_err(|cause| refused(cause.to_string(), "name a socket, or an address of this machine"))?;
    let mut standing = worker.standing();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            changed = standing.changed() => match changed {
                Ok(()) => output.note(&tell(*standing.borrow_and_update(), &endpoint)),
                Err(_) => break,
            },
        }
    }
    if !worker.drain(PATIENCE).await {
        output.note("a request was not done in time and is lost to its queue");
    }
    Ok(())
}

fn tell(standing: PppStanding, endpoint: &Endpoint) -> String {
    match standing {
        PppStanding::Heard => format!("ready for the queue at {endpoint}"),
        _ => format!("no queue answers at {endpoint}; looking for one"),
    }
}
