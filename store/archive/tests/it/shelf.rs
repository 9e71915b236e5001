//! A shelf lets one edition serve, and removes what nobody needs.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use telos_archive::{OpenError, Shelf, ShelfError, Verify};

use crate::fixture::{about, assert_holds, random_rows, try_build};

/// Builds an edition of so many rows, unpublished.
fn build_next(shelf: &Shelf, rows: usize) -> u64 {
    let place = shelf.next().unwrap();
    try_build(place.path(), &about(8), &random_rows(rows as u64, rows, 8)).unwrap();
    place.number()
}

fn is_there(dir: &Path, number: u64) -> bool {
    dir.join(format!("edition-{number}")).exists()
}

#[test]
fn a_new_shelf_has_nothing_and_serves_what_is_published() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("new/shelf");
    let shelf = Shelf::open(&dir).unwrap();
    assert_eq!(shelf.current().unwrap(), None);
    assert!(shelf.serving(Verify::Quick).unwrap().is_none());
    let first = build_next(&shelf, 10);
    assert_eq!((first, shelf.current().unwrap()), (1, None));
    shelf.publish(first).unwrap();
    let second = build_next(&shelf, 20);
    assert_eq!((second, shelf.current().unwrap()), (2, Some(1)));
    shelf.publish(second).unwrap();
    drop(shelf);
    let shelf = Shelf::open(&dir).unwrap();
    assert_eq!(shelf.current().unwrap(), Some(2));
    // Back to an earlier one.
    shelf.publish(first).unwrap();
    assert_eq!(shelf.current().unwrap(), Some(1));
    assert_holds(&shelf.edition(1, Verify::Full).unwrap(), &random_rows(10, 10, 8));
}

#[test]
fn an_edition_that_is_not_whole_is_never_published() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(place.path()).unwrap();
    let whole = build_next(&shelf, 10);
    shelf.publish(whole).unwrap();
    let torn = build_next(&shelf, 10);
    fs::remove_file(place.path().join(format!("edition-{torn}/MANIFEST"))).unwrap();
    let error = shelf.publish(torn).unwrap_err();
    assert!(matches!(error, ShelfError::Open(OpenError::Unfinished { .. })), "{error}");
    assert!(shelf.publish(99).is_err());
    assert_eq!(shelf.current().unwrap(), Some(whole));
}

#[test]
fn garbage_in_current_is_told_and_mended_by_publishing() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(place.path()).unwrap();
    let number = build_next(&shelf, 10);
    for garbage in [
        &b""[..],
        b"edition-1",
        b"edition-\n",
        b"edition-01\n",
        b"edition-+1\n",
        b"../edition-1\n",
        b"edition-99999999999999999999\n",
        &[0xff; 20],
        &[b'x'; 100_000],
    ] {
        fs::write(place.path().join("CURRENT"), garbage).unwrap();
        let shelf = Shelf::open(place.path()).unwrap();
        let error = shelf.current().unwrap_err();
        assert!(matches!(error, ShelfError::Current { .. }), "{error}");
        // Nobody knows what serves, so nothing is removed.
        assert!(matches!(shelf.collect(&[]).unwrap_err(), ShelfError::Current { .. }));
        assert!(is_there(place.path(), number));
        shelf.publish(number).unwrap();
        assert_eq!(shelf.current().unwrap(), Some(number));
    }
    // It may be gone.
    fs::write(place.path().join("CURRENT"), "edition-7\n").unwrap();
    assert_eq!(shelf.current().unwrap(), Some(7));
    assert!(shelf.edition(7, Verify::Quick).is_err());
    assert_eq!(shelf.next().unwrap().number(), 8);
}

#[test]
fn what_is_read_built_kept_or_serves_is_not_collected() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(place.path()).unwrap();
    let numbers: Vec<u64> = (1..=5).map(|rows| build_next(&shelf, rows)).collect();
    shelf.publish(numbers[4]).unwrap();
    let reader = shelf.edition(numbers[0], Verify::Quick).unwrap();
    let building = shelf.next().unwrap();
    fs::create_dir(building.path()).unwrap();
    fs::write(place.path().join("letter"), "mine").unwrap();
    fs::create_dir(place.path().join("edition-x")).unwrap();
    assert_eq!(shelf.collect(&[numbers[1]]).unwrap(), [numbers[2], numbers[3]]);
    assert_eq!(reader.objects().count(), 1);
    drop(reader);
    assert_eq!(shelf.collect(&[numbers[1]]).unwrap(), [numbers[0]]);
    let orphan = building.number();
    drop(building);
    assert_eq!(shelf.collect(&[]).unwrap(), [numbers[1], orphan]);
    assert_eq!(shelf.collect(&[]).unwrap(), [0; 0]);
    assert!(is_there(place.path(), numbers[4]));
    assert!(place.path().join("letter").exists() && place.path().join("edition-x").exists());
    assert_eq!(shelf.next().unwrap().number(), orphan + 1);
}

#[test]
fn what_is_withdrawn_or_deleted_serves_no_more() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(place.path()).unwrap();
    let numbers: Vec<u64> = (1..=3).map(|rows| build_next(&shelf, rows)).collect();
    shelf.publish(numbers[0]).unwrap();
    assert_eq!(shelf.editions().unwrap(), numbers);
    shelf.withdraw().unwrap();
    assert_eq!((shelf.current().unwrap(), shelf.editions().unwrap()), (None, numbers.clone()));
    shelf.publish(numbers[1]).unwrap();
    shelf.delete(numbers[0]).unwrap();
    assert_eq!(shelf.current().unwrap(), Some(numbers[1]), "another one was deleted");
    let reader = shelf.edition(numbers[1], Verify::Quick).unwrap();
    shelf.delete(numbers[1]).unwrap();
    assert_eq!((shelf.current().unwrap(), shelf.editions().unwrap()), (None, vec![numbers[2]]));
    drop(reader);
    shelf.delete(numbers[1]).unwrap();
    assert_eq!(shelf.next().unwrap().number(), numbers[2] + 1);
}

#[test]
fn searches_go_on_while_editions_are_switched_and_collected() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(place.path()).unwrap();
    let first = build_next(&shelf, 100);
    shelf.publish(first).unwrap();
    let (is_over, searches) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let edition = shelf.serving(Verify::Quick).unwrap().unwrap();
                    for row in random_rows(100, 20, 8) {
                        assert_eq!(edition.near(&row.direction, 1).unwrap().len(), 1);
                        searches.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for _ in 0..10 {
            let next = build_next(&shelf, 100);
            shelf.publish(next).unwrap();
            shelf.collect(&[]).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(searches.load(Ordering::Relaxed) > 0);
    shelf.collect(&[]).unwrap();
    let there: Vec<u64> = (1..20).filter(|number| is_there(place.path(), *number)).collect();
    assert_eq!(there, [shelf.current().unwrap().unwrap()]);
}

/// Directories with numbers that nobody gave are nobody's: they are not counted from, and not removed.
#[test]
fn a_directory_whose_number_was_given_by_nobody_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let strangers = [u64::MAX, u64::MAX - 1, u64::MAX / 2].map(|number| format!("edition-{number}"));
    strangers.iter().for_each(|name| fs::create_dir(place.path().join(name)).unwrap());
    let shelf = Shelf::open(place.path()).unwrap();
    let first = build_next(&shelf, 10);
    shelf.publish(first).unwrap();
    assert_eq!((first, shelf.collect(&[]).unwrap()), (1, vec![]));
    assert!(strangers.iter().all(|name| place.path().join(name).exists()));
    let refused = shelf.next_after(u64::MAX).err().unwrap();
    assert!(matches!(refused, ShelfError::Numbers { .. }), "{refused}");
    assert_eq!(shelf.next().unwrap().number(), 2, "and nothing else is");
}

#[test]
fn a_shelf_that_was_removed_is_made_again_for_the_next_edition() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("archive/7");
    let shelf = Shelf::open(&dir).unwrap();
    shelf.publish(build_next(&shelf, 10)).unwrap();
    fs::remove_dir_all(place.path().join("archive")).unwrap();
    let next = build_next(&shelf, 20);
    shelf.publish(next).unwrap();
    assert_eq!((next, shelf.current().unwrap()), (2, Some(2)));
}

#[test]
fn a_directory_in_the_place_of_current_is_told_and_makes_way() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(place.path()).unwrap();
    let first = build_next(&shelf, 10);
    let current = place.path().join("CURRENT");
    let put = || {
        fs::create_dir(&current).unwrap();
        fs::write(current.join("something"), "else").unwrap();
    };
    put();
    assert!(matches!(shelf.current(), Err(ShelfError::Current { .. })));
    assert!(shelf.collect(&[]).is_err() && is_there(place.path(), first), "nobody knows which serves");
    shelf.publish(first).unwrap();
    assert_eq!(shelf.current().unwrap(), Some(first));
    shelf.withdraw().unwrap();
    put();
    shelf.withdraw().unwrap();
    assert_eq!(shelf.collect(&[]).unwrap(), [first]);
}
