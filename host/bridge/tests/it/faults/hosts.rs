//! Hosts that are killed and started again while clients, each in its turn, order what may be repeated, order what must
//! not be, and call what the host does once per number.

use std::path::Path;
use std::time::{Duration, Instant};

use telos_bridge::Client;
use tempfile::TempDir;

use super::Scale;
use super::child::{Child, PATIENCE, Part, Plan, count_answered_since, count_begun_twice, read_begun};
use super::figures::{Row, most};
use super::parts::read_presence;
use crate::fixture::eventually_within;
use crate::wires::Wires;

/// A host, and who is with it, each in a process of its own.
struct Town {
    dir: TempDir,
    plan: Plan,
    host: Child,
    /// By which the host is asked who is there.
    client: Client,
    workers: Vec<Child>,
    crowds: Vec<Child>,
    clients: usize,
}

impl Town {
    /// So many clients in so many processes, and so many workers.
    async fn found(wires: Wires, heartbeat: Option<Duration>, crowds: u16, each: u16, workers: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan { heartbeat, ..Plan::new(Part::Host, dir.path(), wires.host) };
        let host = Child::start_host(&plan).await;
        let guest = |part, index: u64, count| Plan {
            heartbeat,
            index,
            count,
            ..Plan::new(part, dir.path(), wires.client)
        };
        let start = |plan| Child::start(&plan);
        let workers: Vec<Child> = (0..workers).map(|index| start(guest(Part::Worker, index, 4))).collect();
        let client = guest(Part::Clients, 0, 1).client().await;
        let crowd = |index| start(guest(Part::Clients, u64::from(index), each));
        let (crowds, clients) = ((0..crowds).map(crowd).collect(), usize::from(crowds * each));
        Self { plan, host, client, workers, crowds, clients, dir }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until every worker is registered, then until every client was answered: how long each took.
    async fn settle(&self, since: Instant) -> (Duration, Duration) {
        let mark = std::fs::metadata(self.dir().join("answers")).map_or(0, |file| file.len());
        let mark = usize::try_from(mark).unwrap();
        while read_presence(&self.client).await.workers != self.workers.len() {
            assert!(since.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let registered = since.elapsed();
        eventually_within(PATIENCE, || count_answered_since(self.dir(), mark) == self.clients).await;
        (registered, since.elapsed())
    }

    /// Kills the host, and starts another after a while.
    async fn lose_host(&mut self, pause: Duration) -> (Duration, Duration) {
        self.host.kill();
        // Long enough that whoever looks for it does so as rarely as it ever does.
        tokio::time::sleep(pause).await;
        self.host = Child::start_host(&self.plan).await;
        self.settle(Instant::now()).await
    }

    /// Every client ends well, which it does when nothing failed that must not; what was answered.
    async fn close(mut self) -> Tally {
        std::fs::write(self.dir().join("stop"), "").unwrap();
        for crowd in &mut self.crowds {
            assert!(crowd.ended().await, "something failed that must not");
        }
        let read = |name| std::fs::read_to_string(self.dir().join(name)).unwrap_or_default();
        let (ledger, counted, answers) = (read("ledger"), read("counted"), read("answers"));
        let mut effects: Vec<&str> = ledger.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        let mut expected: Vec<&str> = counted.lines().collect();
        effects.sort_unstable();
        expected.sort_unstable();
        assert_eq!(effects, expected, "every numbered call had its effect once");
        // Those with odd labels must not be begun twice, whatever becomes of them.
        let once: Vec<_> = read_begun(self.dir()).into_iter().filter(|begun| begun.label % 2 == 1).collect();
        assert_eq!(count_begun_twice(&once), 0);
        Tally { answers: answers.lines().count(), effects: effects.len(), once: once.len() }
    }
}

struct Tally {
    answers: usize,
    effects: usize,
    once: usize,
}

pub(super) async fn killed(wires: Wires, scale: Scale) -> Row {
    let quick = Some(Duration::from_millis(50));
    let (crowds, each, workers) = scale.pick((2, 5, 4), (10, 10, 32));
    let mut town = Town::found(wires, quick, crowds, each, workers).await;
    let mut seen = kill_hosts(&mut town, scale.pick(3, 20), Duration::ZERO).await;
    let Tally { answers, effects, once } = town.close().await;
    seen.push_str(&format!(
        "; {answers} answers: 0 failed, {effects} numbered effects and {once} of class `once`, 0 twice"
    ));
    if scale == Scale::Long {
        seen.push_str(&format!("; {}", with_default_pauses(wires).await));
    }
    Row {
        number: 12,
        fault: "host killed and restarted under load",
        must_show: "nothing that may be repeated fails, no effect twice, all are back: with beats and pauses of 50 ms \
                    in 2 s, by default in 35 s",
        seen,
    }
}

async fn kill_hosts(town: &mut Town, kills: usize, pause: Duration) -> String {
    town.settle(Instant::now()).await;
    let (mut registered, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..kills {
        let (workers, clients) = town.lose_host(pause).await;
        registered.push(workers);
        answered.push(clients);
    }
    format!(
        "{} clients and {} workers, {kills} kills: workers back in at most {}, all clients answered in {}",
        town.clients,
        town.workers.len(),
        most(&registered),
        most(&answered)
    )
}

/// The same with what the bridge has by default: at once, and after an outage in which every pause has grown as long as
/// it gets.
async fn with_default_pauses(wires: Wires) -> String {
    let mut town = Town::found(wires, None, 10, 10, 32).await;
    let at_once = kill_hosts(&mut town, 3, Duration::ZERO).await;
    let late = kill_hosts(&mut town, 1, Duration::from_secs(90)).await;
    town.close().await;
    format!("by default: {at_once}; after 90 s without a host: {late}")
}
