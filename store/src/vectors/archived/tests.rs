//! What a search reads of an edition, and what becomes of it where a block is damaged.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use telos_archive::{About, Budget, Row, Verify};

use super::*;

/// Rows of one block of metadata.
const ROWS_OF_BLOCK: usize = 4_096 / METADATA;
const METADATA: usize = 256;

/// Metadata of a known length.
fn metadata(number: usize) -> String {
    let text = format!("{{\"number\":{number},\"fill\":\"");
    format!("{text:x<width$}\"}}", width = METADATA - 2)
}

/// Where the one of so many lies, all around a circle.
fn place(number: usize, of: usize) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let angle = number as f32 / of as f32 * std::f32::consts::TAU;
    vec![angle.cos(), angle.sin(), 0.0, 0.0]
}

fn built(dir: &Path, count: usize) {
    let row = |number: usize| Row {
        object: number as u128,
        added: 1,
        metadata: metadata(number),
        direction: place(number, count),
    };
    let (rows, about) = ((0..count).map(|number| Ok(row(number))), About::new(4, 1));
    telos_archive::build(dir, &about, rows, &Budget::default(), &AtomicBool::new(false), &|_| ()).unwrap();
}

/// The edition, of which all rows count.
fn opened(dir: &Path, count: usize) -> Archived {
    let edition = telos_archive::open(dir, Verify::Quick).unwrap();
    let mut archived = Archived::over(1, Arc::new(edition)).unwrap();
    for number in 0..count {
        assert!(archived.count(ObjectId::from_bits(number as u128), Position::new(1), &metadata(number)));
    }
    archived
}

/// Numbers of what is found near one of so many.
fn search(
    archived: &Archived,
    (number, of): (usize, usize),
    k: usize,
    effort: Option<usize>,
    only: Option<usize>,
) -> Result<Vec<u128>, ReadError> {
    let filter: Vec<_> = only.map(|number| ("number".to_owned(), number.into())).into_iter().collect();
    let query = Query {
        place: &place(number, of),
        k,
        effort,
        at: Position::new(9),
        filter: &filter,
        hidden: &|object| object.to_bits() == 7,
    };
    let found = archived.view().search(&query)?;
    Ok(found.into_iter().map(|neighbor| neighbor.object.to_bits()).collect())
}

/// Flips a bit; whoever calls the answer flips it back.
fn flip(file: &Path, at: usize) -> impl FnOnce() + use<> {
    let whole = fs::read(file).unwrap();
    let mut bytes = whole.clone();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
    let file = file.to_owned();
    move || fs::write(file, whole).unwrap()
}

#[test]
fn what_is_damaged_is_an_error_and_no_shorter_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (edition, count) = (dir.path().join("edition"), 600);
    built(&edition, count);
    let archived = opened(&edition, count);
    assert_eq!(search(&archived, (5, count), 3, None, None).unwrap(), [5, 4, 6], "7 is hidden");
    assert_eq!(search(&archived, (5, count), 3, None, Some(300)).unwrap(), [300]);
    let damaged = 300 / ROWS_OF_BLOCK * 4_096 + 9;
    let restore = flip(&edition.join("metadata"), damaged);
    assert!(search(&archived, (5, count), 3, None, Some(300)).is_err());
    assert!(search(&archived, (5, count), count, None, None).is_err());
    assert_eq!(search(&archived, (5, count), 3, None, None).unwrap(), [5, 4, 6], "it is not met");
    restore();
    assert_eq!(search(&archived, (5, count), 3, None, Some(300)).unwrap(), [300]);
}

#[test]
fn a_search_of_a_graph_reads_no_more_than_its_effort_and_the_rows_that_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let (edition, count) = (dir.path().join("edition"), 6_000);
    built(&edition, count);
    let archived = opened(&edition, count);
    assert_ne!(archived.edition.manifest().engine, Engine::Flat);
    let nearest = [1_000, 999, 1_001];
    let near = |effort| search(&archived, (1_000, count), 3, effort, None);
    let metadata = fs::metadata(edition.join("metadata")).unwrap().len();
    assert!(metadata > (count * METADATA) as u64);
    let restore = flip(&edition.join("metadata"), 1_020 / ROWS_OF_BLOCK * 4_096);
    let mut found = near(None).unwrap();
    found.sort_unstable();
    assert_eq!(found, [999, 1_000, 1_001], "rows that are near and not shown are not read");
    restore();
    // Some block that lies on no way to what is sought, however much effort is asked for.
    let graph = edition.join("graph");
    let blocks = usize::try_from(fs::metadata(&graph).unwrap().len()).unwrap() / 4_096;
    let is_passed_by = |block: usize| {
        let restore = flip(&graph, block * 4_096);
        let is_exact_refused = archived.edition.scan(&place(1_000, count), 3, &|_| Ok(true)).is_err();
        let found = near(Some(1_000_000)).map(|found| nearest.iter().all(|number| found.contains(number)));
        restore();
        is_exact_refused && found.is_ok_and(|is_found| is_found)
    };
    let far = (1..8).map(|part| blocks * (8 + part) / 16);
    assert!(far.into_iter().any(is_passed_by), "the effort has a bound");
}
