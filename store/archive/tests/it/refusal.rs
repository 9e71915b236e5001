//! What cannot be archived or asked for is refused by name, and leaves nothing behind.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use telos_archive::{
    About, Budget, BuildError, DIM_MAX, METADATA_BYTES_MAX, OpenError, Progress, ReadError, Row, RowProblem,
    Stage, Verify, build, open,
};

use crate::fixture::{about, built, random_rows, source, try_build};

#[track_caller]
fn refused(rows: &[Row]) -> RowProblem {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("edition");
    let error = try_build(&dir, &about(8), rows).unwrap_err();
    assert!(!dir.exists(), "{error}");
    let BuildError::Row { object, problem } = error else { panic!("{error}") };
    assert_eq!(object, rows.last().unwrap().object);
    problem
}

fn with_last(change: impl FnOnce(&mut Row)) -> Vec<Row> {
    let mut rows = random_rows(1, 20, 8);
    change(rows.last_mut().unwrap());
    rows
}

#[test]
fn rows_out_of_order_or_twice_are_refused() {
    let after = random_rows(1, 20, 8)[18].object;
    for object in [after, after - 1, 0] {
        assert_eq!(refused(&with_last(|row| row.object = object)), RowProblem::Order { after });
    }
}

#[test]
fn rows_without_a_direction_are_refused() {
    let few = refused(&with_last(|row| row.direction.truncate(7)));
    assert_eq!(few, RowProblem::Dimension { found: 7, dim: 8 });
    for component in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2.0, f32::MAX] {
        let problem = refused(&with_last(|row| row.direction[3] = component));
        assert!(matches!(problem, RowProblem::Length { .. }), "{problem}");
    }
    let tiny = refused(&with_last(|row| row.direction = vec![1e-3; 8]));
    assert!(matches!(tiny, RowProblem::Length { .. }), "{tiny}");
}

#[test]
fn too_much_metadata_is_refused() {
    let found = METADATA_BYTES_MAX + 1;
    let problem = refused(&with_last(|row| row.metadata = "x".repeat(found)));
    assert_eq!(problem, RowProblem::Metadata { found, max: METADATA_BYTES_MAX });
}

#[test]
fn directions_of_no_components_or_too_many_are_refused() {
    let place = tempfile::tempdir().unwrap();
    for dim in [0, DIM_MAX + 1] {
        let error = try_build(&place.path().join("edition"), &about(dim), &[]).unwrap_err();
        assert!(matches!(error, BuildError::Dimension { .. }), "{error}");
    }
}

#[test]
fn a_source_that_fails_ends_the_build_with_its_own_words() {
    let place = tempfile::tempdir().unwrap();
    let rows = random_rows(1, 5, 8);
    let rows = source(&rows).chain([Err("the table is gone".into())]);
    let error = build(
        &place.path().join("edition"),
        &about(8),
        rows,
        &Budget::default(),
        &AtomicBool::new(false),
        &|_| (),
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "rows could not be read: the table is gone");
}

#[test]
fn a_graph_that_takes_too_much_memory_is_not_begun() {
    let place = tempfile::tempdir().unwrap();
    let budget = Budget { memory_bytes: 1 << 20, threads: NonZeroUsize::MIN };
    let rows = random_rows(1, 2_000, 64);
    let rows = source(&rows);
    let error =
        build(&place.path().join("edition"), &about(64), rows, &budget, &AtomicBool::new(false), &|_| ())
            .unwrap_err();
    // Before all rows were written.
    let BuildError::Memory { nodes: 1_024, needed, allowed } = error else { panic!("{error}") };
    assert!(needed > allowed && allowed == 1 << 20, "{needed} of {allowed}");
}

#[test]
fn a_place_that_is_taken_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("letter"), "mine").unwrap();
    let error = try_build(place.path(), &about(8), &[]).unwrap_err();
    assert!(matches!(error, BuildError::Taken { .. }), "{error}");
    assert!(place.path().join("letter").exists());
    let error = try_build(&place.path().join("no/such"), &about(8), &[]).unwrap_err();
    assert!(matches!(error, BuildError::File { .. }), "{error}");
}

#[test]
fn recall_below_the_floor_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let about = About { recall_floor: 1.1, ..about(16) };
    let error = try_build(&place.path().join("edition"), &about, &random_rows(2, 600, 16)).unwrap_err();
    let BuildError::Recall { measured, lost: 0, .. } = error else { panic!("{error}") };
    assert!(measured > 0.95, "{measured}");
}

/// Stops at the first progress that is told of a stage.
#[track_caller]
fn stops_in(stage: Stage, rows: &[Row]) {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("edition");
    let (is_stopping, seen) = (AtomicBool::new(false), Cell::new(0));
    let progress = |progress: Progress| {
        if progress.stage == stage {
            seen.set(seen.get() + 1);
            is_stopping.store(true, Ordering::Relaxed);
        }
    };
    let dim = rows[0].direction.len();
    let error =
        build(&dir, &about(dim), source(rows), &Budget::default(), &is_stopping, &progress).unwrap_err();
    assert!(matches!(error, BuildError::Stopped), "{stage:?}: {error}");
    assert!(seen.get() > 0 && !dir.exists(), "{stage:?}");
}

#[test]
fn a_build_stops_in_every_stage() {
    let rows = random_rows(3, 4_000, 64);
    for stage in [Stage::Rows, Stage::Graph, Stage::Files, Stage::Validation] {
        stops_in(stage, &rows);
    }
}

#[test]
fn progress_goes_through_every_stage_in_order() {
    let place = tempfile::tempdir().unwrap();
    let told = std::cell::RefCell::new(Vec::new());
    let progress = |progress: Progress| told.borrow_mut().push(progress);
    let rows = random_rows(3, 2_000, 64);
    let rows = source(&rows);
    let is_stopping = AtomicBool::new(false);
    build(&place.path().join("edition"), &about(64), rows, &Budget::default(), &is_stopping, &progress)
        .unwrap();
    let told = told.into_inner();
    assert!(told.is_sorted_by_key(|progress| (progress.stage, progress.done)), "{told:?}");
    let mut stages: Vec<Stage> = told.iter().map(|progress| progress.stage).collect();
    stages.dedup();
    assert_eq!(stages, [Stage::Rows, Stage::Graph, Stage::Files, Stage::Validation]);
    assert!(told.iter().all(|progress| progress.of == 0 || progress.done <= progress.of), "{told:?}");
}

#[test]
fn bad_questions_are_refused_and_big_ones_bounded() {
    for count in [50, 1_000] {
        let place = tempfile::tempdir().unwrap();
        let rows = random_rows(4, count, 16);
        let edition = built(&place.path().join("edition"), &rows);
        for direction in [vec![], vec![0.1; 15], vec![0.1; 17]] {
            let found = direction.len();
            let error = edition.near(&direction, 10).unwrap_err();
            assert!(matches!(error, ReadError::Dimension { dim: 16, found: len } if len == found), "{error}");
            assert!(edition.scan(&direction, 10, &|_| Ok(true)).is_err());
        }
        for component in [f32::NAN, f32::INFINITY] {
            let mut direction = rows[0].direction.clone();
            direction[7] = component;
            assert!(matches!(edition.near(&direction, 10).unwrap_err(), ReadError::NotFinite));
            assert!(matches!(edition.scan(&direction, 10, &|_| Ok(true)).unwrap_err(), ReadError::NotFinite));
        }
        assert_eq!(edition.near(&rows[0].direction, 0).unwrap()[0].0, 0);
        assert!(edition.near(&rows[0].direction, usize::MAX).unwrap().len() <= count);
        let past = u32::try_from(count).unwrap();
        assert!(matches!(edition.row(past).unwrap_err(), ReadError::NoRow { .. }));
        assert!(matches!(edition.row(u32::MAX).unwrap_err(), ReadError::NoRow { .. }));
        assert!(matches!(edition.direction(past).unwrap_err(), ReadError::NoRow { .. }));
        assert_eq!(edition.find(0).unwrap(), None);
        assert_eq!(edition.find(u128::MAX).unwrap(), None);
    }
}

#[test]
fn a_directory_that_is_no_edition_says_so() {
    let place = tempfile::tempdir().unwrap();
    for dir in [place.path(), Path::new("/no/such/directory")] {
        let Err(OpenError::Unfinished { path }) = open(dir, Verify::Quick) else {
            panic!("{}", dir.display())
        };
        assert_eq!(path, dir);
    }
}
