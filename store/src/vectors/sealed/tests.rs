use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use telos_graph::{Engine, Matrix};

use super::super::{CollectionForm, Metric, Precision};
use super::*;
use crate::id::ObjectName;

fn key() -> CollectionKey {
    CollectionKey { owner: ComponentId::operator(), name: ObjectName::new("notes").unwrap() }
}

prop_compose! {
    fn sealed()(
        dim in 1_usize..500,
        rows in prop::collection::vec((any::<u128>(), any::<u64>(), any::<u64>(), any::<u32>()), 0..20),
        links in prop::collection::vec(prop::collection::vec(any::<u32>(), 0..42), 0..20),
        entry in any::<u32>(),
        strays in prop::collection::vec(any::<u32>(), 0..5),
    ) -> Sealed {
        let form = CollectionForm { dim, metric: Metric::Euclidean, precision: Precision::Half };
        let head = Head::new(&key(), form, "an engine".into());
        let (count_rows, nodes) = (u32::try_from(rows.len()).unwrap(), u32::try_from(links.len()).unwrap());
        let row = |(object, added, digest, node)| {
            SealedRow { object: ObjectId::from_bits(object), added: Position::new(added), digest, node }
        };
        let rows = rows.into_iter().map(row).collect();
        let head = Head { rows: count_rows, nodes, entry, strays: u32::try_from(strays.len()).unwrap(), ..head };
        Sealed { head, rows, links, strays }
    }
}

fn encode(sealed: &Sealed) -> Vec<u8> {
    let mut bytes = encode_head(&sealed.head);
    sealed.rows.iter().for_each(|row| encode_row(*row, &mut bytes));
    sealed.links.iter().for_each(|links| encode_links(links.iter().copied(), &mut bytes));
    sealed.strays.iter().for_each(|stray| encode_stray(*stray, &mut bytes));
    close(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn what_is_written_is_read(sealed in sealed()) {
        let bytes = encode(&sealed);
        prop_assert_eq!(Head::decode(&bytes), Ok(sealed.head.clone()));
        prop_assert_eq!(Sealed::decode(&bytes), Ok(sealed));
    }

    #[test]
    fn what_was_changed_is_refused(sealed in sealed(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut bytes = encode(&sealed);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(Sealed::decode(&bytes).is_err());
        prop_assert!(Sealed::decode(&bytes[..at]).is_err());
    }

    /// With a checksum that fits: whoever wrote it meant it.
    #[test]
    fn whatever_is_in_it_is_read_or_refused(sealed in sealed(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&sealed);
        bytes.truncate(bytes.len() - CHECKSUM);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        close(&mut bytes);
        let _ = Sealed::decode(&bytes);
    }
}

#[test]
fn what_is_of_another_host_says_so() {
    let form = CollectionForm::of_first(3);
    let head = Head::new(&key(), form, String::new());
    let mut bytes = encode(&Sealed { head, rows: vec![], links: vec![], strays: vec![] });
    bytes[8] = 3;
    assert_eq!(Sealed::decode(&bytes).unwrap_err().to_string(), "it is of version 3, and this host reads 2");
    assert_eq!(Sealed::decode(b"").unwrap_err().to_string(), "it is too short");
    assert!(Sealed::decode(&[7; 100]).unwrap_err().to_string().contains("begin"));
}

/// Where `tests/cases/segment-N/` has the segment that version N wrote.
fn case(version: u32) -> PathBuf {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    cases.join(format!("segment-{version}")).join("00000001.segment")
}

/// Places of the frozen segment's rows: the second was erased, the last lies where the first does.
const PLACES: [[f32; 3]; 6] = [
    [1.0, 0.0, 0.0],
    [0.0, 0.0, 0.0],
    [0.0, -1.0, 0.0],
    [0.6, 0.0, 0.8],
    [-0.25, 0.5, 0.125],
    [1.0, 0.0, 0.0],
];
const ERASED: usize = 1;

/// What is frozen; everything that a file may say is in it.
fn frozen() -> Sealed {
    let form = CollectionForm { dim: 3, metric: Metric::Cosine, precision: Precision::Full };
    let head = Head::new(&key(), form, "an engine, in some version".into());
    let head =
        Head { rows: 6, nodes: 4, entry: 2, strays: 1, effort: Some(256), recall: Some(0.96875), ..head };
    let row = |(number, node): (usize, u32)| match number {
        ERASED => erased_row(),
        _ => SealedRow {
            object: ObjectId::from_bits(0x0123_4567_89ab_cdef << 64 | number as u128),
            added: Position::new(0x0102_0304_0506_0700 + number as u64),
            digest: digest(&PLACES[number]),
            node,
        },
    };
    let rows = [0, NO_NODE, 1, 2, 3, 0].into_iter().enumerate().map(row).collect();
    Sealed { head, rows, links: vec![vec![1, 2], vec![3, 0], vec![0, 1, 3], vec![]], strays: vec![3] }
}

/// Goal: whoever changes the bytes of a file gives them another version, and no version is ever taken for another.
/// Method: of each version its file is kept. That of today is read, says what it said, and is written byte for byte;
/// those before are refused by their version. When a version is added, its file is written with
/// `TELOS_SEGMENT_FREEZE=1 cargo test -p telos-store --lib sealed::tests::freeze`, and no other is touched.
#[test]
fn each_published_version_is_read_and_written_as_ever_or_refused_by_its_number() {
    for version in (1..=VERSION).filter(|version| *version < VERSION) {
        let bytes = fs::read(case(version)).unwrap();
        assert_eq!(Sealed::decode(&bytes), Err(Unreadable::Version(version)));
    }
    let bytes = fs::read(case(VERSION)).unwrap();
    assert_eq!(Head::decode(&bytes), Ok(frozen().head));
    assert_eq!(Sealed::decode(&bytes), Ok(frozen()));
    assert!(encode(&frozen()) == bytes, "other bytes need another version, and this file stays as it is");
}

#[test]
fn the_frozen_segment_is_a_graph_whose_rows_are_found() {
    let read = Sealed::decode(&fs::read(case(VERSION)).unwrap()).unwrap();
    let rows = Matrix::of(3, PLACES.concat());
    let graph = Engine::DiskAnn.load(rows, read.into_sketch()).unwrap();
    let first = |place: &[f32]| graph.near(place, 4).next().unwrap().numbers().collect::<Vec<u32>>();
    assert_eq!([0, 2, 3].map(|row| first(&PLACES[row])), [vec![0, 5], vec![2], vec![3]]);
    // A link leads to the last one, and no walk is trusted to take it.
    let lost: Vec<u32> = graph.lost().flat_map(|alike| alike.numbers().collect::<Vec<_>>()).collect();
    assert_eq!(lost, [4]);
}

/// Writes the file of a version that has none; does nothing when it was not asked to.
#[test]
fn freeze() {
    let case = case(VERSION);
    if std::env::var_os("TELOS_SEGMENT_FREEZE").is_none() || case.exists() {
        return;
    }
    fs::create_dir_all(case.parent().unwrap()).unwrap();
    fs::write(case, encode(&frozen())).unwrap();
}
