//! Workers that are lost with a job in hand: killed, stopped, wedged, poisoned; and one that is only busy.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use telos_bridge::{BridgeConfig, Class, Client, Event, Notice, Watcher};

use super::Scale;
use super::child::{
    Child, Part, Plan, count_begun, count_begun_twice, job, read_begun, signal, terms, was_done,
};
use super::figures::{Row, most, ms};
use crate::fixture::{Host, eventually, quick};
use crate::wires::Wires;

/// A host in this process, and workers in others.
pub(super) struct Yard {
    pub(super) host: Host,
    pub(super) client: Client,
    pub(super) workers: Vec<Child>,
    plan: Plan,
}

impl Yard {
    pub(super) async fn open(wires: Wires, config: BridgeConfig, credit: u16) -> Self {
        let host = Host::start(wires, config).await;
        let client = host.client().await;
        let pause = Some(Duration::from_millis(50));
        let plan = Plan {
            count: credit,
            heartbeat: pause,
            ..Plan::new(Part::Worker, host.dir.path(), wires.client)
        };
        Self { host, client, workers: Vec::new(), plan }
    }

    /// Starts workers until there are so many, and waits until the host knows them.
    pub(super) async fn hire(&mut self, count: usize) {
        while self.workers.len() < count {
            self.workers.push(Child::start(&self.plan));
        }
        eventually(|| self.host.server.stats().workers == count).await;
    }

    pub(super) fn dir(&self) -> &Path {
        self.host.dir.path()
    }

    async fn order(&self, what: &str, label: u64, lease: Option<Duration>) -> serde_json::Value {
        self.client.order("hands", job(what, label), terms(Class::Idempotent, lease)).await.unwrap()
    }
}

/// Orders that must not be done twice, while their workers are killed at random.
pub(super) async fn killed(wires: Wires, scale: Scale) -> Row {
    let again = redispatch_times(wires, scale).await;
    let orders = scale.pick(50, 10_000);
    let mut yard = Yard::open(wires, quick(), 4).await;
    yard.hire(4).await;
    let (kills, lost) = kill_while_ordering(&mut yard, orders, scale.pick(12, 50)).await;
    let begun = read_begun(yard.dir());
    assert_eq!(count_begun_twice(&begun), 0);
    assert!(begun.len() as u64 + lost >= orders, "what was answered was begun");
    Row {
        number: 8,
        fault: "kill -9 of workers in the middle of jobs",
        must_show: "no order of class `once` begun twice; what may be repeated goes to another worker",
        seen: format!(
            "{orders} orders, {kills} kills: {lost} lost and said so, 0 begun twice; redispatched after at most {}",
            most(&again)
        ),
    }
}

/// How many workers were killed, and how many orders were lost with them.
async fn kill_while_ordering(yard: &mut Yard, orders: u64, rarely: u64) -> (usize, u64) {
    let (next, ended, lost) =
        (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    for _ in 0..16 {
        let (client, next) = (yard.client.clone(), Arc::clone(&next));
        let (ended, lost) = (Arc::clone(&ended), Arc::clone(&lost));
        tokio::spawn(async move {
            while let label = next.fetch_add(1, Ordering::SeqCst)
                && label < orders
            {
                let answer = client.order("hands", job("moment", label), terms(Class::Once, None)).await;
                lost.fetch_add(u64::from(!was_done(answer).unwrap()), Ordering::SeqCst);
                ended.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let (mut kills, dir) = (0, yard.dir().to_owned());
    while ended.load(Ordering::SeqCst) < orders {
        let mark = count_begun(&dir) + rand::random_range(1..=rarely);
        let is_over = || ended.load(Ordering::SeqCst) == orders;
        eventually(|| count_begun(&dir) >= mark || is_over()).await;
        if !is_over() {
            let victim = rand::random_range(0..yard.workers.len());
            yard.workers[victim].kill();
            yard.workers[victim] = Child::start(&yard.plan);
            kills += 1;
        }
    }
    (kills, lost.load(Ordering::SeqCst))
}

/// From the death of a worker until another has answered what it had in hand.
async fn redispatch_times(wires: Wires, scale: Scale) -> Vec<Duration> {
    let mut yard = Yard::open(wires, scale.pick(quick(), BridgeConfig::default()), 1).await;
    let mut times = Vec::new();
    for label in 0..scale.pick(1, 10) {
        yard.hire(2).await;
        let order = yard.order("hold", label, None);
        let kill = async {
            eventually(|| count_begun(yard.dir()) == 2 * label + 1).await;
            signal(read_begun(yard.dir()).last().unwrap().process, "-KILL");
            Instant::now()
        };
        let (_, killed_at) = tokio::join!(order, kill);
        times.push(killed_at.elapsed());
        yard.workers.retain_mut(|worker| !worker.has_ended());
    }
    times
}

/// One that is busy without a break is not taken for dead, and its job is not given to the idle one beside it.
pub(super) async fn busy(wires: Wires, scale: Scale) -> Row {
    let heartbeat = Duration::from_millis(scale.pick(250, 1_000));
    let config = BridgeConfig { heartbeat, ..BridgeConfig::default() };
    let patience = heartbeat * config.liveness;
    let mut yard = Yard::open(wires, config, 1).await;
    yard.hire(2).await;
    let what = json!({ "do": "busy", "label": 1, "ms": u64::try_from((10 * patience).as_millis()).unwrap() });
    let answer = yard.client.order("hands", what, terms(Class::Once, Some(patience))).await;
    assert_eq!(answer.unwrap(), json!("done"));
    let stats = yard.host.server.stats();
    assert_eq!((stats.expired, stats.dismissed, stats.given, stats.redispatched), (0, 0, 1, 0));
    Row {
        number: 9,
        fault: "a worker busy for 10 x liveness, with signs of progress",
        must_show: "not taken for dead, its job not given twice",
        seen: format!("busy for {}: 0 false deaths, 0 second jobs", ms(10 * patience)),
    }
}

/// Its heart beats, its job gets nowhere: another has it when the lease is over.
pub(super) async fn wedged(wires: Wires, scale: Scale) -> Row {
    let lease = Duration::from_millis(500);
    let mut times = Vec::new();
    for _ in 0..scale.pick(1, 20) {
        times.push(wedge_one(wires, lease).await);
    }
    assert!(times.iter().all(|time| *time >= lease));
    Row {
        number: 10,
        fault: "a worker that beats and gets nowhere",
        must_show: "its job goes to another at the end of its lease, and it is dismissed",
        seen: format!(
            "lease {}: answered by another after at most {}, {} times",
            ms(lease),
            most(&times),
            times.len()
        ),
    }
}

/// Hearts beat fast, since no lease is shorter than two beats, and silence is forgiven for long.
fn lenient() -> BridgeConfig {
    BridgeConfig { heartbeat: Duration::from_millis(200), liveness: 60, ..BridgeConfig::default() }
}

/// How long the order took.
async fn wedge_one(wires: Wires, lease: Duration) -> Duration {
    let mut yard = Yard::open(wires, lenient(), 1).await;
    yard.hire(2).await;
    let since = Instant::now();
    assert_eq!(yard.order("hold", 1, Some(lease)).await, json!("second"));
    let took = since.elapsed();
    eventually(|| yard.host.server.stats().dismissed == 1).await;
    let stats = yard.host.server.stats();
    assert_eq!((stats.given, stats.redispatched, stats.expired), (2, 1, 0));
    took
}

/// Stopped past its lease, it goes on where it was: its answer is that of an attempt that is void. Its session
/// survives, since it is not silent for long enough to be dead.
pub(super) async fn zombie(wires: Wires, scale: Scale) -> Row {
    let lease = Duration::from_secs(3);
    let rounds = scale.pick(1, 10);
    let mut yard = Yard::open(wires, lenient(), 1).await;
    yard.hire(2).await;
    for label in 0..rounds {
        let options = terms(Class::Idempotent, Some(lease));
        let mut order = yard.client.order_stream("hands", job("stop", label), options).await;
        let mut answers = Vec::new();
        while let Some(event) = order.recv().await {
            if let Event::Done(answer) = event {
                answers.push(answer.unwrap());
                let begun = read_begun(yard.dir());
                signal(begun.iter().find(|begun| begun.label == label).unwrap().process, "-CONT");
            }
        }
        assert_eq!(answers, [json!("second")]);
        eventually(|| yard.host.server.stats().fenced == label + 1).await;
    }
    let stats = yard.host.server.stats();
    assert_eq!((stats.redispatched, stats.workers, stats.dismissed, stats.expired), (rounds, 2, 0, 0));
    Row {
        number: 11,
        fault: "a zombie: SIGSTOP past the lease, SIGCONT, a late answer",
        must_show: "the late answer is dropped and counted, the client has one, the worker stays",
        seen: format!("{rounds} late answers, {} fenced, {rounds} answers", stats.fenced),
    }
}

/// A request that every worker dies of.
pub(super) async fn poison(wires: Wires, scale: Scale) -> Row {
    let letters = Arc::<Mutex<Vec<Vec<String>>>>::default();
    let heard = Arc::clone(&letters);
    let watcher = Watcher::new(move |notice| {
        if let Notice::DeadLetter { history, .. } = notice {
            heard.lock().push(history.clone());
        }
    });
    let mut yard = Yard::open(wires, BridgeConfig { watcher, ..quick() }, 1).await;
    let rounds = scale.pick(1, 20);
    for label in 0..rounds {
        yard.hire(4).await;
        let options = terms(Class::Idempotent, None);
        let error = yard.client.order("hands", job("die", label), options).await.unwrap_err().to_rpc();
        assert_eq!(error.data.kind, "dead-letter");
        yard.workers.retain_mut(|worker| !worker.has_ended());
        assert_eq!(yard.workers.len(), 1);
        assert_eq!(yard.order("moment", 1_000 + label, None).await, json!(1_000 + label));
    }
    let letters = letters.lock();
    assert_eq!(letters.len() as u64, rounds);
    assert!(letters.iter().all(|history| history.len() == 3), "{letters:?}");
    Row {
        number: 18,
        fault: "a request that workers die of",
        must_show: "a dead letter after 3 attempts, with its history; the fourth worker lives",
        seen: format!("{rounds} dead letters, 3 workers died of each: {}", letters[0].join("; ")),
    }
}
