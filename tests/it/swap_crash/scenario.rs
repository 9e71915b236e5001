//! What a child does to seats, what it finds, and by which named steps it goes.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::{Failure, GenerationMode, Granting, InstallRequest, ProbationTerms, SetRequest};
use telos_store::{ComponentId, Digest, Json, ReleaseState, Slot, Vote};
use telos_tests::{TestKernel, eventually, guest};

/// What each object of the load has counted before it begins.
pub(super) const FIRST: u64 = 1;

/// Objects that a load counts with.
const OBJECTS: usize = 3;
const LOAD: &str = "load";

/// Nothing becomes permanent, however often it is looked at.
pub(super) const LONG: ProbationTerms =
    ProbationTerms { time: Duration::ZERO, messages: u64::MAX, strikes: 3, window: Duration::from_secs(60) };
/// Permanent with the first message that it answers.
const SHORT: ProbationTerms = ProbationTerms { messages: 1, ..LONG };

/// Steps of every change of a seat.
const CHANGE: [&str; 6] = [
    "kernel::voting",
    "kernel::voted",
    "store::before-commit",
    "store::after-commit",
    "kernel::published",
    "store::before-reply",
];

/// One change of who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    Install,
    Swap,
    Stage,
    Evolve,
    Set,
    Remove,
    Return,
    ReturnWithState,
    GoBack,
    RaiseAtStart,
    Park,
    ParkWithState,
    Permanent,
}

impl Scenario {
    const ALL: [Self; 13] = [
        Self::Install,
        Self::Swap,
        Self::Stage,
        Self::Evolve,
        Self::Set,
        Self::Remove,
        Self::Return,
        Self::ReturnWithState,
        Self::GoBack,
        Self::RaiseAtStart,
        Self::Park,
        Self::ParkWithState,
        Self::Permanent,
    ];

    pub(super) fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|scenario| format!("{scenario:?}") == name).unwrap()
    }

    pub(super) fn terms(self) -> ProbationTerms {
        if self == Self::Permanent { SHORT } else { LONG }
    }

    /// Starts a kernel in a home, as a host does.
    pub(super) async fn start(self, home: &Path) -> TestKernel {
        match self {
            Self::RaiseAtStart => TestKernel::over_raising(home, GenerationMode::Evolve).await.0,
            _ => TestKernel::over_on_terms(home, self.terms()),
        }
    }

    /// The steps that it goes by, each at least once.
    pub(super) fn steps(self) -> Vec<&'static str> {
        let own: &[&str] = match self {
            Self::Install => &[
                "kernel::examined",
                "kernel::tried",
                "store::blob-before-write",
                "store::blob-before-rename",
                "store::blob-after-rename",
                "kernel::bytes-kept",
                "kernel::decided",
            ],
            Self::Swap => &["kernel::decided"],
            Self::Stage => {
                return vec![
                    "kernel::examined",
                    "kernel::tried",
                    "kernel::bytes-kept",
                    "store::before-commit",
                    "store::after-commit",
                    "store::before-reply",
                    "kernel::staged",
                ];
            }
            Self::Evolve => &[
                "kernel::way-back-tried",
                "store::shadow-written",
                "kernel::closed",
                "kernel::drained",
                "kernel::delta-carried",
                "store::generation-raised",
                "store::generation-in-force",
                "kernel::decided",
            ],
            Self::Set => &["kernel::set-tried", "kernel::set-bytes-kept", "kernel::set-decided"],
            Self::Remove => &[],
            Self::Return => &["kernel::burnt", "kernel::decided"],
            Self::ReturnWithState => &[
                "kernel::burnt",
                "store::shadow-written",
                "kernel::closed",
                "kernel::drained",
                "kernel::delta-carried",
                "store::generation-raised",
                "store::generation-in-force",
                "kernel::decided",
            ],
            Self::GoBack => &[
                "kernel::carrying",
                "store::shadow-written",
                "kernel::closed",
                "kernel::drained",
                "kernel::delta-carried",
                "store::generation-raised",
                "store::generation-in-force",
                "kernel::decided",
            ],
            Self::RaiseAtStart => &[
                "kernel::carrying",
                "store::shadow-written",
                "store::generation-raised",
                "store::generation-in-force",
                "kernel::decided",
            ],
            Self::Park => &["kernel::burnt", "kernel::parked"],
            Self::ParkWithState => &["kernel::burnt", "kernel::carrying", "kernel::parked"],
            Self::Permanent => {
                return vec![
                    "store::before-commit",
                    "store::after-commit",
                    "store::before-reply",
                    "kernel::permanent",
                ];
            }
        };
        own.iter().chain(&CHANGE).copied().collect()
    }

    /// Makes a home in which it can be done, with a load that has counted to [`FIRST`].
    pub(super) async fn prepare(self, home: &Path) {
        if self == Self::Permanent {
            // A release that has answered is permanent at once on these terms; this one waits for them.
            let kernel = TestKernel::over_on_terms(home, LONG);
            kernel.install("counter").await;
            return make_load(&kernel, home).await;
        }
        {
            let kernel = TestKernel::over_on_terms(home, SHORT);
            kernel.install("counter").await;
            make_load(&kernel, home).await;
            eventually("0.1.0 is permanent", || state(&kernel, "0.1.0") == ReleaseState::Permanent).await;
        }
        let kernel = TestKernel::over_on_terms(home, LONG);
        match self {
            Self::Swap => drop(kernel.install("counter-v2").await),
            Self::Evolve | Self::RaiseAtStart => drop(kernel.install("counter-v3").await),
            Self::Remove => drop(kernel.install("relay").await),
            Self::Return => drop(kernel.install("stumbler").await),
            Self::ReturnWithState | Self::GoBack => {
                kernel.install("tallier").await;
                kernel.kernel.swap("counter", "0.8.0".into()).await.unwrap();
            }
            Self::ParkWithState => {
                kernel.install("tallier").await;
                kernel.kernel.swap("counter", "0.8.0".into()).await.unwrap();
                make_too_far(&kernel).await;
            }
            Self::Park => drop(kernel.install("trapper").await),
            Self::Install | Self::Stage | Self::Set | Self::Permanent => {}
        }
    }

    /// Does it, unless it was done before.
    pub(super) async fn act(self, kernel: &TestKernel) {
        match self {
            Self::Install => drop(kernel.install("counter-v2").await),
            Self::Swap => drop(kernel.kernel.swap("counter", "0.1.0".into()).await.unwrap()),
            Self::Stage => drop(kernel.install("counter-v3").await),
            Self::Evolve => drop(kernel.kernel.swap("counter", "0.3.0".into()).await.unwrap()),
            Self::Set => drop(kernel.kernel.apply_set(set()).await.unwrap()),
            // The second time nobody is called so.
            Self::Remove => drop(kernel.kernel.remove("relay").await),
            Self::Return => burn(kernel, "0.6.0").await,
            Self::ReturnWithState => burn(kernel, "0.8.0").await,
            Self::GoBack => drop(kernel.kernel.swap("counter", "0.1.0".into()).await.unwrap()),
            // The start itself did it.
            Self::RaiseAtStart => {}
            Self::ParkWithState => burn_until(kernel, "0.8.0", ReleaseState::Parked).await,
            Self::Park => park(kernel).await,
            Self::Permanent => {
                eventually("0.1.0 is permanent", || state(kernel, "0.1.0") == ReleaseState::Permanent).await;
                // Said last.
                let is_watched = || kernel.kernel.plugin("counter").unwrap()["probation"].is_object();
                eventually("nobody watches it", || !is_watched()).await;
            }
        }
    }
}

/// Who serves and what is recorded of it, as a kernel finds it at its start.
pub(super) async fn picture(home: &Path) -> Value {
    let kernel = TestKernel::over_on_terms(home, LONG);
    let mut components: Vec<ComponentId> = Vec::new();
    let mut releases = Vec::new();
    for record in kernel.store.releases(None).unwrap() {
        releases.push(json!([record.component.as_str(), record.version, format!("{:?}", record.state)]));
        components.push(record.component);
    }
    components.dedup();
    let version = |component: &ComponentId, digest: Option<Digest>| {
        let record = digest.and_then(|digest| kernel.store.release(component, &digest).unwrap());
        record.map(|record| record.version)
    };
    let seats: Vec<Value> = kernel
        .store
        .seats()
        .unwrap()
        .into_iter()
        .map(|seat| {
            let (serves, returns) = (Some(seat.digest), seat.returns_to);
            json!([
                seat.component.as_str(),
                version(&seat.component, serves),
                version(&seat.component, returns)
            ])
        })
        .collect();
    let generations: Vec<Value> = components
        .iter()
        .map(|component| {
            let record = kernel.store.generation(component).unwrap();
            json!([component.as_str(), record.map(|record| record.generation)])
        })
        .collect();
    let rows: Vec<Value> = kernel.kernel.plugins().unwrap();
    let serving: Vec<Value> =
        rows.iter().map(|row| json!([row["id"], row["state"], row["version"]])).collect();
    json!({ "releases": releases, "seats": seats, "generations": generations, "serving": serving })
}

/// The objects that the load of a home counts with.
pub(super) fn load(home: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(home.join(LOAD)).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

/// What an object of the load has counted to; where nobody serves, as the tallier has stored it.
pub(super) async fn counted(kernel: &TestKernel, object: &str) -> u64 {
    match kernel.send(object, "read", Value::Null).await {
        Ok(count) => count.as_u64().unwrap(),
        Err(Failure::NotServing { .. }) => stored(kernel, object, "tally"),
        Err(failure) => panic!("{object}: {failure}"),
    }
}

fn stored(kernel: &TestKernel, object: &str, slot: &str) -> u64 {
    let mut unit = kernel.store.begin();
    let id = unit.locate(object).unwrap().unwrap();
    let object = unit.object(id).unwrap().unwrap();
    let Some(Slot::Value(count)) = object.slots.get(slot) else { panic!("{object:?}") };
    count.to_value().as_u64().unwrap()
}

/// An object that the tallier does not carry back.
async fn make_too_far(kernel: &TestKernel) {
    let object = kernel.send("counter", "clone", Value::Null).await.unwrap();
    let mut unit = kernel.store.begin();
    let id = unit.locate(object.as_str().unwrap()).unwrap().unwrap();
    let too_far = Json::from_value(&json!(1_u64 << 40)).unwrap();
    unit.set_slot(id, "tally", Slot::Value(too_far)).unwrap();
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
}

async fn make_load(kernel: &TestKernel, home: &Path) {
    let mut objects = Vec::new();
    for _ in 0..OBJECTS {
        let clone = kernel.send("counter", "clone", Value::Null).await.unwrap();
        let clone = clone.as_str().unwrap().to_owned();
        kernel.send(&clone, "increment", json!({ "by": FIRST })).await.unwrap();
        objects.push(clone);
    }
    std::fs::write(home.join(LOAD), objects.join("\n")).unwrap();
}

fn set() -> SetRequest {
    let build = |name: &str| {
        let source = format!("{name}.wasm");
        (guest(name), InstallRequest { source, grants: Granting::All, ..InstallRequest::default() })
    };
    SetRequest { install: vec![build("counter-v2"), build("relay")], ..SetRequest::default() }
}

async fn burn(kernel: &TestKernel, version: &str) {
    burn_until(kernel, version, ReleaseState::Quarantined).await;
}

async fn burn_until(kernel: &TestKernel, version: &str, ends_as: ReleaseState) {
    for by in [100, 101, 102] {
        let _ = kernel.send("counter", "increment", json!({ "by": by })).await;
    }
    eventually("it is burnt", || state(kernel, version) == ends_as).await;
    // Said last.
    eventually("it is told", || kernel.kernel.plugin("counter").unwrap()["cause"].is_string()).await;
}

async fn park(kernel: &TestKernel) {
    for breaking in ["panic", "trap", "overflow"] {
        let _ = kernel.send("trapper", breaking, Value::Null).await;
    }
    let trapper = ComponentId::new("trapper").unwrap();
    let is_parked = || kernel.store.releases(Some(&trapper)).unwrap()[0].state == ReleaseState::Parked;
    eventually("it is parked", is_parked).await;
    // Said last.
    eventually("it is told", || kernel.kernel.plugin("trapper").unwrap()["cause"].is_string()).await;
}

fn state(kernel: &TestKernel, version: &str) -> ReleaseState {
    let counter = ComponentId::new("counter").unwrap();
    let records = kernel.store.releases(Some(&counter)).unwrap();
    records.into_iter().find(|record| record.version == version).unwrap().state
}
