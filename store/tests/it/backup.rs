//! Goal: a backup is the whole store as one commit left it, restoring loses nothing, and neither dies half-way
//! in a way that anybody could mistake for the whole.
//! Method: dumps through the public interface are compared; children die at every durable step; bits are flipped.

mod crash;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};
use telos_store::{
    BackupError, BackupOptions, BackupReport, Children, Commit, DedupeKey, Fault, Json, ObjectId, OpenError,
    Phase, Position, Progress, RestoreError, RestoreOptions, RestoreReport, Store, StoreOptions, Vote,
};

use crate::death;
use crate::fixture::{assert_clean, name, number, object_with, operator, read, scratch, within};
use crate::whole::{
    Over, component, copy_tree, dump, files, fill, now_ms, post, release, session, states, vary,
};

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions::default()).unwrap()
}

fn back_up(store: &Store, to: &Path) -> BackupReport {
    store.backup(to, BackupOptions::default(), &mut |_| ()).unwrap()
}

fn restore(from: &Path, into: &Path) -> Result<RestoreReport, RestoreError> {
    Store::restore(from, into, RestoreOptions::default(), &mut |_| ())
}

/// A filled store in `home/store`, its backup in `home/backup`, and what the store says.
struct Home {
    dir: tempfile::TempDir,
    now_ms: u64,
    said: Value,
}

impl Home {
    fn new() -> Home {
        Home::seeded(0)
    }

    /// With something else in it for every seed.
    fn seeded(seed: u64) -> Home {
        let (dir, now_ms) = (tempfile::tempdir().unwrap(), now_ms());
        let store = open(&dir.path().join("store"));
        fill(&store, now_ms);
        vary(&store, seed);
        back_up(&store, &dir.path().join("backup"));
        let said = dump(&store, now_ms);
        Home { dir, now_ms, said }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A copy in another place.
    fn copied(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(self.dir.path(), copy.path());
        copy
    }

    #[track_caller]
    fn assert_says_the_same(&self, dir: &Path, what: &str) {
        let report = Store::verify(dir).unwrap();
        assert!(report.is_clean(), "{what}: {:#?}", report.problems);
        let store = open(dir);
        assert_clean(&store);
        assert_eq!(dump(&store, self.now_ms), self.said, "{what}");
        within(&store, |unit| unit.create(operator(), 1, vec![]).unwrap());
    }
}

#[test]
fn a_restored_backup_says_what_the_store_said() {
    let home = Home::new();
    let report = restore(&home.path("backup"), &home.path("new/store")).unwrap();
    assert_eq!((report.replaced, report.problems), (None, vec![]));
    assert_eq!(report.position, report.backup_position.next());
    home.assert_says_the_same(&home.path("new/store"), "restored elsewhere");
    let report = restore(&home.path("backup"), &home.path("store")).unwrap();
    home.assert_says_the_same(&home.path("store"), "restored in place");
    home.assert_says_the_same(&report.replaced.unwrap(), "kept beside");
}

#[test]
fn an_offline_backup_is_the_same_and_leaves_every_byte_alone() {
    let home = Home::new();
    let before = fs::read(home.path("store/objects.redb")).unwrap();
    let report = Store::backup_offline(
        &home.path("store"),
        &home.path("offline"),
        BackupOptions::default(),
        &mut |_| (),
    );
    assert!(report.unwrap().is_verified);
    assert!(fs::read(home.path("store/objects.redb")).unwrap() == before);
    restore(&home.path("offline"), &home.path("new")).unwrap();
    home.assert_says_the_same(&home.path("new"), "offline");
    let store = open(&home.path("store"));
    let refused =
        Store::backup_offline(&home.path("store"), &home.path("x"), BackupOptions::default(), &mut |_| ());
    assert!(matches!(refused, Err(BackupError::Open(OpenError::InUse { .. }))), "{refused:?}");
    drop(store);
}

#[test]
fn checking_a_backup_changes_nothing_in_it() {
    let home = Home::new();
    let bytes = || files(&home.path("backup")).into_iter().map(|file| fs::read(file).unwrap()).collect();
    let before: Vec<Vec<u8>> = bytes();
    let report = Store::check_backup(&home.path("backup"), &mut |_| ()).unwrap();
    assert!(bytes() == before);
    let counts = open(&home.path("store")).counts().unwrap();
    assert_eq!((report.position, report.objects, report.blobs), (counts.position, counts.objects, 3));
}

#[test]
fn a_backup_of_an_old_layout_is_raised_in_the_copy_alone() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/layout-1");
    let dir = tempfile::tempdir().unwrap();
    let (old, to, into) = (dir.path().join("old"), dir.path().join("backup"), dir.path().join("into"));
    copy_tree(&case, &old);
    let before = fs::read(old.join("objects.redb")).unwrap();
    Store::backup_offline(&old, &to, BackupOptions::default(), &mut |_| ()).unwrap();
    assert!(fs::read(old.join("objects.redb")).unwrap() == before);
    restore(&to, &into).unwrap();
    let report = Store::verify(&into).unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
    assert_eq!(open(&into).counts().unwrap().blobs, 1);
}

#[test]
fn an_object_that_a_restore_brings_back_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let (into, backup) = (dir.path().join("store"), dir.path().join("backup"));
    let store = open(&into);
    let ids: Vec<ObjectId> = (0..3).map(|value| object_with(&store, "a", value)).collect();
    back_up(&store, &backup);
    store.forget(&ids[..2], "a test", Children::Refuse).unwrap();
    // As a host may have written that tells it itself, and about what is in no backup.
    within(&store, |unit| {
        unit.audit("object.forgotten", &ids[0].to_string(), Value::Null).unwrap();
        unit.audit("object.forgotten", &format!("{:032x}", 7), Value::Null).unwrap();
        unit.audit("object.forgotten", "no object", Value::Null).unwrap();
    });
    drop(store);
    assert_eq!(restore(&backup, &into).unwrap().forgotten_back, Some(2));
    assert_eq!(restore(&backup, &into).unwrap().forgotten_back, Some(0), "it had forgotten nothing");
}

/// As a home is.
#[cfg(unix)]
#[test]
fn nobody_but_its_owner_may_read_a_backup() {
    use std::os::unix::fs::PermissionsExt as _;
    let (store, place) = (scratch(), tempfile::tempdir().unwrap());
    let to = place.path().join("copy");
    store.backup(&to, BackupOptions::default(), &mut |_| ()).unwrap();
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_backup_never_writes_over_anything() {
    let home = Home::new();
    let store = open(&home.path("store"));
    let refused = store.backup(&home.path("backup"), BackupOptions::default(), &mut |_| ()).unwrap_err();
    assert!(matches!(refused, BackupError::Exists { .. }) && refused.fault() == Fault::Operator, "{refused}");
    fs::write(home.path("file"), "text").unwrap();
    let refused = store.backup(&home.path("file"), BackupOptions::default(), &mut |_| ());
    assert!(matches!(refused, Err(BackupError::Exists { .. })), "{refused:?}");
    fs::create_dir(home.path("empty")).unwrap();
    back_up(&store, &home.path("empty"));
    assert_no_partial(&home);
}

#[track_caller]
fn assert_no_partial(home: &Home) {
    let partial = partials(home.dir.path());
    assert!(partial.is_empty(), "{partial:?}");
}

/// What is left of backups in a directory.
fn partials(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_string_lossy().contains("partial")).collect()
}

/// What another backup to the same place would remove, had its process died.
#[cfg(unix)]
#[test]
fn a_backup_stays_locked_until_it_has_its_name() {
    let home = Home::new();
    let (place, met) = (home.path("backups"), Arc::new(AtomicBool::new(false)));
    let (there, is_met) = (place.clone(), Arc::clone(&met));
    let look = move || {
        if let [partial] = &*partials(&there) {
            let lock = fs::File::open(partial.join("lock")).unwrap();
            assert!(matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)));
            is_met.store(true, Ordering::Release);
        }
    };
    fail::cfg_callback("store::backup-renaming", look).unwrap();
    back_up(&open(&home.path("store")), &place.join("backup"));
    fail::cfg("store::backup-renaming", "off").unwrap();
    assert!(met.load(Ordering::Acquire));
    Store::check_backup(&place.join("backup"), &mut |_| ()).unwrap();
    let names = fs::read_dir(place.join("backup")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["MANIFEST.json", "blobs", "objects.redb"], "no lock is left in it");
}

#[test]
fn progress_is_told_phase_by_phase_and_ends_at_its_total() {
    let (home, mut told) = (Home::new(), Vec::<Progress>::new());
    let store = open(&home.path("store"));
    let mut tell = |progress| told.push(progress);
    store.backup(&home.path("told"), BackupOptions::default(), &mut tell).unwrap();
    store.verify_open_with(&mut tell).unwrap();
    drop(store);
    Store::verify_with(&home.path("store"), &mut tell).unwrap();
    Store::restore(&home.path("told"), &home.path("store"), RestoreOptions::default(), &mut tell).unwrap();
    let mut last = BTreeMap::new();
    for progress in &told {
        assert!(progress.done <= progress.total, "{progress:?}");
        last.insert(progress.phase.to_string(), progress);
    }
    assert!(last.values().all(|progress| progress.done == progress.total), "{last:#?}");
    for phase in [Phase::Pages, Phase::Rows, Phase::Blobs, Phase::CopyRows, Phase::CopyBlobs, Phase::Switch] {
        assert!(last.contains_key(&phase.to_string()), "{phase}");
    }
}

#[test]
fn a_store_in_use_is_not_restored_over() {
    let home = Home::new();
    let store = open(&home.path("store"));
    let refused = restore(&home.path("backup"), &home.path("store")).unwrap_err();
    assert!(matches!(refused, RestoreError::Open(OpenError::InUse { .. })), "{refused}");
    assert_eq!(dump(&store, home.now_ms), home.said);
}

#[test]
fn the_store_of_another_home_is_replaced_by_force_only_and_kept() {
    let (home, other) = (Home::new(), Home::new());
    for unreadable in [false, true] {
        if unreadable {
            fs::write(other.path("store/objects.redb"), vec![9; 50_000]).unwrap();
        }
        let refused = restore(&home.path("backup"), &other.path("store")).unwrap_err();
        let RestoreError::OtherStore { found, .. } = &refused else { panic!("{refused}") };
        assert_eq!(found.is_none(), unreadable);
        assert!(refused.to_string().contains("force"), "{refused}");
    }
    let forced = RestoreOptions { force: true };
    let report = Store::restore(&home.path("backup"), &other.path("store"), forced, &mut |_| ()).unwrap();
    assert!(fs::read(report.replaced.unwrap().join("objects.redb")).unwrap() == vec![9; 50_000]);
    home.assert_says_the_same(&other.path("store"), "forced");
}

#[track_caller]
fn assert_refused(home: &Home, backup: &Path, expected: impl Fn(&BackupError) -> bool) {
    let before = fs::read(home.path("store/objects.redb")).unwrap();
    let refused = restore(backup, &home.path("store")).unwrap_err();
    let RestoreError::Backup(cause) = &refused else { panic!("{refused}") };
    assert!(expected(cause), "{cause:?}");
    assert!(
        cause.to_string().contains("choose another") || cause.to_string().contains("use a newer"),
        "{cause}"
    );
    assert!(fs::read(home.path("store/objects.redb")).unwrap() == before);
    assert!(!home.path("store/restore-staged").exists());
}

#[test]
fn a_backup_that_is_none_or_from_the_future_is_refused() {
    let home = Home::new();
    fs::create_dir(home.path("empty")).unwrap();
    assert_refused(&home, &home.path("empty"), |cause| matches!(cause, BackupError::NotABackup { .. }));
    assert_refused(&home, &home.path("nowhere"), |cause| matches!(cause, BackupError::NotABackup { .. }));
    let manifest = home.path("backup/MANIFEST.json");
    let text: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    let mut newer = text.clone();
    newer["manifest"]["format"] = json!(2);
    newer["manifest"]["what this host does not know"] = json!(true);
    fs::write(&manifest, newer.to_string()).unwrap();
    let is_newer = |cause: &BackupError| matches!(cause, BackupError::NewerFormat { found: 2, known: 1, .. });
    assert_refused(&home, &home.path("backup"), is_newer);
    let mut changed = text;
    changed["manifest"]["position"] = json!(1);
    fs::write(&manifest, changed.to_string()).unwrap();
    assert_refused(&home, &home.path("backup"), |cause| matches!(cause, BackupError::Damaged { .. }));
}

#[test]
fn a_backup_of_a_newer_layout_is_refused() {
    let home = Home::new();
    let manifest = home.path("backup/MANIFEST.json");
    let text = fs::read_to_string(&manifest).unwrap();
    // Sealed by its own checksum, as the newer host would.
    let mut value: Value = serde_json::from_str(&text).unwrap();
    let layout = value["manifest"]["layout"].as_u64().unwrap();
    let compact = compact_manifest(&text).replace(&format!("\"layout\":{layout}"), "\"layout\":99");
    value["manifest"]["layout"] = json!(99);
    value["blake3"] = json!(telos_store::Digest::of(compact.as_bytes()));
    fs::write(&manifest, value.to_string()).unwrap();
    let is_newer = |cause: &BackupError| matches!(cause, BackupError::NewerLayout { found: 99, .. });
    assert_refused(&home, &home.path("backup"), is_newer);
}

/// The manifest inside its seal, without spaces, in the order of its fields.
fn compact_manifest(text: &str) -> String {
    let inner = text.split_once("\"manifest\":").unwrap().1.rsplit_once(",\n  \"blake3\"").unwrap().0;
    inner.chars().filter(|character| !character.is_whitespace()).collect()
}

#[test]
fn a_missing_or_truncated_file_is_refused() {
    let home = Home::new();
    for file in files(&home.path("backup")) {
        let bytes = fs::read(&file).unwrap();
        for kept in [0, 1, bytes.len() / 3, bytes.len() - 1] {
            fs::write(&file, &bytes[..kept]).unwrap();
            assert_refused(&home, &home.path("backup"), |cause| matches!(cause, BackupError::Damaged { .. }));
        }
        fs::write(&file, &bytes).unwrap();
    }
    let blob = files(&home.path("backup/blobs")).remove(0);
    fs::remove_file(blob).unwrap();
    assert_refused_missing(&home);
}

#[track_caller]
fn assert_refused_missing(home: &Home) {
    let refused = restore(&home.path("backup"), &home.path("store")).unwrap_err();
    assert!(matches!(refused, RestoreError::Backup(BackupError::BlobMissing { .. })), "{refused}");
    assert!(refused.to_string().contains("take another backup"), "{refused}");
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_harmless() {
    let steps = if crate::random::is_long() { 4_096 } else { 64 };
    let home = Home::new();
    let all: Vec<(PathBuf, usize)> = files(&home.path("backup"))
        .into_iter()
        .map(|file| (file.clone(), fs::metadata(&file).unwrap().len().try_into().unwrap()))
        .collect();
    let total: usize = all.iter().map(|(_, len)| len).sum();
    let manifest = home.path("backup/MANIFEST.json");
    let len = usize::try_from(fs::metadata(&manifest).unwrap().len()).unwrap();
    let spread = (0..steps).map(|step| place(&all, total * step / steps));
    // The manifest is a small part of all bytes, and the one that is parsed first.
    let within_manifest = (0..steps).map(|step| (manifest.clone(), len * step / steps));
    let mut refused = 0;
    for (index, (file, at)) in spread.chain(within_manifest).enumerate() {
        let mut bytes = fs::read(&file).unwrap();
        bytes[at] ^= 1 << (index % 8);
        fs::write(&file, &bytes).unwrap();
        let what = format!("bit {} of byte {at} of {}", index % 8, file.display());
        match restore(&home.path("backup"), &home.path("store")) {
            Err(RestoreError::Backup(_)) => refused += 1,
            Err(other) => panic!("{what}: {other}"),
            Ok(report) => {
                home.assert_says_the_same(&home.path("store"), &what);
                fs::remove_dir_all(report.replaced.unwrap()).unwrap();
            }
        }
        bytes[at] ^= 1 << (index % 8);
        fs::write(&file, &bytes).unwrap();
    }
    assert!(refused >= steps, "only {refused} of {} flips were refused", 2 * steps);
    Store::check_backup(&home.path("backup"), &mut |_| ()).unwrap();
}

fn place(all: &[(PathBuf, usize)], mut at: usize) -> (PathBuf, usize) {
    for (file, len) in all {
        if at < *len {
            return (file.clone(), at);
        }
        at -= len;
    }
    unreachable!("within the total")
}

#[test]
fn a_damaged_store_is_copied_only_unverified_and_restored_only_by_force() {
    let home = Home::new();
    let database = redb::Database::open(home.path("store/objects.redb")).unwrap();
    let names: redb::TableDefinition<(&str, u64), Option<u128>> = redb::TableDefinition::new("names");
    let txn = database.begin_write().unwrap();
    txn.open_table(names).unwrap().insert(("ghost", 1), Some(404)).unwrap();
    txn.commit().unwrap();
    drop(database);
    let store = open(&home.path("store"));
    let refused = store.backup(&home.path("checked"), BackupOptions::default(), &mut |_| ()).unwrap_err();
    assert!(matches!(&refused, BackupError::Unsound { problems, .. } if !problems.is_empty()), "{refused}");
    assert!(!home.path("checked").exists());
    store.backup(&home.path("unchecked"), BackupOptions { verify: false }, &mut |_| ()).unwrap();
    drop(store);
    let refused = restore(&home.path("unchecked"), &home.path("store")).unwrap_err();
    assert!(matches!(refused, RestoreError::Backup(BackupError::Unsound { .. })), "{refused}");
    let forced = RestoreOptions { force: true };
    let report = Store::restore(&home.path("unchecked"), &home.path("store"), forced, &mut |_| ()).unwrap();
    assert!(!report.problems.is_empty());
}

/// A table that the copy does not know must never be left out of it silently.
#[test]
fn a_table_that_is_not_known_makes_a_backup_fail() {
    let home = Home::new();
    let database = redb::Database::open(home.path("store/objects.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    let table: redb::TableDefinition<u64, u64> = redb::TableDefinition::new("tomorrow");
    txn.open_table(table).unwrap().insert(1, 1).unwrap();
    txn.commit().unwrap();
    drop(database);
    let refused = open(&home.path("store")).backup(&home.path("x"), BackupOptions::default(), &mut |_| ());
    assert!(refused.unwrap_err().to_string().contains("tomorrow"));
}

const WRITERS: u64 = 3;

/// One acknowledged unit: who, its number, and where it was decided.
type Acknowledged = (u64, u64, Commit);

#[test]
fn a_backup_under_three_writers_holds_every_commit_up_to_its_position_and_none_after() {
    let (dir, now_ms) = (tempfile::tempdir().unwrap(), now_ms());
    let store = open(&dir.path().join("store"));
    for writer in 0..WRITERS {
        within(&store, |unit| {
            let books = unit.create(operator(), 1, vec![]).unwrap();
            unit.bind(&name(&format!("books/{writer}")), books).unwrap();
        });
    }
    let setup = store.position();
    let is_over = AtomicBool::new(false);
    let (acknowledged, reports) = std::thread::scope(|scope| {
        let over = Over(&is_over);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, is_over) = (&store, &is_over);
                scope.spawn(move || write_until(store, writer, now_ms, is_over))
            })
            .collect();
        let reports: Vec<BackupReport> = (0..2)
            .map(|index| {
                let before = store.position();
                while store.position() < Position::new(before.get() + 20) {
                    std::thread::yield_now();
                }
                back_up(&store, &dir.path().join(format!("backup-{index}")))
            })
            .collect();
        drop(over);
        let all = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>();
        (all, reports)
    });
    for report in &reports {
        let into = dir.path().join(format!("restored-{}", report.position));
        restore(&report.path, &into).unwrap();
        assert_holds(&store, &open(&into), report.position, setup, &acknowledged, now_ms);
        let report = Store::verify(&into).unwrap();
        assert!(report.is_clean(), "{:#?}", report.problems);
    }
    let last = reports.last().unwrap().position;
    assert!(store.position() > last, "nothing was written during the last backup");
}

fn write_until(store: &Store, writer: u64, now_ms: u64, is_over: &AtomicBool) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for number in 1..u64::MAX {
        if is_over.load(Ordering::Acquire) {
            break;
        }
        let blob = store.put_blob(format!("{writer}/{number}").as_bytes()).unwrap();
        let mut unit = store.begin();
        let id = unit.create(operator(), 1, vec![]).unwrap();
        unit.set_slot(id, "value", self::number(number.cast_signed())).unwrap();
        unit.bind(&name(&format!("{writer}/{number:06}")), id).unwrap();
        let books = unit.find(&name(&format!("books/{writer}"))).unwrap().unwrap();
        unit.set_slot(books, "count", self::number(number.cast_signed())).unwrap();
        let vector = vec![1.0, 0.5, 0.25];
        unit.upsert_vector(&operator(), "notes", id, vector, Json::parse("{}").unwrap()).unwrap();
        unit.post(post(id, books, "done")).unwrap();
        unit.audit("written", &format!("{writer}/{number}"), Value::Null).unwrap();
        unit.put_release(release(&component("babs"), blob)).unwrap();
        let session = telos_store::SessionId { client: u128::from(writer), incarnation: now_ms };
        let dedupe = Some(DedupeKey { session, number, acked_through: number.saturating_sub(5) });
        let vote = Vote { dedupe, outcome: number.to_le_bytes().to_vec(), ..Vote::default() };
        acknowledged.push((writer, number, store.decide(unit, vote).wait().unwrap()));
    }
    acknowledged
}

#[track_caller]
fn assert_holds(
    source: &Store,
    restored: &Store,
    at: Position,
    setup: Position,
    acknowledged: &[Acknowledged],
    now_ms: u64,
) {
    let within: Vec<_> = acknowledged.iter().filter(|(_, _, commit)| commit.position <= at).collect();
    assert_eq!(within.len() as u64, at.get() - setup.get(), "a commit that nobody was told of");
    let mut unit = restored.begin();
    let mut rows = 0;
    for (writer, number, commit) in acknowledged {
        let key = name(&format!("{writer}/{number:06}"));
        let id = unit.find(&key).unwrap();
        assert_eq!(id.is_some(), commit.position <= at, "{key} of {} at {at}", commit.position);
        let Some(id) = id else { continue };
        assert_eq!(states(restored, id, at), states(source, id, at), "{key}");
        rows += states(restored, id, at).len();
    }
    assert_eq!(rows, within.len());
    for writer in 0..WRITERS {
        let books = unit.find(&name(&format!("books/{writer}"))).unwrap().unwrap();
        let last = within.iter().filter(|(of, _, _)| *of == writer).map(|(_, number, _)| *number).max();
        let last = last.unwrap();
        assert_eq!(read(&mut unit, books, "count"), Some(last.cast_signed()));
        assert_eq!(states(restored, books, at), states(source, books, at));
        let session = telos_store::SessionId { client: u128::from(writer), incarnation: now_ms };
        let known = |number| {
            let key = DedupeKey { session, number, acked_through: 0 };
            format!("{:?}", restored.dedupe_lookup(&key).unwrap())
        };
        assert!(known(last).contains("Decided") || known(last).contains("Replay"), "{}", known(last));
        assert!(known(last + 1).contains("Fresh"), "{}", known(last + 1));
    }
    let counts = restored.counts().unwrap();
    let units = within.len() as u64;
    assert_eq!((counts.vectors, counts.posts_pending, counts.audit_rows), (units, units, units + 1));
    assert_eq!((counts.objects, counts.blobs), (units + WRITERS, units));
    let audit = |store: &Store| store.audit_after(0, usize::try_from(units).unwrap()).unwrap();
    assert_eq!(audit(restored), audit(source));
    let posts = |store: &Store| {
        let mut due = store.outbox_due(u64::MAX, 100_000).unwrap();
        due.retain(|row| row.id.position <= at);
        due.sort_by_key(|row| row.id);
        due
    };
    assert_eq!(posts(restored), posts(source));
    assert_clean(restored);
}

#[derive(Clone, Debug)]
enum Act {
    Make(u8),
    Set(u8, i64),
    Unbind(u8),
    Vector(u8, i8),
    Forget(u8),
    Post(u8, u8),
    Take,
    Fail,
    Ask(u64),
    Audit(u8),
    Release(u8, u8),
    RemoveRelease(u8, u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..6_u8).prop_map(Act::Make),
        (0..6_u8, any::<i64>()).prop_map(|(at, value)| Act::Set(at, value)),
        (0..6_u8).prop_map(Act::Unbind),
        (0..6_u8, any::<i8>()).prop_map(|(at, value)| Act::Vector(at, value)),
        (0..6_u8).prop_map(Act::Forget),
        (0..6_u8, 0..6_u8).prop_map(|(from, to)| Act::Post(from, to)),
        Just(Act::Take),
        Just(Act::Fail),
        (1..60_u64).prop_map(Act::Ask),
        any::<u8>().prop_map(Act::Audit),
        (0..2_u8, 0..4_u8).prop_map(|(of, blob)| Act::Release(of, blob)),
        (0..2_u8, 0..4_u8).prop_map(|(of, blob)| Act::RemoveRelease(of, blob)),
    ]
}

fn perform(store: &Store, now_ms: u64, act: &Act) {
    let named = |at: u8| store.begin().find(&name(&format!("n{at}"))).unwrap();
    let of = |which: u8| component(["babs", "counter"][usize::from(which)]);
    let each = |at: u8, work: &dyn Fn(&mut telos_store::Unit, ObjectId)| {
        if let Some(id) = named(at) {
            within(store, |unit| work(unit, id));
        }
    };
    match act {
        Act::Make(at) if named(*at).is_none() => within(store, |unit| {
            let id = unit.create(operator(), 1, vec![]).unwrap();
            unit.bind(&name(&format!("n{at}")), id).unwrap();
        }),
        Act::Make(_) => {}
        Act::Set(at, value) => each(*at, &|unit, id| unit.set_slot(id, "value", number(*value)).unwrap()),
        Act::Unbind(at) => each(*at, &|unit, _| {
            unit.unbind(&name(&format!("n{at}"))).unwrap();
        }),
        Act::Vector(at, value) => each(*at, &|unit, id| {
            let vector = vec![f32::from(*value), 1.0, 0.5];
            unit.upsert_vector(&operator(), "notes", id, vector, Json::parse("{}").unwrap()).unwrap();
        }),
        Act::Forget(at) => each(*at, &|unit, id| {
            // A collection that nobody made yet has nothing to forget.
            let _ = unit.remove_vector(&operator(), "notes", id);
        }),
        Act::Post(from, to) => {
            if let Some(to) = named(*to) {
                each(*from, &|unit, from| unit.post(post(from, to, "say")).unwrap());
            }
        }
        Act::Take => {
            let due = store.outbox_due(u64::MAX, 1).unwrap();
            within(store, |unit| due.iter().for_each(|row| unit.take_post(row.id)));
        }
        Act::Fail => {
            for row in store.outbox_due(u64::MAX, 1).unwrap() {
                store.fail_post(row.id, "no", 5).unwrap();
            }
        }
        Act::Ask(number) => {
            let key = DedupeKey { session: session(now_ms), number: *number, acked_through: number / 2 };
            let vote = Vote { dedupe: Some(key), outcome: vec![1, 2, 3], ..Vote::default() };
            let _ = store.decide(store.begin(), vote).wait();
        }
        Act::Audit(kind) => within(store, |unit| unit.audit("act", &kind.to_string(), json!(kind)).unwrap()),
        Act::Release(which, blob) => {
            let digest = store.put_blob(&[*blob; 1_000]).unwrap();
            within(store, |unit| unit.put_release(release(&of(*which), digest)).unwrap());
        }
        Act::RemoveRelease(which, blob) => {
            let digest = telos_store::Digest::of(&[*blob; 1_000]);
            within(store, |unit| unit.remove_release(&of(*which), digest).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if crate::random::is_long() { 300 } else { 10 }))]
    #[test]
    fn whatever_was_done_a_copy_says_the_same(acts in prop::collection::vec(act(), 1..60)) {
        let (store, now_ms, dir) = (scratch(), now_ms(), tempfile::tempdir().unwrap());
        acts.iter().for_each(|act| perform(&store, now_ms, act));
        let said = dump(&store, now_ms);
        back_up(&store, &dir.path().join("backup"));
        store.rewrite(&mut |_| ()).unwrap();
        prop_assert_eq!(&dump(&store, now_ms), &said);
        assert_clean(&store);
        restore(&dir.path().join("backup"), &dir.path().join("store")).unwrap();
        let restored = open(&dir.path().join("store"));
        prop_assert_eq!(&dump(&restored, now_ms), &said);
        assert_clean(&restored);
    }
}

/// A slow reader of a backup's progress must not keep commits from being decided.
#[test]
fn commits_go_on_while_a_backup_is_under_way() {
    let home = Home::new();
    let store = open(&home.path("store"));
    let before = store.position();
    let mut tell = |progress: Progress| {
        if progress.phase == Phase::CopyRows && progress.done == 0 {
            object_with(&store, "meanwhile", 1);
        }
    };
    let report = store.backup(&home.path("second"), BackupOptions::default(), &mut tell).unwrap();
    assert_eq!((report.position, store.position()), (before, before.next()));
}
