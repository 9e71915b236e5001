//! Records: a sealed stream in pieces of bounded length, each behind two bytes that tell it.
//!
//! Noise seals at most 65,535 bytes at once. Pieces here are smaller, so that a connection holds little: about
//! three times [`CONTENT_BYTES_MAX`] each way, whatever its peer sends or does not read.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use crate::noise::{Opener, Sealer, TAG_BYTES};
use crate::refusal::Refusal;

/// What one record carries at most.
pub const CONTENT_BYTES_MAX: usize = 16 * 1024;
/// The longest record.
const RECORD_BYTES_MAX: usize = CONTENT_BYTES_MAX + TAG_BYTES;
/// The length before it.
const LENGTH_BYTES: usize = 2;

/// Why no record came or went.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The connection ended, or was reset: nobody is there to be told.
    Gone,
    Refused(Refusal),
}

impl From<io::Error> for Lost {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<Refusal> for Lost {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Reads records from one half of a connection.
pub(crate) struct RecordReader<R> {
    from: BufReader<R>,
    opener: Opener,
    record: Vec<u8>,
    content: Vec<u8>,
}

/// Writes records to the other half.
pub(crate) struct RecordWriter<W> {
    to: W,
    sealer: Sealer,
    record: Vec<u8>,
}

impl<R: AsyncRead + Unpin> RecordReader<R> {
    pub(crate) fn new(from: R, opener: Opener) -> Self {
        let from = BufReader::with_capacity(RECORD_BYTES_MAX + LENGTH_BYTES, from);
        Self { from, opener, record: vec![0; RECORD_BYTES_MAX], content: vec![0; RECORD_BYTES_MAX] }
    }

    /// The next record's content, waited for no longer than `patience`.
    pub(crate) async fn read(&mut self, patience: Duration) -> Result<&[u8], Lost> {
        let silent = || Lost::Refused(Refusal::Silent { allowed_ms: in_ms(patience) });
        let found = timeout(patience, self.read_sealed()).await.map_err(|_| silent())??;
        let forged = |_| Lost::Refused(Refusal::Record { found });
        let opened = self.opener.open(&self.record[..found], &mut self.content).map_err(forged)?;
        Ok(&self.content[..opened])
    }

    async fn read_sealed(&mut self) -> Result<usize, Lost> {
        let found = usize::from(self.from.read_u16().await?);
        if !(TAG_BYTES + 1..=RECORD_BYTES_MAX).contains(&found) {
            return Err(Lost::Refused(Refusal::Record { found }));
        }
        self.from.read_exact(&mut self.record[..found]).await?;
        Ok(found)
    }
}

impl<W: AsyncWrite + Unpin> RecordWriter<W> {
    pub(crate) fn new(to: W, sealer: Sealer) -> Self {
        Self { to, sealer, record: vec![0; LENGTH_BYTES + RECORD_BYTES_MAX] }
    }

    /// Writes one record of at most [`CONTENT_BYTES_MAX`], waiting no longer than `patience` for it to be taken.
    pub(crate) async fn write(&mut self, content: &[u8], patience: Duration) -> Result<(), Lost> {
        let (length, record) = self.record.split_at_mut(LENGTH_BYTES);
        let sealed = self.sealer.seal(content, record).map_err(|_| Lost::Gone)?;
        length.copy_from_slice(&u16::try_from(sealed).unwrap_or_default().to_be_bytes());
        let stalled = |_| Lost::Refused(Refusal::Stalled { allowed_ms: in_ms(patience) });
        let written = self.to.write_all(&self.record[..LENGTH_BYTES + sealed]);
        Ok(timeout(patience, written).await.map_err(stalled)??)
    }

    /// Says that nothing more comes.
    pub(crate) async fn close(&mut self) {
        let _ = self.to.shutdown().await;
    }
}

pub(crate) fn in_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
