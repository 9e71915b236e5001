use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::*;

/// Slots of any object in a map; everything else defaulted.
#[derive(Default)]
struct Table {
    slots: RefCell<BTreeMap<String, String>>,
    writes: RefCell<Vec<String>>,
    is_read_only: bool,
}

impl Shelf for Rc<Table> {
    fn lookup(&self, _: Object, slot: &str) -> Result<Option<String>, StorageError> {
        Ok(self.slots.borrow().get(slot).cloned())
    }

    fn write(&self, _: Object, slot: &str, value: &str) -> Result<(), StorageError> {
        if self.is_read_only {
            return Err(StorageError::ReadOnly);
        }
        self.slots.borrow_mut().insert(slot.to_owned(), value.to_owned());
        self.writes.borrow_mut().push(format!("{slot}={value}"));
        Ok(())
    }
}

impl Table {
    fn holding(slot: &str, value: &str) -> Rc<Self> {
        let table = Self::default();
        table.slots.borrow_mut().insert(slot.to_owned(), value.to_owned());
        Rc::new(table)
    }
}

fn one() -> Object {
    "00000000000000000000000000000001".parse().unwrap()
}

/// Runs a message over the table and settles; answers every write, or the slot and cause of the breach.
fn message(table: &Rc<Table>, body: impl FnOnce(&Receiver)) -> Result<Vec<String>, (String, String)> {
    let receiver = Receiver::over(Box::new(Rc::clone(table)), one(), String::new());
    body(&receiver);
    receiver.settle().map_err(|breach| (breach.slot, breach.cause))?;
    Ok(table.writes.take())
}

#[track_caller]
fn check_writes(table: &Rc<Table>, body: impl FnOnce(&Receiver), expected: &[&str]) {
    assert_eq!(
        message(table, body).as_deref(),
        Ok(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..])
    );
}

#[track_caller]
fn check_breach(table: &Rc<Table>, body: impl FnOnce(&Receiver), slot: &str, cause: &str) {
    let (found, why) = message(table, body).unwrap_err();
    assert_eq!(found, slot);
    assert!(why.contains(cause), "{why}");
}

#[test]
fn a_dropped_guard_is_written() {
    let table = Table::holding("count", "1");
    check_writes(&table, |this| *this.slot::<u64>("count").unwrap() += 1, &["count=2"]);
}

#[test]
fn a_forgotten_guard_is_written() {
    let table = Table::holding("count", "1");
    let forget = |this: &Receiver| {
        let mut count = this.slot::<u64>("count").unwrap();
        *count += 1;
        std::mem::forget(count);
    };
    check_writes(&table, forget, &["count=2"]);
}

#[test]
fn a_leaked_guard_is_written() {
    let table = Table::holding("names", "[]");
    let leak = |this: &Receiver| {
        let names = Box::leak(Box::new(this.slot::<Vec<String>>("names").unwrap()));
        names.push("a".to_owned());
    };
    check_writes(&table, leak, &[r#"names=["a"]"#]);
}

#[test]
fn what_was_only_read_is_not_written_however_it_is_spelled() {
    let table = Table::holding("price", " 1.50 ");
    check_writes(&table, |this| assert_eq!(*this.slot::<f64>("price").unwrap(), 1.5), &[]);
    check_writes(&table, |this| *this.slot::<f64>("price").unwrap() = 1.5, &[]);
}

#[test]
fn an_absent_slot_is_the_default_and_appears_when_changed() {
    let table = Rc::new(Table::default());
    check_writes(&table, |this| assert_eq!(*this.slot::<u64>("count").unwrap(), 0), &[]);
    check_writes(&table, |this| *this.slot::<u64>("count").unwrap() = 5, &["count=5"]);
}

#[test]
fn a_slot_taken_again_has_the_changed_value() {
    let table = Table::holding("count", "1");
    let twice = |this: &Receiver| {
        *this.slot::<u64>("count").unwrap() += 1;
        *this.slot::<u64>("count").unwrap() += 1;
    };
    check_writes(&table, twice, &["count=2", "count=3"]);
}

#[test]
fn a_second_guard_is_refused_while_the_first_is_held_or_forgotten() {
    let table = Table::holding("count", "1");
    let overlap = |this: &Receiver| {
        let first = this.slot::<u64>("count").unwrap();
        assert_eq!(this.slot::<u64>("count").err(), Some(StorageError::Held("count".to_owned())));
        let other: Object = "00000000000000000000000000000002".parse().unwrap();
        assert!(this.slot_of::<u64>(other, "count").is_ok(), "another object's slot is another slot");
        std::mem::forget(first);
        assert_eq!(this.slot::<u64>("count").err(), Some(StorageError::Held("count".to_owned())));
    };
    check_writes(&table, overlap, &[]);
}

#[test]
fn an_update_by_somebody_else_is_not_overwritten() {
    let table = Table::holding("count", "1");
    let elsewhere = Rc::clone(&table);
    let race = |this: &Receiver| {
        let mut count = this.slot::<u64>("count").unwrap();
        *count += 1;
        elsewhere.slots.borrow_mut().insert("count".to_owned(), "10".to_owned());
    };
    check_breach(&table, race, "count", "written by something else");
    assert_eq!(table.slots.borrow()["count"], "10");
}

#[test]
fn an_update_by_somebody_else_is_kept_when_the_guard_only_read() {
    let table = Table::holding("count", "1");
    let elsewhere = Rc::clone(&table);
    let read = |this: &Receiver| {
        let _count = this.slot::<u64>("count").unwrap();
        elsewhere.slots.borrow_mut().insert("count".to_owned(), "10".to_owned());
    };
    check_writes(&table, read, &[]);
}

#[test]
fn a_written_guard_may_go_on_although_the_host_respells_the_value() {
    let table = Table::holding("price", "1.5");
    let host = Rc::clone(&table);
    let go_on = |this: &Receiver| {
        let mut price = this.slot::<Vec<f64>>("prices").unwrap();
        price.push(1.5);
        price.write().unwrap();
        host.slots.borrow_mut().insert("prices".to_owned(), "[ 1.50 ]".to_owned());
        price.push(2.5);
    };
    check_writes(&table, go_on, &["prices=[1.5]", "prices=[1.5,2.5]"]);
}

#[test]
fn a_change_under_a_read_only_selector_breaks_the_covenant() {
    let table = Rc::new(Table { is_read_only: true, ..Table::default() });
    check_breach(&table, |this| *this.slot::<u64>("count").unwrap() += 1, "count", "read-only");
    let forget = |this: &Receiver| {
        let mut count = this.slot::<u64>("count").unwrap();
        *count += 1;
        std::mem::forget(count);
    };
    check_breach(&table, forget, "count", "read-only");
}

#[test]
fn what_does_not_go_to_json_breaks_the_covenant() {
    let table = Rc::new(Table::default());
    let pairs = |this: &Receiver| {
        this.slot::<HashMap<(u8, u8), u8>>("pairs").unwrap().insert((1, 2), 3);
    };
    check_breach(&table, pairs, "pairs", "key must be a string");
}

#[test]
fn what_would_not_be_readable_again_breaks_the_covenant() {
    let table = Table::holding("price", "1.5");
    check_breach(&table, |this| *this.slot::<f64>("price").unwrap() = f64::NAN, "price", "null");
    assert_eq!(table.slots.borrow()["price"], "1.5");
}

#[test]
fn the_first_breach_is_the_one_reported() {
    let table = Rc::new(Table { is_read_only: true, ..Table::default() });
    let both = |this: &Receiver| {
        *this.slot::<u64>("first").unwrap() += 1;
        *this.slot::<u64>("second").unwrap() += 1;
    };
    check_breach(&table, both, "first", "read-only");
}

#[test]
fn a_value_of_another_type_is_an_error_and_not_a_loan() {
    let table = Table::holding("count", r#""many""#);
    let mismatch = |this: &Receiver| {
        assert!(matches!(this.slot::<u64>("count").err(), Some(StorageError::Mismatch { .. })));
        assert_eq!(*this.slot::<String>("count").unwrap(), "many");
    };
    check_writes(&table, mismatch, &[]);
}
