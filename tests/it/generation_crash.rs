//! Goal: a process that dies at any step of a start that raises a generation leaves every object in one generation and
//! a release that serves it; the next start finishes or begins anew.
//! Method: a child starts over a home with a staged release and aborts at a failpoint; the parent verifies the store as
//! it is, looks at it with a kernel that raises nothing, and then starts as a host does.

use std::hash::{Hash, Hasher};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use telos_kernel::{Evolution, EvolutionOutcome, GenerationMode};
use telos_store::{ComponentId, Json, ObjectName, Slot, Store, Vote};
use telos_tests::{TestKernel, copy_tree};

const DIRECTORY: &str = "TELOS_GENERATION_CRASH_DIRECTORY";
const FAILPOINT: &str = "TELOS_GENERATION_CRASH_FAILPOINT";

/// More than one commit of copies.
const OBJECTS: u32 = 300;

/// Where a start that succeeds dies, and at which passes.
const WAYS_UP: [(&str, &[u32]); 6] = [
    ("store::shadow-written", &[1, 256, 301]),
    ("store::generation-raised", &[1]),
    ("store::generation-in-force", &[1]),
    ("store::shadow-settled", &[1, 150]),
    ("store::before-commit", &[1, 2, 3, 4]),
    ("store::after-commit", &[1, 2, 3, 4]),
];

/// Where a start that gives up dies.
const WAYS_BACK: [(&str, &[u32]); 4] = [
    ("store::shadow-written", &[1]),
    ("store::shadows-dropped", &[1]),
    ("store::before-commit", &[1, 2, 3]),
    ("store::after-commit", &[1, 2, 3]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_dies_at_any_step_of_raising_a_generation_is_finished_by_the_next() {
    let mut deaths = 0;
    for seed in 0..seeds() {
        let home = Home::with("counter-v3", 1, seed).await;
        for (failpoint, pass) in home.deaths(seed, &WAYS_UP) {
            let (what, home) = (format!("seed {seed}, {failpoint}, pass {pass}"), home.copy());
            deaths += u64::from(home.dies(failpoint, pass, seed > 0, &what));
            home.assert_sound(&what);
            let kernel = TestKernel::over(home.path());
            let release = kernel.send("counter", "release", Value::Null).await.unwrap();
            assert!(release == "0.1.0" || release == "0.3.0", "{what}: {release}");
            home.assert_whole(&kernel, &what).await;
            drop(kernel);
            let (kernel, raised) = TestKernel::over_raising(home.path(), GenerationMode::Evolve).await;
            assert_eq!(raised.is_empty(), release == "0.3.0", "{what}: {raised:?}");
            assert!(
                raised.iter().all(|raised| raised.outcome == EvolutionOutcome::Raised),
                "{what}: {raised:?}"
            );
            assert_eq!(kernel.send("counter", "release", Value::Null).await.unwrap(), "0.3.0", "{what}");
            home.assert_whole(&kernel, &what).await;
        }
    }
    println!("{deaths} deaths on the way up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_dies_while_it_gives_up_gives_up_at_the_next() {
    let mut deaths = 0;
    for seed in 0..seeds() {
        let home = Home::with("misevolver", 901, seed).await;
        for (failpoint, pass) in home.deaths(seed, &WAYS_BACK) {
            let (what, home) = (format!("seed {seed}, {failpoint}, pass {pass}"), home.copy());
            deaths += u64::from(home.dies(failpoint, pass, seed > 0, &what));
            home.assert_sound(&what);
            let (kernel, raised) = TestKernel::over_raising(home.path(), GenerationMode::Evolve).await;
            let has_failed = |raised: &Evolution| matches!(raised.outcome, EvolutionOutcome::Failed(_));
            assert!(raised.iter().all(has_failed), "{what}: {raised:?}");
            assert_eq!(kernel.send("counter", "release", Value::Null).await.unwrap(), "0.1.0", "{what}");
            home.assert_whole(&kernel, &what).await;
            let rows = kernel.store.audit_after(0, 10_000).unwrap();
            assert_eq!(rows.iter().filter(|row| row.kind == "generation.failed").count(), 1, "{what}");
            assert_eq!(kernel.kernel.plugins().unwrap()[0]["is_trouble"], true, "{what}");
        }
    }
    println!("{deaths} deaths on the way back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_dies_while_it_cleans_up_after_a_death_begins_anew_later() {
    let home = Home::with("counter-v3", 1, 0).await;
    for failpoint in ["store::generation-raised", "store::leftovers-dropped"] {
        home.dies(failpoint, 1, false, failpoint);
        home.assert_sound(failpoint);
    }
    let (kernel, raised) = TestKernel::over_raising(home.path(), GenerationMode::Evolve).await;
    assert!(matches!(&raised[..], [one] if one.outcome == EvolutionOutcome::Raised), "{raised:?}");
    home.assert_whole(&kernel, "after both").await;
}

/// The child's side; does nothing when it is not one.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    abort_at(&std::env::var(FAILPOINT).unwrap());
    let (kernel, _) = TestKernel::over_raising(Path::new(&directory), GenerationMode::Evolve).await;
    while kernel.store.settle_generation(100).unwrap() > 0 {}
}

fn abort_at(failpoint: &str) {
    let (name, pass) = failpoint.split_once(' ').unwrap();
    let left = AtomicU32::new(pass.parse().unwrap());
    let die_in_time = move || {
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    };
    fail::cfg_callback(name, die_in_time).unwrap();
}

/// A home with counters up to their numbers, the first up to `first`, and a staged release. The first is carried over
/// in the last commit of copies, which goes by identity.
struct Home {
    dir: tempfile::TempDir,
    objects: u32,
    first: u32,
}

impl Home {
    /// Seed 0 has [`OBJECTS`], others as many as it happens, up to three commits of copies.
    async fn with(staged: &str, first: u32, seed: u64) -> Home {
        let objects = if seed == 0 { OBJECTS } else { 1 + by_chance(seed, "objects", 600) };
        let home = Home { dir: tempfile::tempdir().unwrap(), objects, first };
        let kernel = TestKernel::over(home.path());
        kernel.install("counter").await;
        let mut unit = kernel.store.begin();
        let root = unit.find(&ObjectName::new("counter").unwrap()).unwrap().unwrap();
        let make = |_| unit.create(ComponentId::new("counter").unwrap(), 1, vec![root]).unwrap();
        let mut ids: Vec<_> = (0..objects).map(make).collect();
        ids.sort_unstable();
        ids.reverse();
        for (number, id) in (0..objects).zip(ids) {
            let count = Slot::Value(Json::from_value(&json!(home.count(number))).unwrap());
            unit.set_slot(id, "count", count).unwrap();
            unit.bind(&ObjectName::new(&format!("mine/{number}")).unwrap(), id).unwrap();
        }
        kernel.store.decide(unit, Vote::default()).wait().unwrap();
        assert_eq!(kernel.install(staged).await.state, "staged");
        home
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn count(&self, number: u32) -> u32 {
        if number == 0 { self.first } else { number }
    }

    fn copy(&self) -> Home {
        let dir = tempfile::tempdir().unwrap();
        copy_tree(self.path(), dir.path());
        Home { dir, ..*self }
    }

    /// Where to die: for seed 0 at all the passes, for another at one pass of each failpoint, which may not come.
    fn deaths(&self, seed: u64, ways: &[(&'static str, &[u32])]) -> Vec<(&'static str, u32)> {
        let at = |(failpoint, passes): &(&'static str, &[u32])| {
            let last = passes.iter().max().copied().unwrap_or(1).min(self.objects + 1);
            let pass = 1 + by_chance(seed, failpoint, last);
            let passes = if seed == 0 { passes.to_vec() } else { vec![pass] };
            passes.into_iter().map(|pass| (*failpoint, pass)).collect::<Vec<_>>()
        };
        ways.iter().flat_map(at).collect()
    }

    /// Starts a child over it that dies at a pass of a failpoint; answers whether it did. One that `may_live` may pass
    /// the point less often, and finish.
    #[track_caller]
    fn dies(&self, failpoint: &str, pass: u32, may_live: bool, what: &str) -> bool {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["generation_crash::child", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(DIRECTORY, self.path()).env(FAILPOINT, format!("{failpoint} {pass}"));
        let end = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        // 101 is a test that failed, as opposed to a process that aborted.
        assert!(end.code() != Some(101) && (may_live || !end.success()), "{what}: {end}");
        !end.success()
    }

    #[track_caller]
    fn assert_sound(&self, what: &str) {
        let report = Store::verify(&self.path().join("store")).unwrap();
        assert!(report.is_clean(), "{what}: {:#?}", report.problems);
    }

    /// Every object is in the generation that the release which serves knows, with the count it had, in the slot for it.
    async fn assert_whole(&self, kernel: &TestKernel, what: &str) {
        assert!(kernel.store.verify_open().unwrap().is_clean(), "{what}");
        let release = kernel.send("counter", "release", Value::Null).await.unwrap();
        let mut unit = kernel.store.begin();
        for number in 0..self.objects {
            let count = self.count(number);
            let (generation, slot, value) = match release.as_str() {
                Some("0.1.0") => (1, "count", json!(count)),
                _ => (2, "tally", json!({"up": count, "down": 0})),
            };
            let id = unit.find(&ObjectName::new(&format!("mine/{number}")).unwrap()).unwrap().unwrap();
            let object = unit.object(id).unwrap().unwrap();
            assert_eq!((object.generation, object.slots.len()), (generation, 1), "{what}: mine/{number}");
            assert_eq!(object.value(slot).unwrap().to_value(), value, "{what}: mine/{number}");
        }
        let last = self.objects - 1;
        let counted = kernel.send(&format!("mine/{last}"), "read", Value::Null).await.unwrap();
        assert_eq!(counted, self.count(last), "{what}");
    }
}

/// How many seeds die at each failpoint.
fn seeds() -> u64 {
    if std::env::var_os("TELOS_LONG").is_some() { 200 } else { 1 }
}

/// The same number below `bound` for the same seed and purpose, on every machine.
fn by_chance(seed: u64, purpose: &str, bound: u32) -> u32 {
    let mut hasher = std::hash::DefaultHasher::new();
    (seed, purpose).hash(&mut hasher);
    u32::try_from(hasher.finish() % u64::from(bound)).unwrap()
}
