//! What the shells of clients and workers wait for. Each is safe to drop: nothing is lost.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::socket::Line;

/// The next message; `None` when the line is lost. Without a line, for ever pending.
pub(crate) async fn hear(line: &mut Option<Line>) -> Option<Vec<Bytes>> {
    match line {
        Some(line) => line.incoming.recv().await,
        None => std::future::pending().await,
    }
}

/// The end of an attempt to connect. Without one, for ever pending.
pub(crate) async fn connected(connecting: &mut Option<JoinHandle<io::Result<Line>>>) -> io::Result<Line> {
    match connecting {
        Some(task) => task.await.unwrap_or_else(|cause| Err(io::Error::other(cause))),
        None => std::future::pending().await,
    }
}

/// That moment. Without one, for ever pending.
pub(crate) async fn until(wake_at: Option<Instant>) {
    match wake_at {
        Some(wake_at) => tokio::time::sleep_until(wake_at.into()).await,
        None => std::future::pending().await,
    }
}

/// Until the host has hung up on a line on which it was told goodbye, so that it was; at most some moments. What a
/// process leaves unwritten when it ends, nobody hears, and its peer would wait for heartbeats.
pub(crate) async fn farewell(line: Option<Line>) {
    const MOMENT: Duration = Duration::from_millis(200);
    if let Some(mut line) = line {
        let hung_up = async { while line.incoming.recv().await.is_some() {} };
        let _ = tokio::time::timeout(MOMENT, hung_up).await;
    }
}
