//! Releases whose `evolve` breaks its rules while what they would replace serves: it serves on, and nothing changed.

use serde_json::{Value, json};
use telos_kernel::{SwapError, Swapping};
use telos_tests::TestKernel;

/// The misevolver meets `count` in the object at `place` of three, in a swap on a kernel that serves.
async fn check(count: u64, place: usize, said: &str) {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let mut objects = Vec::new();
    for index in 0..3 {
        let object = kernel.send("counter", "clone", Value::Null).await.unwrap();
        let object = object.as_str().unwrap().to_owned();
        let by = if index == place { count } else { 1 };
        kernel.send(&object, "increment", json!({"by": by})).await.unwrap();
        objects.push((object, by));
    }
    kernel.install("misevolver").await;
    let how = Swapping { no_return: true, ..Swapping::default() };
    let refused = kernel.kernel.swap_so("counter", "0.5.0".into(), how).await.unwrap_err();
    assert!(matches!(refused, SwapError::NotEvolved { .. }), "{count} at {place}: {refused}");
    assert!(refused.to_string().contains(said), "{count} at {place}: {refused}");
    assert_eq!(kernel.send("counter", "release", Value::Null).await.unwrap(), "0.1.0");
    for (object, count) in &objects {
        assert_eq!(kernel.send(object, "read", Value::Null).await.unwrap(), *count);
        assert_eq!(kernel.send(object, "increment", Value::Null).await.unwrap(), count + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_traps_at_any_object_changes_nothing() {
    for place in 0..3 {
        check(903, place, "unreachable").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_refuses_or_panics_changes_nothing() {
    check(901, 1, "901 is no count").await;
    check(912, 1, "reached for").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_too_much_changes_nothing() {
    check(904, 1, "units of fuel").await;
    check(905, 1, "64 MiB of memory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_pure_changes_nothing() {
    check(908, 1, "reached for `wasi:clocks/wall-clock").await;
}
