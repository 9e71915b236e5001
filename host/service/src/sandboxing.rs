//! Candidates tried by a worker, before the host's own process touches them.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use telos_bridge::{JobEvent, RpcError};
use telos_kernel::{Limits, Sandbox, TrialEnd};

use crate::elsewhere::{Elsewhere, Heard};

/// The service that a worker with a sandbox offers.
pub(crate) const SERVICE: &str = "sandbox";
/// Largest candidate that is sent: as base64 it fits in one message.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Compiling a large component on a busy machine takes a good part of it.
const TRIAL_TIME: Duration = Duration::from_secs(110);

/// What is asked of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    base64: String,
    limits: Limits,
}

impl Asked {
    /// The candidate's bytes and limits; none when they are not what a host sends.
    pub(crate) fn read(self) -> Option<(Vec<u8>, Limits)> {
        Some((BASE64.decode(self.base64).ok()?, self.limits))
    }
}

/// The workers' sandboxes as the kernel sees them.
pub(crate) struct WorkerSandbox(pub(crate) Elsewhere);

#[async_trait]
impl Sandbox for WorkerSandbox {
    async fn try_out(&self, bytes: &[u8], limits: Limits) -> Option<TrialEnd> {
        if bytes.len() > BYTES_MAX || !self.0.takes(SERVICE) {
            return None;
        }
        let params = serde_json::to_value(Asked { base64: BASE64.encode(bytes), limits }).ok()?;
        let mut errand = self.0.order(SERVICE, Instant::now() + TRIAL_TIME, None, &params);
        let outcome = loop {
            match errand.hear().await {
                Heard::Event(JobEvent::Done(outcome)) => break outcome,
                Heard::Event(_) => {}
                // The last worker went with it in hand, or before: there is time to do it here, where that may be.
                Heard::Nobody(absence) => return absence.refusal().map(not_now),
            }
        };
        match outcome.and_then(|value| serde_json::from_value(value).map_err(|error| confused(&error))) {
            Ok(end) => Some(end),
            // Nobody has touched it.
            Err(error) if error.data.kind == "busy" => Some(not_now(&error.message)),
            Err(error) => Some(TrialEnd::Lost(error.message)),
        }
    }
}

/// The same bytes may pass in a moment.
fn not_now(cause: &str) -> TrialEnd {
    TrialEnd::Refused { cause: cause.to_owned(), is_of_the_bytes: false, is_of_the_moment: true }
}

fn confused(error: &serde_json::Error) -> RpcError {
    let message =
        format!("a worker answered what it was not asked ({error}); run workers of the host's version");
    RpcError::new("confused", telos_bridge::Effect::None, message)
}
