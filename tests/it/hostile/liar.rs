//! Releases that promise what they do not keep: none serves, whatever serves serves on, and each is told why.

use telos_kernel::{Granting, InstallRequest, Limits, SwapError};
use telos_tests::{TestKernel, guest};

use super::{assert_unharmed, resident_mib};

/// The liar that tells this lie.
fn liar(lie: u8) -> Vec<u8> {
    const MARK: &[u8] = b"TELOS-LIE:";
    let mut bytes = guest("liar");
    let places: Vec<_> = (0..bytes.len() - MARK.len()).filter(|at| bytes[*at..].starts_with(MARK)).collect();
    assert_eq!(places.len(), 1, "the mark is in the component once");
    bytes[places[0] + MARK.len()] = lie;
    bytes
}

fn request(limits: Limits) -> InstallRequest {
    InstallRequest { source: "liar.wasm".into(), grants: Granting::All, limits, ..InstallRequest::default() }
}

async fn install(kernel: &TestKernel, lie: u8) -> Result<(), SwapError> {
    kernel.kernel.install(liar(lie), request(Limits::default())).await.map(drop)
}

/// Each lie is refused, with these words somewhere in what is said.
async fn check(lies: &[(u8, &str)]) {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let before = resident_mib();
    for (lie, said) in lies {
        let refused = install(&kernel, *lie).await.unwrap_err();
        let told = format!("{refused} {refused:?}");
        assert!(told.contains(said), "lie {}: {told}", char::from(*lie));
        assert!(kernel.send("liar", "seven", serde_json::Value::Null).await.is_err());
    }
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 200, "{grown} MiB");
    assert_unharmed(&kernel).await;
}

#[tokio::test]
async fn who_tells_no_lie_serves() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    install(&kernel, b'0').await.unwrap();
    assert_eq!(kernel.send("liar", "seven", serde_json::Value::Null).await.unwrap(), 7);
}

#[tokio::test]
async fn examples_that_are_not_kept_are_told() {
    check(&[
        (b'1', "answered 7 instead of 8"),
        (b'3', "unreachable"),
        (b'4', "asked for more than its 64 MiB of memory"),
        (b'5', "a read-only selector wrote it"),
        (b'7', "its schema has a `$ref`"),
    ])
    .await;
}

#[tokio::test]
async fn examples_that_spin_are_ended_and_many_have_no_more_time_than_a_few() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let brief = || request(Limits { cpu_ms: 10, ..Limits::default() });
    let refused = kernel.kernel.install(liar(b'2'), brief()).await.unwrap_err();
    assert!(refused.to_string().contains("used more than its 10 ms of CPU"), "{refused}");
    let checked = kernel.kernel.check(liar(b'6'), brief()).await.unwrap();
    let told = |said: &str| checked.examples.iter().filter(|example| example.detail.contains(said)).count();
    let (ended, unrun) =
        (told("used more than its 10 ms"), told("was not run: those before it used up the 300ms"));
    assert!(
        !checked.ok && ended > 0 && unrun > 50 && ended + unrun == 100,
        "{ended} ended, {unrun} were not run"
    );
    assert_unharmed(&kernel).await;
}

#[tokio::test]
async fn a_description_cannot_ask_for_chance_or_time_and_has_no_memory_of_before() {
    check(&[(b'a', "reached for `wasi:random/"), (b'b', "reached for `wasi:clocks/wall-clock")]).await;
    let kernel = TestKernel::with_guests(&["counter"]).await;
    install(&kernel, b'c').await.unwrap();
}

#[tokio::test]
async fn a_description_has_a_size_and_a_form() {
    check(&[
        (b'd', "at most 262144"),
        (b'e', "fuel allocated for hostcalls has been exhausted"),
        (b'f', "argument schema is not JSON"),
        (b'g', "argument schema is not JSON: recursion limit exceeded"),
        (b'h', "are 300; at most 256"),
        (b'i', "out of bounds"),
        (b'j', "is declared twice"),
        (b'k', "is not 1 to 64 letters, digits"),
    ])
    .await;
}
