//! Goal: a draft changes any number of objects at one position or leaves everything as it is, says beforehand what it
//! will change, and nobody who dies on the way leaves half of it.
//! Method: what a draft did is compared with what a unit does; rehearsals with the real thing; files byte by byte;
//! children die at every durable step.

mod generation;
mod model;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use telos_store::{
    Changed, ComponentId, Digest, Draft, DraftError, DraftFact, DraftOptions, DraftRaise, DraftReport, Json,
    MethodSlot, ObjectId, OpenError, ReadError, ReleaseRecord, ReleaseState, RestoreOptions, SeatRecord,
    Slot, Store, StoreOptions, Unit, WriteError,
};

use crate::death;
use crate::fixture::{assert_clean, commit, name, number, object_with, operator, read, within};
use crate::random::is_long;
use crate::whole::{all_names, component, copy_tree, dump, files, fill, now_ms};

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions::default()).unwrap()
}

fn begin(dir: &Path) -> Draft {
    Draft::begin(dir, &DraftOptions::default(), &mut |_| ()).unwrap()
}

fn rehearse(dir: &Path) -> Draft {
    let options = DraftOptions { is_rehearsal: true, ..DraftOptions::default() };
    Draft::begin(dir, &options, &mut |_| ()).unwrap()
}

fn seal(draft: Draft) -> DraftReport {
    draft.seal(fact(), &mut |_| ()).unwrap()
}

fn fact() -> DraftFact {
    let (kind, subject, detail) = ("test.drafted".into(), "store".into(), json!({ "of": "a test" }));
    DraftFact { kind, subject, detail, evolver: Digest::of(b"a test") }
}

fn json_of(text: &str) -> Json {
    Json::parse(text).unwrap()
}

/// A filled store in `home/store`, closed.
fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let store = open(&dir);
    fill(&store, now_ms());
    within(&store, |unit| {
        let raised = unit.create(component("raised"), 1, vec![]).unwrap();
        unit.bind(&name("raised"), raised).unwrap();
    });
    (home, dir)
}

/// Doubles a count, renames an object, makes one, moves another below it, raises a component.
fn change(draft: &mut Draft) -> ObjectId {
    let id = draft.find(&name("object/04")).unwrap().unwrap();
    draft.set_value(id, "doubled", json_of("8")).unwrap();
    assert!(draft.remove_value(id, "count").unwrap());
    let raised = draft.find(&name("raised")).unwrap().unwrap();
    draft.set_generation(raised, 3).unwrap();
    draft.unbind(&name("object/05")).unwrap();
    let made = draft.create(operator()).unwrap();
    draft.set_value(made, "made", json_of("true")).unwrap();
    draft.bind(&name("made"), made).unwrap();
    draft.set_parents(id, vec![made]).unwrap();
    made
}

/// The generation of a component that was raised.
fn in_force(store: &Store, of: &str) -> Option<u32> {
    store.generation(&component(of)).unwrap().map(|raised| raised.generation)
}

/// Every file with its bytes, but for who holds the lock.
fn bytes(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let of_store =
        |path: &PathBuf| !matches!(path.file_name().and_then(|name| name.to_str()), Some("pid" | "lock"));
    files(dir).into_iter().filter(of_store).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_draft_is_one_commit_and_the_past_stays() {
    let (home, dir) = home();
    let before = open(&dir);
    let (base, id) = (before.position(), before.begin().find(&name("object/04")).unwrap().unwrap());
    let said = dump(&before, 0);
    drop(before);

    let mut draft = begin(&dir);
    let made = change(&mut draft);
    let report = seal(draft);

    let store = open(&dir);
    assert_clean(&store);
    assert_eq!((store.position(), report.position), (base.next(), base.next()));
    let mut unit = store.begin();
    let object = unit.object(id).unwrap().unwrap();
    assert_eq!((object.generation, object.parents.clone(), object.position), (1, vec![made], base.next()));
    let raise = DraftRaise { component: component("raised"), from: 1, to: 3, objects: 1 };
    assert_eq!((&report.raised, in_force(&store, "raised")), (&vec![raise], Some(3)));
    assert_eq!((read(&mut unit, id, "doubled"), read(&mut unit, id, "count")), (Some(8), None));
    assert_eq!(unit.find(&name("made")).unwrap(), Some(made));
    assert_eq!(unit.find(&name("object/05")).unwrap(), None);
    let past = store.object_at(id, base).unwrap().unwrap();
    assert!(past.value("count").is_some() && past.revision.next() == object.revision);
    assert_eq!(unit.history(id, 2).unwrap()[1].position, past.position);
    let audit = store.audit_after(0, 1_000).unwrap();
    let kinds: Vec<_> =
        audit.iter().filter(|fact| fact.position == base.next()).map(|fact| &fact.kind).collect();
    assert_eq!(kinds, ["generation.raised", "test.drafted"]);
    assert_eq!(store.retention().unwrap().gone_rows, 0);
    // It lives on: the next commit follows.
    within(&store, |unit| unit.set_slot(id, "doubled", number(9)).unwrap());
    assert_eq!(store.position(), base.next().next());

    let backup = report.backup.unwrap();
    assert!(backup.is_verified && backup.path.starts_with(home.path().canonicalize().unwrap()));
    let into = home.path().join("restored");
    Store::restore(&backup.path, &into, RestoreOptions::default(), &mut |_| ()).unwrap();
    assert_eq!(dump(&open(&into), 0), said);
}

#[test]
fn a_rehearsal_leaves_every_byte_alone_and_tells_what_the_draft_does() {
    let (home, dir) = home();
    let before = bytes(home.path());
    let told = |mut draft: Draft| {
        change(&mut draft);
        let told = (draft.changed(None, 100).unwrap(), draft.renamed().unwrap());
        (told, seal(draft).position)
    };
    let rehearsed = told(rehearse(&dir));
    assert_eq!(bytes(home.path()), before);
    assert_eq!(told(begin(&dir)), rehearsed);
    assert_eq!((rehearsed.0.0.len(), rehearsed.0.1.len()), (3, 2));
}

#[test]
fn a_rehearsal_makes_and_removes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    object_with(&open(&dir), "count", 1);
    fs::remove_dir(dir.join("blobs")).unwrap();
    // Of a restore that decided nothing, and of a draft that died: whoever writes throws them away.
    fs::create_dir(dir.join("restore-staged")).unwrap();
    fs::write(dir.join("objects.draft"), "half").unwrap();
    let entries = || {
        let mut names: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let before = entries();
    assert_eq!(seal(rehearse(&dir)).backup, None);
    assert_eq!(entries(), before);
    seal(begin(&dir));
    assert!(entries().iter().all(|name| name != "restore-staged" && name != "objects.draft"));
    assert_clean(&open(&dir));
}

#[test]
fn a_draft_that_is_dropped_leaves_nothing() {
    let (home, dir) = home();
    let before = bytes(home.path());
    let mut draft = begin(&dir);
    change(&mut draft);
    assert!(draft.backup().unwrap().path.exists());
    draft.changed(None, 100).unwrap();
    drop(draft);
    assert_eq!(bytes(home.path()), before);
    let long = DraftFact { detail: json!("x".repeat(70_000)), ..fact() };
    let oversize = begin(&dir).seal(long, &mut |_| ());
    assert!(matches!(oversize, Err(DraftError::TooLarge(_))), "{oversize:?}");
    assert_eq!(bytes(home.path()), before);
}

#[test]
fn a_store_in_use_or_absent_is_not_drafted() {
    let (home, dir) = home();
    let store = open(&dir);
    for is_rehearsal in [true, false] {
        let options = DraftOptions { is_rehearsal, ..DraftOptions::default() };
        let refused = Draft::begin(&dir, &options, &mut |_| ());
        assert!(matches!(refused, Err(DraftError::Open(OpenError::InUse { .. }))), "{refused:?}");
        let refused = Draft::begin(&home.path().join("none"), &options, &mut |_| ());
        assert!(matches!(refused, Err(DraftError::Backup(_))), "{refused:?}");
    }
    drop(store);
    let draft = rehearse(&dir);
    assert!(matches!(Store::open(&dir, StoreOptions::default()), Err(OpenError::InUse { .. })));
    drop(draft);
    open(&dir);
}

#[test]
fn what_is_refused_is_not_in_the_draft() {
    let (_home, dir) = home();
    let store = open(&dir);
    let id = object_with(&store, "count", 1);
    within(&store, |unit| {
        let (component, requirement, selector) = (component("babs"), "^1".into(), "say".into());
        unit.set_slot(id, "say", Slot::Method(MethodSlot { component, requirement, selector })).unwrap();
        unit.set_owner_generation(id, operator(), 2).unwrap();
    });
    drop(store);
    let mut draft = rehearse(&dir);
    let absent = ObjectId::from_parts(1, 2);
    let no_such = |result: Result<(), WriteError>| {
        assert!(
            matches!(result, Err(WriteError::Read(ReadError::NoSuchObject(of))) if of == absent),
            "{result:?}"
        );
    };
    no_such(draft.set_value(absent, "a", json_of("1")));
    no_such(draft.set_parents(id, vec![absent]));
    no_such(draft.bind(&name("free"), absent));
    let value = || json_of("1");
    assert!(matches!(draft.set_value(id, "say", value()), Err(WriteError::Invalid(_))));
    assert!(matches!(draft.remove_value(id, "say"), Err(WriteError::Invalid(_))));
    assert!(matches!(draft.set_value(id, "", value()), Err(WriteError::Invalid(_))));
    assert!(matches!(draft.bind(&name("object/01"), id), Err(WriteError::NameTaken { .. })));
    let lowered = draft.set_generation(id, 1);
    assert!(matches!(lowered, Err(WriteError::Generation { found: 1, in_force: 2, .. })), "{lowered:?}");
    assert!(matches!(draft.set_parents(id, vec![id; 33]), Err(WriteError::TooLarge(_))));
    let large = json_of(&format!("\"{}\"", "x".repeat(250_000)));
    for slot in ["a", "b", "c", "d"] {
        draft.set_value(id, slot, large.clone()).unwrap();
    }
    assert!(matches!(draft.set_value(id, "e", large.clone()), Err(WriteError::TooLarge(_))));
    for slot in ["a", "b", "c", "d"] {
        draft.remove_value(id, slot).unwrap();
    }
    // The same value in another spelling is no change, nor is the same name again.
    draft.set_value(id, "count", json_of(" 1 ")).unwrap();
    draft.bind(&name("object/01"), draft.find(&name("object/01")).unwrap().unwrap()).unwrap();
    assert_eq!((draft.changed(None, 10).unwrap(), draft.renamed().unwrap()), (vec![], vec![]));
}

/// In a process of its own, since failpoints are everyone's.
#[test]
fn child_cannot_sync() {
    let Some(dir) = std::env::var_os("TELOS_STORE_UNSYNCED") else { return };
    fail::cfg("store::draft-switched", "return").unwrap();
    let mut draft = begin(Path::new(&dir));
    change(&mut draft);
    let refused = draft.seal(fact(), &mut |_| ()).unwrap_err();
    let DraftError::Unsynced { backup, .. } = &refused else { panic!("{refused:?}") };
    assert!(refused.to_string().contains(&backup.display().to_string()), "{refused}");
    Store::check_backup(backup, &mut |_| ()).unwrap();
}

#[test]
fn a_switch_that_is_not_synced_names_the_backup_and_keeps_it() {
    let (home, dir) = home();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let done = child
        .args(["draft::child_cannot_sync", "--exact"])
        .env("TELOS_STORE_UNSYNCED", &dir)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(open(&dir).begin().find(&name("made")).unwrap().is_some());
    let beside = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(beside.filter(|name| name.to_string_lossy().contains(".before-evolve-")).count(), 1);
}

#[test]
fn an_objects_names_are_those_that_stand_for_it() {
    let (_home, dir) = home();
    let mut draft = rehearse(&dir);
    let find = |draft: &Draft, of: &str| draft.find(&name(of)).unwrap().unwrap();
    let (one, other) = (find(&draft, "object/01"), find(&draft, "object/02"));
    for (of, id) in
        [("b", Some(one)), ("a", Some(one)), ("object/01", None), ("object/02", None), ("b", None)]
    {
        match id {
            Some(id) => draft.bind(&name(of), id).unwrap(),
            None => drop(draft.unbind(&name(of)).unwrap().unwrap()),
        }
    }
    // A name that goes over to another object, and one that comes back.
    draft.bind(&name("object/01"), other).unwrap();
    draft.bind(&name("object/02"), other).unwrap();
    draft.bind(&name("b"), other).unwrap();
    for id in [one, other] {
        let all = draft.names("", "", 1_000).unwrap();
        let expected: Vec<_> = all.into_iter().filter(|(_, of)| *of == id).map(|(name, _)| name).collect();
        assert_eq!(draft.names_of(id).unwrap(), expected);
        assert_eq!(expected.len(), if id == one { 1 } else { 3 });
    }
}

#[test]
fn a_draft_larger_than_any_unit_is_still_one_position() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let store = open(&dir);
    let many = telos_store::limit::DRAFT_STEP_OBJECTS + 900;
    for step in (0..many).collect::<Vec<_>>().chunks(1_000) {
        within(&store, |unit| {
            for _ in step {
                let id = unit.create(component("many"), 1, vec![]).unwrap();
                unit.set_slot(id, "count", number(1)).unwrap();
            }
        });
    }
    let base = store.position();
    drop(store);
    let mut draft = begin(&dir);
    let all = draft.objects_of(&component("many"), None, usize::MAX).unwrap();
    assert_eq!((all.len(), draft.owners(None, 10).unwrap()), (many, vec![component("many")]));
    for id in &all {
        draft.set_value(*id, "count", json_of("2")).unwrap();
    }
    // Some are in the copy by now, and are changed again, or back.
    draft.set_value(all[0], "count", json_of("3")).unwrap();
    draft.set_value(all[1], "count", json_of("1")).unwrap();
    draft.create(component("many")).unwrap();
    assert_eq!(draft.objects_of(&component("many"), Some(all[0]), 2).unwrap(), all[1..3]);
    seal(draft);
    let store = open(&dir);
    assert_clean(&store);
    let mut unit = store.begin();
    let counts: Vec<_> = all[..3].iter().map(|id| read(&mut unit, *id, "count").unwrap()).collect();
    assert_eq!((counts, store.position()), (vec![3, 1, 2], base.next()));
    let positions = |unit: &mut Unit, id| unit.object(id).unwrap().unwrap().position;
    assert_eq!(positions(&mut unit, all[0]), base.next());
    assert!(positions(&mut unit, all[1]) <= base);
    let counts = store.counts().unwrap();
    assert_eq!((counts.objects, counts.object_rows), (many as u64 + 1, 2 * many as u64));
    assert_eq!(store.retention().unwrap().gone_rows, 0);
}

#[test]
fn an_older_layout_is_raised_in_the_draft_alone() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/layout-1"), &dir);
    let before = fs::read(dir.join("objects.redb")).unwrap();
    drop(rehearse(&dir));
    drop(begin(&dir));
    assert_eq!(fs::read(dir.join("objects.redb")).unwrap(), before);
    let mut draft = begin(&dir);
    let id = draft.create(operator()).unwrap();
    draft.bind(&name("drafted"), id).unwrap();
    seal(draft);
    let store = open(&dir);
    assert_clean(&store);
    assert_eq!(store.begin().find(&name("drafted")).unwrap(), Some(id));
}

#[test]
fn a_process_that_dies_at_any_step_of_a_draft_leaves_the_old_store_or_the_new_one() {
    let points = [
        "store::backup-after-rename",
        "store::draft-backed-up",
        "store::draft-copied",
        "store::draft-before-write",
        "store::draft-written",
        "store::draft-sealed",
        "store::draft-before-switch",
        "store::draft-switched",
    ];
    death::at_every_step(
        "draft::child_drafts",
        &points,
        Drafted::of,
        Drafted::copy,
        |drafted, place, what| {
            let dir = place.join("store");
            let report = Store::verify(&dir).unwrap();
            assert!(report.is_clean(), "{what}: {:#?}", report.problems);
            let store = open(&dir);
            assert_clean(&store);
            let is_new = what.contains("draft-switched") || what.contains("died: false");
            let expected = if is_new { &drafted.new } else { &drafted.old };
            assert_eq!(&without_time(dump(&store, 0)), expected, "{what}");
            assert!(!dir.join("objects.draft").exists(), "{what}");
            for backup in fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()) {
                if backup.to_string_lossy().contains(".before-evolve-") {
                    Store::check_backup(&backup, &mut |_| ()).unwrap();
                }
            }
        },
    );
}

/// A home, and what its store says before and after the draft.
struct Drafted {
    home: tempfile::TempDir,
    old: Value,
    new: Value,
}

impl Drafted {
    /// Homes of different seeds hold different numbers of objects.
    fn of(seed: u64) -> Drafted {
        let (home, dir) = home();
        let store = open(&dir);
        for value in 0..seed % 7 {
            object_with(&store, "count", i64::try_from(value).unwrap());
        }
        let old = without_time(dump(&store, 0));
        drop(store);
        let mut drafted = Drafted { home, old, new: Value::Null };
        let copy = drafted.copy();
        draft_and_seal(copy.path());
        drafted.new = without_time(dump(&open(&copy.path().join("store")), 0));
        drafted
    }

    /// The size of the store's file in blocks of 512 bytes.
    fn blocks(&self) -> u64 {
        fs::metadata(self.home.path().join("store/objects.redb")).unwrap().len() / 512
    }

    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(self.home.path(), copy.path());
        copy
    }
}

#[test]
fn child_drafts() {
    let Some(place) = death::place() else { return };
    draft_and_seal(&place);
}

/// The disk refuses the write that passes the limit, wherever that is: in the backup, in the copy, in what is changed.
#[cfg(unix)]
#[test]
fn a_draft_that_the_disk_refuses_anywhere_leaves_the_store_as_it_was() {
    let drafted = Drafted::of(0);
    let whole = 4 * drafted.blocks();
    let step = if is_long() { 1 } else { whole.div_ceil(9) };
    let (mut done, mut refused) = (0, 0);
    for blocks in (1..=whole).step_by(usize::try_from(step).unwrap()).chain([whole]) {
        let place = drafted.copy();
        let before = bytes(place.path());
        death::with_little_room("draft::child_drafts_with_little_room", place.path(), blocks);
        let is_done =
            files(place.path()).iter().any(|file| file.to_string_lossy().contains(".before-evolve-"));
        done += u64::from(is_done);
        refused += u64::from(!is_done);
        if !is_done {
            assert!(
                bytes(place.path()).into_iter().map(|file| file.1).eq(before.into_iter().map(|file| file.1))
            );
        }
        let store = open(&place.path().join("store"));
        assert_clean(&store);
        let expected = if is_done { &drafted.new } else { &drafted.old };
        assert_eq!(&without_time(dump(&store, 0)), expected, "{blocks} blocks");
    }
    assert!(done > 0 && refused > 0, "{done} had room enough, {refused} had not");
}

#[test]
fn child_drafts_with_little_room() {
    let Some(place) = death::place() else { return };
    let draft = Draft::begin(&place.join("store"), &DraftOptions::default(), &mut |_| ());
    let sealed = draft.and_then(|mut draft| {
        change(&mut draft);
        draft.seal(fact(), &mut |_| ())
    });
    if let Err(refused) = sealed {
        assert!(!matches!(refused, DraftError::Unsound { .. } | DraftError::TooLarge(_)), "{refused}");
    }
}

fn draft_and_seal(place: &Path) {
    let mut draft = begin(&place.join("store"));
    change(&mut draft);
    seal(draft);
}

/// A draft is dated by the clock.
fn without_time(mut said: Value) -> Value {
    let rows = said["audit"].as_array_mut().unwrap();
    let is_drafted = |row: &&mut Value| row["kind"] == "test.drafted" || row["kind"] == "generation.raised";
    rows.iter_mut().filter(is_drafted).for_each(|row| row["at_ms"] = json!(0));
    said
}
