//! What many, slow and silent peers can take. Goal: bounded places, memory and time, and honest peers served meanwhile.
//! Method: short limits where one is the subject; counts are waited for, and no speed is asserted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use telos_bridge::{Door, Endpoint, Role};
use telos_guard::{DialError, GuardLimits, Keys, Proxy, greet};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream, UnixListener};

use crate::fixture::{Post, RawPeer, allow, calm, eventually, relay, start_guard};
use crate::stream::{greeting, ready};

/// Connections of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// From another loopback address than honest peers have.
async fn connect_elsewhere(post: &Post) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    #[cfg(target_os = "linux")]
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(post.port()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ghosts_that_connect_and_leave_take_nothing_with_them() {
    let is_long = std::env::var_os("TELOS_LONG").is_some();
    let ghosts: u64 = if is_long { 10_000 } else { 1_000 };
    let post = Post::start(calm()).await;
    let key = post.allow("honest", Role::Client);
    let honest = post.client(&key).await;
    let before = post.guard.stats();
    let base = descriptors();
    for ghost in 0..ghosts {
        let mut stream = connect_elsewhere(&post).await;
        if ghost % 3 == 1 {
            let _ = stream.write_all(&[7; 20]).await;
        }
        if ghost % 100 == 0 {
            assert_eq!(honest.call("echo", json!(ghost)).await, json!(ghost));
            assert_eq!(greet(post.guard.remote(), &key).await.unwrap(), Role::Client);
        }
    }
    let gone =
        |stats: &telos_guard::GuardStats| stats.ghosts + stats.refused_for("displaced") - before.ghosts;
    eventually(|| gone(&post.guard.stats()) >= ghosts).await;
    eventually(|| (post.guard.stats().pending, post.guard.stats().connections) == (0, 1)).await;
    // Tests beside this one have descriptors too.
    eventually(|| descriptors() <= base + 64).await;
    assert!(post.guard.stats().admitted >= ghosts / 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_handshake_is_cut_off_in_time_and_does_not_hold_the_port() {
    let limits = GuardLimits { handshake: Duration::from_millis(500), address_pending_max: 4, ..calm() };
    let post = Post::start(limits).await;
    let mut lorises = Vec::new();
    for _ in 0..20 {
        let mut loris = connect_elsewhere(&post).await;
        loris.write_all(&[1; 30]).await.unwrap();
        lorises.push(loris);
    }
    eventually(|| post.refused("late") + post.refused("displaced") == 20).await;
    eventually(|| post.guard.stats().pending == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_full_of_silent_newcomers_lets_an_honest_one_in() {
    let post = Post::start(GuardLimits { pending_max: 8, ..calm() }).await;
    let key = post.allow("honest", Role::Client);
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(connect_elsewhere(&post).await);
    }
    eventually(|| post.guard.stats().pending == 8).await;
    assert_eq!(greet(post.guard.remote(), &key).await.unwrap(), Role::Client);
    assert_eq!(post.refused("displaced"), 1);
}

/// The last message of the handshake never comes as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_half_said_is_cut_off_in_time() {
    let post = Post::start(GuardLimits { handshake: Duration::from_millis(500), ..calm() }).await;
    let key = post.allow("honest", Role::Client);
    let remote = relay(&post.guard, async |mut peer, mut guard| {
        use tokio::io::AsyncReadExt as _;
        let mut said = [0; 48];
        peer.read_exact(&mut said).await.unwrap();
        guard.write_all(&said).await.unwrap();
        guard.read_exact(&mut said).await.unwrap();
        peer.write_all(&said).await.unwrap();
        peer.read_exact(&mut said[..40]).await.unwrap();
        guard.write_all(&said[..40]).await.unwrap();
        let _ = guard.read(&mut said).await;
    })
    .await;
    let error = greet(&remote, &key).await.unwrap_err();
    assert!(matches!(error, DialError::HungUp { .. }), "{error}");
    eventually(|| post.refused("late") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_and_does_not_greet_is_cut_off_in_time() {
    let post = Post::start(GuardLimits { handshake: Duration::from_millis(500), ..calm() }).await;
    let proxy = post.proxy(&post.allow("slow", Role::Client)).await;
    for begun in [&b""[..], &greeting()[..40], &[greeting(), ready(b"")[..9].to_vec()].concat()] {
        let before = post.refused("late");
        let mut peer = RawPeer::connect(&proxy).await;
        peer.send(begun).await;
        peer.read_to_the_end().await;
        eventually(|| post.refused("late") == before + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_connection() {
    let post = Post::start(GuardLimits { silence: Duration::from_millis(500), ..calm() }).await;
    let proxy = post.proxy(&post.allow("silent", Role::Client)).await;
    let mut peer = RawPeer::connect(&proxy).await;
    peer.send(&[greeting(), ready(b"")].concat()).await;
    peer.read_to_the_end().await;
    eventually(|| post.refused("silent") == 1).await;
    eventually(|| post.guard.stats().connections == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_of_one_key_are_bounded_and_others_come_in() {
    let post = Post::start(GuardLimits { key_connections_max: 2, ..calm() }).await;
    let (crowd, other) = (post.allow("crowd", Role::Client), post.allow("other", Role::Client));
    let proxy = post.proxy(&crowd).await;
    let _held = [RawPeer::connect(&proxy).await, RawPeer::connect(&proxy).await];
    eventually(|| post.guard.stats().connections == 2).await;
    let refused = greet(post.guard.remote(), &crowd).await.unwrap_err();
    assert!(matches!(&refused, DialError::Refused { name, .. } if name == "crowded-key"), "{refused}");
    assert_eq!(greet(post.guard.remote(), &other).await.unwrap(), Role::Client);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_a_door_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::at(dir.path().join("keys"));
    let gone = Endpoint::Unix(dir.path().join("nobody.sock"));
    let guard =
        start_guard(keys.clone(), vec![Door { endpoint: gone, role_max: Role::Client }], calm()).await;
    for role in [Role::Client, Role::Operator] {
        let key = allow(&keys, role.as_str(), role);
        let refused = greet(guard.remote(), &key).await.unwrap_err();
        assert!(matches!(&refused, DialError::Refused { name, .. } if name == "no-door"), "{refused}");
    }
}

/// A host that has more to say than a peer reads is held back: what lies between them is a fraction of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_holds_the_host_back() {
    const MIB: usize = 1 << 20;
    const OFFERED: usize = 256;
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::at(dir.path().join("keys"));
    let path = dir.path().join("client.sock");
    let host = UnixListener::bind(&path).unwrap();
    let door = Door { endpoint: Endpoint::Unix(path), role_max: Role::Client };
    let guard = start_guard(keys.clone(), vec![door], calm()).await;
    let proxy =
        Proxy::private(guard.remote().clone(), allow(&keys, "slow", Role::Client), None).await.unwrap();
    let _peer = RawPeer::connect(&proxy).await;
    let (mut stream, _) = host.accept().await.unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let offering = tokio::spawn(async move {
        for _ in 0..OFFERED * 16 {
            stream.write_all(&[0; MIB / 16]).await.unwrap();
            counted.fetch_add(MIB / 16, Ordering::AcqRel);
        }
    });
    let mut last = usize::MAX;
    while written.load(Ordering::Acquire) != last {
        last = written.load(Ordering::Acquire);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(!offering.is_finished(), "the host is held back");
    assert!(last < OFFERED / 4 * MIB, "{} MiB are on their way, most of them in the system", last / MIB);
    offering.abort();
}

/// The same with a bridge behind: it bounds what waits for one peer, and others are served.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_and_does_not_read_costs_others_nothing() {
    let post = Post::start(calm()).await;
    let honest = post.client(&post.allow("honest", Role::Client)).await;
    let proxy = post.proxy(&post.allow("slow", Role::Client)).await;
    let mut slow = RawPeer::connect(&proxy).await;
    slow.send(&crate::interop::opened_with_requests(24, 1 << 20)).await;
    let waiting = || {
        let peers = post.server.peers();
        peers.iter().map(|peer| peer.unacked_bytes + peer.waiting_bytes).max().unwrap_or(0)
    };
    eventually(|| waiting() > 20 << 20).await;
    assert!(waiting() <= 36 << 20, "{} bytes wait", waiting());
    let answer = honest.call("big", json!(1 << 20)).await;
    assert_eq!(answer.as_str().unwrap().len(), 1 << 20);
    drop(slow);
    eventually(|| post.guard.stats().connections == 1).await;
}
