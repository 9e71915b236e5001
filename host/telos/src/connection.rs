//! The host as commands see it; the only file that speaks to the bridge.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use telos_bridge::{CallError, CallOptions, Client, ClientConfig, Endpoint, Event, Stream};

use crate::error::CommandError;

/// What most commands wait for at most. Compiling a large component may take a good part of it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

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
pub(crate) struct Pieces(Stream);

impl Connection {
    /// Connects to the host that runs at `home`.
    ///
    /// # Errors
    /// [`CommandError::NoHost`] when its endpoint file is absent or nobody listens there.
    pub(crate) async fn open(home: &Path) -> Result<Connection, CommandError> {
        let run = home.join("run");
        let path = run.join("endpoint");
        let no_host = || CommandError::NoHost { home: home.to_owned() };
        let text = std::fs::read_to_string(&path).map_err(|_| no_host())?;
        let parsed = text.trim().parse::<Endpoint>();
        let endpoint = parsed.map_err(|source| CommandError::Endpoint { path, source })?;
        // The private socket needs no token; a port does, and the host writes it beside the endpoint.
        let token_file = matches!(endpoint, Endpoint::Tcp(_)).then(|| run.join("token"));
        let config = ClientConfig { token_file, ..ClientConfig::default() };
        match Client::connect(endpoint, config).await {
            Ok(client) => Ok(Connection { client }),
            // A dead host leaves its endpoint file behind; for a person it is the same as none.
            Err(telos_bridge::ConnectError::NoHost { .. }) => Err(no_host()),
            Err(error) => Err(error.into()),
        }
    }

    /// One call with the usual deadline.
    pub(crate) async fn call(&self, method: &str, params: Value) -> Result<Value, CommandError> {
        Ok(self.client.call(method, params, CallOptions::with_deadline(DEADLINE)).await?)
    }

    /// One call whose answer comes in pieces.
    pub(crate) async fn stream(&self, method: &str, params: Value, deadline: Duration) -> Pieces {
        Pieces(self.client.stream(method, params, CallOptions::with_deadline(deadline)).await)
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
            return match self.0.recv().await {
                None => Ok(None),
                Some(Event::Accepted) => continue,
                Some(Event::Chunk { attempt, value }) => Ok(Some(Piece::Chunk { attempt, value })),
                Some(Event::Reset { attempt }) => Ok(Some(Piece::Reset { attempt })),
                Some(Event::Done(Ok(value))) => Ok(Some(Piece::Result(value))),
                Some(Event::Done(Err(error))) => Err(error),
            };
        }
    }
}
