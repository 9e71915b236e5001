//! Peers that say they are another, and workers that say things again: raw frames of our protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::{Value, json};
use telos_bridge::{BridgeConfig, Class, Notice, SessionId, Watcher};

use super::Scale;
use super::child::{job, terms};
use super::figures::Row;
use super::loss::Yard;
use crate::fixture::{Host, calm, eventually};
use crate::hostile::{RawPeer, heartbeat, hello};
use crate::wires::Wires;

pub(super) async fn claimed(wires: Wires, scale: Scale) -> Row {
    let (twins, thieves) = claim_a_session(wires, scale.pick(20, 1_000)).await;
    let said_again = say_things_again(wires, scale.pick(50, 2_000)).await;
    Row {
        number: 16,
        fault: "another incarnation of a session, a stolen id, READY and DONE said again",
        must_show: "refused and noted, the owner undisturbed; no more credit than declared, no second job",
        seen: format!(
            "{twins} twins refused and noted, {thieves} thieves refused: the owner kept its session and its job; \
             READY and DONE {said_again} times each: 1 job at a time"
        ),
    }
}

/// How many came as another incarnation, and how many as the same.
async fn claim_a_session(wires: Wires, rounds: u64) -> (u64, u64) {
    let noted = Arc::<AtomicU64>::default();
    let heard = Arc::clone(&noted);
    let watcher = Watcher::new(move |notice| {
        heard.fetch_add(u64::from(matches!(notice, Notice::Twin { .. })), Ordering::SeqCst);
    });
    let mut yard = Yard::open(wires, BridgeConfig { watcher, ..calm() }, 2).await;
    yard.hire(1).await;
    let held = yard.client.order_stream("hands", job("hold", 1), terms(Class::Once, None)).await;
    eventually(|| yard.host.server.stats().orders_in_hand == 1).await;
    let peers = yard.host.server.peers();
    let owner = peers.iter().find(|peer| peer.worker.is_some()).unwrap().session;
    for _ in 0..rounds {
        come_as_twin(&yard.host, owner).await;
        come_as_thief(&yard.host, owner, 0).await;
        come_as_thief(&yard.host, owner, owner.incarnation).await;
    }
    let answer = yard.client.order("hands", job("moment", 2), terms(Class::Once, None)).await;
    assert_eq!(answer.unwrap(), json!(2));
    let stats = yard.host.server.stats();
    assert_eq!((noted.load(Ordering::SeqCst), stats.refused), (rounds, 3 * rounds));
    assert_eq!((stats.reconnects, stats.expired, stats.workers), (0, 0, 1));
    assert_eq!((stats.orders_in_hand, stats.given), (1, 2), "its job was not disturbed");
    drop(held);
    (rounds, 2 * rounds)
}

/// Another life of the same client: refused.
async fn come_as_twin(host: &Host, owner: SessionId) {
    let mut raw = RawPeer::connect(&host.socket_path()).await;
    raw.send(hello_of(owner.client, owner.incarnation + 1)).await;
    assert_eq!(raw.read().await[0][..], [0x29, 4]);
}

/// As one who comes back, without knowing the channel: refused too, without a note, since a greeting may be late.
async fn come_as_thief(host: &Host, owner: SessionId, incarnation: u64) {
    let mut raw = RawPeer::connect(&host.socket_path()).await;
    raw.send(hello_of(owner.client, incarnation)).await;
    assert_eq!(raw.read().await[0][..], [0x29, 4]);
    // The channels of this host are few.
    for channel in 1..=3 {
        raw.send(heartbeat(channel, 0)).await;
        assert_eq!(raw.read().await[0][..], [0x29, 1], "a stranger");
    }
}

/// The HELLO of a worker.
fn hello_of(client: u128, incarnation: u64) -> Vec<Bytes> {
    const INCARNATION: std::ops::Range<usize> = 18..26;
    const ROLE: usize = 50;
    let mut header = BytesMut::from(&hello(client)[0][..]);
    header[INCARNATION].copy_from_slice(&incarnation.to_be_bytes());
    header[ROLE] = 2;
    vec![header.freeze()]
}

/// A worker of one job at once that says everything so many times.
async fn say_things_again(wires: Wires, times: u64) -> u64 {
    // It asks for beats, which are answered twice an interval.
    let heartbeat = Duration::from_millis(100);
    let host = Host::start(wires, BridgeConfig { heartbeat, liveness: 200, ..BridgeConfig::default() }).await;
    let client = host.client().await;
    let order = || {
        let client = client.clone();
        tokio::spawn(async move { client.order("spare", json!(1), terms(Class::Once, None)).await })
    };
    let orders: Vec<_> = (0..3).map(|_| order()).collect();
    eventually(|| host.server.stats().orders_waiting == 3).await;
    let mut worker = RawWorker::hire(&host).await;
    for _ in 0..times {
        worker.send(1, &READY).await;
    }
    let first = worker.listen().await;
    for _ in 0..times {
        worker.say(&READY).await;
    }
    assert_eq!((first.len(), worker.listen().await.len(), in_hand(&host)), (1, 0, 1));
    for _ in 0..times {
        worker.say(&first[0].done()).await;
    }
    // The first frees the place, and the next job takes it.
    assert_eq!((worker.listen().await.len(), in_hand(&host)), (1, 1));
    let stats = host.server.stats();
    assert_eq!((stats.given, stats.orders_waiting, stats.fenced), (2, 1, times - 1));
    let (answer, _, _) = futures::future::select_all(orders).await;
    assert_eq!(answer.unwrap().unwrap(), json!("done"));
    times
}

fn in_hand(host: &Host) -> usize {
    host.server.peers().into_iter().find_map(|peer| peer.worker).unwrap().in_hand
}

/// What a worker says, but for its place in the channel.
struct Saying {
    kind: u8,
    rest: Bytes,
    payload: Option<Bytes>,
}

/// Credit 1, for the service `spare`.
const READY: Saying = Saying { kind: 0x01, rest: Bytes::from_static(b"\x00\x01spare"), payload: None };

/// A JOB that came.
struct Job(Vec<Bytes>);

impl Job {
    fn done(&self) -> Saying {
        let request: Value = serde_json::from_slice(&self.0[1]).unwrap();
        let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": "done" });
        // Its number and attempt.
        Saying { kind: 0x0a, rest: self.0[0].slice(25..37), payload: Some(answer.to_string().into()) }
    }
}

struct RawWorker {
    raw: RawPeer,
    channel: u64,
    serial: u64,
}

impl RawWorker {
    async fn hire(host: &Host) -> Self {
        let mut raw = RawPeer::connect(&host.socket_path()).await;
        raw.send(hello_of(99, 0)).await;
        let channel = raw.read_channel().await;
        let mut worker = Self { raw, channel, serial: 0 };
        worker.say(&READY).await;
        worker
    }

    async fn say(&mut self, saying: &Saying) {
        self.serial += 1;
        self.send(self.serial, saying).await;
    }

    async fn send(&mut self, serial: u64, saying: &Saying) {
        let mut header = BytesMut::new();
        header.put_u8(saying.kind);
        [self.channel, serial, 0].into_iter().for_each(|field| header.put_u64(field));
        header.put_slice(&saying.rest);
        self.raw.send([header.freeze()].into_iter().chain(saying.payload.clone()).collect()).await;
    }

    /// The jobs that came before the host's answer to a beat: all that it has given by now.
    async fn listen(&mut self) -> Vec<Job> {
        // A beat is answered when half an interval has passed since the last.
        tokio::time::sleep(Duration::from_millis(60)).await;
        self.raw.send(heartbeat(self.channel, 0)).await;
        let mut jobs = Vec::new();
        loop {
            let frames = self.raw.read().await;
            match frames[0][0] {
                0x22 => return jobs,
                0x04 => jobs.push(Job(frames)),
                _ => {}
            }
        }
    }
}
