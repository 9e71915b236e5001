//! The peer's side of the handshake: from an address and two keys to a tunnel, or the host's reason why not.

use std::io;
use std::time::Duration;

use telos_bridge::{Fault, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::greeting::Greeting;
use crate::key::PrivateKey;
use crate::noise::{Forged, Handshake, MESSAGE_BYTES, MESSAGE_BYTES_MAX};
use crate::record::{RecordReader, RecordWriter, in_ms};
use crate::remote::Remote;

/// How long it may take to be let in: the guard's own patience, and as much again for the way there.
pub(crate) const DIAL_MAX: Duration = Duration::from_secs(10);

/// Why a host did not let us in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// No connection.
    #[error("cannot reach {}: {cause}", remote.address())]
    Unreachable {
        /// Where.
        remote: Remote,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Nothing was said in time.
    #[error("{} did not let us in within {waited_ms} ms", remote.address())]
    Late {
        /// Where.
        remote: Remote,
        /// How long that was.
        waited_ms: u64,
    },
    /// It hung up before it said who it is: the endpoint's key is not its key, or it had no room.
    #[error("{} hung up; its key is another than the endpoint names, or it is not a TelOS host, or it is full", remote.address())]
    HungUp {
        /// Where.
        remote: Remote,
    },
    /// What it says is not from a host with the endpoint's key.
    #[error("{} is not the host whose key the endpoint names", remote.address())]
    Stranger {
        /// Where.
        remote: Remote,
    },
    /// It knows who we are, and does not let us in.
    #[error("{} refused our key: {reason}", remote.address())]
    Refused {
        /// Where.
        remote: Remote,
        /// The reason's name, as the host counts it.
        name: String,
        /// The reason.
        reason: String,
    },
}

impl DialError {
    /// The reason's name: a host's refusal as it counts it.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Late { .. } => "late",
            Self::HungUp { .. } => "hung-up",
            Self::Stranger { .. } => "stranger",
            Self::Refused { name, .. } => name,
        }
    }

    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unreachable { .. } | Self::Late { .. } => Fault::Peer,
            _ => Fault::Operator,
        }
    }
}

/// A way into a host.
pub(crate) struct Tunnel {
    pub(crate) role: Role,
    pub(crate) reader: RecordReader<OwnedReadHalf>,
    pub(crate) writer: RecordWriter<OwnedWriteHalf>,
}

/// Asks a host whether it lets this key in, and as what; leaves at once.
///
/// # Errors
/// [`DialError`], within ten seconds.
pub async fn greet(remote: &Remote, key: &PrivateKey) -> Result<Role, DialError> {
    dial(remote, key).await.map(|tunnel| tunnel.role)
}

/// Opens a tunnel.
pub(crate) async fn dial(remote: &Remote, key: &PrivateKey) -> Result<Tunnel, DialError> {
    let late = |_| DialError::Late { remote: remote.clone(), waited_ms: in_ms(DIAL_MAX) };
    timeout(DIAL_MAX, shake(remote, key)).await.map_err(late)?
}

async fn shake(remote: &Remote, key: &PrivateKey) -> Result<Tunnel, DialError> {
    let unreachable = |cause| DialError::Unreachable { remote: remote.clone(), cause };
    let hung_up = |_: io::Error| DialError::HungUp { remote: remote.clone() };
    let stranger = |_: Forged| DialError::Stranger { remote: remote.clone() };
    let mut stream = TcpStream::connect(remote.address()).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let mut handshake = Handshake::begin(key, remote.host()).map_err(stranger)?;
    stream.write_all(&handshake.write().map_err(stranger)?).await.map_err(hung_up)?;
    let mut message = [0; MESSAGE_BYTES_MAX];
    let answer = &mut message[..MESSAGE_BYTES[1]];
    stream.read_exact(answer).await.map_err(hung_up)?;
    handshake.read(answer).map_err(stranger)?;
    stream.write_all(&handshake.write().map_err(stranger)?).await.map_err(hung_up)?;
    let (_, sealer, opener) = handshake.finish().map_err(stranger)?;
    let (read_half, write_half) = stream.into_split();
    let (reader, writer) = (RecordReader::new(read_half, opener), RecordWriter::new(write_half, sealer));
    hear_greeting(remote, reader, writer).await
}

async fn hear_greeting(
    remote: &Remote,
    mut reader: RecordReader<OwnedReadHalf>,
    writer: RecordWriter<OwnedWriteHalf>,
) -> Result<Tunnel, DialError> {
    let remote = remote.clone();
    let Ok(record) = reader.read(DIAL_MAX).await else { return Err(DialError::HungUp { remote }) };
    match Greeting::decode(record) {
        Some(Greeting::Admitted(role)) => Ok(Tunnel { role, reader, writer }),
        Some(Greeting::Refused { name, reason }) => Err(DialError::Refused { remote, name, reason }),
        None => Err(DialError::Stranger { remote }),
    }
}
