use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use super::super::{Outcome, VectorIndex as _, VectorSet};
use super::*;
use crate::id::{ComponentId, ObjectName};
use crate::vectors::CollectionKey;

const DIM: usize = 4;
const ROWS: u64 = 300;

fn form() -> CollectionForm {
    CollectionForm::of_first(DIM)
}

fn key() -> CollectionKey {
    CollectionKey { owner: ComponentId::operator(), name: ObjectName::new("notes").unwrap() }
}

fn object(number: u64) -> ObjectId {
    ObjectId::from_parts(0, number)
}

/// Directions that are all different; which ones does not matter.
fn components(number: u64) -> Vec<f32> {
    let component = |of: u64| ((number + 1) * (2 * of + 1) * 7_919 % 10_007) as f32 - 5_000.5;
    (0..DIM as u64).map(component).collect()
}

/// A set with one segment, and a copy of it on its way.
fn unsealed() -> (VectorSet, super::super::Sealing) {
    let mut set = VectorSet::starting_at(Position::NONE, 1);
    let metadata = Json::parse("{}").unwrap();
    let index = set.declare(&key(), form());
    (0..ROWS).for_each(|number| {
        index.upsert(Position::new(number + 1), object(number), &components(number), &metadata)
    });
    let (key, mut work) = set.work(Engine::default(), Position::new(ROWS)).unwrap();
    while set.gather(&key, &mut work) {}
    let Outcome::Built(built) = work.build(&AtomicBool::new(false)) else { panic!("it was built") };
    drop(set.install(&key, *built));
    let sealing = set.seal(Engine::default()).unwrap();
    (set, sealing)
}

fn sealed() -> Sealed {
    let (set, mut sealing) = unsealed();
    let mut bytes = Vec::new();
    while set.copy(&mut sealing, &mut bytes).unwrap() {}
    super::super::Sealing::close(&mut bytes);
    Sealed::decode(&bytes).unwrap()
}

/// Opens an index of one file, with the vectors that some objects have.
fn open(sealed: Sealed, has: impl Fn(u64) -> bool) -> Result<Layered, NoGraph> {
    let mut opening = Opening::new(form(), Engine::default(), Layered::new(form(), 1), vec![(17, sealed)]);
    for number in (0..ROWS).filter(|number| has(*number)) {
        let metadata = Json::parse("{}").unwrap();
        opening.offer(Position::new(number + 1), object(number), &components(number), &metadata);
    }
    opening.finish()
}

#[test]
fn a_segment_is_copied_in_small_parts_and_not_once_it_is_another() {
    let (mut set, mut sealing) = unsealed();
    let (mut bytes, mut parts, mut largest) = (Vec::new(), 0, 0);
    loop {
        let before = bytes.len();
        if !set.copy(&mut sealing, &mut bytes).unwrap() {
            break;
        }
        largest = largest.max(bytes.len() - before);
        parts += 1;
    }
    assert!(parts > 2 * ROWS && largest < 400, "{parts} parts of at most {largest}");
    let mut sealing = set.seal(Engine::default()).unwrap();
    assert_eq!(set.copy(&mut sealing, &mut bytes), Some(true));
    set.forget(&HashSet::from([object(7)]));
    assert_eq!(set.copy(&mut sealing, &mut bytes), None);
    assert!(!set.end_sealing(&sealing, Some(17)));
    assert_eq!(set.shapes()[0].index.sealed, 0);
}

#[test]
fn a_graph_is_loaded_with_what_it_finds() {
    let whole = open(sealed(), |_| true).unwrap().shape();
    assert_eq!((whole.segments, whole.tail, whole.sealed), (vec![300], 0, 1));
    // What the file says of itself is of all its rows.
    let mut lying = sealed();
    lying.head.recall = Some(0.25);
    let less = open(lying, |number| number % 10 > 0).unwrap().shape();
    assert_eq!((less.segments, less.tail, less.sealed), (vec![300], 0, 0));
    assert!(less.recall.unwrap() > 0.9, "{:?}", less.recall);
}

#[test]
fn a_graph_that_misses_too_much_without_some_of_its_rows_is_built_anew() {
    let mut ring = sealed();
    let nodes = ring.head.nodes;
    // So few rows are all read, whatever the graph.
    ring.head.effort = Some(64);
    ring.links = (0..nodes).map(|node| vec![(node + 1) % nodes]).collect();
    let index = open(ring, |number| number != 7).unwrap();
    let shape = index.shape();
    assert_eq!((shape.segments.len(), shape.tail), (0, 299));
    assert!(!index.holds(object(7)) && index.holds(object(8)));
}

#[test]
fn what_is_no_graph_says_which_file_it_is_of() {
    let mut wild = sealed();
    wild.links[3] = vec![u32::MAX - 1];
    let refused = open(wild, |_| true).err().unwrap();
    assert_eq!(refused.file, 17);
    assert!(refused.why.contains("node 3"), "{}", refused.why);
}
