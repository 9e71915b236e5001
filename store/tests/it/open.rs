//! Opening: what is refused, what is found again.

use std::fs;
use std::path::Path;

use redb::TableHandle;
use telos_store::{
    BackupError, BackupOptions, Failure, Fault, Json, ObjectId, OpenError, RestoreOptions, Store,
    StoreOptions,
};

use crate::death::{dies, place};
use crate::fixture::{assert_clean, commit, name, number, object_with, operator, read, within};

fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(dir.path(), StoreOptions::default()).unwrap()
}

const META: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");

/// Changes one number of the meta table behind the store's back.
fn set_meta(dir: &tempfile::TempDir, name: &str, value: u64) {
    let database = redb::Database::open(dir.path().join("objects.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(META).unwrap().insert(name, value).unwrap();
    txn.commit().unwrap();
}

#[test]
fn everything_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let id = object_with(&store, "a", 1);
    within(&store, |unit| {
        unit.bind(&name("first"), id).unwrap();
        unit.set_slot(id, "a", number(2)).unwrap();
        unit.upsert_vector(&operator(), "notes", id, vec![1.0, 2.0], Json::parse("{}").unwrap()).unwrap();
    });
    let search =
        |store: &Store| store.begin().search_vectors(&operator(), "notes", &[2.0, 1.0], 5, &[]).unwrap();
    let before = (store.counts().unwrap(), search(&store), store.position());
    assert_eq!(before.1.len(), 1);
    drop(store);

    let report = Store::verify(dir.path()).unwrap();
    assert!(report.is_clean() && report.position == before.2, "{report:#?}");
    let store = open(&dir);
    assert_eq!((store.counts().unwrap(), search(&store), store.position()), before);
    let mut unit = store.begin();
    assert_eq!(unit.find(&name("first")).unwrap(), Some(id));
    assert_eq!(read(&mut unit, id, "a"), Some(2));
    assert_eq!(unit.history(id, 10).unwrap().len(), 2);
    within(&store, |unit| unit.set_slot(id, "a", number(3)).unwrap());
    assert_eq!(store.position(), before.2.next());
    assert_clean(&store);
}

#[test]
fn a_second_opener_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    for refused in [Store::open(dir.path(), StoreOptions::default()).err(), Store::verify(dir.path()).err()] {
        let Some(OpenError::InUse { pid, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!(*pid, Some(std::process::id()));
        assert_eq!(refused.unwrap().fault(), Fault::Operator);
    }
    drop(store);
    open(&dir);
}

#[test]
fn an_open_unit_keeps_the_store_open_for_reading() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let id = object_with(&store, "a", 1);
    let mut unit = store.begin();
    drop(store);
    assert_eq!(read(&mut unit, id, "a"), Some(1));
    assert!(matches!(Store::open(dir.path(), StoreOptions::default()), Err(OpenError::InUse { .. })));
    drop(unit);
    open(&dir);
}

#[test]
fn a_newer_layout_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    object_with(&open(&dir), "a", 1);
    set_meta(&dir, "layout", 99);
    let bytes = || std::fs::read(dir.path().join("objects.redb")).unwrap();
    let before = bytes();
    for error in [Store::open(dir.path(), StoreOptions::default()).err(), Store::verify(dir.path()).err()] {
        let error = error.unwrap();
        assert!(matches!(error, OpenError::NewerLayout { found: 99, known: 4, .. }), "{error}");
        assert!(error.to_string().contains("use a newer host"), "{error}");
        assert!(bytes() == before, "a database that was refused was changed");
    }
    set_meta(&dir, "layout", 4);
    assert_eq!(open(&dir).counts().unwrap().objects, 1);
}

#[test]
fn what_is_not_a_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("objects.redb"), vec![7; 100_000]).unwrap();
    let refused = Store::open(dir.path(), StoreOptions::default()).unwrap_err();
    let OpenError::Failed { cause: Failure::Damaged { .. }, .. } = refused else { panic!("{refused:?}") };
    assert!(std::fs::read(dir.path().join("objects.redb")).unwrap() == vec![7; 100_000]);
}

#[test]
fn a_database_that_lost_a_table_or_its_layout_is_refused_and_not_made_anew() {
    for table in ["objects", "grants", "meta"] {
        let dir = tempfile::tempdir().unwrap();
        object_with(&open(&dir), "a", 1);
        let database = redb::Database::open(dir.path().join("objects.redb")).unwrap();
        let txn = database.begin_write().unwrap();
        let lost = txn.list_tables().unwrap().find(|there| there.name() == table).unwrap();
        assert!(txn.delete_table(lost).unwrap());
        txn.commit().unwrap();
        drop(database);
        let refused = Store::open(dir.path(), StoreOptions::default()).unwrap_err();
        let OpenError::Failed { cause, .. } = refused else { panic!("{refused:?}") };
        assert!(cause.to_string().contains(table) && cause.to_string().contains("telos store"), "{cause}");
    }
    let dir = tempfile::tempdir().unwrap();
    object_with(&open(&dir), "a", 1);
    set_meta(&dir, "layout", 0);
    let refused = Store::open(dir.path(), StoreOptions::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Failed { cause: Failure::Damaged { .. }, .. }), "{refused:?}");
}

type Loss = (&'static str, fn(&Path));

/// Takes the database of a directory away in every way that leaves none.
fn losses() -> [Loss; 3] {
    [
        ("missing", |file| fs::remove_file(file).unwrap()),
        ("empty", |file| fs::write(file, b"").unwrap()),
        ("zeros", |file| fs::write(file, vec![0; 8_192]).unwrap()),
    ]
}

#[test]
fn a_database_that_is_gone_is_missed_and_a_backup_brings_it_back() {
    let backups = tempfile::tempdir().unwrap();
    for (how, lose) in losses() {
        for witness in ["store-id", "blobs"] {
            let what = format!("{how}, known by {witness}");
            let (dir, backup) = (tempfile::tempdir().unwrap(), backups.path().join(&what));
            let store = open(&dir);
            object_with(&store, "a", 1);
            store.put_blob(b"a component").unwrap();
            store.backup(&backup, BackupOptions::default(), &mut |_| ()).unwrap();
            drop(store);
            let other = if witness == "blobs" { "store-id" } else { "blobs" };
            let other = dir.path().join(other);
            if other.is_dir() {
                fs::remove_dir_all(other).unwrap()
            } else {
                fs::remove_file(other).unwrap()
            }
            let file = dir.path().join("objects.redb");
            lose(&file);
            let left = fs::read(&file).ok();

            let opened = Store::open(dir.path(), StoreOptions::default()).err();
            for refused in [opened, Store::verify(dir.path()).err()] {
                assert!(matches!(refused, Some(OpenError::Gone { .. })), "{what}: {refused:?}");
                assert!(refused.unwrap().to_string().contains("objects.redb is missing"), "{what}");
            }
            let copied =
                Store::backup_offline(dir.path(), &backup.join("x"), BackupOptions::default(), &mut |_| ());
            assert!(matches!(copied, Err(BackupError::Open(OpenError::Gone { .. }))), "{what}: {copied:?}");
            assert_eq!(fs::read(&file).ok(), left, "{what}");

            let options = RestoreOptions { force: how == "zeros" };
            Store::restore(&backup, dir.path(), options, &mut |_| ()).unwrap();
            assert_eq!(open(&dir).counts().unwrap().objects, 1, "{what}");
        }
    }
}

#[test]
fn a_store_whose_first_opening_died_anywhere_is_opened() {
    for point in ["store::make-before-commit", "store::make-after-commit", "store::open-before-load"] {
        let dir = tempfile::tempdir().unwrap();
        assert!(dies("open::child", dir.path(), point, 1), "{point}");
        let store = open(&dir);
        assert_eq!(store.counts().unwrap().objects, 0, "{point}");
        assert!(dir.path().join("store-id").is_file());
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("blobs")).unwrap();
    fs::write(dir.path().join("objects.redb"), b"").unwrap();
    open(&dir);
}

/// The child's side; does nothing when it is not one.
#[test]
fn child() {
    let Some(dir) = place() else { return };
    drop(Store::open(&dir, StoreOptions::default()));
}

#[test]
fn verification_finds_what_was_changed_behind_its_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let id = object_with(&store, "a", 1);
    within(&store, |unit| unit.bind(&name("first"), id).unwrap());
    drop(store);
    set_meta(&dir, "objects", 5);
    set_meta(&dir, "stored/operator", 6);
    let names: redb::TableDefinition<(&str, u64), Option<u128>> = redb::TableDefinition::new("names");
    let database = redb::Database::open(dir.path().join("objects.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(names).unwrap().insert(("ghost", 1), Some(404)).unwrap();
    txn.commit().unwrap();
    drop(database);
    let report = Store::verify(dir.path()).unwrap();
    assert_eq!(report.problems.len(), 5, "{report:#?}");
}

#[test]
fn scratch_stores_share_nothing() {
    let (left, right) = (crate::fixture::scratch(), crate::fixture::scratch());
    let id = object_with(&left, "a", 1);
    assert!(right.begin().object(id).unwrap().is_none());
    let mut unit = right.begin();
    assert!(unit.create(operator(), 1, vec![ObjectId::from_parts(1, 1)]).is_err());
    commit(&right, unit).unwrap();
}

/// It would be divided by.
#[test]
fn a_collection_without_a_dimension_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    object_with(&open(&dir), "a", 1);
    let collections: redb::TableDefinition<(&str, &str), (u32, u32)> =
        redb::TableDefinition::new("collections");
    let database = redb::Database::open(dir.path().join("objects.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(collections).unwrap().insert(("operator", "notes"), (0, 0)).unwrap();
    txn.commit().unwrap();
    drop(database);
    let refused = Store::open(dir.path(), StoreOptions::default()).unwrap_err();
    let OpenError::Failed { cause, .. } = refused else { panic!("{refused:?}") };
    assert!(cause.to_string().contains("a dimension of 0"), "{cause}");
}
