//! `telos worker --ppp`: the same work for a bare Paranoid Pirate queue, the ZeroMQ guide's or a host's backend.

use std::time::Duration;

use serde_json::json;
use telos_bridge::{Endpoint, PppStanding};
use telos_service::{WorkerSetup, start_ppp_worker};

use crate::error::{CommandError, refused};
use crate::output::Output;

/// Works until `stop` is ready; the request in hand is then answered first, within `patience`.
///
/// # Errors
/// What the worker could not start with.
pub(crate) async fn run(
    setup: WorkerSetup,
    patience: Duration,
    stop: impl Future<Output = ()>,
    output: &Output,
) -> Result<(), CommandError> {
    let endpoint = setup.endpoint.clone();
    let worker = start_ppp_worker(setup)
        .map_err(|cause| refused(cause.to_string(), "mend what it names and start it again"))?;
    let mut standing = worker.standing();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            changed = standing.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                tell(*standing.borrow_and_update(), &endpoint, output)?;
            }
        }
    }
    output.note("stopping");
    if !worker.drain(patience).await {
        output.note("the request that was not done in time is its queue's to give to another");
    }
    Ok(())
}

fn tell(standing: PppStanding, endpoint: &Endpoint, output: &Output) -> Result<(), CommandError> {
    let state = match standing {
        PppStanding::Heard => "ready",
        PppStanding::Away => "looking for its queue",
        _ => return Ok(()),
    };
    let value = json!({"worker": state, "endpoint": endpoint.to_string()});
    output.result(&value, |_, _| format!("{state}  endpoint {endpoint}\n"))
}
