//! Behaviours in JavaScript: ordinary components, made in a moment, that share one engine.

mod documented;
mod exported;
mod fuzz;
mod slots;
mod sources;
mod unfit;

use serde_json::{Value, json};
use telos_forge::Behaviour;
use telos_kernel::{BootError, Breakage, Failure, Granting, InstallRequest, SwapError, Swapped};
use telos_store::ObjectName;
use telos_tests::TestKernel;
use telos_tests::behaviour::{Script, engine, example};

async fn try_install(kernel: &TestKernel, script: &Script) -> Result<Swapped, SwapError> {
    let request = InstallRequest {
        source: format!("{}.js", script.id),
        grants: Granting::All,
        ..InstallRequest::default()
    };
    kernel.kernel.install(script.component(), request).await
}

/// A kernel with one behaviour.
async fn with(source: &str) -> TestKernel {
    with_script(&Script::of(source)).await
}

async fn with_script(script: &Script) -> TestKernel {
    let kernel = TestKernel::new();
    assert_eq!(try_install(&kernel, script).await.unwrap().state, "serving");
    kernel
}

async fn run(kernel: &TestKernel, arguments: Value) -> Result<Value, Failure> {
    kernel.send("scripted", "run", arguments).await
}

/// What a behaviour says of itself when it breaks.
async fn breaks(kernel: &TestKernel, arguments: Value) -> String {
    match run(kernel, arguments).await {
        Err(Failure::Broken { breakage, .. }) => match *breakage {
            Breakage::Told(text) => text,
            other => panic!("it was to say how it broke: {other:?}"),
        },
        other => panic!("it was to break: {other:?}"),
    }
}

/// A slot of the behaviour's own object, as it is stored; null when it is not there.
fn slot(kernel: &TestKernel, name: &str) -> Value {
    let mut unit = kernel.store.begin();
    let id = unit.find(&ObjectName::new("scripted").unwrap()).unwrap().unwrap();
    let object = unit.object(id).unwrap().unwrap();
    object.value(name).map(|value| value.to_value()).unwrap_or_default()
}

/// What the engine says of a source.
async fn refused(source: &str) -> String {
    let kernel = TestKernel::new();
    match kernel.kernel.boot(engine().name.into(), Script::of(source).text()).await {
        Err(BootError::Refused(text)) => text,
        other => panic!("it was to be refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_behaviour_answers_and_keeps_state() {
    let source = "export function handle(self, args, telos) {
        self.value = (self.value ?? 0) + args.by;
        return { value: self.value, selector: telos.selector };
    }";
    let kernel = with(source).await;
    assert_eq!(run(&kernel, json!({"by": 2})).await.unwrap(), json!({"value": 2, "selector": "run"}));
    assert_eq!(run(&kernel, json!({"by": 3})).await.unwrap()["value"], 5);
    let kernel = kernel.restart();
    assert_eq!(run(&kernel, json!({"by": 1})).await.unwrap()["value"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_behaviours_have_equal_bytes_and_what_was_assembled_is_told_from_the_rest() {
    let script = Script { uses: vec!["messaging"], ..Script::of("export function handle() { return 1; }") };
    let component = script.component();
    assert_eq!(component, script.component());
    let apart = telos_forge::taken_apart(engine(), &component).unwrap();
    assert_eq!(
        (apart.source.as_str(), apart.uses.as_slice()),
        (script.source.as_str(), ["messaging".to_owned()].as_slice())
    );
    let mut other = component.clone();
    *other.last_mut().unwrap() ^= 1;
    assert!(telos_forge::taken_apart(engine(), &other).is_none());
    assert!(telos_forge::taken_apart(engine(), &component[..component.len() - 1]).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_behaviour_imports_what_it_uses_and_nothing_else() {
    let kernel = TestKernel::new();
    for (uses, imports) in [
        (vec![], vec!["logging", "storage"]),
        (vec!["messaging"], vec!["logging", "messaging", "storage"]),
        (vec!["vectors", "inference"], vec!["inference", "logging", "storage", "vectors"]),
    ] {
        let script = Script { uses, ..Script::of("export function handle() { return 1; }") };
        let checked = kernel.kernel.check(script.component(), InstallRequest::default()).await.unwrap();
        assert_eq!(checked.imports, imports);
    }
    let calls = "export function handle(self, args, telos) { return telos.send('scripted', 'run', null); }";
    let kernel = with(calls).await;
    let said = breaks(&kernel, Value::Null).await;
    assert!(
        said.starts_with("TypeError: telos.send is not there: this behaviour was not made to use messaging"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_start_is_refused_with_line_and_column() {
    for (source, said) in [
        ("export function handle(self, args) {\n  return args.map(x => x.price * }", "SyntaxError: "),
        (
            "const x = require('fs');\nexport function handle() {}",
            "ReferenceError: require is not defined at <anonymous> (behaviour.js:1:",
        ),
        ("interface A { x: number }\nexport function handle(m: string) {}", "SyntaxError: "),
        ("import x from 'y';\nexport function handle() {}", "y"),
        (
            "function other() {}",
            "the module must `export function handle(self, args, telos)`; it exports nothing",
        ),
        ("for (;;) {}\nexport function handle() {}", "InternalError: interrupted"),
        (
            "export function handle() {}\nawait 1;",
            "the module awaits something at its top level; nothing is awaited here",
        ),
        (
            "export async function handle() {}",
            "`handle` is an async function; it must be a function that answers the value itself",
        ),
        ("export function* handle() {}", "`handle` is a generator function"),
    ] {
        let found = refused(source).await;
        assert!(found.contains(said), "{source}\n{found}");
    }
    let found = refused("export function handle(self, args) {\n  return args.map(x => x.price * }").await;
    assert!(found.contains("behaviour.js:2:"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_with_line_and_column_and_nothing_is_kept() {
    let source = "export function handle(self, args, telos) {
  self.value = args;
  switch (args) {
    case 'throw': return args.user.name;
    case 'deep': { const f = () => 1 + f(); return f(); }
    case 'loop': for (;;) {}
    case 'bomb': { const a = []; for (;;) a.push(new Array(10000).fill(7)); }
    case 'async': return Promise.resolve(1);
    case 'big': return 10n;
    case 'nan': return { a: [0 / 0] };
    case 'network': return fetch('http://127.0.0.1');
    case 'eval': return eval('1');
    case 'function': return new Function('return 1')();
    case 'value': throw { why: 'so' };
    case 'large': return 'x'.repeat(300000);
    case 'huge': return 'x'.repeat(10000000);
    case 'ok': return 'ok';
  }
}";
    let kernel = with(source).await;
    // One that has answered nothing would lose its seat.
    assert_eq!(run(&kernel, json!("ok")).await.unwrap(), "ok");
    for (arguments, said, place) in [
        ("throw", "TypeError: cannot read property 'name' of undefined", "behaviour.js:4:"),
        ("deep", "RangeError: Maximum call stack size exceeded", "behaviour.js:5:"),
        ("loop", "InternalError: interrupted", "behaviour.js:"),
        ("bomb", "InternalError: out of memory", "behaviour.js:7:"),
        ("async", "TypeError: handle answered a promise", ""),
        ("big", "TypeError: the answer cannot be stored: JSON has no bigint", ""),
        ("nan", "TypeError: the answer.a[0] cannot be stored: NaN is no JSON number", ""),
        ("network", "ReferenceError: fetch is not defined", "behaviour.js:11:"),
        ("eval", "ReferenceError: eval is not defined", "behaviour.js:12:"),
        ("function", "TypeError: functions are not made of texts here", "behaviour.js:13:"),
        ("value", "it threw {\"why\":\"so\"}", ""),
    ] {
        let found = breaks(&kernel, json!(arguments)).await;
        assert!(found.starts_with(said) && found.contains(place), "{arguments}: {found}");
    }
    for arguments in ["large", "huge"] {
        let failed = run(&kernel, json!(arguments)).await.unwrap_err();
        assert!(matches!(failed, Failure::Broken { .. }), "{arguments}: {failed}");
    }
    assert_eq!(slot(&kernel, "value"), "ok");
    assert_eq!(run(&kernel, json!("ok")).await.unwrap(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_behaviour_refuses_in_its_own_words() {
    let source = "export function handle(self, args, telos) {
        if (typeof args !== 'number') telos.badArguments('a number, please');
        telos.refuse(`not ${args}`);
    }";
    let kernel = with(source).await;
    let refused = run(&kernel, json!(7)).await.unwrap_err();
    assert!(matches!(&refused, Failure::Refused(why) if why == "not 7"), "{refused}");
    let bad = run(&kernel, json!("x")).await.unwrap_err();
    assert!(matches!(&bad, Failure::BadArguments(why) if why == "a number, please"), "{bad}");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_and_chance_are_the_messages_own() {
    let source =
        "export function handle() { return [Date.now(), Date.now(), Math.random(), Math.random()]; }";
    let kernel = with(source).await;
    let before = u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let (first, second) =
        (run(&kernel, Value::Null).await.unwrap(), run(&kernel, Value::Null).await.unwrap());
    assert!(first[0].as_u64().unwrap() >= before - 1_000 && first[0] == first[1], "{first}");
    assert!(first[2] != first[3] && first[2] != second[2], "{first} {second}");
    for chance in [&first[2], &first[3], &second[2]] {
        assert!((0.0..1.0).contains(&chance.as_f64().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_are_run_before_a_behaviour_serves_and_lies_are_refused() {
    let source = "export function handle(self, args) { return args.a + args.b; }";
    let right = Script { examples: vec![example(json!({"a": 1, "b": 2}), json!(3))], ..Script::of(source) };
    with_script(&right).await;
    let wrong = Script { examples: vec![example(json!({"a": 1, "b": 2}), json!(4))], ..right };
    let refused = try_install(&TestKernel::new(), &wrong).await.unwrap_err();
    assert!(matches!(refused, SwapError::Example { .. }), "{refused}");
}

/// A number to its last digit, and a null that is not taken for absent.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_behaviour_says_of_itself_arrives_as_it_was_said() {
    let number = json!(-6.658_942_595_051_13e-34);
    let script = Script {
        examples: vec![example(number.clone(), json!([number, null]))],
        ..Script::of("export function handle(self, args) { return [args, self.value]; }")
    };
    let mut account = script.behaviour().account().unwrap();
    account.slots[0].default = Some(Value::Null);
    let behaviour = Behaviour::of(&account, script.source, Vec::new()).unwrap();
    let component = telos_forge::assemble(engine(), &behaviour).unwrap();
    let kernel = TestKernel::new();
    let request = InstallRequest { grants: Granting::All, ..InstallRequest::default() };
    assert_eq!(kernel.kernel.install(component, request).await.unwrap().state, "serving");
    assert_eq!(run(&kernel, number.clone()).await.unwrap(), json!([number, null]));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_talk_to_each_other_and_a_read_only_behaviour_writes_nothing() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let source = "export function handle(self, args, telos) {
        const before = telos.send('counter', 'read', null);
        const after = telos.send(telos.find('counter'), 'increment', { by: 2 });
        telos.post('counter', 'increment', { by: 10 });
        telos.log('counted', { after });
        return [before, after, telos.read(telos.find('counter'), 'count')];
    }";
    try_install(&kernel, &Script { uses: vec!["messaging"], ..Script::of(source) }).await.unwrap();
    assert_eq!(run(&kernel, Value::Null).await.unwrap(), json!([0, 2, 2]));
    assert_eq!(kernel.journal.lines("plugin.log").len(), 1);
    let writes = Script {
        read_only: true,
        ..Script::of("export function handle(self) { self.value = 1; return 1; }")
    };
    let kernel = with_script(&writes).await;
    assert!(run(&kernel, Value::Null).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_behaviour_is_swapped_and_rolled_back_as_any_release() {
    let kernel = with("export function handle() { return 1; }").await;
    let next = Script { version: "1.1.0", ..Script::of("export function handle() { return 2; }") };
    try_install(&kernel, &next).await.unwrap();
    assert_eq!(run(&kernel, Value::Null).await.unwrap(), 2);
    kernel.kernel.rollback("scripted").await.unwrap();
    assert_eq!(run(&kernel, Value::Null).await.unwrap(), 1);
    let kernel = kernel.restart();
    assert_eq!(run(&kernel, Value::Null).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_do_not_fit_are_refused_where_the_behaviour_stumbles_over_them() {
    let source = "export function handle(self, args) { return args.list.map((item) => item.name.length); }";
    let schema = json!({
        "type": "object",
        "required": ["list"],
        "properties": {"list": {"type": "array", "items": {"type": "object", "required": ["name"]}}},
    });
    let kernel = with_script(&Script { arguments: schema, ..Script::of(source) }).await;
    assert_eq!(run(&kernel, json!({"list": [{"name": "ab"}]})).await.unwrap(), json!([2]));
    for (arguments, said) in [
        (Value::Null, "arguments must be object, and is null"),
        (json!({}), "arguments.list is missing"),
        (json!({"list": [1]}), "arguments.list[0] must be object, and is number"),
    ] {
        let refused = run(&kernel, arguments).await.unwrap_err();
        assert!(matches!(&refused, Failure::BadArguments(text) if text == said), "{refused}");
    }
    let fault = breaks(&kernel, json!({"list": [{"name": null}]})).await;
    assert!(fault.starts_with("TypeError: "), "its own: {fault}");
}
