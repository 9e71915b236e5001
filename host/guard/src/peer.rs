//! One connection through the guard: who it is, which door it gets, and what of its stream may pass.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use telos_bridge::{Endpoint, Role};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::greeting::Greeting;
use crate::guard::{Presence, Shared};
use crate::inspector::Inspector;
use crate::key::PublicKey;
use crate::noise::{Handshake, MESSAGE_BYTES, MESSAGE_BYTES_MAX};
use crate::os::{self, PrivateStream};
use crate::record::{Lost, RecordReader, RecordWriter, in_ms};
use crate::refusal::Refusal;
use crate::tunnel::{seal_through, write_plain};

type Reader = RecordReader<OwnedReadHalf>;
type Writer = RecordWriter<OwnedWriteHalf>;

/// Serves a connection until it ends, and says how.
pub(crate) async fn attend(presence: &Presence, stream: TcpStream) -> Lost {
    let allowed = presence.shared.limits.handshake;
    let late = || Lost::Refused(Refusal::Late { allowed_ms: in_ms(allowed) });
    let shaken = timeout(allowed, shake(&presence.shared, stream)).await.unwrap_or_else(|_| Err(late()));
    let (key, reader, mut writer) = match shaken {
        Ok(shaken) => shaken,
        Err(end) => {
            if matches!(end, Lost::Gone) {
                presence.count_ghost();
            }
            return end;
        }
    };
    let opened = open_door(presence, &key).await;
    let greeting = Greeting::of(opened.as_ref().map(|(role, _)| *role)).encode();
    let told = writer.write(&greeting, allowed).await;
    match (opened, told) {
        (Err(refusal), _) => {
            writer.close().await;
            Lost::Refused(refusal)
        }
        (Ok(_), Err(end)) => end,
        (Ok((_, door)), Ok(())) => {
            presence.count_admitted();
            let Err(end) = carry(&presence.shared, reader, writer, door).await;
            end
        }
    }
}

/// The handshake, and whose key it proved.
async fn shake(shared: &Shared, mut stream: TcpStream) -> Result<(PublicKey, Reader, Writer), Lost> {
    stream.set_nodelay(true)?;
    let refuse = |_| Lost::Refused(Refusal::Handshake);
    let mut handshake = Handshake::answer(&shared.host).map_err(refuse)?;
    let [hello, _, proof] = MESSAGE_BYTES;
    handshake.read(read_message(&mut stream, hello, &mut [0; MESSAGE_BYTES_MAX]).await?).map_err(refuse)?;
    stream.write_all(&handshake.write().map_err(refuse)?).await?;
    handshake.read(read_message(&mut stream, proof, &mut [0; MESSAGE_BYTES_MAX]).await?).map_err(refuse)?;
    let (key, sealer, opener) = handshake.finish().map_err(refuse)?;
    let (read_half, write_half) = stream.into_split();
    Ok((key, RecordReader::new(read_half, opener), RecordWriter::new(write_half, sealer)))
}

async fn read_message<'a>(
    stream: &mut TcpStream,
    bytes: usize,
    into: &'a mut [u8; MESSAGE_BYTES_MAX],
) -> Result<&'a [u8], Lost> {
    stream.read_exact(&mut into[..bytes]).await?;
    Ok(&into[..bytes])
}

/// The door of the role that the key grants. The list is small, and read anew each time: whoever was revoked a moment
/// ago does not come in.
async fn open_door(presence: &Presence, key: &PublicKey) -> Result<(Role, PrivateStream), Refusal> {
    let shared = &presence.shared;
    let list = shared.keys.read().map_err(|_| Refusal::NoList)?;
    let allowed = list.find(key).ok_or(Refusal::UnknownKey)?;
    presence.admit(allowed)?;
    let role = allowed.role;
    let door = shared.doors.iter().find(|door| door.role_max == role);
    let Some(Endpoint::Unix(path)) = door.map(|door| &door.endpoint) else {
        return Err(Refusal::NoDoor { role });
    };
    let stream = os::connect_private(path).await.map_err(|_| Refusal::NoDoor { role })?;
    Ok((role, stream))
}

/// Both directions, until one ends.
async fn carry(
    shared: &Shared,
    mut reader: Reader,
    mut writer: Writer,
    mut door: PrivateStream,
) -> Result<Infallible, Lost> {
    let (from_host, to_host) = door.split();
    tokio::select! {
        end = inspect_through(shared, &mut reader, to_host) => end,
        end = seal_through(from_host, &mut writer, shared.limits.silence) => end,
    }
}

/// What the peer sends, as far as it may pass.
async fn inspect_through<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    shared: &Shared,
    from: &mut RecordReader<R>,
    mut to: W,
) -> Result<Infallible, Lost> {
    let limits = &shared.limits;
    let greeted_by = Instant::now() + limits.handshake;
    let mut inspector = Inspector::new();
    let mut share = Share { all: &shared.unfinished, taken: 0 };
    let mut passed = Vec::new();
    loop {
        let content = if inspector.is_ready() {
            from.read(limits.silence).await?
        } else {
            read_by(from, greeted_by, limits.handshake).await?
        };
        passed.clear();
        let verdict = inspector.step(content, &mut passed);
        share.take(inspector.unfinished_bytes(), limits.unfinished_bytes_max)?;
        write_plain(&mut to, &passed, limits.silence).await?;
        verdict?;
    }
}

async fn read_by<R: AsyncRead + Unpin>(
    from: &mut RecordReader<R>,
    due: Instant,
    allowed: Duration,
) -> Result<&[u8], Lost> {
    let read = from.read(due.saturating_duration_since(Instant::now())).await;
    read.map_err(|end| match end {
        Lost::Refused(Refusal::Silent { .. }) => Lost::Refused(Refusal::Late { allowed_ms: in_ms(allowed) }),
        end => end,
    })
}

/// One peer's share of the bytes that the ROUTER holds of unfinished messages; given back when it is dropped.
struct Share<'a> {
    all: &'a AtomicUsize,
    taken: usize,
}

impl Share<'_> {
    /// Has so much from now on.
    fn take(&mut self, wanted: usize, allowed: usize) -> Result<(), Refusal> {
        let before = match wanted.checked_sub(self.taken) {
            Some(more) => self.all.fetch_add(more, Ordering::AcqRel),
            None => self.all.fetch_sub(self.taken - wanted, Ordering::AcqRel),
        };
        let others = before - self.taken;
        self.taken = wanted;
        if wanted > 0 && others + wanted > allowed { Err(Refusal::Room { allowed }) } else { Ok(()) }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.taken, Ordering::AcqRel);
    }
}
