//! Goal: what a store keeps beside it before it becomes another is listed, can be brought back, and is read by nobody but
//! its owner, like the store and its backups.
//! Method: stores are restored over and drafted; the directories beside them are listed and restored in turn.

use std::fs;
use std::path::{Path, PathBuf};

use telos_store::{
    BackupError, BackupOptions, ComponentId, Digest, Draft, DraftFact, DraftOptions, KeptCopy, KeptFor,
    OpenError, RestoreError, RestoreOptions, RestoreReport, Store, StoreOptions,
};

use crate::fixture::{assert_clean, name, object_with, operator, within};
use crate::whole::{dump, files, fill, now_ms};

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions::default()).unwrap()
}

fn back_up(dir: &Path, to: &Path) {
    open(dir).backup(to, BackupOptions::default(), &mut |_| ()).unwrap();
}

fn restore(from: &Path, into: &Path) -> Result<RestoreReport, RestoreError> {
    Store::restore(from, into, RestoreOptions::default(), &mut |_| ())
}

fn evolve(dir: &Path) -> PathBuf {
    let mut draft = Draft::begin(dir, &DraftOptions::default(), &mut |_| ()).unwrap();
    draft.create(ComponentId::operator()).unwrap();
    let (kind, subject, detail) = ("test.drafted".into(), "store".into(), serde_json::Value::Null);
    let fact = DraftFact { kind, subject, detail, evolver: Digest::of(b"a test") };
    let report = draft.seal(fact, &mut |_| ()).unwrap();
    report.backup.unwrap().path
}

/// A filled store in `home/store`, and a backup of what it was before its last commit in `home/backup`.
fn home() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let (dir, backup) = (home.path().join("store"), home.path().join("backup"));
    fill(&open(&dir), now_ms());
    back_up(&dir, &backup);
    within(&open(&dir), |unit| {
        let id = unit.create(operator(), 1, vec![]).unwrap();
        unit.bind(&name("later"), id).unwrap();
    });
    (home, dir, backup)
}

#[test]
fn the_copies_beside_a_store_are_listed_and_nothing_else_is() {
    let (home, dir, backup) = home();
    assert_eq!(Store::kept_copies(&home.path().join("absent")).unwrap(), vec![]);
    assert_eq!(Store::kept_copies(&dir).unwrap(), vec![]);
    let replaced = restore(&backup, &dir).unwrap().replaced.unwrap();
    let evolved = evolve(&dir);
    for other in
        ["store.before-restore-", "store.before-restore-7x", "store2.before-restore-7", "before-restore-7"]
    {
        fs::create_dir(home.path().join(other)).unwrap();
    }
    fs::write(home.path().join("store.before-evolve-7"), "a file").unwrap();
    let copies = Store::kept_copies(&dir).unwrap();
    let canonical = |path: &Path| fs::canonicalize(path).unwrap();
    let expected = [(replaced, KeptFor::Restore), (evolved, KeptFor::Evolve)];
    assert_eq!(copies.len(), expected.len(), "{copies:?}");
    for (path, kept_for) in expected {
        let KeptCopy { at_ms, bytes, .. } = copies
            .iter()
            .find(|copy| (canonical(&copy.path), copy.kept_for) == (canonical(&path), kept_for))
            .unwrap();
        assert!(path.to_string_lossy().ends_with(&at_ms.to_string()) && now_ms() - at_ms < 600_000);
        assert_eq!(*bytes, files(&path).iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>());
    }
    assert!(copies.is_sorted_by_key(|copy| copy.at_ms));
}

#[test]
fn what_a_restore_kept_is_restored_in_turn() {
    let (_home, dir, backup) = home();
    let now_ms = now_ms();
    let said = dump(&open(&dir), now_ms);
    let was_at = open(&dir).position();
    let kept = restore(&backup, &dir).unwrap().replaced.unwrap();
    assert_ne!(dump(&open(&dir), now_ms), said);

    let store = open(&kept);
    let refused = restore(&kept, &dir).unwrap_err();
    assert!(matches!(refused, RestoreError::Open(OpenError::InUse { .. })), "{refused}");
    drop(store);
    let before: Vec<_> = files(&kept.join("blobs")).iter().map(|file| fs::read(file).unwrap()).collect();
    let report = restore(&kept, &dir).unwrap();
    assert_eq!((report.backup_position, report.position), (was_at, was_at.next()));
    assert_eq!(report.blobs, 3);
    assert_eq!(dump(&open(&dir), now_ms), said);
    assert!(Store::verify(&dir).unwrap().is_clean());
    assert_clean(&open(&dir));
    // What was restored from is as it was.
    assert_eq!(
        files(&kept.join("blobs")).iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>(),
        before
    );
    assert_eq!(dump(&open(&kept), now_ms), said);
}

#[test]
fn a_store_is_restored_as_it_stands_in_its_directory_only_if_it_is_whole() {
    let (home, dir, _) = home();
    let into = home.path().join("into");
    let lost = files(&dir.join("blobs")).remove(0);
    let bytes = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    let refused = restore(&dir, &into).unwrap_err();
    assert!(matches!(refused, RestoreError::Backup(BackupError::BlobMissing { .. })), "{refused}");
    fs::write(&lost, bytes).unwrap();

    // As a backup leaves it whose process died.
    let partial = home.path().join("store.partial-0123456789abcdef");
    crate::whole::copy_tree(&dir, &partial);
    let refused = restore(&partial, &into).unwrap_err();
    assert!(matches!(refused, RestoreError::Backup(BackupError::NotABackup { .. })), "{refused}");

    let file = dir.join("objects.redb");
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    let page = damaged.windows(5).position(|found| found == b"later").unwrap();
    damaged[page] ^= 1;
    fs::write(&file, &damaged).unwrap();
    let refused = restore(&dir, &into).unwrap_err();
    let said = telos_store::told(&refused);
    assert!(said.contains("damaged"), "{said}");
    assert!(!into.join("objects.redb").exists());
    fs::write(&file, whole).unwrap();
    restore(&dir, &into).unwrap();
}

/// Earlier hosts made directories and files that others may read.
#[cfg(unix)]
#[test]
fn a_store_that_was_not_private_becomes_so_when_it_is_opened() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_home, dir, _) = home();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o2755)).unwrap();
    open(&dir);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o2700);
}

/// Whoever else may read the directory that they are in.
#[cfg(unix)]
#[test]
fn a_store_its_backups_and_what_it_keeps_are_private() {
    use std::os::unix::fs::PermissionsExt as _;

    fn check(path: &Path) {
        let found = fs::symlink_metadata(path).unwrap();
        let (mode, allowed) =
            (found.permissions().mode() & 0o777, if found.is_dir() { 0o700 } else { 0o600 });
        assert_eq!(mode & !allowed, 0, "{}: {mode:o}", path.display());
        if found.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| check(&entry.unwrap().path()));
        }
    }

    let (home, dir, backup) = home();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let kept = restore(&backup, &dir).unwrap().replaced.unwrap();
    let evolved = evolve(&dir);
    let store = open(&dir);
    object_with(&store, "a", 1);
    store.rewrite(&mut |_| ()).unwrap();
    let deep = home.path().join("one/two/backup");
    store.backup(&deep, BackupOptions::default(), &mut |_| ()).unwrap();
    [&dir, &backup, &kept, &evolved, &home.path().join("one")].into_iter().for_each(|path| check(path));
}
