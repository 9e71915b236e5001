//! What is told of a state on its way to another generation: to whoever waits for the start, in the journal, and
//! afterwards beside the component.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};
use telos_store::{ComponentId, Digest, ReleaseRecord};

use crate::notice::{self, Notice};
use crate::seams::{JournalLine, JournalSink, Severity};

/// How often it is told between two commits, and how often the journal says it.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// What a start did for one staged release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evolution {
    /// The component.
    pub component: ComponentId,
    /// The staged release's version.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// The generation that was in force; 0 when that cannot be read.
    pub from: u32,
    /// The release's generation; 0 when that cannot be read.
    pub to: u32,
    /// Objects carried over, up to the end or the failure; each may be in a generation of its own before.
    pub objects: u64,
    /// How it ended.
    pub outcome: EvolutionOutcome,
}

/// How it ended for one staged release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EvolutionOutcome {
    /// Its generation is in force, and it serves.
    Raised,
    /// It would be so: everything was tried and nothing changed.
    Passes,
    /// It would fail: why. Nothing changed.
    WouldFail(String),
    /// It cannot carry the state over: why. Nothing changed, and it is not tried again by itself.
    Failed(String),
    /// Something else was in the way: what. Nothing changed, and the next start tries it again.
    Hindered(String),
    /// Somebody decided anew who serves while its state was carried over. Nothing of that is left.
    Overtaken,
    /// It waits on: its component can serve without it.
    Waits,
    /// It waits for grants.
    NeedsGrant,
}

impl EvolutionOutcome {
    /// Why it does not serve; empty when nothing is wrong.
    pub(super) fn cause(&self) -> String {
        match self {
            Self::WouldFail(cause) | Self::Failed(cause) | Self::Hindered(cause) => cause.clone(),
            Self::Overtaken => "somebody decided anew who serves".into(),
            Self::Raised | Self::Passes | Self::Waits | Self::NeedsGrant => String::new(),
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evolving {
    /// The component.
    pub component: ComponentId,
    /// The staged release's version.
    pub version: String,
    /// The generation in force.
    pub from: u32,
    /// The release's generation.
    pub to: u32,
    /// Objects carried over.
    pub done: u64,
    /// Objects to carry over, as counted at the beginning.
    pub total: u64,
}

/// Hears how far it is: at the beginning, after each batch, and each second in between. Must not block.
pub type OnEvolving = Arc<dyn Fn(&Evolving) + Send + Sync>;

impl Evolution {
    /// Of a release that was not looked at yet.
    pub(super) fn of(record: &ReleaseRecord) -> Self {
        let ReleaseRecord { component, version, digest, .. } = record.clone();
        Self { component, version, digest, from: 0, to: 0, objects: 0, outcome: EvolutionOutcome::Waits }
    }

    pub(super) fn record(
        &self,
        journal: &dyn JournalSink,
        severity: Severity,
        event: &'static str,
        body: String,
    ) {
        let Self { component, version, from, to, .. } = self;
        line(journal, severity, event, format!("{component} {version}: {body}"), (component, *from, *to));
    }

    /// What to know of the component from now on; none when somebody else has decided that.
    pub(super) fn notice(&self, record: &ReleaseRecord) -> Option<Notice> {
        let Self { component, version, from, to, .. } = self;
        let objects = if self.objects == 1 { "1 object".into() } else { format!("{} objects", self.objects) };
        let (text, next, is_trouble) = match &self.outcome {
            EvolutionOutcome::Raised if from == to => (
                format!("{version} serves since this start: generation {to} was in force already"),
                None,
                false,
            ),
            EvolutionOutcome::Passes if from == to => {
                let text = format!("{version} waits, and would serve: generation {to} is in force");
                (text, Some("`telos up` without `--generations check` lets it serve".into()), false)
            }
            EvolutionOutcome::Waits if from > to => {
                let text =
                    format!("{version} cannot serve: it knows generation {to}, and {from} is in force");
                (text, Some(format!("install a release of {component} of generation {from} or later")), true)
            }
            EvolutionOutcome::Raised => {
                (format!("this start carried {objects} from generation {from} to {to}"), None, false)
            }
            EvolutionOutcome::Passes => {
                let text =
                    format!("{version} waits, and would carry {objects} from generation {from} to {to}");
                (text, Some("`telos up` without `--generations check` lets it serve".into()), false)
            }
            EvolutionOutcome::WouldFail(cause) => {
                let next = format!("mend {component} and drop the new file in");
                (format!("{version} waits, and would fail: {cause}"), Some(next), true)
            }
            EvolutionOutcome::Failed(cause) => return Some(notice::failed(record, cause)),
            EvolutionOutcome::Overtaken => return None,
            EvolutionOutcome::Hindered(cause) => {
                let next = "mend what it names; the next start tries it again".into();
                (format!("{version} does not serve yet: {cause}"), Some(next), true)
            }
            EvolutionOutcome::Waits => {
                let next = "`telos up` without `--generations minimum` lets it serve".into();
                (format!("{version} waits: generation {from} is served without it"), Some(next), false)
            }
            EvolutionOutcome::NeedsGrant => {
                let next = format!("`telos plugin grant {component} --all`, then start the host again");
                (format!("{version} waits for grants, and then for a start"), Some(next), false)
            }
        };
        Some(Notice { text, next, is_trouble })
    }
}

/// Tells how far it is.
pub(super) struct Progress {
    evolving: Evolving,
    told: OnEvolving,
    journal: Arc<dyn JournalSink>,
    told_at: Instant,
    said_at: Instant,
}

impl Progress {
    pub(super) fn begin(
        evolution: &Evolution,
        total: u64,
        told: &OnEvolving,
        journal: &Arc<dyn JournalSink>,
    ) -> Self {
        let Evolution { component, version, from, to, .. } = evolution.clone();
        let evolving = Evolving { component, version, from, to, done: 0, total };
        let (told, journal) = (Arc::clone(told), Arc::clone(journal));
        let now = Instant::now();
        let mut progress = Self { evolving, told, journal, told_at: now, said_at: now };
        progress.say();
        progress.tell();
        progress
    }

    /// One object more is carried over.
    pub(super) fn advance(&mut self) {
        self.evolving.done += 1;
        // What changed meanwhile was carried over again.
        self.evolving.total = self.evolving.total.max(self.evolving.done);
        if self.told_at.elapsed() >= LINE_INTERVAL {
            self.tell();
        }
    }

    /// Tells how far it is, and the journal when that has not said so for a second.
    pub(super) fn tell(&mut self) {
        self.told_at = Instant::now();
        (self.told)(&self.evolving);
        if self.said_at.elapsed() >= LINE_INTERVAL {
            self.say();
        }
    }

    pub(super) fn done(&self) -> u64 {
        self.evolving.done
    }

    fn say(&mut self) {
        self.said_at = Instant::now();
        let Evolving { component, from, to, .. } = &self.evolving;
        let body = self.evolving.to_string();
        line(&*self.journal, Severity::Info, "generation.evolving", body, (component, *from, *to));
    }
}

impl std::fmt::Display for Evolving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { component, version, from, to, done, total } = self;
        if from == to {
            return write!(f, "{component} {version} is to serve: generation {to} is in force already");
        }
        write!(
            f,
            "{component} {version} carries its state from generation {from} to {to}: {done} of {total} objects"
        )
    }
}

fn line(
    journal: &dyn JournalSink,
    severity: Severity,
    event: &'static str,
    body: String,
    (component, from, to): (&ComponentId, u32, u32),
) {
    let attributes = Map::from_iter([
        ("component".to_owned(), Value::from(component.to_string())),
        ("from".to_owned(), Value::from(from)),
        ("to".to_owned(), Value::from(to)),
    ]);
    journal.record(JournalLine { severity, event, body, trace: None, plugin: None, attributes });
}
