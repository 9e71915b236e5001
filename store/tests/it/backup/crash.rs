//! Goal: whoever dies, or has no room, while it backs up or restores leaves the old store or the new one, and no half of
//! a backup under its name.
//! Method: children die at every durable step, or may write no further.

use super::*;

#[test]
fn a_process_that_dies_while_backing_up_leaves_no_half_backup_under_its_name() {
    let points = [
        "store::backup-made",
        "store::copy-before-commit",
        "store::backup-copied",
        "store::blob-before-write",
        "store::blob-before-rename",
        "store::blob-after-rename",
        "store::backup-blob",
        "store::backup-manifest",
        "store::backup-before-rename",
        "store::backup-renaming",
        "store::backup-renamed",
        "store::backup-after-rename",
    ];
    death::at_every_step(
        "backup::crash::child_backs_up",
        &points,
        Home::seeded,
        Home::copied,
        |home, place, what| {
            let to = place.join("second");
            if to.exists() {
                Store::check_backup(&to, &mut |_| ()).unwrap();
            } else {
                assert!(what.contains("died: true"), "{what}");
            }
            home.assert_says_the_same(&place.join("store"), what);
            if what.contains("pass 1") && !to.exists() {
                back_up(&open(&place.join("store")), &to);
                assert!(partials(place).is_empty(), "{what}: {:?}", partials(place));
            }
        },
    );
}

#[test]
fn what_a_dead_backup_left_is_removed_also_by_whom_comes_after_one_that_died_removing_it() {
    let home = Home::new();
    for point in ["store::backup-copied", "store::backup-discarding"] {
        assert!(death::dies("backup::crash::child_backs_up", home.dir.path(), point, 1), "{point}");
        assert_eq!(partials(home.dir.path()).len(), 1, "{point}");
    }
    back_up(&open(&home.path("store")), &home.path("second"));
    assert_no_partial(&home);
}

#[test]
fn child_backs_up() {
    let Some(place) = death::place() else { return };
    back_up(&open(&place.join("store")), &place.join("second"));
}

#[test]
fn a_process_that_dies_while_restoring_leaves_the_old_store_or_the_new_one() {
    let points = [
        "store::restore-copied",
        "store::blob-before-rename",
        "store::restore-blob",
        "store::restore-staged",
        "store::restore-before-decided",
        "store::restore-decided",
        "store::restore-part-aside",
        "store::restore-part-moved",
        "store::restore-moved",
        "store::restore-ended",
    ];
    let (mut old, mut new) = (0, 0);
    death::at_every_step(
        "backup::crash::child_restores",
        &points,
        moved_on,
        |(home, _)| home.copied(),
        |(home, later), place, what| {
            let into = place.join("store");
            let is_new = is_restored(&open(&into));
            let decided = ["decided", "part", "moved", "ended"].iter().any(|word| what.contains(word));
            let is_decided = !what.contains("died: true") || (decided && !what.contains("before-decided"));
            assert_eq!(is_new, is_decided, "{what}");
            let leftovers =
                files(&into).into_iter().filter(|file| file.to_string_lossy().contains("restore-"));
            assert_eq!(leftovers.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "{what}");
            if is_new {
                new += 1;
                home.assert_says_the_same(&into, what);
                later.assert_says_the_same(&kept_beside(place), what);
            } else {
                old += 1;
                later.assert_says_the_same(&into, what);
            }
        },
    );
    assert!(old >= 5 && new >= 5, "old {old}, new {new}");
}

/// A home whose store moved on after its backup, so that old and new differ; and what it says since.
fn moved_on(seed: u64) -> (Home, Home) {
    let home = Home::seeded(seed);
    let store = open(&home.path("store"));
    object_with(&store, "later", 1);
    store.put_blob(b"later").unwrap();
    let said = dump(&store, home.now_ms);
    let later = Home { dir: tempfile::tempdir().unwrap(), now_ms: home.now_ms, said };
    (home, later)
}

fn is_restored(store: &Store) -> bool {
    store.audit_after(0, 1_000).unwrap().iter().any(|row| row.kind == "store.restored")
}

fn kept_beside(place: &Path) -> PathBuf {
    let mut entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.to_string_lossy().contains("before-restore")).unwrap()
}

#[test]
fn child_restores() {
    let Some(place) = death::place() else { return };
    restore(&place.join("backup"), &place.join("store")).unwrap();
}

/// A restore that dies, and whose finishing dies again at every step.
#[test]
fn a_process_that_dies_while_finishing_a_restore_leaves_it_to_the_next() {
    let points = ["store::restore-part-aside", "store::restore-part-moved", "store::restore-moved"];
    let decided = |home: &Home| {
        let place = home.copied();
        assert!(death::dies("backup::crash::child_restores", place.path(), "store::restore-decided", 1));
        place
    };
    death::at_every_step(
        "backup::crash::child_opens",
        &points,
        Home::seeded,
        decided,
        |home, place, what| {
            assert!(is_restored(&open(&place.join("store"))), "{what}");
            home.assert_says_the_same(&place.join("store"), what);
            home.assert_says_the_same(&kept_beside(place), what);
        },
    );
}

/// That it is there decides; what it says is only where the old store goes.
#[test]
fn a_decided_restore_whose_note_was_edited_is_finished_all_the_same() {
    let home = Home::new();
    for said in
        ["", "{\"aside\": \"\"}", "{\"aside\": \"..\"}", "{\"aside\": \"store.before-restore-7\"}", "{"]
    {
        let place = home.copied();
        assert!(death::dies("backup::crash::child_restores", place.path(), "store::restore-decided", 1));
        for entry in fs::read_dir(place.path()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().contains(".before-restore-") {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
        assert!(Store::is_restore_decided(&place.path().join("store")));
        fs::write(place.path().join("store/restore-decided.json"), said).unwrap();
        assert!(is_restored(&open(&place.path().join("store"))), "{said}");
        assert!(!Store::is_restore_decided(&place.path().join("store")));
        home.assert_says_the_same(&kept_beside(place.path()), said);
    }
}

#[test]
fn child_opens() {
    let Some(place) = death::place() else { return };
    open(&place.join("store"));
}

#[cfg(unix)]
#[test]
fn a_full_disk_fails_a_backup_and_a_restore_and_leaves_nothing_behind() {
    let home = Home::new();
    for blocks in [8, 100] {
        let place = home.copied();
        death::with_little_room("backup::crash::child_meets_a_full_disk", place.path(), blocks);
        let left: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        home.assert_says_the_same(&place.path().join("store"), "full disk");
    }
}

#[test]
fn child_meets_a_full_disk() {
    let Some(place) = death::place() else { return };
    let (store, options) = (place.join("store"), BackupOptions::default());
    let refused = Store::backup_offline(&store, &place.join("full"), options, &mut |_| ()).unwrap_err();
    assert!(matches!(refused, BackupError::Failed(_) | BackupError::File { .. }), "{refused}");
    let refused = restore(&place.join("backup"), &store).unwrap_err();
    assert!(matches!(refused, RestoreError::Backup(_)), "{refused}");
}

/// What there is beside a store whose name says that it is no backup yet.
fn partials(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains(".partial-")).collect()
}

#[test]
fn what_died_over_a_backup_is_removed_by_the_next_one_to_that_place_and_nothing_else_is() {
    let home = Home::new();
    let place = home.dir.path();
    for point in
        ["store::backup-made", "store::backup-copied", "store::backup-blob", "store::backup-before-rename"]
    {
        assert!(death::dies("backup::crash::child_backs_up", place, point, 1), "{point}");
    }
    assert_eq!(partials(place).len(), 1, "each removed the one before");
    let dead = partials(place).remove(0);
    let others = [
        // For another place; that nobody ever locked; with a name or a file that is not ours.
        ("third.partial-0123456789abcdef", "lock"),
        ("second.partial-0123456789abcdef", "objects.redb"),
        ("second.partial-0123456789ABCDEF", "lock"),
        ("second.partial-0123", "lock"),
        ("second.partial-fedcba9876543210", "lock"),
    ];
    for (name, file) in others {
        fs::create_dir(place.join(name)).unwrap();
        fs::write(place.join(name).join(file), "").unwrap();
    }
    fs::write(place.join("second.partial-fedcba9876543210/mine.txt"), "mine").unwrap();
    back_up(&open(&place.join("store")), &place.join("second"));
    assert!(!dead.exists());
    assert_eq!(partials(place).len(), others.len());
    Store::check_backup(&place.join("second"), &mut |_| ()).unwrap();
    assert!(!place.join("second/lock").exists() && !place.join("second/pid").exists());
}

#[test]
fn a_backup_that_is_being_written_is_not_removed_by_another_one_to_the_same_place() {
    let home = Home::new();
    let (store, to) = (open(&home.path("store")), home.path("second"));
    let mut is_first = true;
    let late = store.backup(&to, BackupOptions::default(), &mut |progress| {
        if progress.phase == Phase::CopyBlobs && std::mem::take(&mut is_first) {
            back_up(&store, &to);
            assert_eq!(partials(home.dir.path()).len(), 1, "this one");
        }
    });
    assert!(matches!(&late, Err(BackupError::File { path, .. }) if *path == to), "{late:?}");
    assert_eq!(partials(home.dir.path()), Vec::<PathBuf>::new());
    Store::check_backup(&to, &mut |_| ()).unwrap();
}
