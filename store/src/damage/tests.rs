use super::guard;
use crate::error::Failure;

#[test]
fn a_panic_is_a_failure_that_says_what_it_said_and_what_to_do() {
    let found = guard(|| -> Result<(), Failure> { panic!("page {}\nand more", 7) }).unwrap_err().to_string();
    assert!(found.contains("a panic: page 7;") && found.contains("telos store restore"), "{found}");
    let found = guard(|| -> Result<(), Failure> { panic!("unreadable") }).unwrap_err().to_string();
    assert!(found.contains("unreadable"), "{found}");
    assert_eq!(guard(|| Ok::<_, Failure>(1)).unwrap(), 1);
}
