//! Behaviours in JavaScript: ordinary components, made in a moment, that share one engine.

use std::time::Instant;

use serde_json::{Value, json};
use telos_kernel::{BootError, Failure, Granting, InstallRequest};
use telos_tests::TestKernel;
use telos_tests::behaviour::{Script, engine, example};

async fn install(kernel: &TestKernel, script: &Script) {
    let request = InstallRequest {
        source: format!("{}.js", script.id),
        grants: Granting::All,
        ..InstallRequest::default()
    };
    let installed = kernel.kernel.install(script.component(), request).await.unwrap();
    assert_eq!(installed.state, "serving");
}

/// A kernel with one behaviour.
async fn with(source: &str) -> TestKernel {
    let kernel = TestKernel::new();
    install(&kernel, &Script::of(source)).await;
    kernel
}

async fn run(kernel: &TestKernel, arguments: Value) -> Result<Value, Failure> {
    kernel.send("scripted", "run", arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_behaviour_answers_and_keeps_state() {
    let kernel = with("export function handle(self, args, telos) { self.value = (self.value ?? 0) + args.by; return self.value; }").await;
    assert_eq!(run(&kernel, json!({"by": 2})).await.unwrap(), 2);
    assert_eq!(run(&kernel, json!({"by": 3})).await.unwrap(), 5);
    let kernel = kernel.restart();
    assert_eq!(run(&kernel, json!({"by": 1})).await.unwrap(), 6);
}
