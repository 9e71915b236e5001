//! The host as commands see it; the only file that speaks to the bridge.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use telos_bridge::{
    CallError, CallOptions, Client, ClientConfig, ConnectError, Effect, Endpoint, Event, Stream,
};
use telos_guard::{DialError, OnFailure, PrivateKey, Proxy, Remote};
use telos_service::{Home, Supervision};
use tokio::sync::watch;

use crate::error::{CommandError, refused};
use crate::output::Output;

/// What most commands wait for at most. Compiling a large component may take a good part of it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Soon enough for a host that is started again to be found well before patience ends.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// One attempt to be greeted takes so long at most.
const GREETING_MAX: Duration = Duration::from_secs(3);

/// The pause between two attempts.
const GREETING_PAUSE: Duration = Duration::from_millis(200);

/// Methods that change nothing: without an answer, too, their effect is known.
const LOOKING: [&str; 20] = [
    "host.info",
    "host.vitals",
    "object.list",
    "object.show",
    "object.history",
    "plugin.list",
    "plugin.info",
    "plugin.check",
    "plugin.history",
    "plugin.quarantine",
    "plugin.top",
    "release.plan",
    "store.verify",
    "store.stats",
    "audit.list",
    "journal.tail",
    "journal.verify",
    "memory.search",
    "memory.stats",
    "memory.verify",
];

/// A host on another machine, and the file with the key to show there.
#[derive(Debug)]
pub(crate) struct Far {
    pub(crate) remote: Remote,
    pub(crate) key: PathBuf,
}

impl Far {
    /// A way there for this process, once the guard has let it in: that tells a refusal with its reason.
    pub(crate) async fn proxy(&self, output: &Output) -> Result<Proxy, CommandError> {
        let key = read_key(&self.key)?;
        telos_guard::greet(&self.remote, &key).await.map_err(not_let_in)?;
        let proxy = Proxy::private(self.remote.clone(), key, Some(tell_failure(*output))).await;
        proxy.map_err(|error| refused(error.to_string(), "mend what it names"))
    }
}

/// Where a host is looked for, and how long one that says nothing is waited for.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    pub(crate) home: &'a Path,
    /// Instead of the one at the home.
    pub(crate) far: Option<&'a Far>,
    /// Since its last sign of life. Work on a living host may take as long as it likes: its heartbeats go on.
    pub(crate) patience: Duration,
}

/// A session with one host.
pub(crate) struct Connection {
    client: Client,
    /// The way to a host elsewhere.
    proxy: Option<Proxy>,
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
    /// Connects to the host that runs at the home, or to the one elsewhere that was asked for.
    ///
    /// # Errors
    /// [`CommandError::NoHost`] when the home's endpoint file is absent or nobody listens there, at once unless somebody
    /// supervises the host: then a new one is waited for, as one that says nothing is; [`CommandError::Refused`] when the host elsewhere cannot be reached, or does not let us in.
    pub(crate) async fn open(reach: Reach<'_>, output: &Output) -> Result<Connection, CommandError> {
        Self::open_within(reach, reach.patience, output).await
    }

    /// The same, and a host that says nothing, or is started again, is waited for so long only.
    pub(crate) async fn open_within(
        reach: Reach<'_>,
        wait: Duration,
        output: &Output,
    ) -> Result<Connection, CommandError> {
        match reach.far {
            Some(far) => Self::open_far(far, reach.patience, output).await,
            None => Self::wait_for_home(reach, wait, output).await,
        }
    }

    async fn wait_for_home(
        reach: Reach<'_>,
        wait: Duration,
        output: &Output,
    ) -> Result<Connection, CommandError> {
        let deadline = Instant::now() + wait;
        let mut is_told = false;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let error =
                match Self::open_home(reach, remaining.clamp(GREETING_PAUSE, GREETING_MAX), output).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => error,
                };
            let Some(why) = worth_waiting(&error, reach.home) else { return Err(error) };
            if Instant::now() + GREETING_PAUSE >= deadline {
                return Err(waited_for(error, wait));
            }
            if !std::mem::replace(&mut is_told, true) {
                let home = reach.home.display();
                output.note(&format!(
                    "the host at {home} {why}; waiting for it for up to {} s",
                    wait.as_secs()
                ));
            }
            tokio::time::sleep(GREETING_PAUSE).await;
        }
    }

    async fn open_home(
        reach: Reach<'_>,
        connect_timeout: Duration,
        output: &Output,
    ) -> Result<Connection, CommandError> {
        let Reach { home, patience, .. } = reach;
        let run = home.join("run");
        let path = run.join("endpoint");
        let no_host = || CommandError::NoHost { home: home.to_owned() };
        let text = std::fs::read_to_string(&path).map_err(|_| no_host())?;
        let parsed = text.trim().parse::<Endpoint>();
        let endpoint = parsed.map_err(|source| CommandError::Endpoint { path, source })?;
        // The private socket needs no token; a port does, and the host writes it beside the endpoint.
        let token_file = matches!(endpoint, Endpoint::Tcp(_)).then(|| run.join("token"));
        let config = ClientConfig { token_file, connect_timeout, ..config(patience) };
        match Client::connect(endpoint, config).await {
            Ok(client) => {
                let told = format!("the host at {}", home.display());
                tokio::spawn(tell_silence(client.silence(), told, patience, *output));
                Ok(Connection { client, proxy: None })
            }
            // A dead host leaves its endpoint file behind; for a person it is the same as none.
            Err(ConnectError::NoHost { .. }) => Err(no_host()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks to be let in first, since that tells a refusal with its reason; then through a proxy of our own.
    async fn open_far(far: &Far, patience: Duration, output: &Output) -> Result<Connection, CommandError> {
        let proxy = far.proxy(output).await?;
        let client = Client::connect(proxy.endpoint().clone(), config(patience)).await;
        let address = far.remote.address();
        let client = client.map_err(|error| {
            refused(format!("the host at {address} let us in and did not answer: {error}"), "try again")
        })?;
        let told = format!("the host at {address}");
        tokio::spawn(tell_silence(client.silence(), told, patience, *output));
        Ok(Connection { client, proxy: Some(proxy) })
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
        if let Some(proxy) = self.proxy {
            proxy.close().await;
        }
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

/// Why a host is waited for that was not reached; none when waiting would not help.
fn worth_waiting(error: &CommandError, home: &Path) -> Option<&'static str> {
    match error {
        CommandError::NoHost { .. } if Supervision::is_held(&Home::at(home)) => Some("is being started"),
        CommandError::Connect(cause) if matches!(**cause, ConnectError::Silent { .. }) => {
            Some("does not answer")
        }
        _ => None,
    }
}

/// The error of the last attempt, with all the time that was waited.
fn waited_for(error: CommandError, wait: Duration) -> CommandError {
    match error {
        CommandError::Connect(cause) => match *cause {
            ConnectError::Silent { endpoint, .. } => ConnectError::Silent { endpoint, waited: wait }.into(),
            other => other.into(),
        },
        other => other,
    }
}

fn config(patience: Duration) -> ClientConfig {
    ClientConfig { silence_max: Some(patience), backoff_max: BACKOFF_MAX, ..ClientConfig::default() }
}

/// The key in a file of `telos keys new`.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKey, CommandError> {
    let next = "`telos keys new NAME --out FILE` makes one";
    PrivateKey::read(path).map_err(|error| refused(error.to_string(), next))
}

/// Says why the way to a host elsewhere does not come about any more, and what to do.
pub(crate) fn tell_failure(output: Output) -> OnFailure {
    Arc::new(move |error| output.note(&format!("telos: {error}\n  next: {}", let_in_next(error))))
}

/// A host elsewhere that is not reached, or says no, and what to do about it.
pub(crate) fn not_let_in(error: DialError) -> CommandError {
    refused(error.to_string(), let_in_next(&error))
}

fn let_in_next(error: &DialError) -> &'static str {
    match error {
        DialError::Refused { name, .. } if name == "unknown-key" => {
            "its operator lets a key in with `telos keys allow NAME PUBLICKEY --role ROLE`"
        }
        DialError::Refused { .. } => "`telos doctor` on that machine tells more; or try again later",
        DialError::HungUp { .. } | DialError::Stranger { .. } => {
            "compare the endpoint with the one that the host prints when it is ready"
        }
        _ => "see that the host there runs with `telos up --listen`, and that its port can be reached",
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
