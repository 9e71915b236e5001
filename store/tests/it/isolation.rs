//! Goal: concurrent units behave as if each had run alone, in the order of their positions.
//! Method: threads read and write a few hot objects, names and chains of parents at once, several units each under
//! way; what every unit saw and wrote is recorded, the audit table says which were decided, and the checker judges
//! the history. It is shown bad histories too, which it must refuse.

mod checker;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use telos_store::{
    CommitError, Decided, Effect, ObjectId, ObjectName, Position, ReadError, Slot, Store, StoreOptions, Unit,
    Vote, WriteError,
};

use crate::fixture::{assert_clean, name, number, operator, within};
use crate::random::{Random, is_long};
use crate::simulated_disk::{SimulatedDisk, Syncs};
use checker::{Attempt, History, INITIAL, Item, Lookup, Record, Write};

const THREADS: u64 = 4;
/// Hot objects; the first have no slot of their own at first and inherit it from the others.
const OBJECTS: u8 = 6;
const NAMES: u8 = 2;
/// Units of one thread that are being decided at once.
const UNDER_WAY_MAX: usize = 3;
/// Marks what a savepoint discarded: nobody may ever see it.
const DISCARDED: u64 = 1 << 40;

#[test]
fn concurrent_units_are_serializable_in_the_order_of_their_positions() {
    judge_runs(None);
}

#[test]
fn units_are_serializable_on_a_disk_that_fails_now_and_then() {
    judge_runs(Some(30));
}

fn judge_runs(failing_every: Option<u64>) {
    let (seeds, attempts) = if is_long() { (60, 400) } else { (2, 150) };
    for seed in 0..seeds {
        let history = Bench::new(failing_every).run(seed, attempts);
        let (decided, all) = (history.decided(), history.records.len());
        println!("seed {seed}: {decided} of {all} attempts were decided");
        assert!(decided > 20 && decided < all, "nothing contested: {decided} of {all}");
        history.judge().unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
    }
}

/// A store with hot objects, and who made which object that a name was ever given to.
struct Bench {
    _dir: tempfile::TempDir,
    store: Store,
    hot: Vec<ObjectId>,
    named_by: Mutex<HashMap<ObjectId, Attempt>>,
}

impl Bench {
    fn new(failing_every: Option<u64>) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimulatedDisk::new(vec![], Syncs::Slow { failing_every });
        let options = StoreOptions { reopen_first: Duration::from_micros(50), ..StoreOptions::default() };
        let store = Store::open_with_backend(dir.path(), disk, options).unwrap();
        let hot = within(&store, |unit| (0..OBJECTS).map(|object| make_hot(unit, object)).collect());
        let bench = Bench { _dir: dir, store, hot, named_by: Mutex::default() };
        within(&bench.store, |unit| {
            for object in 0..OBJECTS {
                unit.set_parents(bench.id(object), bench.ids(&first_parents(object))).unwrap();
            }
        });
        bench
    }

    fn run(&self, seed: u64, attempts: u64) -> History {
        let mut records: Vec<Record> = std::thread::scope(|scope| {
            let threads = (0..THREADS).map(|thread| {
                scope.spawn(move || self.run_thread(thread, Random::new(seed * THREADS + thread), attempts))
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        while self.store.read_only_cause().is_some() {
            std::thread::yield_now();
        }
        assert_clean(&self.store);
        // The audit table settles what nobody knew.
        let audit = self.store.audit_after(0, usize::MAX).unwrap();
        let decided = audit.iter().map(|row| (row.subject.parse::<Attempt>().unwrap(), row.position.get()));
        let decided: HashMap<Attempt, u64> = decided.collect();
        for record in &mut records {
            let stored = decided.get(&record.attempt).copied();
            let is_told = record.writes.is_empty() || record.is_unknown || record.decided == stored;
            assert!(is_told, "{record:?} is stored at {stored:?}");
            record.decided = if record.writes.is_empty() { record.decided } else { stored };
        }
        History { parents: (0..OBJECTS).map(|object| (object, first_parents(object))).collect(), records }
    }

    fn run_thread(&self, thread: u64, mut random: Random, attempts: u64) -> Vec<Record> {
        let mut under_way: VecDeque<(Record, Decided)> = VecDeque::new();
        let (mut ended, mut told) = (Vec::new(), 0);
        for count in 1..=attempts {
            let mut record = Record::new(1 + thread + count * THREADS, told);
            let mut unit = self.store.begin();
            record.snapshot = unit.snapshot().get();
            match self.fill(&mut unit, &mut record, &mut random) {
                Ok(()) => under_way.push_back((record, self.store.decide(unit, Vote::default()))),
                Err(WriteError::Read(ReadError::Failed(_))) => {}
                Err(error) => panic!("{error}"),
            }
            while under_way.len() > random.index(UNDER_WAY_MAX + 1) {
                let (mut record, decided) = under_way.pop_front().unwrap();
                settle(&mut record, decided);
                told = told.max(record.decided.unwrap_or(0));
                ended.push(record);
            }
        }
        for (mut record, decided) in under_way {
            settle(&mut record, decided);
            ended.push(record);
        }
        ended
    }

    /// Reads, then writes, so that nothing read is an own write.
    fn fill(&self, unit: &mut Unit, record: &mut Record, random: &mut Random) -> Result<(), WriteError> {
        for _ in 0..=random.below(3) {
            self.look(unit, record, random)?;
            std::thread::yield_now();
        }
        if random.once_in(5) {
            return Ok(());
        }
        for _ in 0..=random.below(2) {
            if random.once_in(4) {
                let savepoint = unit.savepoint();
                let id = self.id(random.index(OBJECTS.into()).try_into().unwrap());
                unit.set_slot(id, "x", as_slot(record.attempt + DISCARDED))?;
                unit.discard(savepoint);
            }
            self.write(unit, record, random)?;
        }
        unit.audit("attempt", &record.attempt.to_string(), serde_json::Value::Null)
    }

    fn look(&self, unit: &mut Unit, record: &mut Record, random: &mut Random) -> Result<(), ReadError> {
        let object: u8 = random.index(OBJECTS.into()).try_into().unwrap();
        match random.below(3) {
            0 => {
                let found = unit.object(self.id(object))?.unwrap();
                record.reads.push((Item::Slot(object), found.value("x").map(by)));
            }
            1 => {
                let found = unit.lookup(self.id(object), "x")?;
                let found = found.map(|found| {
                    let Slot::Value(value) = &found.slot else { panic!("{found:?}") };
                    (self.index(found.holder), by(value))
                });
                record.lookups.push(Lookup { object, found });
            }
            _ => {
                let name: u8 = random.index(NAMES.into()).try_into().unwrap();
                let found = unit.find(&hot_name(name))?;
                record.reads.push((Item::Name(name), found.map(|id| self.named_by.lock()[&id])));
            }
        }
        Ok(())
    }

    fn write(&self, unit: &mut Unit, record: &mut Record, random: &mut Random) -> Result<(), WriteError> {
        let object: u8 = random.index(OBJECTS.into()).try_into().unwrap();
        match random.below(5) {
            0 | 1 => {
                unit.set_slot(self.id(object), "x", as_slot(record.attempt))?;
                record.writes.push(Write::Set(Item::Slot(object)));
            }
            2 => {
                if unit.remove_slot(self.id(object), "x")? {
                    record.writes.push(Write::Remove(Item::Slot(object)));
                }
            }
            3 => {
                let parents: Vec<u8> =
                    (0..2).map(|_| random.index(OBJECTS.into()).try_into().unwrap()).collect();
                unit.set_parents(self.id(object), self.ids(&parents))?;
                record.writes.push(Write::Parents(object, parents));
            }
            _ => self.rename(unit, record, random)?,
        }
        if record.writes.is_empty() {
            // So that whatever has an audit row has written something.
            unit.set_slot(self.id(object), "x", as_slot(record.attempt))?;
            record.writes.push(Write::Set(Item::Slot(object)));
        }
        Ok(())
    }

    fn rename(&self, unit: &mut Unit, record: &mut Record, random: &mut Random) -> Result<(), WriteError> {
        let name: u8 = random.index(NAMES.into()).try_into().unwrap();
        let text = hot_name(name);
        if unit.unbind(&text)?.is_some() && random.once_in(2) {
            record.writes.push(Write::Remove(Item::Name(name)));
            return Ok(());
        }
        let id = unit.create(operator(), 1, vec![])?;
        self.named_by.lock().insert(id, record.attempt);
        unit.bind(&text, id)?;
        record.writes.push(Write::Set(Item::Name(name)));
        Ok(())
    }

    fn id(&self, object: u8) -> ObjectId {
        self.hot[usize::from(object)]
    }

    fn ids(&self, objects: &[u8]) -> Vec<ObjectId> {
        objects.iter().map(|object| self.id(*object)).collect()
    }

    fn index(&self, id: ObjectId) -> u8 {
        self.hot.iter().position(|hot| *hot == id).unwrap().try_into().unwrap()
    }
}

fn settle(record: &mut Record, decided: Decided) {
    match decided.wait() {
        Ok(commit) => record.decided = Some(commit.position.get()),
        Err(CommitError::Closed) => panic!("closed"),
        Err(error) => record.is_unknown = error.effect() == Effect::Unknown,
    }
}

fn make_hot(unit: &mut Unit, object: u8) -> ObjectId {
    let id = unit.create(operator(), 1, vec![]).unwrap();
    if has_slot_at_first(object) {
        unit.set_slot(id, "x", as_slot(INITIAL)).unwrap();
    }
    id
}

fn has_slot_at_first(object: u8) -> bool {
    object >= OBJECTS / 2
}

fn first_parents(object: u8) -> Vec<u8> {
    if has_slot_at_first(object) { vec![] } else { vec![(object + 1) % OBJECTS, OBJECTS - 1] }
}

fn hot_name(number: u8) -> ObjectName {
    name(&format!("hot/{number}"))
}

fn as_slot(attempt: Attempt) -> Slot {
    number(i64::try_from(attempt).unwrap())
}

fn by(value: &telos_store::Json) -> Attempt {
    value.to_value().as_u64().unwrap()
}

#[test]
fn a_thread_that_was_told_of_a_commit_sees_it() {
    let bench = Bench::new(None);
    for value in 1..20 {
        let position = within(&bench.store, |unit| {
            unit.set_slot(bench.id(0), "x", as_slot(value)).unwrap();
            unit.snapshot()
        });
        let mut unit = bench.store.begin();
        assert!(unit.snapshot() > position && unit.snapshot() > Position::NONE);
        assert_eq!(unit.object(bench.id(0)).unwrap().unwrap().value("x").map(by), Some(value));
    }
}
