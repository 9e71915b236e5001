//! The host as commands see it; the only file that speaks to the bridge.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use telos_bridge::{CallError, CallOptions, Client, ClientConfig, Effect, Endpoint, Event, Stream};
use tokio::sync::watch;

use crate::error::CommandError;
use crate::output::Output;

/// What most commands wait for at most. Compiling a large component may take a good part of it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Soon enough for a host that is started again to be found well before patience ends.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Methods that change nothing: without an answer, too, their effect is known.
const LOOKING: [&str; 16] = [
    "host.info",
    "host.vitals",
    "object.list",
    "object.show",
    "object.history",
    "plugin.list",
    "plugin.info",
    "plugin.check",
    "plugin.history",
    "store.verify",
    "store.stats",
    "audit.list",
    "journal.tail",
    "memory.search",
    "memory.stats",
    "memory.verify",
];

/// Where a host is looked for, and how long one that says nothing is waited for.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    pub(crate) home: &'a Path,
    /// Since its last sign of life. Work on a living host may take as long as it likes: its heartbeats go on.
    pub(crate) patience: Duration,
}

/// A session with the host of one home.
pub(crate) struct Connection {
    client: Client,
}

/// One piece of a streamed answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    Chunk {
        attempt: u32,
        value: Value,
    },
    /// What came so far is void.
    Reset {
        attempt: u32,
    },
    /// The last one.
    Result(Value),
}

/// A streamed answer; dropping it cancels the call.
pub(crate) struct Pieces {
    stream: Stream,
    is_looking: bool,
}

impl Connection {
    /// Connects to the host that runs at the home.
    ///
    /// # Errors
    /// [`CommandError::NoHost`] when its endpoint file is absent or nobody listens there.
    pub(crate) async fn open(reach: Reach<'_>, output: &Output) -> Result<Connection, CommandError> {
        let Reach { home, patience } = reach;
        let run = home.join("run");
        let path = run.join("endpoint");
        let no_host = || CommandError::NoHost { home: home.to_owned() };
        let text = std::fs::read_to_string(&path).map_err(|_| no_host())?;
        let parsed = text.trim().parse::<Endpoint>();
        let endpoint = parsed.map_err(|source| CommandError::Endpoint { path, source })?;
        // The private socket needs no token; a port does, and the host writes it beside the endpoint.
        let token_file = matches!(endpoint, Endpoint::Tcp(_)).then(|| run.join("token"));
        let config = ClientConfig {
            token_file,
            silence_max: Some(patience),
            backoff_max: BACKOFF_MAX,
            ..ClientConfig::default()
        };
        match Client::connect(endpoint, config).await {
            Ok(client) => {
                let told = format!("the host at {}", home.display());
                tokio::spawn(tell_silence(client.silence(), told, patience, *output));
                Ok(Connection { client })
            }
            // A dead host leaves its endpoint file behind; for a person it is the same as none.
            Err(telos_bridge::ConnectError::NoHost { .. }) => Err(no_host()),
            Err(error) => Err(error.into()),
        }
    }

    /// One call with the usual deadline.
    pub(crate) async fn call(&self, method: &str, params: Value) -> Result<Value, CommandError> {
        let answer = self.client.call(method, params, CallOptions::with_deadline(DEADLINE)).await;
        Ok(answer.map_err(|error| known(error, is_looking(method)))?)
    }

    /// One call whose answer comes in pieces.
    pub(crate) async fn stream(&self, method: &str, params: Value, deadline: Duration) -> Pieces {
        let stream = self.client.stream(method, params, CallOptions::with_deadline(deadline)).await;
        Pieces { stream, is_looking: is_looking(method) }
    }

    /// Says goodbye, so that the host need not find out by heartbeats.
    pub(crate) async fn close(self) {
        self.client.close().await;
    }
}

impl Pieces {
    /// The next piece; nothing after [`Piece::Result`].
    ///
    /// # Errors
    /// The call's failure, once.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, CallError> {
        loop {
            return match self.stream.recv().await {
                None => Ok(None),
                Some(Event::Accepted) => continue,
                Some(Event::Chunk { attempt, value }) => Ok(Some(Piece::Chunk { attempt, value })),
                Some(Event::Reset { attempt }) => Ok(Some(Piece::Reset { attempt })),
                Some(Event::Done(Ok(value))) => Ok(Some(Piece::Result(value))),
                Some(Event::Done(Err(error))) => Err(known(error, self.is_looking)),
            };
        }
    }
}

/// One line when the host falls silent while something is asked of it, and one when it is back.
async fn tell_silence(mut silence: watch::Receiver<bool>, host: String, patience: Duration, output: Output) {
    while silence.changed().await.is_ok() {
        let is_silent = *silence.borrow_and_update();
        output.progress("");
        output.note(&match is_silent {
            true => format!("{host} does not answer; waiting for it for up to {} s", patience.as_secs()),
            false => format!("{host} answers again"),
        });
    }
}

fn is_looking(method: &str) -> bool {
    LOOKING.contains(&method)
}

/// What only looks has no effect, whatever became of it.
fn known(error: CallError, is_looking: bool) -> CallError {
    let effect = Effect::None;
    match error {
        CallError::Silent { waited, .. } if is_looking => CallError::Silent { waited, effect },
        CallError::Timeout { .. } if is_looking => CallError::Timeout { effect },
        CallError::Closed { .. } if is_looking => CallError::Closed { effect },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_answer_only_what_may_change_something_leaves_a_doubt() {
        let silent = |method: &str| {
            let error = CallError::Silent { waited: Duration::from_secs(30), effect: Effect::Unknown };
            CommandError::from(known(error, is_looking(method))).to_text()
        };
        let looked = silent("store.verify");
        assert!(looked.contains("nothing was changed") && looked.contains("telos up"), "{looked}");
        for method in ["store.rewrite", "object.forget", "object.send", "plugin.install"] {
            let said = silent(method);
            assert!(said.contains("is not known") && said.contains("telos audit"), "{method}: {said}");
        }
    }
}
