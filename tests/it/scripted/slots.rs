//! Goal: whatever a behaviour does to its slots, deep inside as well, is stored, or it is told where it cannot be.
//! Method: random changes of nested values, in JavaScript and on a model of JSON; what is stored must be the model's.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{breaks, run, slot, with};

/// One statement, on the value that `self.value` has; it does nothing where the value has not that shape.
#[derive(Clone, Debug)]
enum Change {
    Set(Vec<usize>, Value),
    Push(Vec<usize>, Value),
    Pop(Vec<usize>),
    Splice(Vec<usize>, usize, Value),
    Reverse(Vec<usize>),
    SetField(Vec<usize>, &'static str, Value),
    DeleteField(Vec<usize>, &'static str),
    AddTo(Vec<usize>),
    /// `(at.field ??= []).push(value)`, where there is nothing yet or a list.
    PushInto(Vec<usize>, &'static str, Value),
    /// Puts an object in, and changes the object that it still holds.
    SetHeld(Vec<usize>, &'static str, Value),
    /// Holds an item while the list is turned round, and changes the item then.
    TurnHeld(Vec<usize>, i64),
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1_000_i64..1_000).prop_map(Value::from),
        "[a-zé\"\\\\]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn change() -> impl Strategy<Value = Change> {
    let path = || prop::collection::vec(0_usize..3, 0..3);
    let field = || prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        1 => (path(), value()).prop_map(|(path, value)| Change::Set(path, value)),
        3 => (path(), value()).prop_map(|(path, value)| Change::Push(path, value)),
        1 => path().prop_map(Change::Pop),
        2 => (path(), 0_usize..3, value()).prop_map(|(path, at, value)| Change::Splice(path, at, value)),
        1 => path().prop_map(Change::Reverse),
        3 => (path(), field(), value()).prop_map(|(path, field, value)| Change::SetField(path, field, value)),
        1 => (path(), field()).prop_map(|(path, field)| Change::DeleteField(path, field)),
        2 => path().prop_map(Change::AddTo),
        3 => (path(), field(), value()).prop_map(|(path, field, value)| Change::PushInto(path, field, value)),
        2 => (path(), field(), value()).prop_map(|(path, field, value)| Change::SetHeld(path, field, value)),
        2 => (path(), 0_i64..9).prop_map(|(path, n)| Change::TurnHeld(path, n)),
    ]
}

/// Goes down by numbers: an index of an array, or the so manieth field of an object in the order of names.
const DOWN: &str = "
const down = (value, path) => path.reduce((at, step) => {
  if (Array.isArray(at)) return at[step];
  if (at !== null && typeof at === 'object') return at[Object.keys(at).sort()[step]];
  return undefined;
}, value);
const isArray = Array.isArray;
const isObject = (at) => at !== null && typeof at === 'object' && !Array.isArray(at);
";

fn as_script(changes: &[Change]) -> String {
    let mut body = String::new();
    for change in changes {
        let (path, statement) = match change {
            Change::Set(path, value) if path.is_empty() => {
                writeln!(body, "self.value = {value};").unwrap();
                continue;
            }
            Change::Set(path, value) => {
                let (last, above) = path.split_last().unwrap();
                let statement = format!(
                    "if (isArray(at) && {last} <= at.length) at[{last}] = {value};
                     else if (isObject(at) && Object.keys(at).length > {last}) at[Object.keys(at).sort()[{last}]] = {value};"
                );
                (above.to_vec(), statement)
            }
            Change::Push(path, value) => (path.clone(), format!("if (isArray(at)) at.push({value});")),
            Change::Pop(path) => (path.clone(), "if (isArray(at)) at.pop();".to_owned()),
            Change::Splice(path, from, value) => {
                (path.clone(), format!("if (isArray(at)) at.splice({from}, 1, {value});"))
            }
            Change::Reverse(path) => (path.clone(), "if (isArray(at)) at.reverse();".to_owned()),
            Change::SetField(path, field, value) => {
                (path.clone(), format!("if (isObject(at)) at.{field} = {value};"))
            }
            Change::DeleteField(path, field) => {
                (path.clone(), format!("if (isObject(at)) delete at.{field};"))
            }
            Change::AddTo(path) => (
                path.clone(),
                "if (isObject(at)) at.n = (typeof at.n === 'number' ? at.n : 0) + 1;".to_owned(),
            ),
            Change::PushInto(path, field, value) => (
                path.clone(),
                format!(
                    "if (isObject(at) && (at.{field} == null || isArray(at.{field}))) (at.{field} ??= []).push({value});"
                ),
            ),
            Change::SetHeld(path, field, value) => (
                path.clone(),
                format!(
                    "if (isObject(at)) {{ const held = {{ a: [] }}; at.{field} = held; held.a.push({value}); held.b = {value}; }}"
                ),
            ),
            Change::TurnHeld(path, n) => (
                path.clone(),
                format!(
                    "if (isArray(at) && isObject(at[0])) {{ const held = at[0]; at.reverse(); held.n = {n}; }}"
                ),
            ),
        };
        writeln!(body, "{{ const at = down(self.value, {path:?}); {statement} }}").unwrap();
    }
    format!("{DOWN}\nexport function handle(self) {{\n{body}\nreturn null;\n}}")
}

/// The same on JSON.
fn apply(value: &mut Value, change: &Change) {
    fn down<'v>(value: &'v mut Value, path: &[usize]) -> Option<&'v mut Value> {
        path.iter().try_fold(value, |at, step| match at {
            Value::Array(items) => items.get_mut(*step),
            Value::Object(fields) => {
                let mut names: Vec<String> = fields.keys().cloned().collect();
                names.sort();
                fields.get_mut(names.get(*step)?)
            }
            _ => None,
        })
    }
    match change {
        Change::Set(path, new) => match path.split_last() {
            None => *value = new.clone(),
            Some((last, above)) => match down(value, above) {
                Some(Value::Array(items)) if *last < items.len() => items[*last] = new.clone(),
                Some(Value::Array(items)) if *last == items.len() => items.push(new.clone()),
                Some(Value::Object(fields)) => {
                    let mut names: Vec<String> = fields.keys().cloned().collect();
                    names.sort();
                    if let Some(name) = names.get(*last) {
                        fields.insert(name.clone(), new.clone());
                    }
                }
                _ => {}
            },
        },
        Change::Push(path, new) => {
            if let Some(Value::Array(items)) = down(value, path) {
                items.push(new.clone());
            }
        }
        Change::Pop(path) => {
            if let Some(Value::Array(items)) = down(value, path) {
                items.pop();
            }
        }
        Change::Splice(path, from, new) => {
            if let Some(Value::Array(items)) = down(value, path) {
                let from = (*from).min(items.len());
                items.splice(from..(from + 1).min(items.len()), [new.clone()]);
            }
        }
        Change::Reverse(path) => {
            if let Some(Value::Array(items)) = down(value, path) {
                items.reverse();
            }
        }
        Change::SetField(path, field, new) => {
            if let Some(Value::Object(fields)) = down(value, path) {
                fields.insert((*field).into(), new.clone());
            }
        }
        Change::DeleteField(path, field) => {
            if let Some(Value::Object(fields)) = down(value, path) {
                fields.remove(*field);
            }
        }
        Change::AddTo(path) => {
            if let Some(Value::Object(fields)) = down(value, path) {
                let n = fields.get("n").and_then(Value::as_i64).unwrap_or_default();
                fields.insert("n".into(), json!(n + 1));
            }
        }
        Change::PushInto(path, field, new) => {
            let Some(Value::Object(fields)) = down(value, path) else { return };
            let list = fields.entry(*field).or_insert(Value::Null);
            if list.is_null() {
                *list = json!([]);
            }
            if let Value::Array(items) = list {
                items.push(new.clone());
            }
        }
        Change::SetHeld(path, field, new) => {
            if let Some(Value::Object(fields)) = down(value, path) {
                fields.insert((*field).into(), json!({"a": [new], "b": new}));
            }
        }
        Change::TurnHeld(path, n) => {
            let Some(Value::Array(items)) = down(value, path) else { return };
            if let Some(Value::Object(held)) = items.first_mut() {
                held.insert("n".into(), json!(n));
                items.reverse();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn nested_changes_are_stored_as_the_model_has_them(
        first in value(),
        messages in prop::collection::vec(prop::collection::vec(change(), 1..6), 1..3),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let kernel = with(&format!("export function handle(self) {{ self.value = {first}; return null; }}")).await;
            run(&kernel, Value::Null).await.unwrap();
            let mut model = first;
            for (number, changes) in (1..).zip(&messages) {
                let script = telos_tests::behaviour::Script {
                    version: ["1.1.0", "1.2.0", "1.3.0"][number - 1],
                    ..telos_tests::behaviour::Script::of(&as_script(changes))
                };
                super::try_install(&kernel, &script).await.unwrap();
                run(&kernel, Value::Null).await.unwrap();
                changes.iter().for_each(|change| apply(&mut model, change));
                assert_eq!(slot(&kernel, "value"), model, "{}", script.source);
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_json_cannot_hold_is_refused_where_it_is_put_in() {
    let source = "export function handle(self, args) {
  self.value = { list: [1, 2], inner: {} };
  const { value } = self;
  switch (args) {
    case 0: value.list.push(undefined); break;
    case 1: value.inner.f = () => 1; break;
    case 2: value.list[5] = 1; break;
    case 3: value.inner.d = new Date(0); break;
    case 4: value.inner.me = value; break;
    case 5: value.list[0] = 1 / 0; break;
    case 6: { const mine = { a: [] }; self.value = mine; mine.a.push(undefined); break; }
    case 7: { const loop = {}; loop.loop = loop; value.inner.x = loop; break; }
    case 8: value.inner[Symbol('x')] = 1; break;
    case 9: Object.defineProperty(value.inner, 'x', { get() { return 1; } }); break;
    case 10: value.list.name = 'x'; break;
    case 11: delete value.list[0]; break;
    case 12: Object.freeze(value); break;
    case 13: self.value = new Map(); break;
    case 14: value.list.length = 5; break;
    case 15: { const mine = [1]; value.inner.mine = mine; mine.name = 'x'; break; }
    case 16: { const mine = []; self.value = mine; mine.push(mine); break; }
    case 17: self.value = Object.assign([1], { name: 'x' }); break;
  }
}";
    let kernel = with(source).await;
    // One that has answered nothing would lose its seat.
    run(&kernel, json!(-1)).await.unwrap();
    for (number, said, line) in [
        (0, "self.value.list[2] cannot be stored: JSON has no undefined", 5),
        (1, "self.value.inner.f cannot be stored: JSON has no function", 6),
        (2, "self.value.list[5] cannot be stored: an array has no holes and no names", 7),
        (3, "self.value.inner.d cannot be stored: JSON has no Date", 8),
        (4, "self.value.inner.me.inner cannot be stored: it contains itself", 9),
        (5, "self.value.list[0] cannot be stored: Infinity is no JSON number", 10),
        (
            6,
            "self.value.a[0] cannot be stored: JSON has no undefined; this came in after its object was put in, at",
            11,
        ),
        (7, "self.value.inner.x.loop cannot be stored: it contains itself", 12),
        (8, "self.value.inner cannot be stored: JSON has no symbols", 13),
        (9, "self.value.inner.x cannot be stored: it is computed", 14),
        (10, "self.value.list[name] cannot be stored: an array has no holes and no names", 15),
        (11, "self.value.list[0] cannot be taken out so: use splice", 16),
        (12, "self.value is stored, and cannot be frozen", 17),
        (13, "self.value cannot be stored: JSON has no Map", 18),
        (14, "self.value.list[length] cannot be stored: an array has no holes and no names", 19),
        (
            15,
            "self.value.inner.mine cannot be stored: an array has no holes and no names; this came in after",
            20,
        ),
        (16, "self.value[0] cannot be stored: it contains itself; this came in after", 21),
        (17, "self.value cannot be stored: an array has no holes and no names", 22),
    ] {
        let found = breaks(&kernel, json!(number)).await;
        assert!(found.contains(said), "{number}: {found}");
        assert!(found.contains(&format!("behaviour.js:{line}:")), "{number}: {found}");
    }
    assert_eq!(slot(&kernel, "value"), json!({"list": [1, 2], "inner": {}}));
}

/// What a person or a mind writes without a thought about proxies.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_in_is_the_very_value_whoever_holds_it() {
    for (body, stored) in [
        (
            "self.value = {}; (self.value[args] ??= []).push(1); (self.value[args] ??= []).push(2);",
            json!({"k": [1, 2]}),
        ),
        ("(self.value ??= {})[args] = 1;", json!({"k": 1})),
        ("const mine = { a: [] }; self.value = mine; mine.a.push(1); mine.b = 2;", json!({"a": [1], "b": 2})),
        (
            "self.value = { a: [3, 1, 2] }; self.value.b = self.value.a; self.value.b.sort();",
            json!({"a": [1, 2, 3], "b": [1, 2, 3]}),
        ),
        (
            "self.value = { old: { n: 1 } }; const before = { was: self.value.old }; self.value.log = [before]; self.value.old.n = 2;",
            json!({"old": {"n": 2}, "log": [{"was": {"n": 2}}]}),
        ),
        (
            "const inner = []; self.value = Object.freeze({ inner }); inner.push(1); self.value.inner.push(2);",
            json!({"inner": [1, 2]}),
        ),
        (
            "self.value = [{ n: 1 }, { n: 2 }]; const first = self.value[0]; self.value.sort((a, b) => b.n - a.n); first.n = 7;",
            json!([{"n": 2}, {"n": 7}]),
        ),
        (
            "self.value = { a: [] }; Object.getOwnPropertyDescriptor(self.value, 'a').value.push(1);",
            json!({"a": [1]}),
        ),
        ("self.value = args; ", json!("k")),
    ] {
        let kernel = with(&format!("export function handle(self, args) {{ {body} return null; }}")).await;
        run(&kernel, json!("k")).await.unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(slot(&kernel, "value"), stored, "{body}");
    }
}

/// The same of what was stored by an earlier message: only what is watched may change it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_changes_wherever_it_is_held() {
    for (body, stored) in [
        ("(self.value.by[args] ??= []).push(1);", json!({"by": {"k": [1]}, "list": [{"n": 1}, {"n": 2}]})),
        (
            "const { list } = self.value; list.unshift(list.pop()); list[1].n = 9;",
            json!({"by": {}, "list": [{"n": 2}, {"n": 9}]}),
        ),
        (
            "const first = self.value.list.shift(); self.value.by.first = first; first.n = 5;",
            json!({"by": {"first": {"n": 5}}, "list": [{"n": 2}]}),
        ),
        (
            "const found = self.value.list.find((item) => item.n === 2); self.value.list.reverse(); found.n = 8;",
            json!({"by": {}, "list": [{"n": 8}, {"n": 1}]}),
        ),
        ("for (const item of self.value.list) item.n += 1;", json!({"by": {}, "list": [{"n": 2}, {"n": 3}]})),
        ("Object.values(self.value.list)[0].n = 4;", json!({"by": {}, "list": [{"n": 4}, {"n": 2}]})),
    ] {
        let source = format!(
            "export function handle(self, args) {{
               if (args === null) {{ self.value = {{ by: {{}}, list: [{{ n: 1 }}, {{ n: 2 }}] }}; return null; }}
               {body} return null;
             }}"
        );
        let kernel = with(&source).await;
        run(&kernel, Value::Null).await.unwrap();
        run(&kernel, json!("k")).await.unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(slot(&kernel, "value"), stored, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_properties() {
    let source = "export function handle(self, args) {
  const before = ['value' in self, Object.keys(self), self.nothing === undefined];
  self.value = 1;
  self.other = { a: 1 };
  delete self.value;
  self.other.b = self.other.a + 1;
  return [before, 'value' in self, Object.keys(self), { ...self }];
}";
    let kernel = with(source).await;
    let answer = run(&kernel, Value::Null).await.unwrap();
    assert_eq!(answer, json!([[false, [], true], false, ["other"], {"other": {"a": 1, "b": 2}}]));
    assert_eq!(slot(&kernel, "other"), json!({"a": 1, "b": 2}));
}
