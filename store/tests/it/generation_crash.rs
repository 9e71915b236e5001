//! Goal: a process that dies at any step of a generation leaves every object in one generation, with every
//! acknowledged write, and nothing of a generation that was not reached.
//! Method: a child writes and raises generations for ever and prints what it was acknowledged; it is killed at
//! random times, or aborts at a failpoint; the parent verifies the directory as it is, opens it and counts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use telos_store::{
    CommitError, ComponentId, Contested, Digest, Json, LayoutMode, ObjectId, ObjectName, OpenError, Store,
    StoreOptions, Toward, Vote,
};

use crate::death::seeds;
use crate::fixture::{assert_clean, name, number, read, within};
use crate::random::Random;

const DIR: &str = "TELOS_STORE_GENERATION_CRASH_DIR";
const FAILPOINT: &str = "TELOS_STORE_GENERATION_CRASH_FAILPOINT";
const OBJECTS: u32 = 12;
/// Far above what a child takes on a busy machine: after it, it hangs.
const PATIENCE: Duration = Duration::from_secs(900);
/// Deaths after which a directory has a long enough past.
const DEATHS_PER_DIRECTORY: u32 = 10;

/// Where the process dies, and at which passes. Each step of a generation passes one of them.
const FAILPOINTS: [(&str, [u32; 3]); 7] = [
    ("store::shadow-written", [1, 7, 40]),
    ("store::generation-raised", [1, 2, 3]),
    ("store::generation-in-force", [1, 2, 3]),
    ("store::shadow-settled", [1, 6, 20]),
    ("store::shadows-dropped", [1, 2, 3]),
    ("store::before-commit", [20, 31, 45]),
    ("store::after-commit", [20, 31, 45]),
];

/// What a child said before it died.
#[derive(Debug, Default)]
struct Said {
    /// The last acknowledged count of each object.
    written: BTreeMap<u32, i64>,
    /// How often a generation was put in force, as acknowledged last.
    raised: usize,
}

fn ours() -> ComponentId {
    ComponentId::new("ours").unwrap()
}

fn object_name(object: u32) -> ObjectName {
    name(&format!("object/{object}"))
}

#[test]
fn a_process_that_dies_at_any_step_of_a_generation_leaves_one_generation() {
    let mut deaths = 0;
    for (failpoint, passes) in FAILPOINTS {
        let mut home = (tempfile::tempdir().unwrap(), Said::default());
        for (death, pass) in (1..).zip(passes.into_iter().chain(more_passes(passes[2]))) {
            let (dir, said) = &mut home;
            let what = format!("{failpoint}, pass {pass}, death {death}");
            let mut child = spawn(dir.path(), Some(&format!("{failpoint} {pass}")));
            let end = collect(&mut child, said, PATIENCE);
            assert_aborted(end, &what);
            assert_whole(dir.path(), said, &what);
            deaths += 1;
            if death % DEATHS_PER_DIRECTORY == 0 {
                home = (tempfile::tempdir().unwrap(), Said::default());
            }
        }
    }
    println!("{deaths} deaths at {} points", FAILPOINTS.len());
}

/// Passes to die at in the long run, one for each seed but those of the sample.
fn more_passes(pass_max: u32) -> impl Iterator<Item = u32> {
    let pass = move |seed| 1 + u32::try_from(Random::new(seed).below(u64::from(pass_max))).unwrap();
    (3..seeds()).map(pass)
}

#[test]
fn a_process_that_dies_while_it_cleans_up_after_a_death_cleans_up_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for seed in 0..seeds() {
        // Copies that a raise would have put in force; then the next start dies too, while it drops them.
        let raises = 1 + Random::new(seed).below(if seed == 0 { 1 } else { 3 });
        for (failpoint, pass) in [("store::generation-raised", raises), ("store::leftovers-dropped", 1)] {
            let mut child = spawn(dir.path(), Some(&format!("{failpoint} {pass}")));
            let end = collect(&mut child, &mut said, PATIENCE);
            assert_aborted(end, failpoint);
            let report = Store::verify(dir.path()).unwrap();
            assert!(report.is_clean(), "{failpoint}, seed {seed}: {:#?}", report.problems);
        }
        assert_whole(dir.path(), &mut said, &format!("after both, seed {seed}"));
    }
}

#[test]
fn a_process_killed_beside_an_evolution_leaves_one_generation() {
    let rounds = if crate::random::is_long() { 200 } else { 8 };
    let dir = tempfile::tempdir().unwrap();
    let (mut said, mut seed) = (Said::default(), 0x9e4e_u64);
    for round in 0..rounds {
        let mut child = spawn(dir.path(), None);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = Duration::from_millis((seed >> 33) % 150);
        let end = collect(&mut child, &mut said, delay);
        let what = format!("round {round}, killed {delay:?} after the first");
        assert!(end.is_none(), "{what}: {end:?}");
        assert_whole(dir.path(), &mut said, &what);
    }
}

#[test]
fn a_process_that_dies_while_it_raises_the_layout_leaves_the_old_one_whole() {
    let dir = tempfile::tempdir().unwrap();
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/layout-1");
    crate::frozen::copy_tree(&case, dir.path());
    let mut child = spawn(dir.path(), Some("store::raise-before-commit 1"));
    assert_aborted(collect(&mut child, &mut Said::default(), PATIENCE), "raise-before-commit");
    let check = StoreOptions { layout: LayoutMode::Check, ..StoreOptions::default() };
    assert!(matches!(Store::open(dir.path(), check), Err(OpenError::OlderLayout { found: 1, .. })));
    let report = Store::verify(dir.path()).unwrap();
    assert!(report.is_clean() && report.layout == 1, "{report:#?}");
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    assert_eq!(store.audit_after(0, 100).unwrap().last().unwrap().kind, "store.layout-raised");
    assert_clean(&store);
}

/// The child's side; does nothing when it is not one.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    if let Ok(failpoint) = std::env::var(FAILPOINT) {
        abort_at(&failpoint);
    }
    let store = Store::open(Path::new(&dir), StoreOptions::default()).unwrap();
    let objects = find_or_make(&store);
    std::thread::scope(|scope| {
        let (store, objects) = (&store, &objects);
        scope.spawn(move || write_for_ever(store, objects));
        scope.spawn(move || raise_for_ever(store));
    });
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

fn find_or_make(store: &Store) -> Vec<ObjectId> {
    let generation = in_force(store);
    let make = |object| {
        within(store, |unit| {
            if let Some(id) = unit.find(&object_name(object)).unwrap() {
                return id;
            }
            let id = unit.create(ours(), generation, vec![]).unwrap();
            unit.set_slot(id, &format!("n{generation}"), number(0)).unwrap();
            unit.bind(&object_name(object), id).unwrap();
            id
        })
    };
    (0..OBJECTS).map(make).collect()
}

fn in_force(store: &Store) -> u32 {
    store.generation(&ours()).unwrap().map_or(1, |record| record.generation)
}

fn raises(store: &Store) -> usize {
    store.generations(&ours()).unwrap().len()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {line}").and_then(|()| out.flush()).unwrap();
}

/// Adds 1 to each object in turn.
fn write_for_ever(store: &Store, objects: &[ObjectId]) {
    for (number_of, id) in objects.iter().enumerate().cycle() {
        let mut unit = store.begin();
        let slot = format!("n{}", unit.object(*id).unwrap().unwrap().generation);
        let count = read(&mut unit, *id, &slot).unwrap() + 1;
        unit.set_slot(*id, &slot, number(count)).unwrap();
        match store.decide(unit, Vote::default()).wait() {
            Ok(_) => say(&format!("wrote {number_of} {count}")),
            Err(CommitError::Conflict(Contested::Object(_))) => {}
            Err(error) => panic!("{error}"),
        }
        // Evolving has a chance only while nothing is written.
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Evolves, now and then gives up on it, raises and settles.
fn raise_for_ever(store: &Store) {
    for turn in 0_u32.. {
        let from = in_force(store);
        // Up and, less often, back.
        let to = if turn % 5 == 4 && from > 1 { from - 1 } else { from + 1 };
        let Some(toward) = Toward::between(from, to) else { continue };
        evolve_all(store, toward);
        if turn % 3 == 1 {
            store.drop_shadows(&ours()).unwrap();
            continue;
        }
        let mut unit = store.begin();
        unit.raise_generation(&ours(), from, to, Digest::of(b"evolver")).unwrap();
        match store.decide(unit, Vote::default()).wait() {
            Ok(_) => say(&format!("raised 0 {}", raises(store))),
            Err(CommitError::Unevolved { .. }) => continue,
            Err(error) => panic!("{error}"),
        }
        while store.settle_generation(5).unwrap() > 0 {}
    }
}

/// The count moves on to a slot named after the generation.
fn evolve_all(store: &Store, toward: Toward) {
    let (to, mut after) = (toward.generation(), None);
    loop {
        let listed = store.unevolved(&ours(), toward, after, 5).unwrap();
        let Some(last) = listed.last() else { return };
        after = Some(last.id);
        within(store, |unit| {
            for object in &listed {
                let count = object.value(&format!("n{}", object.generation)).unwrap();
                let count = Json::parse(count.as_str()).unwrap();
                let slots = BTreeMap::from([(format!("n{to}"), count)]);
                unit.put_shadow(object.id, object.position, to, slots).unwrap();
            }
        });
    }
}

fn spawn(dir: &Path, failpoint: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["generation_crash::child", "--exact", "--nocapture", "--test-threads=1"]).env(DIR, dir);
    if let Some(failpoint) = failpoint {
        command.env(FAILPOINT, failpoint);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Reads acknowledgements; kills the child `delay` after the first. Answers how it ended when it was not killed.
fn collect(child: &mut Child, said: &mut Said, delay: Duration) -> Option<ExitStatus> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, first) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, words)) = line.split_once("ack ") {
                    said.hear(words);
                    let _ = sender.send(());
                }
            }
        });
        // An error means that the child closed its output, so that it has died or is about to.
        let end = match first.recv() {
            Ok(()) => wait_or_exit(child, delay),
            Err(_) => child.wait().ok(),
        };
        let _ = child.kill();
        child.wait().unwrap();
        end
    })
}

impl Said {
    /// A torn last line is no acknowledgement, or an earlier one.
    fn hear(&mut self, words: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        let [kind, object, value] = words[..] else { return };
        let (Ok(object), Ok(value)) = (object.parse::<u32>(), value.parse::<i64>()) else { return };
        if kind == "wrote" {
            let last = self.written.entry(object).or_default();
            *last = value.max(*last);
        } else {
            self.raised = self.raised.max(usize::try_from(value).unwrap());
        }
    }
}

/// The random part of the test is when the child dies, so this one waits for time to pass.
fn wait_or_exit(child: &mut Child, delay: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + delay;
    let mut own_end = child.try_wait().unwrap();
    while own_end.is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
        own_end = child.try_wait().unwrap();
    }
    own_end
}

#[track_caller]
fn assert_aborted(end: Option<ExitStatus>, what: &str) {
    // 101 is a test that failed, as opposed to a process that aborted.
    assert!(end.is_some_and(|end| !end.success() && end.code() != Some(101)), "{what}: {end:?}");
}

/// Every object is in the generation in force and holds what was acknowledged, or one write more. What it holds is what
/// the next process goes on from: it may die with a write of the same object in hand.
#[track_caller]
fn assert_whole(dir: &Path, said: &mut Said, what: &str) {
    let report = Store::verify(dir).unwrap();
    assert!(report.is_clean(), "{what}: {:#?}", report.problems);
    assert_rows_counted(dir, what);
    let store = Store::open(dir, StoreOptions::default()).unwrap();
    assert_clean(&store);
    let (generation, raises) = (in_force(&store), raises(&store));
    assert!(raises >= said.raised, "{what}: raised {} times, found {raises}", said.raised);
    assert_eq!(store.drop_shadows(&ours()).unwrap(), 0, "{what}: copies that nobody will need");
    let mut unit = store.begin();
    let named = unit.names("object/", "", 100).unwrap();
    for (_, id) in &named {
        let object = unit.object(*id).unwrap().unwrap();
        let slots: Vec<_> = object.slots.keys().cloned().collect();
        assert_eq!((object.generation, slots), (generation, vec![format!("n{generation}")]), "{what}");
    }
    for (number_of, written) in &mut said.written {
        let id = unit.find(&object_name(*number_of)).unwrap().unwrap();
        let count = read(&mut unit, id, &format!("n{generation}")).unwrap();
        assert!((*written..=*written + 1).contains(&count), "{what}: {number_of} {written} {count}");
        *written = count;
    }
}

/// Rows written, as counted, are those that are there while none was ever pruned.
#[track_caller]
fn assert_rows_counted(dir: &Path, what: &str) {
    let database = redb::Database::open(dir.join("objects.redb")).unwrap();
    let txn = redb::ReadableDatabase::begin_read(&database).unwrap();
    let meta: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
    let objects: redb::TableDefinition<(u128, u64), &[u8]> = redb::TableDefinition::new("objects");
    let counted = txn.open_table(meta).unwrap().get("object_rows").unwrap().map(|rows| rows.value());
    let kept = redb::ReadableTableMetadata::len(&txn.open_table(objects).unwrap()).unwrap();
    assert_eq!(counted.unwrap_or(0), kept, "{what}");
}
