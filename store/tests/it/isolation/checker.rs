//! Judges a history of units that ran at once: what each saw, what it wrote, and where it was decided.
//!
//! ```text
//! read of nothing   a decided unit saw what no decided unit had left: dirty, aborted or discarded
//! went back         a thread that was told of a position began a unit before it
//! cycle             who must come before whom, by what was read and overwritten, goes round in a circle
//! not in order      a decided unit saw something else than the decided units before its position had left
//! ```
//! # Source
//! Adya, Liskov, O'Neil: Generalized Isolation Level Definitions, ICDE 2000: the direct serialization graph.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// One attempt to run a unit; also the value that it writes, so that whoever reads it names its writer.
pub(crate) type Attempt = u64;

/// Wrote what was there at first.
pub(crate) const INITIAL: Attempt = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Item {
    /// The slot that lookups ask for, of one object.
    Slot(u8),
    Name(u8),
}

/// A lookup of the slot, through parents.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    pub(crate) object: u8,
    /// Who had it, and who had written it.
    pub(crate) found: Option<(u8, Attempt)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// To the attempt's number.
    Set(Item),
    Remove(Item),
    Parents(u8, Vec<u8>),
}

/// One attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) attempt: Attempt,
    /// The newest position that its thread had been told of when it began.
    pub(crate) told: u64,
    pub(crate) snapshot: u64,
    /// Before its writes. None: it was not there.
    pub(crate) reads: Vec<(Item, Option<Attempt>)>,
    pub(crate) lookups: Vec<Lookup>,
    /// In order.
    pub(crate) writes: Vec<Write>,
    /// Its position, when it was decided.
    pub(crate) decided: Option<u64>,
    /// Whether its thread was not told.
    pub(crate) is_unknown: bool,
}

impl Record {
    pub(crate) fn new(attempt: Attempt, told: u64) -> Record {
        Record { attempt, told, ..Record::default() }
    }
}

/// Everything that was attempted, and the parents that objects had at first. Slots of objects without parents were
/// there at first; names were not.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) parents: HashMap<u8, Vec<u8>>,
    pub(crate) records: Vec<Record>,
}

/// What is there as of a position.
struct State {
    written: HashMap<Item, Attempt>,
    parents: HashMap<u8, Vec<u8>>,
}

impl History {
    /// How many attempts were decided.
    pub(crate) fn decided(&self) -> usize {
        self.records.iter().filter(|record| record.decided.is_some()).count()
    }

    /// Whether every decided unit ran as if alone, in the order of positions.
    pub(crate) fn judge(&self) -> Result<(), String> {
        self.check_readable()?;
        self.check_told()?;
        self.check_acyclic()?;
        self.check_order()
    }

    /// Decided attempts in the order of positions; those that only read come after whoever wrote there.
    fn in_order(&self) -> Vec<&Record> {
        let mut decided: Vec<_> = self.records.iter().filter(|record| record.decided.is_some()).collect();
        decided.sort_by_key(|record| (record.decided, record.writes.is_empty()));
        decided
    }

    /// What decided attempts left in each item.
    fn left(&self) -> HashSet<(Item, Attempt)> {
        let mut left = self.first_state().written.into_iter().collect::<HashSet<_>>();
        for record in self.in_order() {
            let ends: BTreeMap<Item, Option<Attempt>> = ends(record).into_iter().collect();
            left.extend(ends.into_iter().filter_map(|(item, by)| Some((item, by?))));
        }
        left
    }

    fn check_readable(&self) -> Result<(), String> {
        let left = self.left();
        for record in self.in_order() {
            let lookups = record.lookups.iter().filter_map(|lookup| lookup.found);
            let looked_up = lookups.map(|(holder, by)| (Item::Slot(holder), by));
            let read = record.reads.iter().filter_map(|(item, by)| Some((*item, (*by)?)));
            for seen in read.chain(looked_up) {
                if !left.contains(&seen) {
                    return Err(format!("read of nothing: {} saw {seen:?}", record.attempt));
                }
            }
        }
        Ok(())
    }

    fn check_told(&self) -> Result<(), String> {
        match self.records.iter().find(|record| record.snapshot < record.told) {
            Some(record) => Err(format!("went back: {record:?}")),
            None => Ok(()),
        }
    }

    /// Builds the graph of who must come before whom. Lookups are judged by the order alone: they do not say
    /// which states they passed.
    fn check_acyclic(&self) -> Result<(), String> {
        let order = self.in_order();
        let mut versions: HashMap<Item, Vec<(Attempt, Option<Attempt>)>> = HashMap::new();
        for (item, by) in self.first_state().written {
            versions.entry(item).or_default().push((INITIAL, Some(by)));
        }
        for record in &order {
            for (item, by) in ends(record) {
                let versions = versions.entry(item).or_insert_with(|| vec![(INITIAL, None)]);
                versions.push((record.attempt, by));
            }
        }
        let mut after: BTreeMap<Attempt, BTreeSet<Attempt>> = BTreeMap::new();
        let mut edge = |before: Attempt, later: Attempt| {
            if before != later {
                after.entry(before).or_default().insert(later);
            }
        };
        for chain in versions.values() {
            chain.windows(2).for_each(|pair| edge(pair[0].0, pair[1].0)); // overwritten
        }
        for record in &order {
            for (item, seen) in &record.reads {
                let Some(chain) = versions.get(item) else { continue };
                let Some(version) = self.version_seen(chain, *seen, record) else { continue };
                edge(chain[version].0, record.attempt); // read from
                if let Some((writer, _)) = chain.get(version + 1) {
                    edge(record.attempt, *writer); // overwritten after it was read
                }
            }
        }
        match find_cycle(&after) {
            Some(cycle) => Err(format!("cycle: {cycle:?}")),
            None => Ok(()),
        }
    }

    /// The version that a read saw; of several absences the newest that is not after the reader.
    fn version_seen(
        &self,
        chain: &[(Attempt, Option<Attempt>)],
        seen: Option<Attempt>,
        reader: &Record,
    ) -> Option<usize> {
        let position = |attempt: Attempt| {
            let record = self.records.iter().find(|record| record.attempt == attempt);
            record.and_then(|record| record.decided).unwrap_or(0)
        };
        chain.iter().rposition(|(writer, by)| {
            *by == seen && (seen.is_some() || Some(position(*writer)) < reader.decided.map(|at| at + 1))
        })
    }

    fn check_order(&self) -> Result<(), String> {
        let mut state = self.first_state();
        let mut last = 0;
        for record in self.in_order() {
            let problem = |what: String| Err(format!("not in order: {what}, in {record:?}"));
            if !record.writes.is_empty() && record.decided == Some(last) {
                return problem("two at one position".into());
            }
            for (item, seen) in &record.reads {
                let there = state.written.get(item).copied();
                if there != *seen {
                    return problem(format!("{item:?} was by {there:?}"));
                }
            }
            for lookup in &record.lookups {
                let there = state.look_up(lookup.object, &mut HashSet::new());
                if there != lookup.found {
                    return problem(format!("the lookup at {} finds {there:?}", lookup.object));
                }
            }
            if !record.writes.is_empty() {
                last = record.decided.unwrap_or(0);
                state.apply(record);
            }
        }
        Ok(())
    }

    fn first_state(&self) -> State {
        let rooted = self.parents.iter().filter(|(_, parents)| parents.is_empty());
        let written = rooted.map(|(object, _)| (Item::Slot(*object), INITIAL)).collect();
        State { written, parents: self.parents.clone() }
    }
}

impl State {
    fn look_up(&self, object: u8, visited: &mut HashSet<u8>) -> Option<(u8, Attempt)> {
        if !visited.insert(object) {
            return None;
        }
        if let Some(by) = self.written.get(&Item::Slot(object)) {
            return Some((object, *by));
        }
        self.parents.get(&object)?.iter().find_map(|parent| self.look_up(*parent, visited))
    }

    fn apply(&mut self, record: &Record) {
        for (item, by) in ends(record) {
            match by {
                Some(by) => self.written.insert(item, by),
                None => self.written.remove(&item),
            };
        }
        for write in &record.writes {
            if let Write::Parents(object, parents) = write {
                self.parents.insert(*object, parents.clone());
            }
        }
    }
}

/// What a record left in each item that it wrote, once each.
fn ends(record: &Record) -> BTreeMap<Item, Option<Attempt>> {
    let mut ends = BTreeMap::new();
    for write in &record.writes {
        match write {
            Write::Set(item) => drop(ends.insert(*item, Some(record.attempt))),
            Write::Remove(item) => drop(ends.insert(*item, None)),
            Write::Parents(..) => {}
        }
    }
    ends
}

/// Attempts in a circle, if there is one.
fn find_cycle(after: &BTreeMap<Attempt, BTreeSet<Attempt>>) -> Option<Vec<Attempt>> {
    let mut done = HashSet::new();
    for first in after.keys() {
        // The way down to here, each with those after it that were not tried yet.
        let mut way: Vec<(Attempt, Vec<Attempt>)> = vec![(*first, next_of(after, *first))];
        while let Some((here, untried)) = way.last_mut() {
            let here = *here;
            let Some(next) = untried.pop() else {
                done.insert(here);
                way.pop();
                continue;
            };
            if let Some(begin) = way.iter().position(|(passed, _)| *passed == next) {
                return Some(way[begin..].iter().map(|(passed, _)| *passed).collect());
            }
            if !done.contains(&next) {
                way.push((next, next_of(after, next)));
            }
        }
    }
    None
}

fn next_of(after: &BTreeMap<Attempt, BTreeSet<Attempt>>, attempt: Attempt) -> Vec<Attempt> {
    after.get(&attempt).into_iter().flatten().copied().collect()
}

const A: Item = Item::Slot(0);
const B: Item = Item::Slot(1);

/// Two objects with the slot, one below that inherits it from either, and these attempts.
fn history(records: &[Record]) -> History {
    let parents = HashMap::from([(0, vec![]), (1, vec![]), (2, vec![0, 1])]);
    History { parents, records: records.to_vec() }
}

fn attempt(attempt: Attempt, reads: &[(Item, Option<Attempt>)], writes: &[Write], decided: u64) -> Record {
    let decided = (decided > 0).then_some(decided);
    Record { reads: reads.to_vec(), writes: writes.to_vec(), decided, ..Record::new(attempt, 0) }
}

#[track_caller]
fn check(records: &[Record], expected: &str) {
    let found = history(records).judge().err().unwrap_or_default();
    assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{found}");
}

#[test]
fn a_serial_history_passes() {
    check(
        &[
            attempt(1, &[(A, Some(INITIAL))], &[Write::Set(A)], 1),
            attempt(2, &[(A, Some(1)), (B, Some(INITIAL))], &[Write::Set(B), Write::Remove(A)], 2),
            attempt(3, &[(A, None), (B, Some(2))], &[], 2),
            attempt(4, &[(Item::Name(0), None)], &[Write::Set(Item::Name(0))], 3),
            attempt(5, &[(B, Some(9))], &[Write::Set(B)], 0),
        ],
        "",
    );
}

#[test]
fn a_lost_update_is_refused() {
    let update = |number, position| attempt(number, &[(A, Some(INITIAL))], &[Write::Set(A)], position);
    check(&[update(1, 1), update(2, 2)], "cycle");
}

#[test]
fn a_write_skew_is_refused() {
    let both = [(A, Some(INITIAL)), (B, Some(INITIAL))];
    check(&[attempt(1, &both, &[Write::Set(A)], 1), attempt(2, &both, &[Write::Set(B)], 2)], "cycle");
}

#[test]
fn a_read_of_what_was_aborted_or_overwritten_within_its_unit_is_refused() {
    check(
        &[attempt(1, &[], &[Write::Set(A)], 0), attempt(2, &[(A, Some(1))], &[Write::Set(B)], 1)],
        "read of nothing",
    );
    check(
        &[
            attempt(1, &[], &[Write::Set(A), Write::Remove(A)], 1),
            attempt(2, &[(A, Some(1))], &[Write::Set(B)], 2),
        ],
        "read of nothing",
    );
}

#[test]
fn a_fractured_read_is_refused() {
    let writer = attempt(1, &[], &[Write::Set(A), Write::Set(B)], 1);
    check(&[writer, attempt(2, &[(A, Some(1)), (B, Some(INITIAL))], &[], 1)], "cycle");
}

#[test]
fn an_absence_that_ended_is_refused() {
    let name = Item::Name(0);
    let bind = |number, position| attempt(number, &[(name, None)], &[Write::Set(name)], position);
    check(&[bind(1, 1), bind(2, 2)], "cycle");
}

#[test]
fn a_stale_reader_is_refused_though_it_may_be_serializable() {
    let writer = attempt(1, &[], &[Write::Set(A)], 1);
    check(&[writer.clone(), attempt(2, &[(A, Some(INITIAL))], &[], 1)], "not in order");
    let told = Record { told: 1, ..attempt(2, &[(A, Some(INITIAL))], &[], 0) };
    check(&[writer, told], "went back");
}

#[test]
fn a_lookup_past_a_slot_or_a_parent_that_changed_is_refused() {
    let looked =
        |found| Record { lookups: vec![Lookup { object: 2, found }], ..attempt(9, &[], &[Write::Set(B)], 9) };
    let through = |write| attempt(1, &[], &[write], 1);
    check(&[looked(Some((0, INITIAL)))], "");
    check(&[through(Write::Set(Item::Slot(2))), looked(Some((0, INITIAL)))], "not in order");
    check(&[through(Write::Parents(2, vec![1, 0])), looked(Some((0, INITIAL)))], "not in order");
    check(&[through(Write::Parents(2, vec![1, 0])), looked(Some((1, INITIAL)))], "");
    check(&[through(Write::Remove(A)), looked(Some((1, INITIAL)))], "");
}

#[test]
fn two_units_at_one_position_are_refused() {
    check(&[attempt(1, &[], &[Write::Set(A)], 1), attempt(2, &[], &[Write::Set(B)], 1)], "not in order");
}
