//! WASI, present but inert: no files, sockets or environment; a frozen clock; seeded randomness; stdout and stderr are
//! kept, bounded, and go to the journal when the message ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Map, Value};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use crate::seams::{JournalLine, Severity};
use crate::seat::Release;
use crate::tree::{RootClock, Tree};

/// Bytes of stdout and stderr that one message may leave in the journal; the rest is counted and dropped.
const OUTPUT_BYTES_MAX: usize = 8 << 10;

/// The WASI context of one message.
pub(crate) fn inert_wasi(clock: &RootClock, seed: [u8; 32], output: &GuestOutput) -> WasiCtx {
    let mut insecure = [0; 16];
    insecure.copy_from_slice(&seed[..16]);
    WasiCtxBuilder::new()
        .wall_clock(clock.clone())
        .monotonic_clock(clock.clone())
        .secure_random(StdRng::from_seed(seed))
        .insecure_random(StdRng::from_seed(seed))
        .insecure_random_seed(u128::from_le_bytes(insecure))
        .stdout(output.clone())
        .stderr(output.clone())
        .allow_tcp(false)
        .allow_udp(false)
        .build()
}

/// What a guest printed.
#[derive(Clone, Default)]
pub(crate) struct GuestOutput(Arc<Mutex<Printed>>);

#[derive(Default)]
struct Printed {
    kept: Vec<u8>,
    dropped: usize,
}

impl GuestOutput {
    fn append(&self, bytes: &[u8]) {
        let mut printed = self.0.lock();
        let room = OUTPUT_BYTES_MAX.saturating_sub(printed.kept.len()).min(bytes.len());
        printed.kept.extend_from_slice(&bytes[..room]);
        printed.dropped += bytes.len() - room;
    }

    /// The last line with something on it that is not a hint about backtraces: a panic's message, usually.
    pub(crate) fn last_line(&self) -> Option<String> {
        let printed = self.0.lock();
        let text = String::from_utf8_lossy(&printed.kept);
        let said = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: ");
        text.lines().rev().find(said).map(ToOwned::to_owned)
    }

    /// Gives what was printed to the journal, as the plugin's.
    pub(crate) fn write_to_journal(&self, tree: &mut Tree, release: &Release) {
        let printed = self.0.lock();
        if printed.kept.is_empty() {
            return;
        }
        let mut attributes = Map::new();
        attributes.insert("release".into(), release.version().to_string().into());
        if printed.dropped > 0 {
            attributes.insert("dropped_bytes".into(), Value::from(printed.dropped));
        }
        tree.surroundings.journal.record(JournalLine {
            severity: Severity::Info,
            event: "plugin.output",
            body: String::from_utf8_lossy(&printed.kept).trim_end().to_owned(),
            trace: Some(tree.root.trace.clone()),
            plugin: Some(release.component.to_string()),
            attributes,
        });
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(OUTPUT_BYTES_MAX)
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
