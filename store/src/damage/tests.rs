use super::{Guarded, give_up, guard, let_go};
use crate::error::Failure;

#[test]
fn a_panic_is_a_failure_that_says_what_it_said_and_what_to_do() {
    let found = guard(|| -> Result<(), Failure> { panic!("page {}\nand more", 7) }).unwrap_err().to_string();
    assert!(found.contains("a panic: page 7;") && found.contains("telos store restore"), "{found}");
    let found = guard(|| -> Result<(), Failure> { panic!("unreadable") }).unwrap_err().to_string();
    assert!(found.contains("unreadable"), "{found}");
    assert_eq!(guard(|| Ok::<_, Failure>(1)).unwrap(), 1);
}

/// What redb's tables and iterators are over a damaged page.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("it works on a page");
    }
}

#[test]
fn what_panics_when_it_is_dropped_ends_no_process_while_another_panic_passes() {
    let work = || -> Result<(), Failure> {
        let _rows = Guarded::of(PanicsWhenDropped);
        panic!("the first one")
    };
    let found = guard(work).unwrap_err().to_string();
    assert!(found.contains("the first one"), "{found}");
    give_up(PanicsWhenDropped);
    let alone = guard(|| -> Result<(), Failure> {
        let_go(&mut Some(PanicsWhenDropped));
        Ok(())
    });
    let found = alone.unwrap_err().to_string();
    assert!(found.contains("it works on a page"), "nothing is swallowed that is alone: {found}");
}
