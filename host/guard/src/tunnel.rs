//! A stream through the tunnel: records on one side, plain bytes on the other.
//!
//! Nothing is read before what was read is written, so whoever does not read holds the other end back, and a tunnel
//! holds no more than a record or two each way.

use std::convert::Infallible;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::record::{CONTENT_BYTES_MAX, Lost, RecordReader, RecordWriter, in_ms};
use crate::refusal::Refusal;

/// Seals what comes from a plain stream until either end is gone; `patience`: how long the other end may leave a
/// record untaken.
pub(crate) async fn seal_through<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut from: R,
    to: &mut RecordWriter<W>,
    patience: Duration,
) -> Result<Infallible, Lost> {
    let mut content = vec![0; CONTENT_BYTES_MAX];
    loop {
        let read = from.read(&mut content).await?;
        if read == 0 {
            to.close().await;
            return Err(Lost::Gone);
        }
        to.write(&content[..read], patience).await?;
    }
}

/// Opens what comes in records until either end is gone; `patience`: how long nothing may come, and how long it may be
/// left untaken.
pub(crate) async fn open_through<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    from: &mut RecordReader<R>,
    mut to: W,
    patience: Duration,
) -> Result<Infallible, Lost> {
    loop {
        let content = from.read(patience).await?;
        write_plain(&mut to, content, patience).await?;
    }
}

/// Writes all of it, waiting no longer than `patience`.
pub(crate) async fn write_plain<W: AsyncWrite + Unpin>(
    to: &mut W,
    content: &[u8],
    patience: Duration,
) -> Result<(), Lost> {
    let stalled = |_| Lost::Refused(Refusal::Stalled { allowed_ms: in_ms(patience) });
    Ok(timeout(patience, to.write_all(content)).await.map_err(stalled)??)
}
