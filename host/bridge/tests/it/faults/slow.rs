//! Peers that ask for much in large messages and never read.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use telos_bridge::Client;
use tokio::net::UnixStream;

use super::Scale;
use super::child::{Child, PATIENCE, Part, Plan};
use super::figures::{Row, pulse, resting_pulse};
use super::parts::{Presence, read_presence};
use crate::below::Raw;
use crate::hostile::request;
use crate::wires::Wires;

const MIB: usize = 1024 * 1024;
/// What a call may have on its way, see `Reply::chunk`.
const STREAM_MAX: usize = 4 * MIB;
/// A window, what may wait beyond it (`Limits::reply_bytes_max`), and the one that is too many.
const REPLIES_MAX: usize = (4 + 32 + 2) * MIB;

pub(super) async fn never_read(wires: Wires, scale: Scale) -> Row {
    let dir = tempfile::tempdir().unwrap();
    // They do not beat either, and must not be found dead before they are found slow.
    let heartbeat = Some(Duration::from_secs(20));
    let plan = Plan { heartbeat, ..Plan::new(Part::Host, dir.path(), wires.host) };
    let host = Child::start_host(&plan).await;
    let client = Plan::new(Part::Clients, dir.path(), wires.client).client().await;
    let rest = resting_pulse(&client).await;
    let memory = host.memory_kib("VmRSS");
    let (rounds, mut held) = (scale.pick(1, 20), (0, 0));
    let ((), during) = pulse(&client, async {
        for round in 0..rounds {
            held.0 = held.0.max(flood(&client, dir.path(), round).await);
            held.1 = held.1.max(ask_and_never_read(&client, dir.path(), round).await);
        }
    })
    .await;
    assert!(held.0 <= STREAM_MAX, "{} bytes of a stream were held", held.0);
    assert!(held.1 <= REPLIES_MAX, "{} bytes of replies were held", held.1);
    Row {
        number: 17,
        fault: "readers of messages of 1 MiB that do not read",
        must_show: "at most 4 MiB of a stream held, 38 MiB of replies, then it is cut; an honest client served",
        seen: format!(
            "{rounds} of each: {} and {} KiB held at most; the host's memory rose by {} KiB at its highest; honest \
             client {rest}, then {during}",
            held.0 / 1024,
            held.1 / 1024,
            host.memory_kib("VmHWM").saturating_sub(memory)
        ),
    }
}

/// What was held for it at most, until its stream was cut.
async fn flood(client: &Client, dir: &Path, round: u64) -> usize {
    let (before, session) = (read_presence(client).await.slow_readers, 1_000 + round);
    let (mut slow, channel) = connect(dir, session).await;
    slow.send(&request(channel, 1, 1, "flood", &json!(MIB))).await;
    watch(client, session, |presence, _| presence.slow_readers > before).await
}

/// The same, until it was dropped.
async fn ask_and_never_read(client: &Client, dir: &Path, round: u64) -> usize {
    let session = 2_000 + round;
    let (mut slow, channel) = connect(dir, session).await;
    for number in 1..=40 {
        slow.send(&request(channel, number, number, "big", &json!(MIB))).await;
    }
    watch(client, session, |_, is_there| !is_there).await
}

async fn connect(dir: &Path, session: u64) -> (Raw<UnixStream>, u64) {
    let mut raw = Raw::shake_hands(&dir.join("host.sock"), "").await;
    let channel = raw.say_hello(u128::from(session)).await;
    (raw, channel)
}

/// The most that was held for a peer until something is so.
async fn watch(client: &Client, session: u64, is_so: impl Fn(&Presence, bool) -> bool) -> usize {
    let (since, mut most) = (Instant::now(), 0);
    loop {
        let presence = read_presence(client).await;
        let held = presence.held_bytes.get(&session.to_string());
        most = most.max(held.copied().unwrap_or(0));
        if is_so(&presence, held.is_some()) {
            return most;
        }
        assert!(since.elapsed() < PATIENCE, "it was never cut: {presence:?}");
    }
}
