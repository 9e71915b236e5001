//! Goal: what a worker is given is done once, by somebody, whatever becomes of the worker.
//! Method: real sockets; workers in this process, and others that are this test binary in a child, killed and stopped
//! while they have jobs in hand.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telos_bridge::{
    BridgeConfig, Call, CallError, Class, Client, ClientConfig, Endpoint, Event, JobEvent, Limits,
    OrderOptions, Reply, Role, Service, Standing, Wire, Worker, WorkerConfig, WorkerState, Workers,
};

use crate::fixture::{Host, SOON, calm, eventually, quick};
use crate::wires::{Wires, on_every_wire};

/// Does what its parameters say.
#[derive(Default)]
struct Hand {
    begun: AtomicUsize,
    gate: tokio::sync::Notify,
}

struct Hands(Arc<Hand>);

impl Service for Hands {
    fn call(&self, call: Call, reply: Reply) {
        let hand = Arc::clone(&self.0);
        hand.begun.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move { work(call, reply, &hand).await });
    }
}

async fn work(call: Call, reply: Reply, hand: &Hand) {
    match call.params.as_str() {
        Some("wait") => {
            call.cancelled.cancelled().await;
            reply.give_back("told to stop");
        }
        Some("gate") => {
            hand.gate.notified().await;
            reply.finish(Ok(json!("through")));
        }
        Some("count") => {
            for index in 0..2_000 {
                reply.chunk_when_room(1, json!(index)).await;
            }
            reply.finish(Ok(json!(2_000)));
        }
        Some("refuse") => reply.give_back("not mine"),
        // Beats on, gets nowhere, and does not stop when told to.
        Some("wedge") => std::future::pending().await,
        Some("die") => std::process::abort(),
        _ => reply.finish(Ok(call.params)),
    }
}

fn offer(wire: Wire, service: &str, credit: u16) -> WorkerConfig {
    let pause = Duration::from_millis(50);
    WorkerConfig {
        wire,
        services: vec![service.into()],
        credit,
        backoff_min: pause,
        backoff_max: pause,
        ..WorkerConfig::default()
    }
}

async fn worker(host: &Host, credit: u16) -> (Worker, Arc<Hand>) {
    let hand = Arc::<Hand>::default();
    let service = Arc::new(Hands(Arc::clone(&hand)));
    let worker =
        Worker::start(host.server.endpoint().clone(), offer(host.wires.client, "hands", credit), service)
            .unwrap();
    worker.standing().wait_for(|standing| *standing == Standing::Welcome).await.unwrap();
    (worker, hand)
}

fn soon(class: Class) -> OrderOptions {
    OrderOptions { deadline: SOON, class, lease: None }
}

async fn order(client: &Client, what: &str) -> Result<Value, CallError> {
    client.order("hands", json!(what), soon(Class::Idempotent)).await
}

fn kind(result: Result<Value, CallError>) -> String {
    match result {
        Err(CallError::Host(error)) => format!("{} {}", error.data.kind, error.data.effect),
        other => format!("{other:?}"),
    }
}

async fn an_order_waits_for_a_worker_and_has_its_answer(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let (first, early) = (client.clone(), client.clone());
    let waiting = tokio::spawn(async move { order(&first, "hello").await });
    let stats = || host.server.stats();
    eventually(|| stats().orders_waiting == 1).await;
    let (_worker, _) = worker(&host, 2).await;
    assert_eq!(waiting.await.unwrap().unwrap(), json!("hello"));
    let mut stream = early.order_stream("hands", json!("count"), soon(Class::Once)).await;
    let mut seen = 0;
    loop {
        match stream.recv().await.unwrap() {
            Event::Chunk { value, .. } => {
                assert_eq!(value, json!(seen));
                seen += 1;
            }
            Event::Done(result) => break assert_eq!(result.unwrap(), json!(2_000)),
            Event::Accepted | Event::Reset { .. } => {}
        }
    }
    assert_eq!(seen, 2_000);
    let peer = host.server.peers().into_iter().find_map(|peer| peer.worker).unwrap();
    assert_eq!((peer.services, peer.credit, peer.state), (vec!["hands".to_owned()], 2, WorkerState::Ready));
}

async fn clients_order_only_what_was_opened_to_them(wires: Wires) {
    let config = BridgeConfig { role_max: Role::Worker, open_services: vec!["hands".into()], ..calm() };
    let host = Host::start(wires, config).await;
    let (_worker, _) = worker(&host, 1).await;
    let config = wires.calling(ClientConfig { role: Role::Client, ..ClientConfig::default() });
    let client = Client::connect(host.server.endpoint().clone(), config).await.unwrap();
    assert_eq!(order(&client, "open").await.unwrap(), json!("open"));
    let other = client.order("inference", json!(1), soon(Class::Once)).await;
    assert_eq!(kind(other), "denied none");
}

async fn an_endpoint_for_clients_takes_no_workers(wires: Wires) {
    let host = Host::start(wires, BridgeConfig { role_max: Role::Client, ..calm() }).await;
    let hands = Arc::new(Hands(Arc::default()));
    let worker =
        Worker::start(host.server.endpoint().clone(), offer(wires.client, "hands", 1), hands).unwrap();
    let mut standing = worker.standing();
    let refused = standing.wait_for(|standing| matches!(standing, Standing::Refused(_))).await.unwrap();
    assert!(matches!(&*refused, Standing::Refused(cause) if cause.data.kind == "denied"));
}

async fn a_job_that_nobody_wants_is_a_dead_letter_with_its_history(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let (_worker, hand) = worker(&host, 1).await;
    assert_eq!(kind(order(&client, "refuse").await), "dead-letter none");
    assert_eq!((hand.begun.load(Ordering::SeqCst), host.server.stats().dead_letters), (3, 1));
}

async fn a_cancelled_order_stops_its_worker_which_is_free_again(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let (_worker, hand) = worker(&host, 1).await;
    let waiting = client.order_stream("hands", json!("wait"), soon(Class::Once)).await;
    eventually(|| hand.begun.load(Ordering::SeqCst) == 1).await;
    drop(waiting);
    assert_eq!(order(&client, "next").await.unwrap(), json!("next"));
}

async fn a_worker_that_gets_nowhere_loses_its_job_and_its_place(wires: Wires) {
    let host = Host::start(wires, quick()).await;
    let client = host.client().await;
    let (_wedged, _) = worker(&host, 1).await;
    let lease = Some(Duration::from_millis(300));
    let options = OrderOptions { deadline: SOON, class: Class::Once, lease };
    let lost = client.order("hands", json!("wedge"), options).await;
    assert_eq!(kind(lost), "worker-lost unknown");
    eventually(|| host.server.stats().dismissed == 1).await;
}

async fn a_drained_worker_ends_what_it_has_and_none_of_its_orders_fails(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let client = host.client().await;
    let (leaving, _) = worker(&host, 8).await;
    let (_staying, _) = worker(&host, 8).await;
    let orders: Vec<_> = (0..200)
        .map(|index| {
            let client = client.clone();
            tokio::spawn(async move { client.order("hands", json!(index), soon(Class::Once)).await })
        })
        .collect();
    eventually(|| host.server.stats().given > 50).await;
    assert!(leaving.drain(SOON).await);
    for (index, order) in orders.into_iter().enumerate() {
        assert_eq!(order.await.unwrap().unwrap(), json!(index));
    }
}

async fn the_host_orders_too_and_cancels_by_forgetting(wires: Wires) {
    let workers = Workers::new();
    assert!(!workers.offer("hands"));
    let host = Host::start(wires, BridgeConfig { workers: workers.clone(), ..calm() }).await;
    let (_worker, hand) = worker(&host, 1).await;
    eventually(|| workers.offer("hands")).await;
    let deadline = || Instant::now() + SOON;
    let job = workers.order("hands", Class::Once, deadline(), None, &json!([1, 2]));
    assert_eq!(job.outcome().await, Ok(json!([1, 2])));
    let mut job = workers.order("hands", Class::Once, deadline(), None, &json!("count"));
    assert_eq!(job.next().await, Some(JobEvent::Begun));
    assert_eq!(job.next().await, Some(JobEvent::Piece(json!(0))));
    drop(job);
    let stuck = workers.order("hands", Class::Once, deadline(), None, &json!("wait"));
    eventually(|| hand.begun.load(Ordering::SeqCst) == 3).await;
    drop(stuck);
    let job = workers.order("hands", Class::Once, deadline(), None, &json!("after"));
    assert_eq!(job.outcome().await, Ok(json!("after")));
}

/// The worker that the tests below run in a child.
#[tokio::test]
async fn worker_in_a_child() {
    let Ok(socket) = std::env::var("TELOS_TEST_WORKER") else {
        return;
    };
    let hands = Arc::new(Hands(Arc::default()));
    let worker =
        Worker::start(Endpoint::Unix(socket.into()), offer(Wire::default(), "hands", 1), hands).unwrap();
    let mut standing = worker.standing();
    let _ = standing.wait_for(|standing| *standing == Standing::Closed).await;
}

struct ChildWorker(Child);

impl ChildWorker {
    fn start(socket: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "workers::worker_in_a_child", "--nocapture"])
            .env("TELOS_TEST_WORKER", socket);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// A signal that was sent has not yet stopped every thread.
    fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).into_iter().flatten();
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for ChildWorker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn the_job_of_a_worker_killed_with_it_in_hand_is_done_by_another(wires: Wires) {
    let host = Host::start(wires, quick()).await;
    let client = host.client().await;
    let mut doomed = ChildWorker::start(&host.socket_path());
    eventually(|| host.server.stats().workers == 1).await;
    let (again, once) = (client.clone(), client.clone());
    let waiting = tokio::spawn(async move { order(&again, "gate").await });
    eventually(|| host.server.stats().given == 1).await;
    let (_other, hand) = worker(&host, 2).await;
    doomed.0.kill().unwrap();
    eventually(|| hand.begun.load(Ordering::SeqCst) == 1).await;
    hand.gate.notify_one();
    assert_eq!(waiting.await.unwrap().unwrap(), json!("through"));
    drop(once);
    assert_eq!(host.server.stats().redispatched, 1);
}

async fn what_must_not_be_done_twice_is_not_when_its_worker_is_killed(wires: Wires) {
    let host = Host::start(wires, quick()).await;
    let client = host.client().await;
    let _doomed = ChildWorker::start(&host.socket_path());
    eventually(|| host.server.stats().workers == 1).await;
    let lost = client.order("hands", json!("die"), soon(Class::Once)).await;
    assert_eq!(kind(lost), "worker-lost unknown");
}

async fn poison_kills_three_workers_and_no_more(wires: Wires) {
    let host = Host::start(wires, quick()).await;
    let client = host.client().await;
    let _doomed: Vec<ChildWorker> = (0..4).map(|_| ChildWorker::start(&host.socket_path())).collect();
    eventually(|| host.server.stats().workers == 4).await;
    assert_eq!(kind(order(&client, "die").await), "dead-letter unknown");
    assert_eq!(order(&client, "alive").await.unwrap(), json!("alive"));
    assert_eq!(host.server.stats().workers, 1);
}

/// Goal: a zombie's late answer is dropped. Method: a worker is stopped past its lease, its job done by another, then
/// it goes on.
async fn a_worker_stopped_past_its_life_comes_back_as_a_new_one(wires: Wires) {
    let host = Host::start(wires, quick()).await;
    let client = host.client().await;
    let zombie = ChildWorker::start(&host.socket_path());
    eventually(|| host.server.stats().workers == 1).await;
    zombie.signal("-STOP");
    eventually(|| zombie.is_stopped()).await;
    let stopped = client.clone();
    let waiting = tokio::spawn(async move { order(&stopped, "job").await });
    eventually(|| host.server.stats().given == 1).await;
    let (_other, _) = worker(&host, 1).await;
    assert_eq!(waiting.await.unwrap().unwrap(), json!("job"), "expired, and the other did it");
    zombie.signal("-CONT");
    eventually(|| host.server.stats().workers == 2).await;
    let stats = host.server.stats();
    assert_eq!((stats.redispatched, stats.orders_in_hand), (1, 0));
}

async fn as_many_orders_wait_as_are_kept(wires: Wires) {
    let limits = Limits { orders_waiting_max: 2, ..Limits::default() };
    let host = Host::start(wires, BridgeConfig { limits, ..calm() }).await;
    let client = host.client().await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(client.order_stream("hands", json!("x"), soon(Class::Once)).await);
    }
    eventually(|| host.server.stats().orders_waiting == 2).await;
    assert_eq!(kind(order(&client, "x").await), "busy none");
}

on_every_wire! {
    "current_thread":
        an_order_waits_for_a_worker_and_has_its_answer,
        clients_order_only_what_was_opened_to_them,
        an_endpoint_for_clients_takes_no_workers,
        a_job_that_nobody_wants_is_a_dead_letter_with_its_history,
        a_cancelled_order_stops_its_worker_which_is_free_again,
        a_worker_that_gets_nowhere_loses_its_job_and_its_place,
        a_drained_worker_ends_what_it_has_and_none_of_its_orders_fails,
        the_host_orders_too_and_cancels_by_forgetting,
        as_many_orders_wait_as_are_kept;
    "multi_thread":
        the_job_of_a_worker_killed_with_it_in_hand_is_done_by_another,
        what_must_not_be_done_twice_is_not_when_its_worker_is_killed,
        poison_kills_three_workers_and_no_more,
        a_worker_stopped_past_its_life_comes_back_as_a_new_one;
}
