//! Goal: whatever instruction a host dies at while it builds, publishes or collects, the edition before or the new one
//! serves, whole; what is left over is cleaned away, and the next build succeeds.
//! Method: a child builds an edition over one that serves, publishes it and collects; it is killed at every pass of
//! every failpoint.

use std::path::Path;

use telos_archive::{Budget, BuildError, Row, Shelf, Verify, build};

use crate::death;
use crate::fixture::{about, assert_holds, random_rows, source};

/// Of a build, in its order; then of the switch; then of collecting.
const POINTS: [&str; 14] = [
    "archive::directory-made",
    "archive::rows-written",
    "archive::engine-built",
    "archive::file-sealed",
    "archive::files-safe",
    "archive::validated",
    "archive::manifest-before-rename",
    "archive::manifest-after-rename",
    "archive::built",
    "archive::current-before-rename",
    "archive::current-after-rename",
    "archive::published",
    "archive::collect-before-remove",
    "archive::collect-manifest-removed",
];
const LAST_POINT: &str = "archive::collected";
const CHILD: &str = "crash::child_that_builds_publishes_and_collects";

fn old_rows() -> Vec<Row> {
    random_rows(31, 40, 16)
}

/// With a graph.
fn new_rows() -> Vec<Row> {
    random_rows(32, 500, 16)
}

fn build_next(shelf: &Shelf, rows: &[Row]) -> Result<u64, BuildError> {
    let place = shelf.next().unwrap();
    let is_stopping = std::sync::atomic::AtomicBool::new(false);
    build(place.path(), &about(16), source(rows), &Budget::default(), &is_stopping, &|_| ())?;
    shelf.publish(place.number()).unwrap();
    Ok(place.number())
}

#[test]
fn child_that_builds_publishes_and_collects() {
    let Some(place) = death::place() else { return };
    let shelf = Shelf::open(&place).unwrap();
    build_next(&shelf, &new_rows()).unwrap();
    shelf.collect(&[]).unwrap();
}

/// Names in a directory, in order.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_death_at_any_step_leaves_the_old_edition_or_the_new_one() {
    let (mut deaths, mut old, mut new) = (0, 0, 0);
    for point in POINTS.iter().chain([&LAST_POINT]) {
        for pass in 1.. {
            let place = tempfile::tempdir().unwrap();
            assert_eq!(build_next(&Shelf::open(place.path()).unwrap(), &old_rows()).unwrap(), 1);
            let has_died = death::dies(CHILD, place.path(), point, pass);
            let what = format!("{point}, pass {pass}, died: {has_died}, {:?}", names(place.path()));
            let shelf = Shelf::open(place.path()).unwrap();
            let current = shelf.current().unwrap().unwrap();
            let edition =
                shelf.edition(current, Verify::Full).unwrap_or_else(|error| panic!("{what}: {error}"));
            match current {
                1 => assert_holds(&edition, &old_rows()),
                2 => assert_holds(&edition, &new_rows()),
                other => panic!("{what}: {other}"),
            }
            old += u64::from(current == 1);
            new += u64::from(current == 2);
            shelf.collect(&[]).unwrap();
            assert_eq!(names(place.path()), ["CURRENT".into(), format!("edition-{current}")], "{what}");
            let next = build_next(&shelf, &old_rows()).unwrap();
            assert!(next > current, "{what}: {next}");
            drop(edition);
            shelf.collect(&[]).unwrap();
            assert_eq!(names(place.path()), ["CURRENT".into(), format!("edition-{next}")], "{what}");
            assert!(has_died || pass > 1, "{point} was never met");
            if !has_died {
                break;
            }
            deaths += 1;
        }
    }
    println!("{deaths} deaths: the old edition served after {old}, the new one after {new}");
    assert!(deaths > 15 && old > 5 && new > 5, "{deaths} {old} {new}");
}

#[test]
fn child_that_builds_with_little_room() {
    let Some(place) = death::place() else { return };
    let shelf = Shelf::open(&place).unwrap();
    let rows = random_rows(33, 2_000, 64);
    let next = shelf.next().unwrap();
    let is_stopping = std::sync::atomic::AtomicBool::new(false);
    let built = build(next.path(), &about(64), source(&rows), &Budget::default(), &is_stopping, &|_| ());
    match built {
        Ok(_) => shelf.publish(next.number()).unwrap(),
        Err(BuildError::File { path, .. }) => {
            assert!(path.starts_with(next.path()), "{}", path.display());
            assert!(!next.path().exists());
        }
        Err(other) => panic!("{other}"),
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_refuses_a_build_by_file_and_leaves_nothing() {
    let mut ends = [0, 0];
    // From no room for a row to room for the graph, which takes about 1,400 KiB.
    for blocks in [0, 8, 150, 200, 400, 800, 1_100, 1_600, 2_400, 40_000] {
        let place = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(place.path()).unwrap();
        death::with_little_room("crash::child_that_builds_with_little_room", place.path(), blocks);
        match shelf.current().unwrap() {
            None => {
                ends[0] += 1;
                assert_eq!(names(place.path()), [""; 0], "{blocks} blocks");
            }
            Some(number) => {
                ends[1] += 1;
                assert_holds(&shelf.edition(number, Verify::Full).unwrap(), &random_rows(33, 2_000, 64));
            }
        }
    }
    assert!(ends[0] > 4 && ends[1] > 0, "{ends:?}");
}
