//! The watch over releases on probation: who looks into what they broke, and says when probation ends.
//!
//! ```text
//! struck   a message that a release on probation broke       does the earlier release survive it? then it counts
//! tick     every second                                       those that have served their time are permanent
//! begin    once                                               those that do not load give their seats back
//! ```
//! Off the serving path, one thing after another; what comes faster than it can be looked into is not counted. Only a
//! fall takes its own time, in which its component's other messages do not count: its state may have to be carried back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Map;
use telos_store::{ComponentId, Digest};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::blame::{Struck, Survival};
use crate::dispatch::Dispatcher;
use crate::evolution::Evolver;
use crate::lesson::FORGED;
use crate::probation::{ProbationTerms, Strikes};
use crate::seams::{JournalLine, Severity};
use crate::seat::Release;
use crate::swap::{Earlier, Fall, SwapError, Swapper, now_ms};

/// Struck messages that wait to be looked into.
pub(crate) const STRUCK_MAX: usize = 64;
const TICK: Duration = Duration::from_secs(1);

/// Who watches.
pub(crate) struct Watch {
    dispatcher: Weak<Dispatcher>,
    swapper: Arc<Swapper>,
    terms: ProbationTerms,
    /// Of each component, against its release as it is seated now: one that comes again begins anew.
    strikes: BTreeMap<ComponentId, (Weak<Release>, Strikes)>,
    /// Components whose seats are falling.
    falling: Arc<Mutex<BTreeSet<ComponentId>>>,
}

impl Watch {
    pub(crate) fn new(dispatcher: &Arc<Dispatcher>, swapper: Arc<Swapper>, terms: ProbationTerms) -> Self {
        let (dispatcher, falling) = (Arc::downgrade(dispatcher), Arc::default());
        Self { dispatcher, swapper, terms, strikes: BTreeMap::new(), falling }
    }

    /// Watches until the kernel is gone.
    pub(crate) async fn keep(mut self, mut struck: mpsc::Receiver<Struck>) {
        self.give_back_unloadable();
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                message = struck.recv() => match message {
                    Some(message) => self.look_into(message).await,
                    None => return,
                },
                _ = tick.tick() => self.settle().await,
            }
        }
    }

    /// A release on probation that this host cannot load at its start gives its seat back.
    fn give_back_unloadable(&self) {
        let Ok(seats) = self.swapper.store.seats() else { return };
        let table = self.swapper.seats.current();
        for seat in seats.iter().filter(|seat| !table.releases.contains_key(&seat.component)) {
            if seat.returns_to.is_some()
                && let Some(notice) = self.swapper.notices.of(&seat.component)
            {
                self.let_fall(&seat.component, seat.digest, Fall::Unloadable(notice.text));
            }
        }
    }

    async fn look_into(&mut self, struck: Struck) {
        let Some(release) = self.serving(&struck.release) else { return };
        let (terms, message, now) = (self.terms, struck.fingerprint(), Instant::now());
        if self.is_falling(&release.component) || !self.strikes_of(&release).is_new(message, now, terms) {
            return;
        }
        if self.is_to_blame(&struck).await && self.strikes_of(&release).count(message, now, terms) {
            fail::fail_point!("kernel::burnt");
            let cause = format!(
                "{} distinct messages within {} s broke it; the last: {}",
                terms.strikes,
                terms.window.as_secs(),
                struck.breakage
            );
            self.let_fall(&release.component, release.digest, Fall::Burnt(cause));
        }
    }

    /// Begins a fall. One that cannot be decided is tried again with the next message that it breaks.
    fn let_fall(&self, component: &ComponentId, digest: Digest, fall: Fall) {
        let (swapper, falling) = (Arc::clone(&self.swapper), Arc::clone(&self.falling));
        let component = component.clone();
        falling.lock().insert(component.clone());
        tokio::spawn(async move {
            let (faller, fallen) = (Arc::clone(&swapper), component.clone());
            let fell = apart(async move { faller.let_fall(&fallen, digest, fall).await }).await;
            tell(&swapper, &component, fell);
            falling.lock().remove(&component);
        });
    }

    fn is_falling(&self, component: &ComponentId) -> bool {
        self.falling.lock().contains(component)
    }

    fn strikes_of(&mut self, release: &Arc<Release>) -> &mut Strikes {
        let seated = Arc::downgrade(release);
        let entry = self.strikes.entry(release.component.clone());
        let (struck, strikes) = entry.or_insert_with(|| (seated.clone(), Strikes::default()));
        if !struck.ptr_eq(&seated) {
            (*struck, *strikes) = (seated, Strikes::default());
        }
        strikes
    }

    /// The release as it is seated now, while it serves.
    fn serving(&self, release: &Release) -> Option<Arc<Release>> {
        let table = self.swapper.seats.current();
        table.releases.get(&release.component).filter(|serving| serving.digest == release.digest).cloned()
    }

    /// Where the release could return to another one, that one must survive the message. Where it could not, nobody
    /// knows better: then only a release is to blame that has answered nothing yet. What this host wants for just now is no
    /// release's fault.
    async fn is_to_blame(&self, struck: &Struck) -> bool {
        let Some(dispatcher) = self.dispatcher.upgrade() else { return false };
        let (swapper, component) = (Arc::clone(&self.swapper), struck.release.component.clone());
        let has_answered = || struck.release.tally.answered() > 0;
        match apart(async move { swapper.earlier(&component) }).await {
            Ok(Some(Earlier::Alike(earlier))) => dispatcher.would_survive(struck, earlier).await,
            Ok(Some(Earlier::Outdated(earlier))) => {
                let Ok(evolver) = self.evolver(&struck.release).await else { return false };
                match dispatcher.would_survive_earlier(struck, earlier, evolver).await {
                    Survival::Survives => true,
                    Survival::NoWay => !has_answered(),
                    Survival::Breaks | Survival::Unknown => false,
                }
            }
            // A message that was forged was not understood before, which broke nobody.
            Ok(None) => !has_answered() || self.is_forged(&struck.release),
            Err(_) => false,
        }
    }

    fn is_forged(&self, release: &Release) -> bool {
        let record = self.swapper.store.release(&release.component, &release.digest);
        record.ok().flatten().is_some_and(|record| record.source.starts_with(FORGED))
    }

    async fn evolver(&self, release: &Arc<Release>) -> Result<Evolver, SwapError> {
        let (swapper, release) = (Arc::clone(&self.swapper), Arc::clone(release));
        apart(async move { swapper.evolver(&release.component, release.digest) }).await
    }

    /// Makes permanent what has served its time.
    async fn settle(&self) {
        let table = self.swapper.seats.current();
        for release in table.releases.values().filter(|release| release.tally.is_watched()) {
            if self.has_served(release) && !self.is_falling(&release.component) {
                let ended = self.swapper.make_permanent(&release.component, release.digest).await;
                tell(&self.swapper, &release.component, ended);
            }
        }
    }

    fn has_served(&self, release: &Release) -> bool {
        // The store is read only for those that have answered enough.
        let answered = release.tally.answered();
        self.terms.are_served(Duration::MAX, answered)
            && self.swapper.seat(&release.component).is_ok_and(|seat| {
                let served = Duration::from_millis(now_ms().saturating_sub(seat.since_ms));
                self.terms.are_served(served, answered)
            })
    }
}

/// Tells what could not be decided.
fn tell(swapper: &Swapper, component: &ComponentId, ended: Result<(), SwapError>) {
    if let Err(error) = ended {
        swapper.journal.record(JournalLine {
            severity: Severity::Error,
            event: "plugin.probation-undecided",
            body: format!("{component}: {error}"),
            trace: None,
            plugin: None,
            attributes: Map::from_iter([("component".into(), component.to_string().into())]),
        });
    }
}

/// Loading a release takes a thread for as long as it takes; it must not be one that serves.
async fn apart<T: Send + 'static>(
    work: impl Future<Output = Result<T, SwapError>> + Send + 'static,
) -> Result<T, SwapError> {
    let runtime = Handle::current();
    let task = tokio::task::spawn_blocking(move || runtime.block_on(work));
    task.await.unwrap_or_else(|error| Err(SwapError::CutShort(error.to_string())))
}
