//! Lookups over random graphs of parents, cycles and diamonds among them, against a search of a copy of the graph;
//! and what a lookup guards: every object that it visited, and no other.

use std::collections::BTreeSet;

use proptest::prelude::*;
use telos_store::{CommitError, Contested, ObjectId, Store};

use crate::fixture::{commit, number, operator, scratch, within};

/// One object: its parents, by index, and whether it has the slot.
type Node = (Vec<usize>, bool);

fn graph() -> impl Strategy<Value = Vec<Node>> {
    let node = (prop::collection::vec(0_usize..12, 0..4), prop::bool::weighted(0.2));
    prop::collection::vec(node, 1..12)
}

/// Makes the graph in two units, so that parents change after they were first set.
fn make(store: &Store, graph: &[Node]) -> Vec<ObjectId> {
    let ids: Vec<_> = within(store, |unit| {
        let mut made: Vec<ObjectId> = Vec::new();
        for (_, has_slot) in graph {
            let id = unit.create(operator(), 1, made.last().copied().into_iter().collect()).unwrap();
            if *has_slot {
                unit.set_slot(id, "x", number(1)).unwrap();
            }
            made.push(id);
        }
        made
    });
    within(store, |unit| {
        for (index, (parents, _)) in graph.iter().enumerate() {
            let parents = parents.iter().map(|parent| ids[parent % ids.len()]).collect();
            unit.set_parents(ids[index], parents).unwrap();
        }
    });
    ids
}

/// Depth first, left to right, every object once; remembers where it has been.
fn search(graph: &[Node], at: usize, visited: &mut BTreeSet<usize>) -> Option<usize> {
    if !visited.insert(at) {
        return None;
    }
    let (parents, has_slot) = &graph[at];
    if *has_slot {
        return Some(at);
    }
    parents.iter().find_map(|parent| search(graph, parent % graph.len(), visited))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_lookup_finds_what_the_model_finds(graph in graph()) {
        let store = scratch();
        let ids = make(&store, &graph);
        let mut unit = store.begin();
        for (index, id) in ids.iter().enumerate() {
            let found = unit.lookup(*id, "x").unwrap().map(|found| found.holder);
            prop_assert_eq!(found, search(&graph, index, &mut BTreeSet::new()).map(|holder| ids[holder]));
            prop_assert_eq!(unit.lookup(*id, "y").unwrap(), None);
        }
    }

    #[test]
    fn a_lookup_guards_what_it_visited_and_nothing_else(graph in graph(), from in 0_usize..12, changed in 0_usize..12) {
        let store = scratch();
        let ids = make(&store, &graph);
        let (from, changed) = (from % ids.len(), changed % ids.len());
        let mut unit = store.begin();
        unit.lookup(ids[from], "x").unwrap();
        unit.create(operator(), 1, vec![]).unwrap();
        within(&store, |other| other.set_slot(ids[changed], "x", number(2)).unwrap());
        let mut visited = BTreeSet::new();
        search(&graph, from, &mut visited);
        match commit(&store, unit) {
            Ok(_) => prop_assert!(!visited.contains(&changed)),
            Err(CommitError::Conflict(Contested::Object(id))) => {
                prop_assert!(visited.contains(&changed));
                prop_assert_eq!(id, ids[changed]);
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A unit's own writes are on the way too, until a savepoint discards them.
    #[test]
    fn a_lookup_sees_own_slots_and_parents_until_they_are_discarded(
        graph in graph(),
        from in 0_usize..12,
        changed in 0_usize..12,
        parents in prop::collection::vec(0_usize..12, 0..4),
        has_slot in any::<bool>(),
    ) {
        let store = scratch();
        let ids = make(&store, &graph);
        let (from, changed) = (from % ids.len(), changed % ids.len());
        let mut unit = store.begin();
        let savepoint = unit.savepoint();
        unit.set_parents(ids[changed], parents.iter().map(|parent| ids[parent % ids.len()]).collect()).unwrap();
        if has_slot {
            unit.set_slot(ids[changed], "x", number(2)).unwrap();
        } else {
            unit.remove_slot(ids[changed], "x").unwrap();
        }
        let mut own = graph.clone();
        own[changed] = (parents, has_slot);
        let found = unit.lookup(ids[from], "x").unwrap().map(|found| found.holder);
        prop_assert_eq!(found, search(&own, from, &mut BTreeSet::new()).map(|holder| ids[holder]));
        unit.discard(savepoint);
        let found = unit.lookup(ids[from], "x").unwrap().map(|found| found.holder);
        prop_assert_eq!(found, search(&graph, from, &mut BTreeSet::new()).map(|holder| ids[holder]));
    }
}
