//! Goal: an order ends with its outcome, or as soon as nobody will do it. Method: a bridge and workers in this process.

use std::future::pending;

use parking_lot::Mutex;
use serde_json::json;
use telos_bridge::{
    BridgeConfig, Call, Endpoint, Reply, Server, Service, Standing, Worker, WorkerConfig, serve,
};

use super::*;

const SERVICE: &str = "sandbox";

/// What a worker does with what it is given.
pub(crate) enum Does {
    /// Keeps it until it is told to stop, and then gives it back.
    Holds,
    /// The same, and says when it has it.
    HoldsAndTells(Arc<tokio::sync::Notify>),
    /// Keeps it, whatever it is told.
    Keeps,
    /// Answers what it was asked.
    Echoes,
}

impl Service for Does {
    fn call(&self, call: Call, reply: Reply) {
        match self {
            Does::Echoes => reply.finish(Ok(call.params)),
            Does::Keeps => drop(tokio::spawn(async move {
                let _reply = reply;
                pending::<()>().await;
            })),
            Does::Holds => hold(call, reply),
            Does::HoldsAndTells(begun) => {
                begun.notify_one();
                hold(call, reply);
            }
        }
    }
}

fn hold(call: Call, reply: Reply) {
    tokio::spawn(async move {
        call.cancelled.cancelled().await;
        reply.give_back("told to stop");
    });
}

/// A bridge, and what it and its workers are used by.
pub(crate) struct Scene {
    pub(crate) elsewhere: Elsewhere,
    pub(crate) lines: Arc<Mutex<Vec<Line>>>,
    endpoint: Endpoint,
    _server: Server,
    _home: tempfile::TempDir,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(&CrewStanding::default()).await
    }

    /// Of a host that has workers of its own, as they stand.
    pub(crate) async fn with(crew: &CrewStanding) -> Self {
        let home = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Unix(home.path().join("s"));
        let (workers, lines) = (Workers::new(), Arc::<Mutex<Vec<Line>>>::default());
        let told = Arc::clone(&lines);
        let elsewhere = Elsewhere::new(&workers, crew, Arc::new(move |line| told.lock().push(line.clone())));
        let config = BridgeConfig { workers, ..BridgeConfig::default() };
        let server = serve(endpoint.clone(), Arc::new(Does::Echoes), config).await.unwrap();
        Self { elsewhere, lines, endpoint, _server: server, _home: home }
    }

    pub(crate) async fn worker(&self, service: &str, does: Arc<dyn Service>) -> Worker {
        let config = WorkerConfig { services: vec![service.into()], credit: 4, ..WorkerConfig::default() };
        let worker = Worker::start(self.endpoint.clone(), config, does).unwrap();
        worker.standing().wait_for(|standing| *standing == Standing::Welcome).await.unwrap();
        while !self.elsewhere.0.workers.offer(service) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        worker
    }

    fn order(&self, time: Duration) -> Errand {
        self.elsewhere.order(SERVICE, Instant::now() + time, None, &json!({"a": 1}))
    }
}

async fn begun(errand: &mut Errand) {
    assert!(matches!(errand.hear().await, Heard::Event(JobEvent::Begun)));
}

async fn last(errand: &mut Errand) -> Result<Value, RpcError> {
    loop {
        match errand.hear().await {
            Heard::Event(JobEvent::Done(outcome)) => return outcome,
            Heard::Event(_) => {}
            Heard::Nobody(_) => panic!("somebody has it"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_in_hand_is_nobodys_soon_after_the_last_worker_left_or_died() {
    let scene = Scene::new().await;
    for leaves_kindly in [true, false] {
        let worker = scene.worker(SERVICE, Arc::new(Does::Holds)).await;
        let mut errand = scene.order(Duration::from_secs(100));
        begun(&mut errand).await;
        let before = Instant::now();
        if leaves_kindly {
            worker.drain(Duration::from_millis(200)).await;
        } else {
            drop(worker);
        }
        while !matches!(errand.hear().await, Heard::Nobody(Absence::Nobody)) {}
        // By heartbeats, where it did not say goodbye.
        assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
        assert_eq!(errand.begun(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_keeps_what_it_has_in_hand() {
    let scene = Scene::new().await;
    let has_it = Arc::new(tokio::sync::Notify::new());
    let worker = scene.worker(SERVICE, Arc::new(Does::HoldsAndTells(Arc::clone(&has_it)))).await;
    let mut errand = scene.order(Duration::from_secs(100));
    begun(&mut errand).await;
    // A worker that drains gives back what it has not begun.
    has_it.notified().await;
    let leaving = tokio::spawn(worker.drain(Duration::from_secs(5)));
    let heard = tokio::time::timeout(Duration::from_secs(3), errand.hear()).await;
    assert!(heard.is_err(), "{heard:?}");
    assert!(!scene.elsewhere.takes(SERVICE));
    leaving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_a_lost_worker_is_done_by_the_next_one() {
    let scene = Scene::new().await;
    let first = scene.worker(SERVICE, Arc::new(Does::Holds)).await;
    let mut errand = scene.order(Duration::from_secs(100));
    begun(&mut errand).await;
    let _second = scene.worker(SERVICE, Arc::new(Does::Echoes)).await;
    drop(first);
    assert_eq!(last(&mut errand).await.unwrap(), json!({"a": 1}));
    assert_eq!(errand.begun(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_times_out_says_what_became_of_it_and_is_counted_and_written_down() {
    let scene = Scene::new().await;
    let _worker = scene.worker(SERVICE, Arc::new(Does::Keeps)).await;
    let mut errand = scene.order(Duration::from_millis(300));
    let error = last(&mut errand).await.unwrap_err();
    assert_eq!(error.message, "its worker had not answered by its deadline");
    assert_eq!(scene.elsewhere.timed_out(), 1);
    assert_eq!(scene.lines.lock().len(), 1);
    assert!(out_of_time(0).contains("no worker was free") && out_of_time(2).contains("2 times"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_happened_is_heard_before_a_look_at_who_is_there() {
    let scene = Scene::new().await;
    let worker = scene.worker(SERVICE, Arc::new(Does::Echoes)).await;
    let mut errand = scene.order(Duration::from_secs(100));
    tokio::select! {
        () = pending() => {}
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    worker.drain(Duration::from_secs(1)).await;
    errand.alone_since = Some(Instant::now() - ALONE_MAX);
    begun(&mut errand).await;
    assert!(matches!(errand.hear().await, Heard::Event(JobEvent::Done(Ok(_)))));
}

pub(crate) fn crew(workers: usize) -> CrewStanding {
    let config = crate::CrewConfig {
        workers,
        program: "telos".into(),
        arguments: Vec::new(),
        roles: vec![crate::WorkerRole::Inference, crate::WorkerRole::Sandbox],
    };
    CrewStanding::of(Some(&config))
}

pub(crate) fn give_up(crew: &CrewStanding, index: usize) {
    crew.hear(index, &crate::ChildEvent::GivenUp { how: "signal: 6 (SIGABRT)".into() });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_waits_for_the_hosts_own_workers() {
    let scene = Scene::with(&crew(1)).await;
    assert!(scene.elsewhere.takes(SERVICE) && !scene.elsewhere.takes("other"));
    let mut errand = scene.order(Duration::from_secs(100));
    assert_eq!(errand.look(Instant::now()), None);
    let (soon, late) = (Instant::now() + ALONE_MAX, Instant::now() + STARTING_MAX);
    assert_eq!((errand.look(soon), errand.look(late)), (None, Some(Absence::Starting)));
    let _worker = scene.worker(SERVICE, Arc::new(Does::Echoes)).await;
    assert_eq!(errand.look(late), None);
    assert_eq!(last(&mut errand).await.unwrap(), json!({"a": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_none_of_them_is_started_any_more_an_order_is_refused_soon() {
    let crew = crew(2);
    let scene = Scene::with(&crew).await;
    let mut errand = scene.order(Duration::from_secs(100));
    errand.look(Instant::now());
    give_up(&crew, 0);
    let soon = Instant::now() + ALONE_MAX;
    assert_eq!(errand.look(soon), None, "the other one is wanted");
    give_up(&crew, 1);
    assert_eq!(errand.look(soon), Some(Absence::GivenUp));
    let check = scene.elsewhere.check().unwrap();
    assert!(check.cause.contains("2 ended too often (signal: 6 (SIGABRT)): minds"), "{}", check.cause);
    let _worker = scene.worker(SERVICE, Arc::new(Does::Echoes)).await;
    assert_eq!(last(&mut errand).await.unwrap(), json!({"a": 1}), "one by hand does it");
}

#[test]
fn workers_are_told_of() {
    let told = |connected, wanted, given_up: &[&str]| told_check(connected, wanted, given_up).cause;
    assert_eq!(told(1, 0, &[]), "1 connected");
    assert_eq!(told(1, 2, &[]), "1 connected, of 2 that this host starts");
    assert_eq!(told(1, 2, &["x"]), "1 connected; of 2 that this host starts, 1 ended too often (x)");
}
