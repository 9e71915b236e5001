//! The examples in other languages, against a real host.

use crate::python::{example, expected_output, python};
use crate::running::Running;

#[test]
fn the_python_example_prints_what_its_header_says() {
    let Some(python) = python() else { return };
    let mut running = Running::with_counter();
    running.stop();
    let [frontend, backend] =
        ["front.sock", "back.sock"].map(|name| format!("ipc://{}", running.path().join(name).display()));
    running.start_with(&["--ppp-frontend", &frontend, "--ppp-backend", &backend]);
    let said = example(&python, "ppp_client.py", &[&frontend, "counter", "increment"]);
    assert_eq!(said, expected_output("ppp_client.py"));
    running.stop();
    assert!(!running.path().join("front.sock").exists());
}
