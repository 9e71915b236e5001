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
    case 4: value.inner.me = value; value.inner.me.list.push(9); break;
    case 5: value.list[0] = 1 / 0; break;
    case 6: { const mine = { a: [] }; self.value = mine; mine.a.push(1); break; }
    case 7: { const loop = {}; loop.loop = loop; value.inner.x = loop; break; }
    case 8: value.inner[Symbol('x')] = 1; break;
    case 9: Object.defineProperty(value.inner, 'x', { get() { return 1; } }); break;
    case 10: value.list.name = 'x'; break;
    case 11: delete value.list[0]; break;
    case 12: Object.freeze(value); break;
    case 13: self.value = new Map(); break;
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
        (5, "self.value.list[0] cannot be stored: Infinity is no JSON number", 10),
        (6, "TypeError: object is not extensible", 11),
        (7, "self.value.inner.x.loop cannot be stored: it contains itself", 12),
        (8, "self.value.inner cannot be stored: JSON has no symbols", 13),
        (9, "self.value.inner.x cannot be stored: it is computed", 14),
        (10, "self.value.list[name] cannot be stored: an array has no holes and no names", 15),
        (11, "self.value.list[0] cannot be taken out so: use splice", 16),
        (12, "self.value is stored, and cannot be frozen", 17),
        (13, "self.value cannot be stored: JSON has no Map", 18),
    ] {
        let found = breaks(&kernel, json!(number)).await;
        assert!(found.contains(said), "{number}: {found}");
        assert!(found.contains(&format!("behaviour.js:{line}:")), "{number}: {found}");
    }
    assert_eq!(slot(&kernel, "value"), json!({"list": [1, 2], "inner": {}}));
    // What is put in twice is copied: a change of one of them is not one of the other.
    run(&kernel, json!(4)).await.unwrap();
    assert_eq!(slot(&kernel, "value")["list"], json!([1, 2]));
    assert_eq!(slot(&kernel, "value")["inner"]["me"]["list"], json!([1, 2, 9]));
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
