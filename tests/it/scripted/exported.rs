//! Goal: what is exported serves on a host that has no engine of ours, and answers the same. Method: behaviours of every
//! set of interfaces are exported, and installed by a kernel that has no module for components.

use serde_json::{Value, json};
use telos_forge::{Form, WholeError, self_contained};
use telos_kernel::{ExamineError, InstallRequest, SwapError};
use telos_tests::behaviour::{Script, example};
use telos_tests::{TestKernel, guest};

use super::{breaks, run, slot, try_install};

/// Installs a behaviour as `script` has it, and what is exported of it on a host without an engine.
async fn both(script: &Script) -> (TestKernel, TestKernel) {
    let (own, other) = (TestKernel::new(), TestKernel::without_engine());
    try_install(&own, script).await.unwrap();
    let (version, component) = own.kernel.component(script.id).unwrap();
    assert_eq!(version, script.version);
    // As a host does, on whichever thread is free.
    let kernel = own.kernel.clone();
    let exported = tokio::spawn(async move { self_contained(&kernel, component).await });
    let (form, whole) = exported.await.unwrap().unwrap();
    assert_eq!(form, Form::Whole);
    let request = InstallRequest { grants: telos_kernel::Granting::All, ..InstallRequest::default() };
    assert_eq!(other.kernel.install(whole, request).await.unwrap().state, "serving");
    (own, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_answers_the_same_on_a_host_without_an_engine() {
    let source = "const started = [Math.max(1, 2)];
export function handle(self, args, telos) {
  if (args === null) telos.refuse('nothing');
  started.push(args.by);
  self.value = (self.value ?? 0) + args.by;
  return { value: self.value, started, uses: telos.selector, broken: args.broken?.so.far };
}
export function evolve(slots) { return slots; }";
    let examples = vec![example(
        json!({"by": 2, "broken": {"so": {"far": 1}}}),
        json!({
            "value": 2, "started": [2, 2], "uses": "run", "broken": 1,
        }),
    )];
    let script =
        Script { examples, ..Script::of(&source.replace("args.broken?.so.far", "args.broken?.so.far ?? 0")) };
    let (own, other) = both(&script).await;
    for arguments in [json!({"by": 1}), json!({"by": 3}), Value::Null, json!({"by": 4})] {
        let (here, there) = (run(&own, arguments.clone()).await, run(&other, arguments).await);
        assert_eq!(format!("{here:?}"), format!("{there:?}"));
    }
    assert_eq!(slot(&own, "value"), slot(&other, "value"));
    assert_eq!(slot(&other, "value"), 8);
    let broken = json!({"by": 1, "broken": {}});
    assert_eq!(breaks(&own, broken.clone()).await, breaks(&other, broken).await);
    // By the same words: what it says of itself, examples included, and how it is seen.
    for field in ["selectors", "summary", "generation", "contract", "imports", "kind", "version"] {
        let told = |kernel: &TestKernel| kernel.kernel.plugin("scripted").unwrap()[field].clone();
        assert_eq!(told(&own), told(&other), "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_set_of_interfaces_can_be_exported_and_equal_behaviours_give_equal_bytes() {
    let own = TestKernel::new();
    let other = TestKernel::without_engine();
    let templates = telos_tests::behaviour::engine().templates;
    for template in templates {
        let script =
            Script { uses: template.uses.to_vec(), ..Script::of("export function handle() { return 1; }") };
        let (_, whole) = self_contained(&own.kernel, script.component()).await.unwrap();
        let (_, again) = self_contained(&own.kernel, script.component()).await.unwrap();
        assert!(whole == again, "{:?}", template.uses);
        // What was exported needs nothing more to be exported again.
        assert_eq!(self_contained(&other.kernel, whole.clone()).await.unwrap().0, Form::Kept);
        // Compiling an engine takes its time: that of no interface, and that of all.
        if [0, templates.len() - 1].iter().any(|at| templates[*at] == *template) {
            let here = own.kernel.check(script.component(), InstallRequest::default()).await.unwrap();
            let there = other.kernel.check(whole, InstallRequest::default()).await.unwrap();
            assert_eq!((here.imports, here.ok), (there.imports, there.ok));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_needs_no_engine_is_exported_as_it_is_kept() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let (_, component) = kernel.kernel.component("counter").unwrap();
    let (form, exported) = self_contained(&kernel.kernel, component).await.unwrap();
    assert_eq!(form, Form::Kept);
    assert!(exported == guest("counter"));
    let none = kernel.kernel.component("nobody").unwrap_err();
    assert!(matches!(none, SwapError::NoSuchPlugin(_)), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_exported_is_refused_with_the_reason() {
    let kernel = TestKernel::without_engine();
    let component = Script::of("export function handle() { return 1; }").component();
    // The engine's name with another hash in it.
    let name = telos_tests::behaviour::engine().name;
    let at = component.windows(name.len()).position(|bytes| bytes == name.as_bytes()).unwrap();
    let mut elsewhere = component.clone();
    elsewhere[at + name.len() - 1] ^= 1;
    let refused = self_contained(&kernel.kernel, elsewhere).await.unwrap_err();
    assert!(matches!(&refused, WholeError::NoEngine(other) if other != name), "{refused}");
    // A boot module that nobody here assembled.
    let mut other = component.clone();
    other.extend_from_slice(&[0, 2, 1, b'x']);
    let refused = self_contained(&kernel.kernel, other).await.unwrap_err();
    assert!(matches!(&refused, WholeError::NotAssembled(_)), "{refused}");
    let throws = Script::of("throw new Error('no'); export function handle() {}").component();
    let refused = self_contained(&kernel.kernel, throws).await.unwrap_err();
    assert!(refused.to_string().contains("Error: no"), "{refused}");
    // And without an engine, the thin one is not taken: so the export is what travels.
    let thin = kernel.kernel.check(component, InstallRequest::default()).await.unwrap_err();
    assert!(matches!(thin, SwapError::Examine { error: ExamineError::UnknownImport(_), .. }), "{thin}");
}
