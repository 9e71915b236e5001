use super::guard;

#[test]
fn a_panic_is_a_bug_that_says_what_was_done_and_not_that_the_file_is_damaged() {
    let found =
        guard("the test", || panic!("step {}\nand more", 7)).map(|(): ()| ()).unwrap_err().to_string();
    assert_eq!(
        found,
        "a bug in this host: the test ended in a panic: step 7; `telos store verify` says whether the file is whole"
    );
    assert_eq!(guard("the test", || 1).unwrap(), 1);
}
