//! What the interpreter's seam decides without a store: where a script is wrong, and which values are data.

use std::path::Path;

use mlua::{Lua, LuaOptions, StdLib};
use serde_json::{Value, json};

use super::language::asks_for_an_address;
use super::place::{column, split_line};
use super::value::Marks;
use crate::{EvolveError, Script, ValueError};

#[track_caller]
fn syntax(text: &str) -> (usize, Option<usize>, String) {
    match Script::parse(Path::new("s.lua"), text.as_bytes().to_vec()) {
        Err(EvolveError::Syntax { line, column, what, .. }) => (line, column, what),
        other => panic!("{text:?} parsed as {other:?}"),
    }
}

#[test]
fn a_script_that_is_not_lua_is_refused_with_its_place() {
    let (line, column, what) = syntax("local one = 1\nlocal two = = 2\n");
    assert_eq!((line, column), (2, None), "{what}");
    let (line, column, what) = syntax("-- first\nstore.objects) x\n");
    assert_eq!((line, column), (2, Some(14)), "{what}");
    let (line, _, what) = syntax("for object in store.objects() do\n");
    assert!((1..=2).contains(&line) && what.contains("<eof>"), "{line} {what}");
    let nested = format!("x = {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(syntax(&nested).0, 1);
    // Compiled code is no script: it could be anything.
    let (_, _, what) = syntax("\u{1b}Lua");
    assert!(!what.is_empty());
}

#[test]
fn a_script_is_text_and_known_by_its_digest() {
    let script = Script::parse(Path::new("s.lua"), b"abc = 1".to_vec()).unwrap();
    assert_eq!(script.sha256().len(), 64);
    let wrong = Script::parse(Path::new("s.lua"), b"-- one\n-- \xff".to_vec());
    assert!(matches!(wrong, Err(EvolveError::NotText { line: 2, .. })), "{wrong:?}");
}

#[test]
fn places_are_told_only_where_they_are_sure() {
    assert_eq!(split_line("script:12: what: else"), (Some(12), "what: else"));
    assert_eq!(split_line("script: no line"), (None, "script: no line"));
    assert_eq!(column("a = = b", "unexpected symbol near '='"), None);
    assert_eq!(column("ä b) c", "unexpected symbol near ')'"), Some(4));
    assert_eq!(column("a", "unfinished"), None);
}

#[test]
fn a_pattern_that_asks_for_an_address_is_known() {
    for pattern in ["%p", "a %-10p", "%d%%%p", "%.3p"] {
        assert!(asks_for_an_address(pattern.as_bytes()), "{pattern}");
    }
    for pattern in ["", "p", "%%p", "%sp", "% d p", "%", "%-"] {
        assert!(!asks_for_an_address(pattern.as_bytes()), "{pattern}");
    }
}

fn lua() -> (Lua, Marks) {
    let lua = Lua::new_with(StdLib::NONE, LuaOptions::default()).unwrap();
    let marks = Marks::new(&lua).unwrap();
    lua.globals().set("array", marks.array_function(&lua).unwrap()).unwrap();
    lua.globals().set("null", mlua::Value::NULL).unwrap();
    (lua, marks)
}

#[track_caller]
fn read(expression: &str) -> Result<Value, ValueError> {
    let (lua, marks) = lua();
    marks.read_lua(&lua.load(expression).eval::<mlua::Value>().unwrap())
}

#[test]
fn what_is_data_comes_back_as_it_was() {
    let (lua, marks) = lua();
    for value in [
        json!(null),
        json!([]),
        json!({}),
        json!([null, true, -1, 1.0, 2.5, i64::MAX, "", "ä"]),
        json!({"1": [[]], "": {"deep": [{"er": null}]}}),
    ] {
        let there = marks.to_lua(&lua, &value, "slot").unwrap();
        assert_eq!(marks.read_lua(&there).unwrap(), value);
    }
    assert!(marks.to_lua(&lua, &json!(u64::MAX), "slot").is_err());
}

#[test]
fn what_a_script_makes_is_an_object_unless_it_is_an_array() {
    assert_eq!(read("{}"), Ok(json!({})));
    assert_eq!(read("array{}"), Ok(json!([])));
    assert_eq!(read("{1, null, {a = 1}}"), Ok(json!([1, null, {"a": 1}])));
    assert_eq!(read("3.0"), Ok(json!(3.0)));
}

#[test]
fn what_is_no_data_is_refused_by_its_kind() {
    for (expression, expected) in [
        ("(function() local t = {}; t.t = t; return t end)()", ValueError::Nested),
        ("(function() local t = {}; for i = 1, 127 do t = {t} end; return t end)()", ValueError::Nested),
        (
            "(function() local t = {}; for i = 1, 60 do t = {t, t} end; return t end)()",
            ValueError::TooLarge(262_144),
        ),
        ("(function() end)", ValueError::Kind("function")),
        ("nil", ValueError::Kind("nil")),
        ("0/0", ValueError::NotFinite),
        ("1/0", ValueError::NotFinite),
        ("'\\255'", ValueError::NotText),
        ("{1, a = 1}", ValueError::Keys),
        ("{[2] = 1}", ValueError::Keys),
        ("{[true] = 1}", ValueError::Keys),
        ("{[1.5] = 1}", ValueError::Keys),
    ] {
        assert_eq!(read(expression), Err(expected), "{expression}");
    }
    assert!(read("(function() local t = 1; for i = 1, 127 do t = {t} end; return t end)()").is_ok());
}
