//! Goal: whoever writes what is no behaviour is told where, and what is one. Method: what people and minds write who know
//! another JavaScript than this one; the text is looked at, and where there is a place, it is line and column.

use serde_json::{Value, json};

use super::{breaks, refused, run, with};

#[track_caller]
fn check(source: &str, found: &str, parts: &[&str]) {
    for part in parts {
        assert!(found.contains(part), "{part:?} is not in what is said of\n{source}\n{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_in_another_language_is_refused_with_its_place_and_what_is_taken() {
    let taken = "a behaviour is one module of plain JavaScript, without types or imports";
    for (source, place) in [
        ("export function handle(self: any, args: { n: number }) {\n  return args.n;\n}", "behaviour.js:1:"),
        (
            "// Adds.\ninterface Args { n: number }\nexport function handle(self, args) { return args.n; }",
            "behaviour.js:2:",
        ),
        (
            "type Args = { n: number };\nexport function handle(self, args) { return args.n; }",
            "behaviour.js:1:",
        ),
        (
            "export function handle(self, args) {\n  const n = args.n as number;\n  return n;\n}",
            "behaviour.js:2:",
        ),
        ("export function handle(self, args) {\n  let n = 1;\n\n  return n +;\n}", "behaviour.js:4:"),
        ("export function handle(self, args) {\n  return 1;\n", "behaviour.js:"),
        ("def handle(self, args):\n  return 1", "behaviour.js:1:"),
    ] {
        check(source, &refused(source).await, &["SyntaxError: ", place, taken]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_are_refused_with_their_place() {
    for (source, name, place) in [
        ("import fs from 'fs';\nexport function handle() {}", "'fs'", " at behaviour.js:1:16;"),
        (
            "// 'fs'\nimport { readFile } from \"fs\";\nexport function handle() {}",
            "'fs'",
            " at behaviour.js:2:26;",
        ),
        ("export function handle() {}\n  import './other.js'", "'other.js'", " at behaviour.js:2:10;"),
        ("export { handle } from 'elsewhere'", "'elsewhere'", " at behaviour.js:1:24;"),
    ] {
        check(
            source,
            &refused(source).await,
            &["it imports ", name, place, "a behaviour is one module and imports nothing"],
        );
    }
    let awaited = "const fs = await import('fs');\nexport function handle() {}";
    check(awaited, &refused(awaited).await, &["awaits something at its top level; nothing is awaited here"]);
    let started = "import('fs');\nexport function handle() {}";
    check(started, &refused(started).await, &["at its top level, something was left for later", "import()"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_without_a_fitting_handle_is_refused_with_what_it_exports() {
    let wanted = "the module must `export function handle(self, args, telos)`; ";
    for (source, said) in [
        ("function handle() {}", "it exports nothing"),
        ("export function run() {}\nexport const x = 1;", "it exports run, x"),
        ("export default function handle() {}", "it exports default, and a default export is not looked at"),
        ("export const handle = 7;", "it exports handle, which is of type number and no function"),
        ("export const handle = { run() {} };", "it exports handle, which is of type object"),
        ("export const handle = null;", "it exports handle, which is null"),
        ("export let handle;", "it exports handle, which is of type undefined"),
    ] {
        check(source, &refused(source).await, &[wanted, said]);
    }
    for (source, said, place) in [
        (
            "export async function handle() { return 1; }",
            "`handle` is an async function;",
            "at handle (behaviour.js:1:",
        ),
        (
            "// So.\nexport const handle = async () => 1;",
            "`handle` is an async function;",
            "at handle (behaviour.js:2:",
        ),
        ("export function* handle() {}", "`handle` is a generator function;", "at handle (behaviour.js:1:"),
        (
            "export async function* handle() {}",
            "`handle` is an async generator;",
            "at handle (behaviour.js:1:",
        ),
        ("export class handle {}", "`handle` is a class;", "at handle (behaviour.js:1:"),
    ] {
        let answers = "it must be a function that answers the value itself: nothing is awaited here";
        check(source, &refused(source).await, &[said, answers, place]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_does_when_it_starts_is_bounded_and_told_with_its_place() {
    for (source, said, place) in [
        ("export function handle() {}\nthrow new Error('not today');", "Error: not today", "behaviour.js:2:"),
        ("throw 7;\nexport function handle() {}", "it threw 7", ""),
        (
            "let n = 0;\nfor (;;) n += 1;\nexport function handle() {}",
            "InternalError: interrupted",
            "behaviour.js:",
        ),
        (
            "const all = [];\nfor (;;) all.push(new Array(10000).fill(7));\nexport function handle() {}",
            "InternalError: ",
            "behaviour.js:2:",
        ),
        (
            "count = 1;\nexport function handle() {}",
            "ReferenceError: count is not defined",
            "behaviour.js:1:",
        ),
        (
            "const fs = require('fs');\nexport function handle() {}",
            "ReferenceError: require is not defined",
            "behaviour.js:1:",
        ),
        (
            "console.log('hello');\nexport function handle() {}",
            "ReferenceError: console is not defined",
            "behaviour.js:1:",
        ),
        ("module.exports = { handle() {} };", "ReferenceError: module is not defined", "behaviour.js:1:"),
    ] {
        check(source, &refused(source).await, &[said, place]);
    }
    let endless = "for (;;) {}\nexport function handle() {}";
    check(
        endless,
        &refused(endless).await,
        &[
            "it worked longer than it may: some hundred milliseconds for a message, some ten outside of functions",
        ],
    );
}

/// Every message has a realm of its own, so what is written there is gone with it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_into_globals_is_gone_after_the_message() {
    let source = "globalThis.started = 1;
let seen = 0;
export function handle(self, args) {
  seen += 1; globalThis.started += 1; Array.prototype.extra = args; Object.prototype.other = args;
  return [seen, globalThis.started];
}";
    let kernel = with(source).await;
    for _ in 0..2 {
        assert_eq!(run(&kernel, Value::Null).await.unwrap(), json!([1, 2]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_for_later_is_told_and_nothing_of_the_message_is_kept() {
    let source = "async function later(self) { await null; self.value = 2; }
export function handle(self, args) {
  self.value = 1;
  switch (args) {
    case 'promise': return Promise.resolve(1);
    case 'async': return later(self);
    case 'then': Promise.resolve().then(() => { self.value = 3; }); return 1;
    case 'forgotten': later(self); return 1;
    case 'import': import('fs'); return 1;
  }
  self.value = 0;
}";
    let kernel = with(source).await;
    run(&kernel, Value::Null).await.unwrap();
    for (arguments, said) in [
        (
            "promise",
            "TypeError: handle answered a promise: nothing here is awaited, answer the value itself at handle (behaviour.js:2:",
        ),
        (
            "async",
            "TypeError: handle answered a promise: nothing here is awaited, answer the value itself at handle (behaviour.js:2:",
        ),
        (
            "then",
            "TypeError: something was left for later, by a promise, an async function or import(): nothing here is awaited",
        ),
        ("forgotten", "TypeError: something was left for later"),
        ("import", "TypeError: something was left for later"),
    ] {
        let found = breaks(&kernel, json!(arguments)).await;
        assert!(
            found.starts_with(said) && found.contains("at handle (behaviour.js:2:"),
            "{arguments}: {found}"
        );
    }
    assert_eq!(super::slot(&kernel, "value"), 0);
}
