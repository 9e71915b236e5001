//! Trials for a host elsewhere.

use std::sync::Arc;

use telos_bridge::{Call, Effect, Reply, RpcError};
use telos_kernel::seams::{JournalLine, JournalSink};
use telos_kernel::{CoreModulesSeat, EngineError, TrialRoom};

use crate::sandboxing::Asked;
use telos_forge::BuiltIn;

/// Answers `sandbox` in engines of this process.
pub(super) struct Sandbox {
    room: Arc<TrialRoom>,
}

/// Trials have no journal: what a candidate logs while it is tried is nobody's.
struct Nowhere;

impl JournalSink for Nowhere {
    fn record(&self, _line: JournalLine) {}

    fn next_incident(&self) -> u64 {
        0
    }
}

impl Sandbox {
    pub(super) fn new() -> Result<Self, EngineError> {
        Ok(Self {
            room: Arc::new(TrialRoom::new(CoreModulesSeat(Some(Arc::new(BuiltIn))), Arc::new(Nowhere))?),
        })
    }

    pub(super) fn call(&self, call: Call, reply: Reply) {
        let room = Arc::clone(&self.room);
        tokio::spawn(async move {
            let asked = serde_json::from_value::<Asked>(call.params.clone()).ok().and_then(Asked::read);
            let Some((bytes, limits)) = asked else {
                let error = RpcError::new("invalid-params", Effect::None, "this is no order of `sandbox`");
                return reply.finish(Err(error.with_next("run workers of the host's version")));
            };
            let tried = tokio::select! {
                end = room.try_out(&bytes, limits) => Some(end),
                () = call.cancelled.cancelled() => None,
            };
            match tried.map(serde_json::to_value) {
                Some(Ok(end)) => reply.finish(Ok(end)),
                Some(Err(error)) => {
                    reply.finish(Err(RpcError::new("unspeakable", Effect::None, error.to_string())))
                }
                None => reply.give_back("told to stop"),
            }
        });
    }
}
