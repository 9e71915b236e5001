//! Peers that connect and are gone, or stay and say nothing.

use std::time::Duration;

use telos_bridge::{Client, Endpoint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Scale;
use super::child::{Child, Part, Plan};
use super::figures::{Pulse, Row, pulse, resting_pulse};
use super::parts::read_presence;
use crate::below::{Raw, greeting};
use crate::fixture::eventually;
use crate::hostile::hello;
use crate::wires::Wires;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// At once; fewer than a listening socket lets wait.
const TOGETHER: usize = 16;
/// Ghosts that stay at once.
const SILENT_MAX: usize = 64;

/// What one endpoint showed.
struct Haunting {
    name: &'static str,
    rest: Pulse,
    during: Pulse,
    files: (usize, usize, usize),
    /// Before, after half of them, after all.
    memory_kib: [u64; 3],
}

impl std::fmt::Display for Haunting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, rest, during, files, memory_kib } = self;
        write!(
            f,
            "{name}: files {} before, {} at most, {} after; memory {memory_kib:?} KiB; honest client {rest}, then {during}",
            files.0, files.1, files.2
        )
    }
}

pub(super) async fn come_and_go(wires: Wires, scale: Scale) -> Row {
    let ghosts = scale.pick(300, 10_000);
    let (unix, tcp) = (haunt(wires, false, ghosts / 2).await, haunt(wires, true, ghosts / 2).await);
    Row {
        number: 14,
        fault: "ghosts that connect and leave, half-open connections",
        must_show: "open files and sessions as before, an honest client served meanwhile",
        seen: format!("{ghosts} ghosts; {unix}; {tcp}"),
    }
}

async fn haunt(wires: Wires, is_tcp: bool, ghosts: usize) -> Haunting {
    let dir = tempfile::tempdir().unwrap();
    let heartbeat = Some(Duration::from_millis(200));
    let plan = Plan { heartbeat, is_tcp, ..Plan::new(Part::Host, dir.path(), wires.host) };
    let host = Child::start_host(&plan).await;
    let client = Plan { is_tcp, ..Plan::new(Part::Clients, dir.path(), wires.client) }.client().await;
    let rest = resting_pulse(&client).await;
    let (before, mut memory_kib) = (settled(&host, &client, 0).await, [host.memory_kib("VmRSS"); 3]);
    let (most, during) = pulse(&client, async {
        let first = send_ghosts(&host, &plan.endpoint(), ghosts / 2).await;
        memory_kib[1] = host.memory_kib("VmRSS");
        first.max(send_ghosts(&host, &plan.endpoint(), ghosts / 2).await)
    })
    .await;
    let after = settled(&host, &client, before).await;
    memory_kib[2] = host.memory_kib("VmRSS");
    assert!(after <= before, "{after} files are open, {before} were");
    let name = if is_tcp { "TCP" } else { "Unix" };
    Haunting { name, rest, during, files: (before, most, after), memory_kib }
}

/// Waits until only the honest client has a session and no more files are open than that, unless it is 0; how many.
async fn settled(host: &Child, client: &Client, files_max: usize) -> usize {
    let since = std::time::Instant::now();
    while read_presence(client).await.sessions != 1 {
        assert!(since.elapsed() < crate::fixture::SOON, "sessions of ghosts live on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eventually(|| files_max == 0 || host.files() <= files_max).await;
    host.files()
}

/// How many files the host had open at most.
async fn send_ghosts(host: &Child, endpoint: &Endpoint, count: usize) -> usize {
    let (mut silent, mut most) = (Vec::new(), 0);
    for first in (0..count).step_by(TOGETHER) {
        let ghosts = (first..count.min(first + TOGETHER)).map(|index| send_ghost(endpoint, index));
        let stayed = futures::future::join_all(ghosts).await;
        silent.extend(stayed.into_iter().flatten());
        most = most.max(host.files());
        if silent.len() >= SILENT_MAX {
            silent.clear();
        }
    }
    most
}

/// The connection, when it stays.
async fn send_ghost(endpoint: &Endpoint, index: usize) -> Option<Raw<Box<dyn Stream>>> {
    let mut raw = Raw(connect(endpoint).await);
    match index % 4 {
        0 => None,
        1 => {
            raw.write(&greeting()[..index / 4 % 64]).await;
            None
        }
        // Welcomed, or refused for want of a token.
        2 => {
            raw.greet("").await;
            raw.send(&hello(u128::try_from(index).unwrap() + 1)).await;
            raw.read_frame().await;
            None
        }
        _ => Some(raw),
    }
}

/// A Unix socket whose queue is full says so at once, where TCP waits.
async fn connect(endpoint: &Endpoint) -> Box<dyn Stream> {
    loop {
        match endpoint {
            Endpoint::Tcp(address) => return Box::new(TcpStream::connect(address).await.unwrap()),
            Endpoint::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => return Box::new(stream),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            },
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
