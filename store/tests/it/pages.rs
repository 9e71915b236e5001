//! Goal: a page that is not as it was written is found in an open store, before it is copied or written down anew with a
//! checksum that fits; and nothing else is ever taken for one.
//! Method: bits flip in the value of a store whose process died, where redb reads them as the truth; looks at every page
//! race writers, big values, forgetting and pruning.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use telos_store::{
    BackupError, BackupOptions, Children, Draft, DraftError, DraftOptions, Failure, Json, MemoryBackend,
    ObjectId, OpenError, PagesStanding, RestoreError, RestoreOptions, RewriteError, Slot, Store,
    StoreOptions,
};

use crate::death;
use crate::fixture::{assert_clean, await_until, commit, name, number, object_with, operator, read, within};
use crate::random::{Random, is_long};
use crate::whole::{Over, copy_tree, fill, now_ms};

/// Occurs nowhere else.
const MARKER: &str = "a-value-that-is-easy-to-find-and-to-change";

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions::default()).unwrap()
}

fn text(text: &str) -> Slot {
    Slot::Value(Json::parse(&format!("\"{text}\"")).unwrap())
}

fn told(store: &Store) -> String {
    let mut unit = store.begin();
    let id = unit.names("marked", "", 1).unwrap()[0].1;
    unit.object(id).unwrap().unwrap().value("text").unwrap().to_value().as_str().unwrap().into()
}

/// In the child: fills a store, and dies in a later commit.
#[test]
fn a_store_is_filled_until_it_dies() {
    let Some(place) = death::place() else { return };
    let store = open(&place);
    fill(&store, now_ms());
    within(&store, |unit| {
        let id = unit.create(operator(), 1, vec![]).unwrap();
        unit.set_slot(id, "text", text(&MARKER.repeat(50))).unwrap();
        unit.bind(&name("marked"), id).unwrap();
    });
    for value in 0..100 {
        object_with(&store, "a", value);
    }
}

/// A directory that a process left as it died; `is_damaged`: with one bit flipped in each copy of a value.
fn left_by_a_dead_process(is_damaged: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let child = "pages::a_store_is_filled_until_it_dies";
    assert!(death::dies(child, dir.path(), "store::after-commit", 100));
    if is_damaged {
        flip(&dir.path().join("objects.redb"));
    }
    dir
}

/// A letter of each copy of the value becomes another one; some are in pages that are free by now.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let value = MARKER.repeat(50);
    let is_value = |at: &usize| bytes[*at..].starts_with(value.as_bytes());
    let found: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'a').filter(is_value).collect();
    assert!(!found.is_empty());
    found.into_iter().for_each(|at| bytes[at] ^= 2);
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_bit_that_flipped_in_a_killed_store_is_found_by_the_start_and_goes_into_no_copy() {
    let dir = left_by_a_dead_process(true);
    // However often it is opened for a moment only, whoever stays finds it.
    (0..5).for_each(|_| drop(open(dir.path())));
    let store = open(dir.path());
    await_until("the start looks at every page", || store.standing().pages == PagesStanding::Damaged);
    let said = store.standing().damage.unwrap();
    assert!(said.contains("telos store verify") && said.contains("telos store restore"), "{said}");
    assert!(told(&store).starts_with("c-value"), "without it the test shows nothing");
    let refused = store.check_pages(&mut |_| ());
    assert!(matches!(refused, Err(Failure::Damaged { .. })), "{refused:?}");
    let report = store.verify_open().unwrap();
    assert!(report.problems.iter().any(|problem| problem.starts_with("pages: ")), "{:?}", report.problems);

    let (to, anyhow) = (dir.path().join("backup"), BackupOptions { verify: false });
    let refused = store.backup(&to, BackupOptions::default(), &mut |_| ());
    assert!(matches!(refused, Err(BackupError::Failed(Failure::Damaged { .. }))), "{refused:?}");
    assert!(!to.exists());
    store.backup(&to, anyhow, &mut |_| ()).unwrap();

    let refused = store.rewrite(&mut |_| ());
    assert!(matches!(refused, Err(RewriteError::Damaged(Failure::Damaged { .. }))), "{refused:?}");
    drop(store);
    assert!(Store::verify(dir.path()).is_err());
    let store = open(dir.path());
    await_until("the next start finds it too", || store.standing().damage.is_some());
    assert!(store.standing().read_only.is_none(), "the rest is served");
    within(&store, |unit| unit.create(operator(), 1, vec![]).unwrap());
}

/// The first thing that is written gives the page another checksum, which fits.
#[test]
fn what_is_written_after_a_start_hides_nothing_from_its_look() {
    let dir = left_by_a_dead_process(true);
    let store = open(dir.path());
    write_beside(&store);
    await_until("the look ends", || store.standing().pages != PagesStanding::Unchecked);
    assert_eq!(store.standing().pages, PagesStanding::Damaged);
}

/// Writes where the changed value is, so that its page is likely to get a checksum that fits: one of so many objects,
/// whose ids are drawn, comes to lie on it.
fn write_beside(store: &Store) {
    within(store, |unit| {
        let id = unit.names("marked", "", 1).unwrap()[0].1;
        unit.set_slot(id, "a", number(1)).unwrap();
        for _ in 0..300 {
            unit.create(operator(), 1, vec![]).unwrap();
        }
    });
}

/// A store whose start found damage, which has been written anew since. Without the note of it, nobody could tell.
fn written_anew() -> (tempfile::TempDir, std::path::PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let (dir, forgetful) = (home.path().join("store"), home.path().join("forgetful"));
    copy_tree(left_by_a_dead_process(true).path(), &dir);
    let store = open(&dir);
    await_until("the start looks at every page", || store.standing().pages == PagesStanding::Damaged);
    let is_anew = (0..20).any(|_| {
        write_beside(&store);
        copy_tree(&dir, &forgetful);
        fs::remove_file(forgetful.join("damaged")).unwrap();
        Store::verify(&forgetful).is_ok_and(|report| report.is_clean())
    });
    assert!(is_anew, "without it the test shows nothing");
    assert_certified_by_nothing(&store, home.path());
    (home, dir)
}

#[track_caller]
fn assert_certified_by_nothing(store: &Store, home: &Path) {
    let refused = store.check_pages(&mut |_| ());
    assert!(matches!(refused, Err(Failure::Damaged { .. })), "{refused:?}");
    for _ in 0..3 {
        let problems = store.verify_open().unwrap().problems;
        assert!(matches!(&*problems, [problem] if problem.starts_with("pages: ")), "{problems:?}");
        assert!(problems[0].contains("written anew since"), "{problems:?}");
    }
    let refused = store.backup(&home.join("refused"), BackupOptions::default(), &mut |_| ());
    assert!(matches!(refused, Err(BackupError::Failed(Failure::Damaged { .. }))), "{refused:?}");
    let refused = store.rewrite(&mut |_| ());
    assert!(matches!(refused, Err(RewriteError::Damaged(Failure::Damaged { .. }))), "{refused:?}");
    let standing = store.standing();
    assert!(standing.damage.is_some() && standing.pages == PagesStanding::Damaged, "{standing:?}");
    assert!(standing.read_only.is_none(), "the rest is served");
}

#[test]
fn damage_that_a_start_found_is_certified_away_by_nothing_that_comes_after() {
    let (home, dir) = written_anew();
    let is_damaged = |refused: &OpenError| {
        assert!(matches!(refused, OpenError::Failed { cause: Failure::Damaged { .. }, .. }), "{refused:?}");
    };
    let problems = Store::verify(&dir).unwrap().problems;
    assert!(matches!(&*problems, [problem] if problem.starts_with("pages: ")), "{problems:?}");
    match Store::backup_offline(&dir, &home.path().join("x"), BackupOptions::default(), &mut |_| ()) {
        Err(BackupError::Open(refused)) => is_damaged(&refused),
        other => panic!("{other:?}"),
    }
    for is_rehearsal in [true, false] {
        let options = DraftOptions { is_rehearsal, ..DraftOptions::default() };
        match Draft::begin(&dir, &options, &mut |_| ()) {
            Err(DraftError::Open(refused)) => is_damaged(&refused),
            other => panic!("{other:?}"),
        }
    }
    match Store::restore(&dir, &home.path().join("y"), RestoreOptions::default(), &mut |_| ()) {
        Err(RestoreError::Open(refused)) => is_damaged(&refused),
        other => panic!("{other:?}"),
    }
    let store = open(&dir);
    assert_eq!(store.standing().pages, PagesStanding::Damaged, "from the first moment");
    assert_certified_by_nothing(&store, home.path());
    drop(store);
    // A crash may leave half of the note.
    fs::write(dir.join("damaged"), "").unwrap();
    let store = open(&dir);
    write_beside(&store);
    assert_certified_by_nothing(&store, home.path());
}

/// A start after a good end looks at nothing, and the first thing that is written would hide it.
#[test]
fn damage_that_was_found_offline_is_known_to_whoever_starts_all_the_same() {
    type Look = fn(&Path) -> bool;
    let looks: [Look; 4] = [
        |dir| Store::verify(dir).is_err(),
        |dir| {
            let to = dir.join("backup");
            Store::backup_offline(dir, &to, BackupOptions::default(), &mut |_| ()).is_err()
        },
        |dir| Draft::begin(dir, &DraftOptions::default(), &mut |_| ()).is_err(),
        |dir| {
            let rehearsal = DraftOptions { is_rehearsal: true, ..DraftOptions::default() };
            Draft::begin(dir, &rehearsal, &mut |_| ()).is_err()
        },
    ];
    let dir = left_by_a_dead_process(false);
    let store = open(dir.path());
    await_until("the start looks at every page", || store.standing().pages == PagesStanding::Whole);
    drop(store);
    flip(&dir.path().join("objects.redb"));
    for (number, find) in looks.into_iter().enumerate() {
        let place = tempfile::tempdir().unwrap();
        copy_tree(dir.path(), place.path());
        let before = fs::read(place.path().join("objects.redb")).unwrap();
        assert!(find(place.path()), "{number}");
        assert!(fs::read(place.path().join("objects.redb")).unwrap() == before, "{number}");
        // A rehearsal writes nothing at all.
        let expected = if number < 3 { PagesStanding::Damaged } else { PagesStanding::Trusted };
        assert_eq!(open(place.path()).standing().pages, expected, "{number}");
    }
}

#[test]
fn whoever_decides_to_live_with_damage_restores_a_copy_that_was_not_verified() {
    let (home, dir) = written_anew();
    let (to, anyhow) = (home.path().join("backup"), BackupOptions { verify: false });
    Store::backup_offline(&dir, &to, anyhow, &mut |_| ()).unwrap();
    let restored = Store::restore(&to, &dir, RestoreOptions::default(), &mut |_| ()).unwrap();
    assert!(Store::verify(&dir).unwrap().is_clean());
    let store = open(&dir);
    assert!(told(&store).starts_with("c-value"));
    assert_eq!((store.standing().pages, store.standing().damage), (PagesStanding::Trusted, None));
    assert_clean(&store);
    store.backup(&home.path().join("whole"), BackupOptions::default(), &mut |_| ()).unwrap();
    let kept = restored.replaced.unwrap();
    assert!(!Store::verify(&kept).unwrap().is_clean(), "what is kept is what was damaged");
    assert_eq!(open(&kept).standing().pages, PagesStanding::Damaged);
}

/// The mark goes with the old file, wherever the restore dies.
#[test]
fn a_restore_that_dies_leaves_the_mark_with_the_damaged_file() {
    let (home, dir) = written_anew();
    let anyhow = BackupOptions { verify: false };
    Store::backup_offline(&dir, &home.path().join("backup"), anyhow, &mut |_| ()).unwrap();
    for point in ["store::restore-staged", "store::restore-part-moved", "store::restore-mark-aside"] {
        let place = tempfile::tempdir().unwrap();
        copy_tree(home.path(), place.path());
        assert!(death::dies("pages::child_restores_over_damage", place.path(), point, 1), "{point}");
        let pages = open(&place.path().join("store")).standing().pages;
        let is_old = point == "store::restore-staged";
        assert_eq!(pages == PagesStanding::Damaged, is_old, "{point}: {pages:?}");
    }
}

#[test]
fn child_restores_over_damage() {
    let Some(place) = death::place() else { return };
    let (from, into) = (place.join("backup"), place.join("store"));
    Store::restore(&from, &into, RestoreOptions::default(), &mut |_| ()).unwrap();
}

#[test]
fn a_bit_that_flipped_is_found_by_a_verification_where_no_start_looked() {
    let dir = left_by_a_dead_process(true);
    let options = StoreOptions { is_checked_after_crash: false, ..StoreOptions::default() };
    let store = Store::open(dir.path(), options).unwrap();
    assert_eq!(store.standing().pages, PagesStanding::Trusted);
    assert!(!store.verify_open().unwrap().is_clean());
    let standing = store.standing();
    assert!(standing.damage.is_some() && standing.pages == PagesStanding::Damaged, "{standing:?}");
}

#[test]
fn a_killed_store_whose_pages_are_whole_is_known_to_be() {
    let dir = left_by_a_dead_process(false);
    let store = open(dir.path());
    await_until("the start looks at every page", || store.standing().pages == PagesStanding::Whole);
    assert_eq!(store.standing().damage, None);
    assert_clean(&store);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.standing().pages, PagesStanding::Trusted, "it was closed in good order");
    assert_eq!(told(&store), MARKER.repeat(50));
}

/// In the child: raises the layout, and dies before that is durable.
#[test]
fn an_old_store_is_opened_until_it_dies() {
    let Some(place) = death::place() else { return };
    open(&place);
}

/// The raise's audit row is written where the others are, before anybody else has the store.
#[test]
fn what_a_start_itself_writes_hides_nothing_from_its_look() {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/layout-1"), dir.path());
    let child = "pages::an_old_store_is_opened_until_it_dies";
    assert!(death::dies(child, dir.path(), "store::raise-before-commit", 1));
    let (file, needle) = (dir.path().join("objects.redb"), br#""kind":""#);
    let mut bytes = fs::read(&file).unwrap();
    let found: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
    assert!(!found.is_empty());
    found.into_iter().for_each(|at| bytes[at + needle.len()] ^= 2);
    fs::write(&file, bytes).unwrap();
    let store = open(dir.path());
    assert_eq!(store.audit_after(0, 1_000).unwrap().last().unwrap().kind, "store.layout-raised");
    await_until("the look ends", || store.standing().pages != PagesStanding::Unchecked);
    assert_eq!(store.standing().pages, PagesStanding::Damaged);
    drop(store);
    fs::remove_file(dir.path().join("damaged")).unwrap();
    assert!(Store::verify(dir.path()).unwrap().is_clean(), "without it the test shows nothing");
}

#[test]
fn a_look_that_comes_to_no_end_is_not_said_to_go_on() {
    let dir = left_by_a_dead_process(false);
    fail::cfg("store::pages-overtaken", "return").unwrap();
    let store = open(dir.path());
    await_until("the look ends", || store.standing().pages != PagesStanding::Unchecked);
    assert_eq!(store.standing().pages, PagesStanding::Unfinished);
    drop(store);
    fail::cfg("store::pages-overtaken", "off").unwrap();
    let store = open(dir.path());
    await_until("the next start looks", || store.standing().pages == PagesStanding::Whole);
}

/// Where what is written meanwhile overtakes each look, commits wait for one.
#[test]
fn a_look_that_is_overtaken_each_time_comes_to_an_end_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = object_with(&store, "a", 1);
    fail::cfg("store::pages-overtaken", "3*return->off").unwrap();
    assert!(store.check_pages(&mut |_| ()).is_ok());
    assert_eq!(store.standing().pages, PagesStanding::Whole);
    fail::cfg("store::pages-overtaken", "return").unwrap();
    assert!(matches!(store.check_pages(&mut |_| ()), Err(Failure::Reopening)));
    fail::cfg("store::pages-overtaken", "off").unwrap();
    assert_eq!(store.standing().damage, None);
    assert_eq!(read(&mut store.begin(), id, "a"), Some(1));
    assert_clean(&store);
}

/// Objects of one writer, so that the file stays small however long it writes.
const OWN_MAX: usize = 30;

/// What a busy writer does next.
fn write(store: &Store, own: &mut Vec<ObjectId>, random: &mut Random) {
    match random.below(12) {
        0..=4 if own.len() < OWN_MAX => {
            let len = usize::try_from(random.below(120_000)).unwrap();
            own.push(within(store, |unit| {
                let id = unit.create(operator(), 1, vec![]).unwrap();
                unit.set_slot(id, "text", text(&"x".repeat(len))).unwrap();
                id
            }));
        }
        5..=6 if !own.is_empty() => {
            let id = own.swap_remove(random.index(own.len()));
            store.forget(&[id], "a test", Children::Refuse).unwrap();
        }
        7 => drop(store.prune_history(64).unwrap()),
        8 => drop(store.collect_blobs(0).unwrap()),
        _ if !own.is_empty() => {
            let id = own[random.index(own.len())];
            let value = number(i64::try_from(random.below(1_000)).unwrap());
            within(store, |unit| unit.set_slot(id, "a", value).unwrap());
        }
        _ => own.push(object_with(store, "a", 1)),
    }
}

#[test]
fn a_busy_store_is_never_taken_for_a_damaged_one() {
    for on_file in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let retention = telos_store::Retention { rows_max: 200, ..Default::default() };
        let options = StoreOptions { retention, cache_bytes: 1024 * 1024, ..StoreOptions::default() };
        let store = match on_file {
            true => Store::open(dir.path(), options).unwrap(),
            false => Store::open_with_backend(dir.path(), MemoryBackend::new(), options).unwrap(),
        };
        let (is_over, written) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let over = Over(&is_over);
            for seed in 0..3 {
                let (store, is_over, written) = (&store, &is_over, &written);
                scope.spawn(move || {
                    let (mut own, mut random) = (Vec::new(), Random::new(seed));
                    while !is_over.load(Ordering::Acquire) {
                        write(store, &mut own, &mut random);
                        written.fetch_add(1, Ordering::AcqRel);
                    }
                });
            }
            for look in 0..if is_long() { 400 } else { 40 } {
                // Something happens in each.
                let before = written.load(Ordering::Acquire);
                store.check_pages(&mut |_| ()).unwrap_or_else(|failure| panic!("look {look}: {failure}"));
                await_until("the writers go on", || written.load(Ordering::Acquire) > before);
            }
            drop(over);
        });
        assert_eq!(store.standing().damage, None);
        println!(
            "{} writes on file: {on_file}, {} bytes",
            written.into_inner(),
            store.usage().database_bytes
        );
        store.rewrite(&mut |_| ()).unwrap();
        store.check_pages(&mut |_| ()).unwrap();
        let mut unit = store.begin();
        unit.audit("written", "after", serde_json::Value::Null).unwrap();
        commit(&store, unit).unwrap();
        assert_clean(&store);
    }
}

/// Wherever the look is when the store is closed, and whatever is written meanwhile: every second look waits until the
/// store is about to be closed.
#[test]
fn a_store_closes_in_the_midst_of_a_look() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for _ in 0..20 {
        within(&store, |unit| {
            let id = unit.create(operator(), 1, vec![]).unwrap();
            unit.set_slot(id, "text", text(&"x".repeat(200_000))).unwrap();
        });
    }
    let file = dir.path().join("objects.redb");
    let crashed = fs::read(&file).unwrap();
    drop(store);
    let gate = Arc::new((AtomicBool::new(true), AtomicU64::new(0)));
    let at_gate = Arc::clone(&gate);
    let wait = move || {
        at_gate.1.fetch_add(1, Ordering::AcqRel);
        while !at_gate.0.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    };
    fail::cfg_callback("store::pages-overtaken", wait).unwrap();
    let (mut unchecked, mut whole, mut gated) = (0, 0, 0);
    for close in 0..if is_long() { 1_000 } else { 40 } {
        fs::write(&file, &crashed).unwrap();
        let (is_gated, looks) = (close % 2 == 0, gate.1.load(Ordering::Acquire));
        gate.0.store(!is_gated, Ordering::Release);
        let store = open(dir.path());
        (0..close % 20).for_each(|_| std::thread::yield_now());
        if close % 4 < 2 {
            object_with(&store, "a", 1);
        }
        if is_gated {
            await_until("the look begins", || gate.1.load(Ordering::Acquire) > looks);
            assert_eq!(store.standing().pages, PagesStanding::Unchecked);
            gated += 1;
        } else if close % 8 == 7 {
            await_until("the look ends", || store.standing().pages != PagesStanding::Unchecked);
        }
        match store.standing().pages {
            PagesStanding::Unchecked => unchecked += 1,
            PagesStanding::Whole => whole += 1,
            other => panic!("close {close}: {other:?}"),
        }
        assert_eq!(store.standing().damage, None);
        gate.0.store(true, Ordering::Release);
    }
    println!("{unchecked} closed before the look had ended, {whole} after");
    assert!(whole > 0 && gated > 0 && unchecked >= gated, "{unchecked} unchecked, {whole} whole");
    fail::cfg("store::pages-overtaken", "off").unwrap();
    assert!(Store::verify(dir.path()).unwrap().is_clean());
}
