//! Editions find what is in them, whatever is.

use telos_archive::{Engine, Verify, open};

use crate::fixture::{Random, assert_holds, built, lost, nearest, normalised, random_rows, rows};

const NONE: [u32; 0] = [];
const EFFORT: usize = 64;

#[test]
fn few_rows_are_all_found_without_a_graph() {
    for count in [0, 1, 2, 10, 300] {
        let place = tempfile::tempdir().unwrap();
        let rows = random_rows(count, usize::try_from(count).unwrap(), 8);
        let edition = built(&place.path().join("edition"), &rows);
        assert_eq!(edition.manifest().engine, Engine::Flat);
        assert_eq!(edition.manifest().base, 7);
        assert_holds(&edition, &rows);
        assert_eq!(lost(&edition, &rows, 1), NONE, "{count} rows");
        let direction = Random(99).direction(edition.manifest().dim);
        assert_eq!(edition.near(&direction, 5).unwrap().len(), rows.len().min(5));
        assert_eq!(edition.scan(&direction, 5, &|_| Ok(true)).unwrap().len(), rows.len().min(5));
    }
}

#[test]
fn every_row_of_a_graph_is_found_and_most_of_the_nearest() {
    // Two components; sectors with many nodes; nodes of more than a sector.
    for (count, dim) in [(301, 16), (3_000, 2), (3_000, 32), (400, 1_100)] {
        let place = tempfile::tempdir().unwrap();
        let rows = random_rows(5, count, dim);
        let edition = built(&place.path().join("edition"), &rows);
        assert!(matches!(edition.manifest().engine, Engine::DiskAnn { .. }));
        let (recall, what) = (edition.manifest().recall, format!("{count} of {dim}"));
        assert!(recall.at_10 >= 0.95, "{what}: {recall:?}");
        assert_holds(&edition, &rows);
        let lost = lost(&edition, &rows, recall.effort.max(EFFORT));
        assert!(lost.len() <= count / 1000, "{what}: {lost:?}");
        let mut random = Random(6);
        let (mut hits, queries) = (0, 100);
        for _ in 0..queries {
            let query = random.direction(dim);
            let exact: Vec<u32> =
                edition.scan(&query, 10, &|_| Ok(true)).unwrap().into_iter().map(|(row, _)| row).collect();
            let near = edition.near(&query, 200).unwrap();
            assert!(near.is_sorted_by(|one, next| one.1 <= next.1), "{what}");
            hits += near.iter().take(10).filter(|(row, _)| exact.contains(row)).count();
        }
        assert!(hits >= 950, "{what}: {hits} of 1000");
    }
}

/// Whoever else may read the directory that it is in.
#[cfg(unix)]
#[test]
fn nobody_but_its_owner_may_read_an_edition() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for count in [10, 301] {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("edition");
        built(&dir, &random_rows(5, count, 16));
        assert_eq!(mode(&dir), 0o700);
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

#[test]
fn a_scan_is_exact_and_looks_at_what_is_shown() {
    for count in [200, 1_000] {
        let place = tempfile::tempdir().unwrap();
        let rows = random_rows(8, count, 24);
        let edition = built(&place.path().join("edition"), &rows);
        let mut random = Random(9);
        for _ in 0..20 {
            let query = random.direction(24);
            let all: Vec<u32> =
                edition.scan(&query, 15, &|_| Ok(true)).unwrap().into_iter().map(|(row, _)| row).collect();
            assert_eq!(all, nearest(&rows, &query, 15));
            let third = edition.scan(&query, 15, &|row| Ok(row % 3 == 0)).unwrap();
            let expected: Vec<u32> =
                nearest(&rows, &query, count).into_iter().filter(|row| row % 3 == 0).take(15).collect();
            assert_eq!(third.into_iter().map(|(row, _)| row).collect::<Vec<_>>(), expected);
            assert_eq!(edition.scan(&query, usize::MAX, &|_| Ok(true)).unwrap().len(), count);
            assert_eq!(edition.scan(&query, 0, &|_| Ok(true)).unwrap(), []);
        }
    }
}

#[test]
fn rows_in_one_direction_are_all_found_and_hide_nobody() {
    for twins in [2, 40, 500] {
        let place = tempfile::tempdir().unwrap();
        let mut random = Random(twins);
        let twin = random.direction(16);
        let mut directions: Vec<_> = (0..twins).map(|_| twin.clone()).collect();
        directions.extend((0..600).map(|_| random.direction(16)));
        let rows = rows(directions);
        let edition = built(&place.path().join("edition"), &rows);
        assert_eq!((edition.manifest().directions, edition.manifest().rows as usize), (601, rows.len()));
        assert_holds(&edition, &rows);
        let twins = usize::try_from(twins).unwrap();
        let near = edition.near(&twin, EFFORT).unwrap();
        let found: Vec<u32> = near[..twins].iter().map(|(row, _)| *row).collect();
        assert_eq!(found, (0..).take(twins).collect::<Vec<u32>>());
        assert_eq!(lost(&edition, &rows, EFFORT), NONE, "{twins} twins");
        let opposite: Vec<f32> = twin.iter().map(|component| -component).collect();
        for direction in [&twin, &opposite] {
            let found = edition.scan(direction, rows.len(), &|_| Ok(true)).unwrap();
            assert!(found.iter().all(|(_, distance)| (0.0..=2.0).contains(distance)), "{twins} twins");
        }
        let scanned = edition.scan(&twin, twins + 5, &|_| Ok(true)).unwrap();
        assert_eq!(scanned.iter().map(|(row, _)| *row).collect::<Vec<_>>(), nearest(&rows, &twin, twins + 5));
    }
}

#[test]
fn rows_that_are_all_alike_are_one_direction() {
    let place = tempfile::tempdir().unwrap();
    let twin = Random(1).direction(16);
    let rows = rows(vec![twin.clone(); 2_000]);
    let edition = built(&place.path().join("edition"), &rows);
    assert_eq!(edition.manifest().engine, Engine::Flat);
    assert_eq!(edition.near(&twin, 1).unwrap().len(), 2_000);
    assert_eq!(edition.scan(&twin, 3, &|row| Ok(row > 1_000)).unwrap().first().unwrap().0, 1_001);
}

#[test]
fn rows_in_almost_one_direction_are_all_found() {
    let place = tempfile::tempdir().unwrap();
    let mut random = Random(11);
    let centre = random.direction(16);
    let mut directions: Vec<_> = (0..200)
        .map(|_| normalised(centre.iter().map(|component| component + 1e-4 * random.component()).collect()))
        .collect();
    directions.extend((0..800).map(|_| random.direction(16)));
    let rows = rows(directions);
    let edition = built(&place.path().join("edition"), &rows);
    assert_eq!(lost(&edition, &rows, 256), NONE);
}

#[test]
fn zero_directions_are_kept_and_near_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut random = Random(12);
    let mut directions: Vec<_> = (0..600).map(|_| random.direction(16)).collect();
    directions[5] = vec![0.0; 16];
    directions[9] = vec![-0.0; 16];
    let rows = rows(directions);
    let edition = built(&place.path().join("edition"), &rows);
    assert_eq!(edition.manifest().directions, 599);
    let found = edition.scan(&random.direction(16), 600, &|row| Ok(row == 5 || row == 9)).unwrap();
    assert_eq!(found, [(5, 1.0), (9, 1.0)]);
    assert_eq!(edition.near(&[0.0; 16], 5).unwrap().first().unwrap().1, 1.0);
    let alone = built(&place.path().join("alone"), &self::rows(vec![vec![0.0; 16]; 3]));
    assert_eq!(alone.near(&random.direction(16), 5).unwrap(), [(0, 1.0), (1, 1.0), (2, 1.0)]);
}

#[test]
fn the_same_rows_make_the_same_edition() {
    let place = tempfile::tempdir().unwrap();
    let rows = random_rows(13, 1_500, 32);
    let one = built(&place.path().join("one"), &rows);
    let other = built(&place.path().join("other"), &rows);
    assert_eq!(one.manifest(), other.manifest());
}

#[test]
fn an_open_edition_holds_little_in_memory() {
    let place = tempfile::tempdir().unwrap();
    let rows = random_rows(14, 4_000, 128);
    let dir = place.path().join("edition");
    built(&dir, &rows);
    let edition = open(&dir, Verify::Quick).unwrap();
    // Beside the codebook, which has one size.
    let codebook = 4 * 128 * 256;
    let each = (edition.bytes() - codebook) / rows.len();
    assert!(each <= 40, "{each} bytes a row");
}

#[test]
fn searches_of_many_threads_answer_alike() {
    let place = tempfile::tempdir().unwrap();
    let rows = random_rows(15, 1_000, 32);
    let edition = built(&place.path().join("edition"), &rows);
    let alone: Vec<_> = rows.iter().map(|row| edition.near(&row.direction, EFFORT).unwrap()).collect();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for (row, alone) in rows.iter().zip(&alone) {
                    assert_eq!(edition.near(&row.direction, EFFORT).unwrap(), *alone);
                }
            });
        }
    });
}
